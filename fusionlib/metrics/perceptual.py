"""Metrics that model the eye: Q_CV and Q_CB. Images as in `fusionlib.metrics.windows`."""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F

from fusionlib.metrics.gradient import sobel
from fusionlib.metrics.windows import stretch, valid

BLOCK = 16  # pixels


def _frequency(height, width, extent, device):
    """Spatial frequency on the grid of rfft2, [H, W // 2 + 1], in cycles per degree at `extent` pixels per degree."""
    v = torch.fft.fftfreq(height, device=device)[:, None] * 2 * height / extent
    u = torch.fft.rfftfreq(width, device=device)[None, :] * 2 * width / extent
    return torch.hypot(u, v)


@lru_cache(maxsize=8)
def _mannos_sakrison(height, width, device):
    scaled = 0.144 * _frequency(height, width, 8, device)
    return 2.6 * (0.0192 + scaled) * torch.exp(-(scaled**1.1))


@lru_cache(maxsize=8)
def _difference_of_gaussians(height, width, device):
    frequency = _frequency(height, width, 30, device)
    return torch.exp(-((frequency / 15.3870) ** 2)) - 0.7622 * torch.exp(-((frequency / 1.3456) ** 2))


def _see(image, sensitivity):
    """The image as the eye's contrast sensitivity lets it through."""
    return torch.fft.irfft2(torch.fft.rfft2(image).mul_(sensitivity), s=image.shape[-2:])


def _block_means(image):
    height, width = image.shape[-2:]
    if height % BLOCK or width % BLOCK:
        image = F.pad(image, (0, -width % BLOCK, 0, -height % BLOCK))
    return image.unflatten(-2, (-1, BLOCK)).mean(-2).unflatten(-1, (-1, BLOCK)).mean(-1)  # faster than avg_pool2d


def q_cv(fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Q_CV: what the eye sees of the difference between the fused image and its sources, most where those have edges.

    Range 0 and up, in squared gray values (some hundreds are usual); lower is better. NaN where the fused image or a
    source is one gray value other than black (its stretch is 0/0), and where both sources are black.

    Every image is stretched to 0..255 first. Blocks of 16x16 pixels, the last ones padded by zeros that count in their
    mean, are weighted by the fifth power of the Sobel magnitude of each source.

    Reference: Chen and Varshney, A human perception inspired quality metric for image fusion based on regional
    information, Information Fusion 8(2), 2007; contrast sensitivity: Mannos and Sakrison, 1974.
    """
    fused, ir, visible = stretch(fused), stretch(ir), stretch(visible)
    sensitivity = _mannos_sakrison(*fused.shape[-2:], fused.device)
    distortion = weight = 0
    for source in (ir, visible):
        gx, gy = sobel(source)
        energy = gx.mul_(gx).addcmul_(gy, gy)
        saliency = _block_means(energy.sqrt().mul_(energy).mul_(energy))
        seen = _see(source - fused, sensitivity)
        distortion = distortion + (saliency * _block_means(seen.square_())).sum((-2, -1))
        weight = weight + saliency.sum((-2, -1))
    return distortion / weight


def q_cb(fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Q_CB: how much of the local contrast that the eye sees in the sources the fused image keeps.

    Range 0..1, higher is better. NaN where the fused image or a source is flat: there is no contrast.

    Every image is stretched to 0..255 first, then filtered by a difference of Gaussians as the eye's contrast
    sensitivity; local contrast compares Gaussian windows of 31x31 pixels, sigma 2 against sigma 4, zero outside.

    Reference: Chen and Blum, A new automated quality assessment algorithm for image fusion, Image and Vision Computing
    27(10), 2009.
    """
    sensitivity = _difference_of_gaussians(*fused.shape[-2:], fused.device)

    # Densities, not normalised to sum 1 within the window: the published values depend on it in the fourth digit.
    windows = [[math.exp(-(i**2) / (2 * s**2)) / (s * math.sqrt(2 * math.pi)) for i in range(-15, 16)] for s in (2, 4)]

    def contrast(image):
        seen = F.pad(_see(stretch(image), sensitivity), (15, 15, 15, 15))
        local = (valid(seen, windows[0]) / valid(seen, windows[1]) - 1).abs()
        return local**3 / (local**2 + 1e-4)

    contrast_fused, *sources = contrast(fused), contrast(ir), contrast(visible)
    kept = [torch.minimum(c, contrast_fused) / torch.maximum(c, contrast_fused) for c in sources]
    share = sources[0] ** 2 / (sources[0] ** 2 + sources[1] ** 2)
    return (share * kept[0] + (1 - share) * kept[1]).mean((-2, -1))
