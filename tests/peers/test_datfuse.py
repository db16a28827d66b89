import oracles
import torch
from torch import nn

from fusionlib.data.color import merge_luma, split_luma
from fusionlib.peers import build
from fusionlib.peers.datfuse import DATFuse


def test_matches_the_release(shared):
    file = oracles.load(shared, "datfuse")
    oracles.assert_all_match(oracles.fill(DATFuse(), file), file)


def test_matches_the_release_with_its_own_weights(shared):
    peer = build("DATFuse", shared / "peers" / "checkpoints" / "datfuse" / "model_10.pth")
    oracles.assert_all_match(peer, oracles.load(shared, "datfuse__official"))


def test_parameters():
    assert sum(p.numel() for p in DATFuse().parameters()) == 10_760


@torch.no_grad()
def test_attention_in_a_window_of_one_token():
    block = DATFuse().basicLayer.blocks[0]
    attention = nn.MultiheadAttention(16, 8, batch_first=True)
    attention.in_proj_weight.copy_(block.attn.qkv.weight)
    attention.in_proj_bias.copy_(block.attn.qkv.bias)
    attention.out_proj.load_state_dict(block.attn.proj.state_dict())
    nn.init.zeros_(block.mlp.fc2.weight)
    nn.init.zeros_(block.mlp.fc2.bias)
    x = torch.randn(20, 1, 16)  # sequences of one token
    normed = block.norm1(x)
    torch.testing.assert_close(block(x), x + attention(normed, normed, normed)[0], atol=1e-6, rtol=0)


def test_tokens_run_along_memory():
    peer = build("DATFuse")
    seen = []
    peer.basicLayer.blocks.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    peer.raw(torch.rand(1, 1, 5, 32), torch.rand(1, 1, 5, 32))
    tokens = seen[0][0].reshape(1, 16, 5, 32)  # channels, rows, columns
    with torch.no_grad():
        first = peer.basicLayer.blocks(tokens[0, 3, 2, 16:])  # half a row of the fourth channel is one token
    torch.testing.assert_close(seen[0][1].reshape(1, 16, 5, 32)[0, 3, 2, 16:], first, atol=1e-6, rtol=0)


def test_memory_format_makes_no_difference():
    peer, images = build("DATFuse"), torch.rand(2, 1, 1, 21, 30)
    peer.to(memory_format=torch.channels_last)
    last = peer.raw(*(image.to(memory_format=torch.channels_last) for image in images))
    peer.to(memory_format=torch.contiguous_format)
    torch.testing.assert_close(last, peer.raw(*images), atol=1e-5, rtol=0)


def test_fuse_keeps_size_and_colour():
    peer, ir, visible = build("DATFuse"), torch.rand(1, 33, 47), torch.rand(3, 33, 47)
    luma, cbcr = split_luma(visible[None])
    raw = peer.raw(ir[None], luma)
    assert raw.min() >= -1 and raw.max() <= 1
    torch.testing.assert_close(peer.fuse(ir, visible), merge_luma(raw.clamp(0, 1), cbcr)[0])
    assert peer.fuse(ir, luma[0]).shape == (1, 33, 47)
    assert peer.fuse(ir[:, :1, :1], luma[0, :, :1, :1]).shape == (1, 1, 1)
