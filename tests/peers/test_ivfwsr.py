"""IVFWSR: the release's numbers, its attention against PyTorch's, tiles, the way images go in and out."""

import oracles
import pytest
import torch
from torch.nn.functional import interpolate, multi_head_attention_forward

from fusionlib.peers.ivfwsr import IVFWSR


@pytest.fixture(scope="module")
def peer():
    torch.manual_seed(0)
    return IVFWSR().eval()


@pytest.fixture(scope="module")
def release(shared):
    file = oracles.load(shared, "ivfwsr")
    return oracles.fill(IVFWSR(), file), file


def test_numbers_of_the_release(release):
    oracles.assert_all_match(*release)


@torch.no_grad()
def test_corrected_features_of_the_release(release):
    peer, file = release
    corrected, _ = peer.correct(file["ir_a"], file["vi_a"])
    oracles.assert_matches(corrected[2], file["corrected_2_a"])


def test_a_tile_gives_what_the_whole_gives(release):
    peer, halo = release[0], IVFWSR.halo
    images = torch.rand(2, 1, 3, 14, 154)
    part = peer.raw(*images[..., 70 - halo : 84 + halo])[..., halo:-halo]
    assert part.max() > 0
    oracles.assert_matches(part, peer.raw(*images)[..., 70:84])


def test_size_of_the_network(peer):
    assert sum(p.numel() for p in peer.parameters()) == 14_092_815
    assert len(peer.state_dict()) == 374


@torch.no_grad()
@pytest.mark.parametrize("corrected", [False, True])
def test_attention_stays_in_its_window(peer, corrected):
    attention = peer.layer[0].attn if corrected else peer.up.layer_first.attn
    w = attention.window
    x, offset = torch.rand(2, 1, 64, 2 * w, 3 * w)
    ours = attention(x, offset) if corrected else attention(x)
    for top, left in ((0, 0), (w, 0), (w, 2 * w)):
        tokens, moves = (m[0, :, top : top + w, left : left + w].flatten(1).T for m in (x, offset))
        logits = None
        if corrected:
            logits = torch.stack([attention.correct(moves[:, 16 * head : 16 * head + 16]) for head in range(4)])
        theirs, _ = multi_head_attention_forward(
            *[tokens[:, None]] * 3, 64, 4, attention.qkv.weight, attention.qkv.bias, None, None, False, 0.0,
            attention.proj.weight, attention.proj.bias, training=False, attn_mask=logits,
        )
        window = ours[0, :, top : top + w, left : left + w].flatten(1).T
        torch.testing.assert_close(window, theirs[:, 0], rtol=0, atol=1e-5)


def test_everything_but_the_unused_part_learns(peer):
    peer(*torch.rand(2, 1, 3, 14, 14)).sum().backward()
    idle = {name for name, p in peer.named_parameters() if p.grad is None}
    peer.zero_grad()
    assert idle == {f"{net}.compress_in.{kind}" for net in ("up", "bottle") for kind in ("weight", "bias")}


def test_images_go_in_as_bgr_and_come_back_as_rgb(peer):
    ir, visible = torch.rand(1, 1, 28, 14), torch.rand(1, 3, 28, 14)
    bgr = peer.raw(ir, visible.flip(1))
    assert torch.equal(peer.fuse(ir, visible), bgr.flip(1).clamp(0, 1))
    assert (bgr - peer.raw(visible.flip(1), ir)).abs().max() > 1e-4  # infrared alone is corrected


def test_other_sizes_are_resized_down_and_back_up(peer):
    ir, visible = torch.rand(1, 1, 31, 27), torch.rand(1, 3, 31, 27)
    small = [interpolate(x, (28, 14), mode="bilinear", antialias=True) for x in (ir, visible)]
    fused = peer.fuse(ir, visible)
    torch.testing.assert_close(fused, interpolate(peer.fuse(*small), (31, 27), mode="bilinear"), rtol=0, atol=1e-6)


def test_the_stretch_is_the_officials_alone(peer):
    ir, visible = torch.rand(1, 17, 15), torch.rand(1, 17, 15)
    plain, stretched = peer.fuse(ir, visible), peer.fuse(ir, visible.expand(3, -1, -1), official_postprocess=True)
    assert plain.shape == (1, 17, 15) and plain.max() < 0.9
    assert stretched.shape == (3, 17, 15) and stretched.min() == 0 and stretched.max() == 1
