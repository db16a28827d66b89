"""Layers that several networks share, written out."""

import pytest
import torch

from fusionlib.models.fusion_network import convolution
from fusionlib.peers.layers import RestormerBlock, channel_attention, to_one_channel


@pytest.mark.parametrize("size", [(2, 2), (7, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_to_one_channel_is_that_of_torch(size, bias):
    layer, features = convolution(6, 1, bias).double(), torch.randn(2, 6, *size, dtype=torch.float64)
    given = [features.clone().requires_grad_() for _ in range(2)]
    wanted, got = layer(given[0]), to_one_channel(given[1], layer.weight, layer.bias)
    torch.testing.assert_close(got, wanted)
    for out in (wanted, got):
        out.square().sum().backward()
    torch.testing.assert_close(given[1].grad, given[0].grad)


def test_attention_is_between_channels_of_a_head():
    qkv, scale = torch.randn(1, 3 * 16, 2, 3), torch.rand(8, 1, 1)
    query, key, value = qkv[0].flatten(1).split(16)
    expected = torch.empty(16, 6)
    for head in range(8):
        own = slice(2 * head, 2 * head + 2)
        cosine = torch.nn.functional.cosine_similarity(query[own, None], key[None, own], dim=-1)
        expected[own] = (scale[head] * cosine).softmax(1) @ value[own]
    torch.testing.assert_close(channel_attention(qkv, scale)[0].flatten(1), expected)


@torch.no_grad()
def test_restormer_block_is_attention_and_feed_forward_each_added():
    block = RestormerBlock(8, heads=2, feed_forward=lambda channels: torch.nn.Conv2d(channels, channels, 1)).double()
    torch.nn.init.normal_(block.attn.temperature)
    x = torch.randn(2, 8, 5, 4, dtype=torch.float64)
    normed = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    q, k, v = block.attn.qkv_dwconv(block.attn.qkv(normed)).view(2, 3, 2, 4, 20).unbind(1)
    cosine = torch.einsum("bhcn,bhdn->bhcd", q, k) / (q.norm(dim=-1)[..., None] * k.norm(dim=-1)[..., None, :])
    weights = (cosine * block.attn.temperature).softmax(-1)
    seen = x + block.attn.project_out(torch.einsum("bhcd,bhdn->bhcn", weights, v).reshape(2, 8, 5, 4))
    normed = (seen - seen.mean(1, keepdim=True)) / (seen.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(block(x), seen + block.ffn(normed))
