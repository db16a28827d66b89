"""Layers that several of the compared networks share, with submodules named as in the official releases."""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, normalize, pad
from torchvision.models.convnext import LayerNorm2d


def named(**layers: nn.Module) -> nn.Sequential:
    """A sequence whose parts have names instead of numbers."""
    return nn.Sequential(OrderedDict(layers))


def reflected(image: Tensor) -> Tensor:
    """Mirrored by one pixel at each edge: [B,C,H,W] -> [B,C,H+2,W+2], H and W at least 2."""
    return pad(image, (1, 1, 1, 1), mode="reflect")


def to_one_channel(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A 3x3 convolution to a single channel, edges mirrored: [B,C,H,W] and weight [1,C,3,3] -> [B,1,H,W].

    As one matrix product for the nine weights and a sum of nine shifted maps. oneDNN's convolution fills vectors with
    output channels, so that for one it takes two to four times as long; and nine maps are mirrored instead of C.
    """
    height, width = features.shape[2:]
    maps = reflected(conv2d(features, weight[0].flatten(1).t()[..., None, None]))
    out = sum(maps[:, 3 * i + j, None, i : i + height, j : j + width] for i in range(3) for j in range(3))
    return out if bias is None else out + bias


def channel_norm(channels: int) -> nn.Sequential:
    """LayerNorm over the channels of each pixel: [B,C,H,W] -> [B,C,H,W]."""
    return named(body=LayerNorm2d(channels))


def channel_attention(qkv: Tensor, scale: Tensor) -> Tensor:
    """Attention with channels as tokens and pixels as features: qkv [B,3C,H,W], scale [heads,1,1] -> [B,C,H,W]."""
    query, key, value = (x.flatten(2).unflatten(1, (len(scale), -1)) for x in qkv.chunk(3, 1))
    weights = normalize(query, dim=-1) @ normalize(key, dim=-1).mT
    return ((weights * scale).softmax(-1) @ value).flatten(1, 2).unflatten(2, qkv.shape[2:])


class RestormerBlock(nn.Module):
    """Attention between channels, then a feed-forward part, both residual: [B,C,H,W] -> [B,C,H,W].

    Zamir et al., Restormer: efficient transformer for high-resolution image restoration, CVPR 2022. The feed-forward
    part, of which networks have their own kinds, is made by a function of the number of channels.
    """

    def __init__(self, channels: int, heads: int, feed_forward: Callable[[int], nn.Module]):
        super().__init__()
        self.norm1, self.attn = channel_norm(channels), _ChannelAttention(channels, heads)
        self.norm2, self.ffn = channel_norm(channels), feed_forward(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Attend, then feed forward."""
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class _ChannelAttention(nn.Module):
    def __init__(self, channels, heads):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=False)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x):
        return self.project_out(channel_attention(self.qkv_dwconv(self.qkv(x)), self.temperature))
