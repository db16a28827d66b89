"""Metrics of structure: SSIM in the three forms of this literature. Images as in `fusionlib.metrics.windows`.

All three are always defined, also on flat images. The form decides the value, and even the winner: with constants made
for a range of 1 or 2 on gray values up to 255, flat regions are compared by their noise.

Reference: Wang et al., Image quality assessment: from error visibility to structural similarity, IEEE Transactions on
Image Processing 13(4), 2004.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from fusionlib.metrics.windows import double, gaussian, valid

WINDOW = 11  # pixels of the Gaussian window of sigma 1.5
UNIFORM = 7  # pixels of the uniform window


def similarity(
    x: torch.Tensor, y: torch.Tensor, taps: Sequence[float], dynamic_range: float, correction: float = 1.0
) -> torch.Tensor:
    """The map of SSIM between x and y where the window fits: [B, C, H, W] twice -> [B, C, H - n + 1, W - n + 1].

    Args:
        x, y: images.
        taps: the separable window, n numbers that sum to 1.
        dynamic_range: L, which the constants (0.01 L)^2 and (0.03 L)^2 come from.
        correction: a factor on variances and covariance.
    """
    # kornia gives the values of `ssim_sum` (the tests compare them) but takes over ten times as long on a CPU.
    c1, c2 = (0.01 * dynamic_range) ** 2, (0.03 * dynamic_range) ** 2 / correction
    mean_x, mean_y = valid(x, taps), valid(y, taps)
    product, squares = mean_x * mean_y, torch.addcmul(mean_x * mean_x, mean_y, mean_y)
    covariance = valid(x * y, taps).sub_(product)
    variances = valid(torch.addcmul(x * x, y, y), taps).sub_(squares)
    numerator = product.mul_(2).add_(c1).mul_(covariance.mul_(2).add_(c2))
    return numerator.div_(squares.add_(c1).mul_(variances.add_(c2)))


def ssim_sum(fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """SSIM(ir, fused) + SSIM(visible, fused), as VIFB gives it, so twice the usual value.

    Range -2..2, higher is better. Gaussian window of 11x11 pixels where it fits, dynamic range 255. Images of at least
    11x11 pixels.
    """
    taps = gaussian(WINDOW, 1.5)
    return sum(similarity(fused, source, taps, 255).mean((-2, -1)) for source in (ir, visible))


def ssim_mean(fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """The mean of SSIM(ir, fused) and SSIM(visible, fused), as MATLAB's default for gray values in double gives it.

    Range -1..1, higher is better. Gaussian window of 11x11 pixels, the border pixels repeated outside; dynamic range 1
    on gray values 0..255, so the constants nearly vanish.
    """
    # float64: the variance of a flat region is a difference of squares, whose float32 error exceeds the constants.
    fused, ir, visible = (F.pad(double(x), (5, 5, 5, 5), mode="replicate") for x in (fused, ir, visible))
    taps = gaussian(WINDOW, 1.5)
    return sum(similarity(fused, source, taps, 1).mean((-2, -1)) for source in (ir, visible)) / 2


def ssim_uniform(fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """SSIM(ir, fused) + SSIM(visible, fused) as older scikit-image gives it for float32 images 0..255.

    Range -2..2, higher is better. Uniform window of 7x7 pixels where it fits, sample covariance, dynamic range 2 (that
    of the type float, not of the gray values). Images of at least 7x7 pixels.
    """
    fused, ir, visible = double(fused), double(ir), double(visible)
    taps, samples = [1 / UNIFORM] * UNIFORM, UNIFORM * UNIFORM
    maps = [similarity(fused, source, taps, 2, samples / (samples - 1)) for source in (ir, visible)]
    return sum(each.mean((-2, -1)) for each in maps)
