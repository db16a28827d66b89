"""The feature layer that encoders, decoder and Text-DFH are stacked from (paper section 3.2)."""

from torch import nn


def convolution(in_channels: int, out_channels: int, bias: bool = True) -> nn.Conv2d:
    """3x3 convolution, stride 1, reflect padding: [B,in,H,W] -> [B,out,H,W], H and W at least 2."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=1, padding=1, padding_mode="reflect", bias=bias)


def feature_layer(in_channels: int, out_channels: int) -> nn.Sequential:
    """Convolution, BatchNorm and LeakyReLU(0.2): [B,in,H,W] -> [B,out,H,W]."""
    return nn.Sequential(
        convolution(in_channels, out_channels, bias=False), nn.BatchNorm2d(out_channels), nn.LeakyReLU(0.2)
    )
