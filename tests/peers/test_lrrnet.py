import oracles
import pytest
import torch

from fusionlib.data.color import merge_luma, split_luma
from fusionlib.inference.tiling import tiled
from fusionlib.peers import build
from fusionlib.peers.lrrnet import LRRNet


def test_matches_the_release(shared):
    file = oracles.load(shared, "lrrnet")
    peer = oracles.fill(LRRNet(), file)
    oracles.assert_all_match(peer, file)
    for case in oracles.letters(file):
        with torch.no_grad():
            maps = peer.decompose(file[f"ir_{case}"], file[f"vi_{case}"])
        assert set(maps) == {"x_l", "x_h", "y_l", "y_h", "low", "high"}
        for name, values in maps.items():
            oracles.assert_matches(values, file[f"{name}_{case}"])


def test_matches_the_release_with_its_own_weights(shared):
    peer = build("LRRNet", shared / "peers" / "checkpoints" / "lrrnet")
    file = oracles.load(shared, "lrrnet__official")
    oracles.assert_all_match(peer, file)
    # The release stretches gray values; here they come in 0..1, where its 1e-5 weighs 255 times as much.
    for image in peer.prepare(file["ir_u8_a"] / 255, file["vi_u8_a"] / 255):
        assert image.min() == 0 and image.max() == pytest.approx(1, abs=1e-4)
    prepared = torch.cat(peer.prepare(file["ir_u8_a"] / 255, file["vi_u8_a"] / 255))
    torch.testing.assert_close(prepared, torch.cat([file["ir_a"], file["vi_a"]]), atol=1e-4, rtol=0)
    assert file["out_a"].max() < 0.3  # no scale of its own
    fused = peer.fuse(file["ir_u8_a"] / 255, file["vi_u8_a"] / 255)
    assert fused.min() == 0 and fused.max() == 1


def test_parameters():
    assert sum(p.numel() for p in LRRNet().parameters()) == 49_204


def test_soft_threshold_by_hand():
    encoder = LRRNet().get_ls1
    with torch.no_grad():
        encoder.lamj[0, :4] = torch.tensor([0.5, 0.5, -0.25, 0])
        z = torch.zeros(1, 256, 1, 1)
        z[0, :4, 0, 0] = torch.tensor([2.0, -0.25, -1, 3])
        assert encoder._shrink(z)[0, :4, 0, 0].tolist() == [1.5, 0, -1.25, 3]


def test_every_parameter_learns():
    peer = LRRNet()
    peer(torch.rand(1, 1, 12, 12), torch.rand(1, 1, 12, 12)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in peer.parameters())


def test_tiles_give_the_whole():
    peer, ir, visible = build("LRRNet"), torch.rand(1, 1, 50, 40), torch.rand(1, 1, 50, 40)
    with torch.no_grad():
        for encoder in (peer.get_ls1, peer.get_ls2):
            encoder.lamj.mul_(0.02)  # small thresholds let distant pixels count
    whole = peer.raw(ir, visible)
    torch.testing.assert_close(tiled(peer.raw, (ir, visible), 24, peer.halo), whole, atol=1e-5, rtol=0)
    assert oracles.reach(peer, 40) == peer.halo


def test_fuse_stretches_and_keeps_size_and_colour():
    peer, ir, visible = build("LRRNet"), torch.rand(1, 33, 47), torch.rand(3, 33, 47)
    luma, cbcr = split_luma(visible[None])
    gray = peer.fuse(ir, luma[0])
    assert gray.shape == (1, 33, 47) and gray.min() == 0 and gray.max() == 1
    torch.testing.assert_close(peer.fuse(ir, visible), merge_luma(gray[None], cbcr)[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(peer.fuse(ir / 2, luma[0] / 4 + 0.5), gray, atol=1e-2, rtol=0)  # as prepared by min-max
