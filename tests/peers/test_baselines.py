import pytest
import torch
from kornia.geometry.transform import pyrdown, pyrup

from fusionlib.data.color import merge_luma, split_luma
from fusionlib.inference.tiling import tiled
from fusionlib.peers import build


def test_mean_and_maximum_by_hand():
    ir, visible = torch.tensor([[0.2, 0.8]])[None], torch.tensor([[0.4, 0.1]])[None]
    assert build("mean").fuse(ir, visible).flatten().tolist() == pytest.approx([0.3, 0.45])
    assert build("maximum").fuse(ir, visible).flatten().tolist() == pytest.approx([0.4, 0.8])


@pytest.mark.parametrize("name", ["mean", "maximum", "laplacian", "laplacian-max"])
def test_luma_is_fused_and_colour_kept(name):
    peer, ir, visible = build(name), torch.rand(1, 33, 47), torch.rand(3, 33, 47)
    luma, cbcr = split_luma(visible[None])
    fused = peer.fuse(ir, luma[0])
    assert fused.shape == luma[0].shape
    torch.testing.assert_close(peer.fuse(ir, visible), merge_luma(fused[None], cbcr)[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["laplacian", "laplacian-max"])
def test_laplacian_of_an_image_with_itself_is_the_image(name):
    image = torch.rand(1, 1, 64, 48)
    torch.testing.assert_close(build(name).raw(image, image), image, atol=1e-6, rtol=0)


def base_of(image):
    for step in [pyrdown] * 4 + [pyrup] * 4:
        image = step(image, "replicate")
    return image


def test_laplacian_takes_detail_from_one_and_the_mean_of_both_bases():
    # A flat image has no detail: all of it comes from the other, whose base moves halfway to the flat one.
    image, flat = torch.rand(1, 1, 64, 64), torch.full((1, 1, 64, 64), 0.2)
    peer = build("laplacian")
    fused = peer.raw(image, flat)
    torch.testing.assert_close(fused, peer.raw(flat, image), atol=1e-6, rtol=0)
    torch.testing.assert_close(fused, image - (base_of(image) - 0.2) / 2, atol=1e-6, rtol=0)


@pytest.mark.parametrize("low, high", [(0.0, 0.0), (0.2, 0.7)])
def test_laplacian_max_takes_the_maximum_of_both_bases(low, high):
    image, flat = low + (high - low) * torch.rand(1, 1, 64, 64), torch.full((1, 1, 64, 64), 0.9)
    fused = build("laplacian-max").raw(image, flat)  # whose base is higher everywhere
    torch.testing.assert_close(fused, image - base_of(image) + 0.9, atol=1e-6, rtol=0)


def test_laplacian_keeps_the_sharper_edge():
    ir, visible = torch.full((1, 1, 32, 64), 0.5), torch.full((1, 1, 32, 64), 0.5)
    ir[..., 16:] = 0.9  # an edge in infrared on the left, one in visible on the right
    visible[..., 48:] = 0.1
    fused = build("laplacian").raw(ir, visible)[0, 0, 16]
    assert fused[16] - fused[15] == pytest.approx(0.4, abs=0.1)
    assert fused[47] - fused[48] == pytest.approx(0.4, abs=0.1)


def test_laplacian_of_tiles_is_that_of_the_whole():
    peer, ir, visible = build("laplacian"), torch.rand(1, 1, 320, 16), torch.rand(1, 1, 320, 16)
    whole = peer.raw(ir, visible)
    torch.testing.assert_close(tiled(peer.raw, (ir, visible), 96, peer.halo), whole, atol=1e-5, rtol=0)
    assert (tiled(peer.raw, (ir, visible), 96, 48) - whole).abs().max() > 1e-5  # the halo is needed


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (16, 200)])
def test_laplacian_of_small_images(shape):
    image = torch.rand(1, *shape)
    torch.testing.assert_close(build("laplacian").fuse(image, image), image, atol=1e-6, rtol=0)
