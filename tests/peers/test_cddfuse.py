"""CDDFuse: the release's numbers, its parts, and what the decomposition promises."""

import json

import oracles
import pytest
import torch

from fusionlib.peers.cddfuse import CDDFuse, _CouplingNode

PARTS = ("DIDF_Encoder.", "DIDF_Decoder.", "BaseFuseLayer.", "DetailFuseLayer.")


def test_matches_the_release(shared):
    file = oracles.load(shared, "cddfuse")
    oracles.assert_all_match(oracles.fill(CDDFuse(), file, PARTS), file)


def test_features_match_the_trace(shared):
    file = oracles.load(shared, "cddfuse")
    peer = oracles.fill(CDDFuse(), file, PARTS)
    trace = json.loads((shared / "peers" / "oracles" / "cddfuse__trace.json").read_text())
    with torch.no_grad():
        features = [*peer.encode(file["vi_a"]), *peer.encode(file["ir_a"])]
    ends = ("DIDF_Encoder.baseFeature", "DIDF_Encoder.detailFeature")
    for ours, (_, shape, mean, std, first) in zip(features, (row for row in trace if row[0] in ends), strict=True):
        assert list(ours.shape) == shape
        assert (ours.mean().item(), ours.std().item()) == pytest.approx((mean, std), abs=1e-5)
        assert ours.flatten()[:4].tolist() == pytest.approx(first, abs=1e-5)


def test_parameters_of_each_part():
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in CDDFuse().named_children()}
    assert counts == {
        "DIDF_Encoder": 599_144, "DIDF_Decoder": 207_936, "BaseFuseLayer": 363_016, "DetailFuseLayer": 18_176
    }


@torch.no_grad()
def test_coupling_loses_nothing():
    node, x = _CouplingNode(), torch.randn(1, 64, 5, 6)
    first, second = node(x).chunk(2, 1)
    first = (first - node.theta_eta(second)) / node.theta_rho(second).exp()
    second = second - node.theta_phi(first)
    torch.testing.assert_close(torch.cat((first, second), 1), node.shffleconv(x))


def test_decoder_adds_the_visible_image():
    peer = CDDFuse()
    torch.nn.init.zeros_(peer.DIDF_Decoder.output[2].weight)
    ir, visible = torch.rand(2, 1, 1, 9, 12)
    torch.testing.assert_close(peer.raw(ir, visible), visible.sigmoid())


def test_fuse_keeps_size_and_colour_and_stretches_only_when_asked():
    peer = CDDFuse().eval()
    ir, visible = torch.rand(1, 23, 37), torch.rand(3, 23, 37)
    fused = peer.fuse(ir, visible)
    assert fused.shape == visible.shape and not torch.equal(fused[0], fused[1])
    y = peer.fuse(ir, visible[:1])
    torch.testing.assert_close(y, peer.raw(ir[None], visible[None, :1])[0])
    stretched = peer.fuse(ir, visible[:1], official_postprocess=True)
    torch.testing.assert_close(stretched, (y - y.min()) / (y.max() - y.min()))


def test_every_parameter_learns():
    peer = CDDFuse()
    ir, visible = torch.rand(2, 1, 1, 12, 12)
    peer(ir, visible).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in peer.parameters())
