"""ALMFnet: the release's numbers, its weights on medical pairs, tiles."""

import oracles
import pytest
import torch

from fusionlib import peers
from fusionlib.data.image_io import as_tensor, read_image
from fusionlib.inference.tiling import tiled
from fusionlib.peers.almfnet import ALMFnet


@pytest.fixture
def official(shared):
    return peers.build("ALMFnet", shared / "peers" / "checkpoints" / "almfnet" / "ALMFNet.pt")


def test_numbers_of_the_release(shared):
    file = oracles.load(shared, "almfnet")
    oracles.assert_all_match(oracles.fill(ALMFnet(), file), file)


def test_numbers_of_the_release_with_its_own_weights(shared, official):
    oracles.assert_all_match(official, oracles.load(shared, "almfnet__official"))


def test_size_of_the_network():
    peer = ALMFnet()
    assert sum(p.numel() for p in peer.parameters()) == 53_719
    assert len(peer.state_dict()) == 185


def test_each_cell_puts_four_nodes_side_by_side():
    cell = ALMFnet().eval().cell_f
    x = torch.rand(1, 16, 6, 7)
    with torch.no_grad():
        out, start = cell(x), cell.preprocess0(x)
        first = cell._ops[0](start)
        second = cell._ops[1](first) + cell._ops[2](start)
        third = cell._ops[3](second) + cell._ops[4](first)
        fourth = cell._ops[5](start) + cell._ops[6](third)
    torch.testing.assert_close(out, torch.cat([first, second, third, fourth], 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(37, 53), (1, 1), (2, 40)])
def test_any_size_and_colour(size):
    peer = ALMFnet().eval()
    ir, gray = torch.rand(1, *size), torch.rand(1, *size)
    fused = peer.fuse(ir, gray)
    assert fused.shape == (1, *size) and fused.min() >= 0 and fused.max() <= 1
    colour = peer.fuse(ir, gray.expand(3, -1, -1))
    torch.testing.assert_close(colour, fused.expand(3, -1, -1), rtol=0, atol=1e-3)  # no colour stays no colour


def test_images_of_a_batch_do_not_meet():
    peer = ALMFnet().eval()
    ir, visible = torch.rand(2, 1, 20, 24), torch.rand(2, 1, 20, 24)
    both = peer.raw(ir, visible)
    torch.testing.assert_close(both[1:], peer.raw(ir[1:], visible[1:]), rtol=0, atol=1e-6)
    assert (both - peer.raw(visible, ir)).abs().max() > 1e-3  # the sides are not the same network


def test_halo_is_what_tiles_need_and_no_more():
    peer = ALMFnet().eval()
    images = torch.rand(2, 1, 1, 68, 61)
    whole = peer.raw(*images)
    torch.testing.assert_close(tiled(peer.raw, images, 32, peer.halo), whole, rtol=0, atol=1e-5)
    centre = images[:, :, :, :61].clone().requires_grad_()
    peer(*centre)[..., 30, 30].backward()
    rows = centre.grad.abs().sum((0, 1, 2, 4)).nonzero().flatten()
    assert (rows.min().item(), rows.max().item()) == (30 - peer.halo, 30 + peer.halo)


def test_spect_keeps_its_colours_and_gains_the_mri(shared, official):
    folder = shared / "data" / "Harvard" / "SPECT-MRI"
    name = sorted(file.name for file in (folder / "SPECT").iterdir())[0]
    mri, spect = as_tensor(read_image(folder / "MRI" / name))[:1], as_tensor(read_image(folder / "SPECT" / name))
    fused = official.fuse(mri, spect)
    assert fused.shape == spect.shape == (3, 256, 256)

    def luma(image):
        return 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]

    inside = ((fused > 0.01) & (fused < 0.99)).all(0)  # colours outside the range are cut
    assert inside.float().mean() > 0.2
    difference = (fused - luma(fused)) - (spect - luma(spect))
    assert difference[:, inside].abs().max() < 5e-3
    brain = (mri[0] > 0.1) | (luma(spect) > 0.1)
    correlations = [torch.corrcoef(torch.stack([luma(fused)[brain], luma(x)[brain]]))[0, 1].item()
                    for x in (mri.expand(3, -1, -1), spect)]
    assert correlations[0] > 0.8 and correlations[1] > 0.1, correlations


def test_keys_are_those_of_the_release(shared):
    lines = (shared / "peers" / "layouts" / "ALMFNet_official_ckpt.txt").read_text().splitlines()[1:]
    assert [f"{key} {tuple(value.shape)}" for key, value in sorted(ALMFnet().state_dict().items())] == sorted(lines)
