"""Stage 1: the fusion network of paper section 3.2 (IR-Encoder, VI-Encoder, F-Decoder)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fusionlib.utils.errors import FusionError


def convolution(in_channels: int, out_channels: int, bias: bool = True) -> nn.Conv2d:
    """3x3 convolution, stride 1, reflect padding: [B,in,H,W] -> [B,out,H,W], H and W at least 2."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=1, padding=1, padding_mode="reflect", bias=bias)


def feature_layer(in_channels: int, out_channels: int) -> nn.Sequential:
    """Convolution, BatchNorm and LeakyReLU(0.2): [B,in,H,W] -> [B,out,H,W]."""
    return nn.Sequential(convolution(in_channels, out_channels, bias=False), nn.BatchNorm2d(out_channels),
                         nn.LeakyReLU(0.2))


def encoder(channels: Sequence[int]) -> nn.Sequential:
    """Three feature layers: [B,1,H,W] -> [B,channels[2],H,W]."""
    c1, c2, c3 = channels
    return nn.Sequential(feature_layer(1, c1), feature_layer(c1, c2), feature_layer(c2, c3))


class FusionNetwork(nn.Module):
    """Fuse an infrared image with the luma of a visible one.

    Each encoder has three feature layers, 1 -> c1 -> c2 -> c3. The decoder takes both features, concatenated along
    channels, through 2*c3 -> c3 -> c3/2 -> 1; its last layer is a convolution and Tanh, mapped from -1..1 to 0..1.
    The paper does not give the numbers of channels; the default (4, 8, 8) is ours.

    Args:
        channels: output channels c1, c2, c3 of the encoders' three layers; c3 must be even.
    """

    def __init__(self, channels: Sequence[int] = (4, 8, 8)):
        super().__init__()
        if len(channels) != 3 or min(channels) < 1 or channels[2] % 2:
            raise FusionError(f"channels must be three positive numbers, the last one even, but are {tuple(channels)}.")
        self.config = {"channels": [int(c) for c in channels]}
        c3 = self.feature_channels = int(channels[2])
        self.ir_encoder = encoder(channels)
        self.vi_encoder = encoder(channels)
        self.decoder = nn.Sequential(feature_layer(2 * c3, c3), feature_layer(c3, c3 // 2), convolution(c3 // 2, 1),
                                     nn.Tanh())

    @torch.no_grad()
    def init_identity(self, strength: float) -> None:
        """Add `strength` at the centre of the kernels, so that every channel passes on its input (as nn.init.dirac_).

        The loss ignores the sign of an edge. From random weights alone, half of short trainings therefore ended with
        the edges of the visible image inverted, dark for bright; of ten with strength 1, none did. Not in the paper.
        """
        for layer in (module for module in self.modules() if isinstance(module, nn.Conv2d)):
            outputs, inputs = layer.weight.shape[:2]
            for k in range(max(outputs, inputs)):
                layer.weight[k % outputs, k % inputs, 1, 1] += strength

    def encode(self, ir: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the infrared image and of the visible luma: two [B,1,H,W] in 0..1 -> two [B,c3,H,W]."""
        if ir.shape != y.shape or ir.dim() != 4 or ir.shape[1] != 1:
            raise FusionError("The infrared image and the visible luma must both be [B,1,H,W] of one size, but are "
                              f"{list(ir.shape)} and {list(y.shape)}: resize or register one to the other.")
        return self.ir_encoder(ir), self.vi_encoder(y)

    def decode(self, f_ir: Tensor, f_vi: Tensor) -> Tensor:
        """Fused luma from both features: two [B,c3,H,W] -> [B,1,H,W] in 0..1."""
        return (self.decoder(torch.cat([f_ir, f_vi], dim=1)) + 1) / 2

    def forward(self, ir: Tensor, y: Tensor) -> Tensor:
        """Fused luma: two [B,1,H,W] in 0..1 -> [B,1,H,W] in 0..1."""
        return self.decode(*self.encode(ir, y))
