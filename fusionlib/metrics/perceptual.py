"""Metrics that model the eye: Q_CV. Images as in `fusionlib.metrics.gradient`."""

from functools import lru_cache

import torch
import torch.nn.functional as F

from fusionlib.metrics.gradient import sobel

BLOCK = 16  # pixels


@lru_cache(maxsize=8)
def _contrast_sensitivity(height, width, device):
    """Mannos-Sakrison filter on the grid of rfft2, [H, W // 2 + 1]; the picture is 8 pixels per degree of view."""
    v = torch.fft.fftfreq(height, device=device)[:, None] * 2 * height / 8
    u = torch.fft.rfftfreq(width, device=device)[None, :] * 2 * width / 8
    scaled = 0.144 * torch.hypot(u, v)
    return 2.6 * (0.0192 + scaled) * torch.exp(-(scaled**1.1))


def _stretch(image):
    """Each image to 0..255 by its own minimum and maximum, rounded half up; a black image stays black."""
    low, high = image.amin((-2, -1), keepdim=True), image.amax((-2, -1), keepdim=True)
    stretched = ((image - low) * 255 / (high - low) + 0.5).floor()
    return torch.where(high == 0, image, stretched)


def _block_means(image):
    height, width = image.shape[-2:]
    return F.avg_pool2d(F.pad(image, (0, -width % BLOCK, 0, -height % BLOCK)), BLOCK)


def q_cv(fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Q_CV: what the eye sees of the difference between the fused image and its sources, most where those have edges.

    Range 0 and up, in squared gray values (some hundreds are usual); lower is better. NaN where the fused image or a
    source is one gray value other than black (its stretch is 0/0), and where both sources are black.

    Every image is stretched to 0..255 first. Blocks of 16x16 pixels, the last ones padded by zeros that count in their
    mean, are weighted by the fifth power of the Sobel magnitude of each source.

    Reference: Chen and Varshney, A human perception inspired quality metric for image fusion based on regional
    information, Information Fusion 8(2), 2007; contrast sensitivity: Mannos and Sakrison, 1974.
    """
    fused, ir, visible = _stretch(fused), _stretch(ir), _stretch(visible)
    height, width = fused.shape[-2:]
    sensitivity = _contrast_sensitivity(height, width, fused.device)
    distortion = weight = 0
    for source in (ir, visible):
        gx, gy = sobel(source)
        energy = gx * gx + gy * gy
        saliency = _block_means(energy * energy * energy.sqrt())
        difference = torch.fft.irfft2(torch.fft.rfft2(source - fused) * sensitivity, s=(height, width))
        distortion = distortion + (saliency * _block_means(difference * difference)).sum((-2, -1))
        weight = weight + saliency.sum((-2, -1))
    return distortion / weight
