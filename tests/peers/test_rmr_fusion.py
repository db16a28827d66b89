"""RMR-Fusion: the release's fusion network, and volumes, patches and slices around it."""

from itertools import pairwise

import oracles
import pytest
import torch

from fusionlib.peers import rmr_fusion
from fusionlib.peers.rmr_fusion import RMRFusion, _slices
from fusionlib.utils.errors import FusionError


def test_fusion_network_matches_the_release(shared):
    file = oracles.load(shared, "rmr_fusionnet")
    peer = RMRFusion()
    oracles.fill(peer.fusion, file)
    features = {f"{part}_{case}": file[f"feat{i}_{case}"] for case in "ab" for i, part in enumerate(("ir", "vi"), 1)}
    oracles.assert_all_match(peer, file | features)


def test_parameters():
    peer = RMRFusion()
    assert sum(p.numel() for p in peer.fusion.parameters()) == 145_344
    convolutions = sum(27 * a * b + 2 * b for a, b in ((1, 24), (24, 48), (48, 24), (24, 16)))  # with PReLU
    attention, feed_forward, norms = 4 * 48 * 48 + 4 * 48 + 13**3 * 6, 8 * 48 * 48 + 5 * 48, 4 * 48
    encoder = convolutions + 2 * (8 * 48 * 48 + 48) + 6 * (attention + feed_forward + norms)
    decoder = 27 * 16 * 8 + 2 * 8 + 27 * 8 + 1
    assert sum(p.numel() for p in peer.parameters()) == 2 * encoder + 145_344 + decoder
    assert not any("index" in key for key in peer.state_dict())


@pytest.mark.parametrize("size", [(1, 9, 14), (3, 8, 15), (4, 16, 18)])
def test_volumes_of_any_size(size):
    peer = RMRFusion().eval()
    ir, visible = torch.rand(2, *size)
    fused = peer.fuse_volume(ir, visible)
    assert fused.shape == size and 0 <= fused.min() and fused.max() <= 1
    torch.testing.assert_close(fused, peer.raw(ir[None, None], visible[None, None])[0, 0])


@torch.no_grad()
def test_forward_is_encode_fuse_decode():
    peer = RMRFusion().eval()
    ir, visible = torch.rand(2, 1, 1, 2, 16, 18)
    features = peer.encode(ir, visible)
    assert [x.shape for x in features] == [(1, 16, 2, 16, 18)] * 2
    assert torch.equal(peer(ir, visible), peer.decode(peer.raw(*features)))
    assert not torch.allclose(peer(ir, visible), peer(visible, ir), atol=1e-6)


@pytest.mark.parametrize("side, patch", [(5, 8), (8, 8), (9, 8), (48, 32), (155, 32), (240, 128), (1280, 128)])
def test_patches_cover_and_overlap(side, patch):
    parts = _slices(side, patch)
    assert parts[0].start == 0 and parts[-1].stop == side
    assert {part.stop - part.start for part in parts} == {min(side, patch)}
    assert all(a.stop - b.start >= patch / 8 for a, b in pairwise(parts))
    assert len(_slices(240, 128)) == len(_slices(48, 32)) == 2  # the release's volumes


def test_overlaps_are_averaged(monkeypatch):
    peer, seen = RMRFusion(), []
    monkeypatch.setattr(rmr_fusion, "PATCH", (2, 8, 8))

    def forward(ir, visible):
        seen.append(visible.shape)
        return torch.full_like(visible, len(seen))

    monkeypatch.setattr(peer, "forward", forward)
    fused = peer.fuse_volume(*torch.rand(2, 3, 8, 12))
    assert seen == [(1, 1, 2, 8, 8)] * 4
    assert fused[:, 0, [0, 5, 11]].tolist() == [[1, 1.5, 2], [2, 2.5, 3], [3, 3.5, 4]]


def test_many_patches_at_a_time_give_what_one_gives(monkeypatch):
    monkeypatch.setattr(rmr_fusion, "PATCH", (6, 16, 16))
    peer = RMRFusion().eval()
    ir, visible = torch.rand(2, 2, 1, 1, 16, 40)
    fused = peer._by_patches(ir, visible)  # [0:16], [12:28] and [24:40], all three at once
    for alone, patch in (((0, 12), (0, 16)), ((16, 24), (12, 28)), ((28, 40), (24, 40))):
        patch, own = slice(*patch), slice(alone[0] - patch[0], alone[1] - patch[0])
        expected = peer.raw(ir[..., patch], visible[..., patch])[..., own]
        torch.testing.assert_close(fused[..., slice(*alone)], expected)


def test_a_slice_is_a_volume_of_two_equal_slices():
    peer = RMRFusion().eval()
    ir, visible = torch.rand(2, 1, 1, 15, 20)
    volumes = (image[:, :, None].repeat(1, 1, 2, 1, 1) for image in (ir, visible))
    torch.testing.assert_close(peer.raw(ir, visible), peer.raw(*volumes)[:, :, 0])


def test_fuse_keeps_size_and_colour():
    peer = RMRFusion().eval()
    ir, visible = torch.rand(1, 31, 150), torch.rand(3, 31, 150)
    fused = peer.fuse(ir, visible)
    assert fused.shape == visible.shape and not torch.equal(fused[0], fused[1])


@pytest.mark.parametrize("ir, visible", [((4, 8, 8), (4, 8, 9)), ((8, 8), (8, 8)), ((1, 4, 8, 8), (1, 4, 8, 8))])
def test_volumes_that_do_not_match_are_refused(ir, visible):
    with pytest.raises(FusionError, match="register and resample"):
        RMRFusion().fuse_volume(torch.rand(ir), torch.rand(visible))


@pytest.mark.parametrize("size", [(2, 16, 16), (16, 16)])
def test_every_parameter_learns_from_volumes_and_slices(size):
    peer = RMRFusion()
    peer(*torch.rand(2, 1, 1, *size)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in peer.parameters())
