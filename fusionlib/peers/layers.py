"""Layers shared by several of the compared networks, with submodules named as in the official releases."""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, normalize, pad
from torchvision.models.convnext import LayerNorm2d


class Named(nn.Sequential):
    """A Sequential whose layers have names instead of numbers."""

    def __init__(self, **layers: nn.Module):
        super().__init__(OrderedDict(layers))


class Residual(Named):
    """x + f(x), where f is a sequence of named layers: [B,C,H,W] -> [B,C,H,W]."""

    def forward(self, x: Tensor) -> Tensor:
        """Add the output of the layers to their input."""
        return x + super().forward(x)


class Dense(Named):
    """x and f(x) concatenated, where f is a sequence of named layers: [B,C,H,W] -> [B,C+growth,H,W]."""

    def forward(self, x: Tensor) -> Tensor:
        """Append the output of the layers to their input."""
        return torch.cat((x, super().forward(x)), 1)


def reflected(image: Tensor) -> Tensor:
    """Pad by one mirrored pixel at each edge: [B,C,H,W] -> [B,C,H+2,W+2], H and W at least 2."""
    return pad(image, (1, 1, 1, 1), mode="reflect")


def to_one_channel(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """3x3 convolution to a single channel, reflect padding: [B,C,H,W] and weight [1,C,3,3] -> [B,1,H,W].

    Computed as one matrix product for the nine weights and a sum of nine shifted maps. oneDNN vectorises over output
    channels and takes two to four times as long for one; and nine maps are padded instead of C.
    """
    height, width = features.shape[2:]
    maps = reflected(conv2d(features, weight[0].flatten(1).t()[..., None, None]))
    out = sum(maps[:, 3 * i + j, None, i : i + height, j : j + width] for i in range(3) for j in range(3))
    return out if bias is None else out + bias


def channel_norm(channels: int) -> Named:
    """LayerNorm over the channels of each pixel: [B,C,H,W] -> [B,C,H,W]."""
    return Named(body=LayerNorm2d(channels))


def channel_attention(qkv: Tensor, scale: Tensor) -> Tensor:
    """Attention with channels as tokens and pixels as features: qkv [B,3C,H,W], scale [heads,1,1] -> [B,C,H,W]."""
    query, key, value = (x.flatten(2).unflatten(1, (len(scale), -1)) for x in qkv.chunk(3, 1))
    weights = normalize(query, dim=-1) @ normalize(key, dim=-1).mT
    return ((weights * scale).softmax(-1) @ value).flatten(1, 2).unflatten(2, qkv.shape[2:])


class TransformerBlock(Named):
    """Pre-norm transformer block of four named layers: norm, attention, norm, feed-forward network."""

    def forward(self, x: Tensor) -> Tensor:
        """Add attention, then the feed-forward network: the shape of `x` stays."""
        norm1, attention, norm2, feed_forward = self
        x = x + attention(norm1(x))
        return x + feed_forward(norm2(x))


class RestormerBlock(TransformerBlock):
    """Channel attention and a feed-forward network, both residual: [B,C,H,W] -> [B,C,H,W].

    `feed_forward` makes the feed-forward network from the number of channels. Zamir et al., Restormer: efficient
    transformer for high-resolution image restoration, CVPR 2022.
    """

    def __init__(self, channels: int, heads: int, feed_forward: Callable[[int], nn.Module]):
        super().__init__(norm1=channel_norm(channels), attn=_ChannelAttention(channels, heads),
                         norm2=channel_norm(channels), ffn=feed_forward(channels))


class _ChannelAttention(nn.Module):
    def __init__(self, channels, heads):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=False)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x):
        return self.project_out(channel_attention(self.qkv_dwconv(self.qkv(x)), self.temperature))


def conv(in_channels: int, out_channels: int, kernel: int, groups: int = 1, dilation: int = 1) -> nn.Conv2d:
    """Convolution of the searched networks TIMFusion and ALMFnet: zero padding, no bias; [B,in,H,W] -> [B,out,H,W]."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(in_channels, out_channels, kernel, 1, padding, dilation, groups, bias=False)


def preprocess(channels: int) -> nn.Sequential:
    """First layers of a searched cell: ReLU, 1x1 convolution, BatchNorm."""
    return Named(op=nn.Sequential(nn.ReLU(), conv(channels, channels, 1), nn.BatchNorm2d(channels)))


class ResidualModule(Residual):
    """x + PReLU(BatchNorm(1x1(dilated 3x3(kxk(x))))), where only the 1x1 convolution mixes channels."""

    def __init__(self, channels: int, kernel: int):
        super().__init__(op=nn.Sequential(
            Named(conv=conv(channels, channels, kernel, groups=channels)),
            conv(channels, channels, 3, groups=channels, dilation=2),
            conv(channels, channels, 1), nn.BatchNorm2d(channels), nn.PReLU(),
        ))


class DenseBlock(nn.Module):
    """Three densely connected convolutions that share a PReLU: x + `scale` * the output of the last."""

    def __init__(self, channels: int, kernel: int, scale: float, groups: int = 1):
        super().__init__()
        self.scale = scale
        self.conv1, self.conv2, self.conv3 = (
            Named(conv=conv(n * channels, channels, kernel, groups)) for n in (1, 2, 3)
        )
        self.lrelu = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,H,W] -> [B,C,H,W]."""
        first = self.lrelu(self.conv1(x))
        second = self.lrelu(self.conv2(torch.cat([x, first], 1)))
        third = self.lrelu(self.conv3(torch.cat([x, first, second], 1)))
        return x + self.scale * third


class SpatialAttn(nn.Module):
    """Spatial attention: x times a map in 0..1 from the maximum and the mean over channels."""

    def __init__(self, kernel: int):
        super().__init__()
        self.spatial = Named(conv=conv(2, 1, kernel))

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,H,W] -> [B,C,H,W]."""
        return x * torch.sigmoid(self.spatial(torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)))
