"""Operations that the searched networks TIMFusion and ALMfnet are built from; all keep [B,C,H,W] and have no biases.

Submodules are named as in the official releases, which is where `op`, `conv`, `se` and `spatial` come from.
"""

import torch
from torch import Tensor, nn

from fusionlib.peers.layers import named


def conv(in_channels: int, out_channels: int, kernel: int, groups: int = 1, dilation: int = 1) -> nn.Conv2d:
    """Convolution without bias, zero-padded so that [B,in,H,W] becomes [B,out,H,W]."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(in_channels, out_channels, kernel, 1, padding, dilation, groups, bias=False)


def preprocess(channels: int) -> nn.Sequential:
    """How every searched cell begins: ReLU, 1x1 convolution, BatchNorm."""
    return named(op=nn.Sequential(nn.ReLU(), conv(channels, channels, 1), nn.BatchNorm2d(channels)))


class ResidualModule(nn.Module):
    """x + PReLU(BatchNorm(1x1(3x3 with holes(kxk(x))))), where only the 1x1 convolution mixes channels."""

    def __init__(self, channels: int, kernel: int):
        super().__init__()
        self.op = nn.Sequential(
            named(conv=conv(channels, channels, kernel, groups=channels)),
            conv(channels, channels, 3, groups=channels, dilation=2),
            conv(channels, channels, 1), nn.BatchNorm2d(channels), nn.PReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,H,W] -> [B,C,H,W]."""
        return x + self.op(x)


class DenseBlock(nn.Module):
    """Three densely connected convolutions with one PReLU slope; x + scale * the last one's output.

    `scale` is a third, written with as many digits as the release has.
    """

    def __init__(self, channels: int, kernel: int, scale: float, groups: int = 1):
        super().__init__()
        self.scale = scale
        self.conv1 = named(conv=conv(channels, channels, kernel, groups))
        self.conv2 = named(conv=conv(2 * channels, channels, kernel, groups))
        self.conv3 = named(conv=conv(3 * channels, channels, kernel, groups))
        self.lrelu = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,H,W] -> [B,C,H,W]."""
        first = self.lrelu(self.conv1(x))
        second = self.lrelu(self.conv2(torch.cat([x, first], 1)))
        third = self.lrelu(self.conv3(torch.cat([x, first, second], 1)))
        return x + self.scale * third


class SpatialAttn(nn.Module):
    """x times a map in 0..1, from the maximum and the mean of its channels."""

    def __init__(self, kernel: int):
        super().__init__()
        self.spatial = named(conv=conv(2, 1, kernel))

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,H,W] -> [B,C,H,W]."""
        return x * torch.sigmoid(self.spatial(torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)))
