"""MLFusion: the release's numbers at three pairs of sizes, its kernels against all of them at once, its rules."""

import numpy as np
import oracles
import pytest
import torch
from torch.nn.functional import conv2d, unfold

from fusionlib.peers.mlfusion import MLFusion, _project, channel_weights, stronger
from fusionlib.peers.peer import stretch
from fusionlib.utils.errors import FusionError


@pytest.fixture(scope="module")
def peer():
    torch.manual_seed(0)
    return MLFusion().eval()


@pytest.fixture(scope="module")
def release(shared):
    file = oracles.load(shared, "mlfusion")
    return oracles.fill(MLFusion(), file), file


def test_numbers_of_the_release(release):
    oracles.assert_all_match(*release)


@torch.no_grad()
def test_all_images_of_the_release(release):
    peer, file = release
    images = peer.super_resolve(file["ir_c"], file["vi_c"], tuple(file["out_size_c"].tolist()))
    for image, name in zip(images, ("out", "sr_ir", "sr_vi")):
        oracles.assert_matches(stretch(image), file[f"{name}_minmax_c"])


def test_size_of_the_network(peer):
    assert sum(p.numel() for p in peer.parameters()) == 1_994_838
    assert len(peer.state_dict()) == 246


@torch.no_grad()
@pytest.mark.parametrize("old, new, r", [((5, 7), (11, 13), 2.2), ((9, 8), (13, 12), 1.5), ((12, 9), (8, 6), 2 / 3)])
def test_resampling_against_all_kernels_at_once(peer, old, new, r):
    f = torch.randn(2, 8, *old)
    ours = peer.meta_up_0(f, r, new)
    at = [np.arange(n, dtype=np.float32) * np.float32(1 / r) for n in new]
    rows, columns = np.meshgrid(*(np.floor(a).astype(int) for a in at), indexing="ij")
    fractions = np.meshgrid(*(a - np.floor(a) for a in at), indexing="ij")
    where = np.stack([np.full(new, 1 / r, np.float32), *fractions], -1).reshape(-1, 3)
    kernels = peer.meta_up_0.P2W(torch.from_numpy(where)).view(*new, 72, 8)
    patches = unfold(f, 3, padding=1).view(2, 72, *old)[:, :, rows, columns]
    theirs = torch.einsum("bkyx,yxko->boyx", patches, kernels)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@torch.no_grad()
def test_without_a_change_of_size_resampling_is_a_convolution(peer):
    f = torch.randn(1, 8, 70, 9)  # more rows than are done at once
    kernel = peer.meta_up_0.P2W(torch.tensor([1.0, 0, 0])).view(8, 3, 3, 8).permute(3, 0, 1, 2)
    torch.testing.assert_close(peer.meta_up_0(f, 1, (70, 9)), conv2d(f, kernel, padding=1), rtol=0, atol=1e-5)


def test_few_kernels_are_held_at_once(peer):
    asked = []
    hook = peer.meta_up_0.P2W.register_forward_hook(lambda _, inputs, kernels: asked.append(len(kernels)))
    with torch.no_grad():
        peer.meta_up_0(torch.rand(1, 8, 30, 20), 1.37, (41, 27))
        assert max(asked) <= 27 and sum(asked) > 1000
        asked.clear()
        peer.meta_up_0(torch.rand(1, 8, 30, 20), 2, (60, 40))
        assert asked == [2, 2]
    hook.remove()


def test_float32_decides_which_pixel_is_meant():
    whole, fraction = _project(30, torch.tensor(7 / 3), 70)
    at = np.arange(30, dtype=np.float32) * np.float32(7 / 3)
    assert whole.tolist() == np.floor(at).tolist() and fraction.tolist() == (at - np.floor(at)).tolist()
    assert whole[27] == 62 and fraction[27] > 0.99999  # 27 * 7 / 3 = 63
    assert _project(4, torch.tensor(1.0), 3)[0].tolist() == [0, 1, 2, 2]  # other proportions end at the last pixel


def test_the_stronger_value_wins_and_equals_add_up():
    a, b = torch.tensor([1.0, -3, 2, -2, 0]), torch.tensor([-2.0, 1, 2, 2, 0])
    assert stronger(a, b).tolist() == [-2, -3, 4, 0, 0]


def test_channel_weights_by_hand():
    f = torch.tensor([[1.0, 2], [0, 1], [3, 0]]).view(1, 3, 1, 2)  # sums of products with all: 10, 3, 12
    expected = np.exp(np.array([7 / 9, 0, 1]))
    weights = channel_weights(f)
    assert weights.shape == (1, 3, 1, 1)
    assert weights.flatten().tolist() == pytest.approx((expected / expected.sum()).tolist(), abs=1e-6)
    assert channel_weights(torch.ones(1, 4, 2, 2)).flatten().tolist() == [0.25] * 4


def test_everything_but_the_unused_part_learns(peer):
    sum(image.abs().mean() for image in peer.super_resolve(*torch.rand(2, 1, 3, 8, 8), (12, 12))).backward()
    idle = {name for name, p in peer.named_parameters() if p.grad is None}
    peer.zero_grad()
    assert idle == {f"RCMs.{i}.conv_after_meta_down.0.{kind}" for i in (0, 1) for kind in ("weight", "bias")}


@pytest.mark.parametrize("ir, visible", [((17, 23), (17, 23)), ((9, 12), (17, 23)), ((5, 5), (3, 2)), ((4, 9), (9, 9))])
def test_any_two_sizes(peer, ir, visible):
    infrared, colour = torch.rand(1, *ir), torch.rand(3, *visible)
    fused = peer.fuse(infrared, colour)
    assert fused.shape == colour.shape and fused.min() == 0 and fused.max() == 1
    bgr = peer.raw(infrared[None], colour[None].flip(1))
    torch.testing.assert_close(fused, stretch(bgr)[0].flip(0), rtol=0, atol=1e-5)
    assert peer.fuse(infrared, colour[:1]).shape == (1, *visible)


def test_images_of_one_size_may_change_places(peer):
    images = torch.rand(2, 1, 3, 12, 16)
    torch.testing.assert_close(peer.raw(*images), peer.raw(*images.flip(0)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("ir, visible", [((2, 9, 12), (3, 8, 8)), ((1, 9, 12), (2, 8, 8)), ((1, 9, 12), (1, 3, 8, 8))])
def test_what_is_no_pair_is_refused(peer, ir, visible):
    with pytest.raises(FusionError, match="expected an infrared image"):
        peer.fuse(torch.rand(ir), torch.rand(visible))
