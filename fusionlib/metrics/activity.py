"""Metrics of the fused image's own activity: AG, EI, SF and SD. The sources are not looked at.

Higher counts as better in this literature, though noise and ringing raise all four. A flat image gives 0. Images as in
`fusionlib.metrics.windows`.
"""

import math

import torch

from fusionlib.metrics.gradient import sobel


def average_gradient(
    fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor, per_pixel: bool = False
) -> torch.Tensor:
    """AG: the mean gray-value gradient. Range 0 and up, 1..10 in practice; images of at least 2x2 pixels.

    Central differences inside, one-sided at the border; the sum over all H x W pixels is divided by (H - 1)(W - 1), or
    by H x W with `per_pixel`.

    Reference: Cui et al., Detail preserved fusion of visible and infrared images using regional saliency extraction
    and multi-scale image decomposition, Optics Communications 341, 2015.
    """
    height, width = fused.shape[-2:]
    # One more row or column, continued in a straight line, makes the border's one-sided difference a central one.
    wide = torch.cat((2 * fused[..., :1] - fused[..., 1:2], fused, 2 * fused[..., -1:] - fused[..., -2:-1]), -1)
    tall = torch.cat((2 * fused[..., :1, :] - fused[..., 1:2, :], fused,
                      2 * fused[..., -1:, :] - fused[..., -2:-1, :]), -2)
    gx, gy = wide[..., 2:] - wide[..., :-2], tall[..., 2:, :] - tall[..., :-2, :]  # twice the derivatives
    total = gx.mul_(gx).addcmul_(gy, gy).sqrt_().sum((-2, -1)) / math.sqrt(8)
    return total / (height * width if per_pixel else (height - 1) * (width - 1))


def edge_intensity(fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """EI: the mean Sobel magnitude, the border pixels repeated outside. Range 0 and up.

    Reference: Rajalingam and Priya, Hybrid multimodality medical image fusion technique for feature enhancement in
    medical diagnosis, International Journal of Engineering Science Invention 2, 2018.
    """
    gx, gy = sobel(fused, "replicate")
    return (gx * gx + gy * gy).sqrt().mean((-2, -1))


def spatial_frequency(fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """SF: root of the mean squared first differences along rows and along columns. Range 0 and up.

    Each mean is over the differences that there are. Images of at least 2x2 pixels.

    Reference: Eskicioglu and Fisher, Image quality measures and their performance, IEEE Transactions on Communications
    43(12), 1995.
    """
    return (fused.diff(dim=-1).square().mean((-2, -1)) + fused.diff(dim=-2).square().mean((-2, -1))).sqrt()


def spatial_frequency_of_planes(fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """SF as VIFB has it: squared differences over the number of pixels; [B, C, H, W] -> [B, 1].

    The colour planes lie side by side, so the jump from one plane to the next counts as a difference.
    """
    planes = torch.cat(fused.unbind(1), -1)[:, None]
    pixels = planes.shape[-2] * planes.shape[-1]
    return ((planes.diff(dim=-1).square().sum((-2, -1)) + planes.diff(dim=-2).square().sum((-2, -1))) / pixels).sqrt()


def standard_deviation(fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """SD: population standard deviation, the contrast of the image. Range 0..127.5.

    Reference: Rao, In-fibre Bragg grating sensors, Measurement Science and Technology 8(4), 1997, is what fusion papers
    cite; the definition is the textbook's.
    """
    return fused.std((-2, -1), correction=0)
