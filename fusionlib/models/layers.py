"""The layers that encoders, decoder and Text-DFH are stacked from (paper section 3.2)."""

import torch
from torch import Tensor, nn


def convolution(in_channels: int, out_channels: int, bias: bool = True) -> nn.Conv2d:
    """3x3 convolution, stride 1, reflect padding: [B,in,H,W] -> [B,out,H,W], H and W at least 2."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=1, padding=1, padding_mode="reflect", bias=bias)


def feature_layer(in_channels: int, out_channels: int) -> nn.Sequential:
    """Convolution, BatchNorm and LeakyReLU(0.2): [B,in,H,W] -> [B,out,H,W]."""
    return nn.Sequential(
        convolution(in_channels, out_channels, bias=False), nn.BatchNorm2d(out_channels), nn.LeakyReLU(0.2)
    )


class Widen(nn.Linear):
    """A linear layer over many tokens of few channels, to more of them: [...,in] -> [...,out].

    For the gradient of its weight, `nn.Linear` multiplies G^T X, with G the gradient of its result. Where `out` is the
    larger side, MKL takes ten times as long for that as for X^T G, which autograd takes for a contiguous transpose.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """[...,in] -> [...,out]."""
        out = torch.addmm(self.bias, tokens.flatten(0, -2), self.weight.t().contiguous())
        return out.unflatten(0, tokens.shape[:-1])
