import oracles
import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, conv_transpose2d, pad

from fusionlib.data.color import merge_luma, split_luma
from fusionlib.inference.tiling import tiled
from fusionlib.peers import build
from fusionlib.peers.auif import AUIF

PARTS = ("Encoder_Base.", "Encoder_Detail.", "Decoder.")


def test_matches_the_release(shared):
    file = oracles.load(shared, "auif")
    peer = oracles.fill(AUIF(), file, PARTS)
    oracles.assert_all_match(peer, file)
    for case in oracles.letters(file):
        for image in ("ir", "vi"):
            with torch.no_grad():
                base, detail = peer.encode(file[f"{image}_{case}"])
            oracles.assert_matches(base, file[f"base_{image}_{case}"])
            oracles.assert_matches(detail, file[f"detail_{image}_{case}"])


def test_matches_the_release_with_its_own_weights(shared):
    peer = build("AUIF", shared / "peers" / "checkpoints" / "auif")
    oracles.assert_all_match(peer, oracles.load(shared, "auif__official"))


def test_parameters():
    assert sum(p.numel() for p in AUIF().parameters()) == 11_631


@torch.no_grad()
def test_encoders_begin_with_box_and_laplacian():
    peer, image = AUIF().eval(), torch.rand(1, 1, 24, 30)
    for layer in [*peer.Encoder_Base["conv1"], *peer.Encoder_Detail["conv2"]]:
        layer.eta.zero_()
    ones = torch.ones(1, 1, 19, 19)
    ones[..., 9, 9] = 1 - 361
    base, detail = peer.encode(image)
    box = conv2d(pad(image, (5,) * 4, mode="reflect"), torch.full((1, 1, 11, 11), 1 / 121))
    torch.testing.assert_close(base, box, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        detail, conv2d(pad(image, (9,) * 4, mode="reflect"), ones / ones.abs().sum()), atol=1e-6, rtol=0
    )


@torch.no_grad()
def test_a_step_descends_along_the_adjoint():
    step = AUIF().eval().Encoder_Base["conv1"][0]
    step.rest = nn.Identity()
    step.eta.fill_(0.3)
    step.theta.fill_(0.2)
    x, image = torch.rand(2, 1, 1, 12, 14)
    response = conv_transpose2d(conv2d(x, step.kernel, padding=1), step.kernel, padding=1)
    inner = (..., slice(2, -2), slice(2, -2))  # the borders differ: mirrored here, zero there
    expected = x - 0.3 * (response - 0.2 * (image - x))
    torch.testing.assert_close(step(x, image)[inner], expected[inner], atol=1e-6, rtol=0)


def test_tiles_give_the_whole():
    peer, ir, visible = build("AUIF"), torch.rand(1, 1, 90, 70), torch.rand(1, 1, 90, 70)
    whole = peer.raw(ir, visible)
    torch.testing.assert_close(tiled(peer.raw, (ir, visible), 40, peer.halo), whole, atol=1e-5, rtol=0)
    assert oracles.reach(peer, 80) == peer.halo


@pytest.mark.parametrize("shape", [(33, 47), (10, 11)])
def test_fuse_keeps_size_and_colour(shape):
    peer, ir, visible = build("AUIF"), torch.rand(1, *shape), torch.rand(3, *shape)
    luma, cbcr = split_luma(visible[None])
    fused = peer.fuse(ir, visible)
    torch.testing.assert_close(fused, merge_luma(peer.raw(ir[None], luma), cbcr)[0])
    assert peer.fuse(ir, luma[0]).shape == (1, *shape)
