"""Layers that several networks share against values written out or computed by hand."""

import pytest
import torch

from fusionlib.models.fusion_network import convolution
from fusionlib.peers.layers import (
    DenseBlock,
    ResidualModule,
    RestormerBlock,
    SpatialAttn,
    channel_attention,
    conv,
    preprocess,
    to_one_channel,
)


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


def test_dense_block_by_hand():
    block = DenseBlock(1, 1, scale=0.5)
    with torch.no_grad():
        block.lrelu.weight.fill_(0.25)
        for each, weights in zip((block.conv1, block.conv2, block.conv3), ([-2.0], [1.0, 3.0], [1.0, -4.0, 2.0])):
            each.conv.weight.copy_(torch.tensor(weights).view(1, -1, 1, 1))
        # first = PReLU(-4) = -1; second = PReLU(2 - 3) = -0.25; third = 2 + 4 - 0.5 = 5.5
        assert block(torch.full((1, 1, 1, 1), 2.0)).item() == pytest.approx(2 + 0.5 * 5.5)


def test_dense_block_in_groups_takes_neighbours_of_the_concatenation():
    block = DenseBlock(2, 1, scale=1.0, groups=2)
    assert block.conv2.conv.weight.shape == (2, 2, 1, 1)
    with torch.no_grad():
        block.conv1.conv.weight.fill_(1.0)
        block.conv2.conv.weight.copy_(torch.tensor([[1.0, 10.0], [1.0, 10.0]]).view(2, 2, 1, 1))
        block.conv3.conv.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]).view(2, 3, 1, 1))
        # x = (1, 2), first = (1, 2), second = (1 + 20, 1 + 20); the second group of (x, first, second) begins with 2
        assert block(torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)).flatten().tolist() == [1.0, 4.0]


@pytest.mark.parametrize("kernel,reach", [(3, 3), (5, 4)])
def test_residual_module_adds_what_it_sees_in_a_square(kernel, reach):
    block = ResidualModule(1, kernel).eval()
    with torch.no_grad():
        for each in (block.op[0].conv, block.op[1], block.op[2]):
            each.weight.fill_(1.0)
        block.op[3].eps = 0.0
        image = torch.zeros(1, 1, 15, 15)
        image[..., 7, 7] = 1
        out = block(image) - image
    rows = out[0, 0].sum(1).nonzero().flatten()
    assert rows.tolist() == list(range(7 - reach, 8 + reach))
    assert out.sum().item() == pytest.approx(9 * kernel**2)  # both filters of ones pass the impulse everywhere


def test_spatial_attention_by_hand():
    attention = SpatialAttn(1)
    with torch.no_grad():
        attention.spatial.conv.weight.copy_(torch.tensor([1.0, -2.0]).view(1, 2, 1, 1))
        # maximum 3, mean 1.5: the map is sigmoid(3 - 3)
        assert attention(torch.tensor([0.0, 3.0]).view(1, 2, 1, 1)).flatten().tolist() == [0.0, 1.5]


def test_preprocess_cuts_before_it_mixes():
    cell = preprocess(2).eval()
    with torch.no_grad():
        cell.op[1].weight.copy_(torch.tensor([[1.0, 1.0], [0.0, -1.0]]).view(2, 2, 1, 1))
        cell.op[2].eps = 0.0
        assert cell(torch.tensor([-5.0, 2.0]).view(1, 2, 1, 1)).flatten().tolist() == [2.0, -2.0]


@pytest.mark.parametrize("kernel,dilation", [(1, 1), (3, 1), (3, 2), (7, 1)])
def test_conv_keeps_the_size_and_has_no_bias(kernel, dilation):
    layer = conv(2, 6, kernel, groups=2, dilation=dilation)
    assert layer.bias is None and layer(torch.rand(1, 2, 5, 9)).shape == (1, 6, 5, 9)
