"""What the families share: separable windows, the min-max stretch, and double precision where a device has it.

Images are gray values 0..255 of shape [B, C, H, W] in every family; C may differ where it broadcasts (one infrared
channel against three visible ones), and a metric returns [B, C], one value per channel.
"""

import math
from collections.abc import Sequence

import torch


def gaussian(size: int, sigma: float) -> list[float]:
    """Taps of a Gaussian window that sum to 1."""
    taps = [math.exp(-((i - (size - 1) / 2) ** 2) / (2 * sigma**2)) for i in range(size)]
    return [tap / sum(taps) for tap in taps]


def valid(image: torch.Tensor, taps: Sequence[float]) -> torch.Tensor:
    """Filter both axes by the taps where the window fits: [B, C, H, W] -> [B, C, H - n + 1, W - n + 1]."""
    # Sums of shifted images: faster than conv2d with one channel on a CPU, and the same on every device.
    for axis in (-2, -1):
        length = image.shape[axis] - len(taps) + 1
        shifted = [image.narrow(axis, i, length) for i in range(len(taps))]
        image = shifted[0] * taps[0]
        for part, tap in zip(shifted[1:], taps[1:]):
            image.add_(part, alpha=tap)
    return image


def stretch(image: torch.Tensor) -> torch.Tensor:
    """Each image to 0..255 by its own minimum and maximum, rounded half up; black stays black, other flat ones NaN."""
    low, high = image.amin((-2, -1), keepdim=True), image.amax((-2, -1), keepdim=True)
    span = torch.where(high == 0, 1, high - low)
    return (image - low).mul_(255).div_(span).add_(0.5).floor_()


def double(image: torch.Tensor) -> torch.Tensor:
    """The image in float64, on the CPU where the device has none (MPS)."""
    return (image.cpu() if image.device.type == "mps" else image).double()
