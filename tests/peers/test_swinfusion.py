"""SwinFusion: the release's numbers, its windows against dense attention, its padding, and its halo to the pixel."""

import numpy as np
import oracles
import pytest
import torch

from fusionlib.data.color import split_luma
from fusionlib.inference.tiling import tiled
from fusionlib.peers import swinfusion
from fusionlib.peers.checkpoints import DERIVED
from fusionlib.peers.swinfusion import SwinFusion


@pytest.fixture
def peer():
    """Small biases would hide a wrong relative position."""
    peer = SwinFusion().eval()
    for name, parameter in peer.named_parameters():
        if name.endswith("relative_position_bias_table"):
            torch.nn.init.normal_(parameter)
    return peer


def test_gives_what_the_release_gives(shared):
    file = oracles.load(shared, "swinfusion")
    oracles.assert_all_match(oracles.fill(SwinFusion(), file), file)


def test_has_the_keys_of_the_release(shared):
    lines = (shared / "peers" / "layouts" / "SwinFusion1.txt").read_text().splitlines()[1:]
    official = {line.split(" ", 1)[0] for line in lines}
    assert set(SwinFusion().state_dict()) == {key for key in official if not key.endswith(DERIVED)}


def test_counts_its_parameters():
    with torch.device("meta"):
        assert sum(p.numel() for p in SwinFusion().parameters()) == 973_681


@pytest.mark.parametrize("shift", [0, 4])
@torch.no_grad()
def test_windows_are_dense_attention_with_a_mask(monkeypatch, shift):
    """Each pixel attends to those of its window, which begins at -4, 4, 12 where it is shifted."""
    monkeypatch.setattr(swinfusion, "AT_ONCE", 1)
    block = swinfusion._SwinBlock(shift, 0).eval()
    torch.nn.init.normal_(block.attn.relative_position_bias_table)
    x = torch.randn(2, 24, 16, 60)
    y, z = (axis.flatten() for axis in torch.meshgrid(torch.arange(24), torch.arange(16), indexing="ij"))
    apart = ((y + shift) // 8)[:, None] != (y + shift) // 8
    apart |= ((z + shift) // 8)[:, None] != (z + shift) // 8
    dy, dx = y[:, None] - y, z[:, None] - z
    near = (dy.abs() < 8) & (dx.abs() < 8)
    bias = block.attn.relative_position_bias_table[torch.where(near, (dy + 7) * 15 + dx + 7, 0)]  # [N,N,6]
    logits = bias.masked_fill(apart[..., None], -1e9)
    q, k, v = block.attn.qkv(block.norm1(x)).view(2, 24 * 16, 3, 6, 10).unbind(2)
    weights = (torch.einsum("bnhd,bmhd->bnmh", q, k) / 10**0.5 + logits).softmax(2)
    expected = x + block.attn.proj(torch.einsum("bnmh,bmhd->bnhd", weights, v).reshape(x.shape))
    expected = expected + block.mlp(block.norm2(expected))
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-4)


def test_strips_change_nothing_and_all_used_weights_learn(monkeypatch, peer):
    ir, y = torch.rand(2, 2, 1, 40, 24)
    at_once = peer(ir, y)  # with gradients, so in one piece
    at_once.square().mean().backward()
    unused = {name for name, p in peer.named_parameters() if p.grad is None}
    assert unused == {f"conv_first{i}_B.{part}" for i in (1, 2) for part in ("weight", "bias")}
    assert all(p.grad.abs().sum() > 0 for p in peer.parameters() if p.grad is not None)
    for windows in (1, 12):
        monkeypatch.setattr(swinfusion, "AT_ONCE", windows)
        torch.testing.assert_close(peer.raw(ir, y), at_once.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(24, 32), (21, 30), (5, 3)])
def test_fuse_mirrors_up_to_the_next_multiple_as_the_test_script(peer, size):
    ir, y = torch.rand(2, 2, 1, *size)
    index = [np.pad(np.arange(side), (0, 8 - side % 8), mode="symmetric") for side in size]
    padded = [x[:, :, index[0]][..., index[1]] for x in (ir, y)]
    expected = peer.raw(*padded)[..., : size[0], : size[1]]
    torch.testing.assert_close(peer.fuse(ir, y), expected.clamp(0, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(24, 32), (19, 26), (1, 1)])
def test_fuse_keeps_size_and_colour(peer, size):
    torch.nn.init.zeros_(peer.conv_last3.weight)
    torch.nn.init.constant_(peer.conv_last3.bias, 0.5)
    visible = 0.4 + 0.2 * torch.rand(3, *size)
    y, cbcr = split_luma(peer.fuse(torch.rand(1, *size), visible)[None])
    torch.testing.assert_close(y, torch.full((1, 1, *size), 0.5), atol=1e-3, rtol=0)
    torch.testing.assert_close(cbcr, split_luma(visible[None])[1], atol=1e-3, rtol=0)


@pytest.mark.parametrize("size", [(11, 205), (205, 11)])
def test_tiles_give_the_whole_image(peer, size):
    ir, y = torch.rand(2, 1, 1, *size)
    whole = peer._fitted(ir, y, None)
    parts = tiled(lambda *images: peer._fitted(*images, None), (ir, y), 64, peer.halo)
    assert (parts - whole).abs().max() < 1e-5


def test_sees_66_pixels_beyond_a_multiple_of_8(peer):
    """So the halo, the next multiple of 8, is as small as can be. Float64: what is far away moves little."""
    images = torch.rand(2, 1, 1, 8, 240, dtype=torch.float64, requires_grad=True)
    fused = peer.double()(*images)
    for column in (127, 128):  # the last of a tile and the first of the next
        (slope,) = torch.autograd.grad(fused[..., column].sum(), images, retain_graph=True)
        seen = slope.abs().sum((0, 1, 2, 3)).nonzero()
        assert (seen.min(), seen.max()) == (128 - 66, 127 + 66)
