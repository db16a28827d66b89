"""EMMA's fusion network: the release's numbers, and the tiles of images whose sides are no multiples of 32."""

import json

import oracles
import pytest
import torch

from fusionlib.peers.emma import EMMA, _corners


def test_matches_the_release(shared):
    file = oracles.load(shared, "emma")
    oracles.assert_all_match(oracles.fill(EMMA(), file), file)


def test_inner_values_match_the_trace(shared):
    file = oracles.load(shared, "emma")
    peer = oracles.fill(EMMA(), file)
    found = []
    for name, module in peer.named_modules():
        module.register_forward_hook(lambda _, __, output, name=name: found.append((name, output)))
    peer.raw(file["ir_a"], file["vi_a"])
    trace = {row[0]: row[1:] for row in json.loads((shared / "peers" / "oracles" / "emma__trace.json").read_text())}
    found = [(name, output) for name, output in found if name in trace and not name.endswith(".body")]
    assert len(found) == sum(not name.endswith(".body") for name in trace)  # the release flattens pixels there
    for name, ours in found:
        shape, mean, std, first = trace[name]
        assert list(ours.shape) == shape, name
        assert (ours.mean().item(), ours.std().item()) == pytest.approx((mean, std), abs=1e-4), name
        assert ours.flatten()[:4].tolist() == pytest.approx(first, abs=1e-4), name


def test_parameters():
    assert sum(p.numel() for p in EMMA().parameters()) == 1_517_657


@pytest.mark.parametrize("side, corners", [(64, [(0, 64)]), (65, [(0, 64), (1, 65)]), (95, [(0, 64), (31, 95)])])
def test_corners_reach_both_ends(side, corners):
    assert [(part.start, part.stop) for part in _corners(side, 32)] == corners


def test_tiles_are_averaged_where_they_overlap(monkeypatch):
    peer, calls = EMMA(), []

    def raw(ir, visible, text):
        calls.append(tuple(visible.shape))
        return torch.full_like(visible, len(calls) / 8)

    monkeypatch.setattr(peer, "raw", raw)
    fused = peer.fuse(torch.rand(1, 40, 70), torch.rand(1, 40, 70))[0]
    assert calls == [(1, 1, 32, 64)] * 4
    assert [fused[y, x].item() * 8 for y in (0, -1) for x in (0, -1)] == [1, 2, 3, 4]
    assert (fused[20, 0].item() * 8, fused[0, 30].item() * 8, fused[20, 30].item() * 8) == (2, 1.5, 2.5)


def test_images_with_fitting_sides_are_fused_whole():
    peer = EMMA().eval()
    ir, visible = torch.rand(2, 1, 1, 32, 64)
    assert torch.equal(peer.fuse(ir, visible), peer.raw(ir, visible))


@pytest.mark.parametrize("size", [(45, 64), (61, 87), (20, 70)])
def test_fuse_keeps_size_and_colour(size):
    peer = EMMA().eval()
    fused = peer.fuse(torch.rand(1, *size), torch.rand(3, *size))
    assert fused.shape == (3, *size) and not torch.equal(fused[0], fused[1])
    stretched = peer.fuse(torch.rand(1, *size), torch.rand(1, *size), official_postprocess=True)
    assert (stretched.min(), stretched.max()) == (0, 1)


def test_every_parameter_learns():
    peer = EMMA()
    ir, visible = torch.rand(2, 1, 1, 32, 32)
    peer(ir, visible).square().mean().backward()
    idle = {name for name, p in peer.named_parameters() if p.grad is None or p.grad.abs().sum() == 0}
    # One channel in each of 8 heads has only itself to look at, however the attention is scaled.
    assert idle == {f"{block}_1.GlobalFeature.attn.scale" for block in ("V_en", "I_en", "f", "de")}
