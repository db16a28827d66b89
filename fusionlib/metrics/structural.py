"""Metrics of structure: SSIM. Images as in `fusionlib.metrics.gradient`."""

import math

import torch

WINDOW = 11  # pixels
_TAPS = [math.exp(-((i - WINDOW // 2) ** 2) / (2 * 1.5**2)) for i in range(WINDOW)]
_TAPS = [tap / sum(_TAPS) for tap in _TAPS]


def _blur(image):
    """The 11x11 Gaussian window of sigma 1.5, 'valid' region only: [B, C, H, W] -> [B, C, H - 10, W - 10]."""
    for axis in (-2, -1):
        length = image.shape[axis] - WINDOW + 1
        shifted = [image.narrow(axis, i, length) for i in range(WINDOW)]
        image = shifted[0] * _TAPS[0]
        for part, tap in zip(shifted[1:], _TAPS[1:]):
            image.add_(part, alpha=tap)
    return image


def ssim_sum(fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """SSIM(ir, fused) + SSIM(visible, fused): the sum, as VIFB gives it, so twice the usual value.

    Range -2..2, higher is better; always defined, also on flat images. Images of at least 11x11 pixels.
    K1 = 0.01, K2 = 0.03, dynamic range 255.

    Reference: Wang et al., Image quality assessment: from error visibility to structural similarity, IEEE Transactions
    on Image Processing 13(4), 2004.
    """
    # kornia gives the same values (the tests compare them) but takes over ten times as long on a CPU.
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_fused, square_fused = _blur(fused), fused * fused
    total = 0
    for source in (ir, visible):
        mean = _blur(source)
        product, squares = mean * mean_fused, mean * mean + mean_fused * mean_fused
        covariance = _blur(source * fused) - product
        variances = _blur(source * source + square_fused) - squares
        similarity = (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))
        total = total + similarity.mean((-2, -1))
    return total
