"""The paper's five metrics in plain NumPy and SciPy, float64: the reference that ours are timed and tested against.

Written from the definitions for one gray triple under the VIFB convention and without a look at `fusionlib.metrics`.
All functions take fused, infrared and visible uint8 [H, W] and return a float. Images on which a metric is undefined
give NaN, with NumPy's warning.
"""

from functools import lru_cache

import numpy as np
from scipy import fft, ndimage


def _edges(image):
    """Strength and orientation of the Sobel edges, zero outside the image."""
    left_minus_right = -ndimage.sobel(image, axis=1, mode="constant")
    bottom_minus_top = ndimage.sobel(image, axis=0, mode="constant")
    with np.errstate(divide="ignore", invalid="ignore"):
        angle = np.arctan(bottom_minus_top / left_minus_right)
    angle[left_minus_right == 0] = np.pi / 2
    # np.hypot would take nine times as long; nothing overflows here.
    return np.sqrt(left_minus_right**2 + bottom_minus_top**2), angle


def q_abf(fused: np.ndarray, ir: np.ndarray, visible: np.ndarray) -> float:
    """Q_AB/F (Xydeas and Petrović 2000): the share of the sources' edges that the fused image keeps, 0..1."""
    strength_fused, angle_fused = _edges(fused.astype(float))
    kept = total = 0.0
    for source in (ir, visible):
        strength, angle = _edges(source.astype(float))
        # Equal strengths: evaluation codes put the strength itself in the place of the ratio.
        ratio = strength_fused.copy()
        np.divide(np.minimum(strength, strength_fused), np.maximum(strength, strength_fused), out=ratio,
                  where=strength != strength_fused)
        alignment = 1 - np.abs(angle - angle_fused) / (np.pi / 2)
        kept_strength = 0.9994 / (1 + np.exp(-15 * (ratio - 0.5)))
        kept_angle = 0.9879 / (1 + np.exp(-22 * (alignment - 0.8)))
        kept += np.sum(kept_strength * kept_angle * strength)
        total += np.sum(strength)
    return float(kept / total)


@lru_cache(maxsize=8)
def _contrast_sensitivity(height, width):
    v, u = np.fft.fftfreq(height)[:, None] * 2 * height / 8, np.fft.rfftfreq(width) * 2 * width / 8
    r = 0.144 * np.hypot(u, v)
    return 2.6 * (0.0192 + r) * np.exp(-(r**1.1))


def _stretch(image):
    low, high = float(image.min()), float(image.max())
    return np.floor((image - low) / (high - low) * 255 + 0.5) if high else image.astype(float)


def _blocks(image, size=16):
    """Blocks of 16x16 pixels, the last ones filled up by zeros: [rows, 16, columns, 16]."""
    height, width = image.shape
    padded = np.pad(image, ((0, -height % size), (0, -width % size)))
    return padded.reshape(padded.shape[0] // size, size, padded.shape[1] // size, size)


def q_cv(fused: np.ndarray, ir: np.ndarray, visible: np.ndarray) -> float:
    """Q_CV (Chen and Varshney 2007): the visible part of the differences, where the sources have edges; lower wins."""
    fused, distortion, weight = _stretch(fused), 0.0, 0.0
    sensitivity = _contrast_sensitivity(*fused.shape)
    for source in (_stretch(ir), _stretch(visible)):
        energy = ndimage.sobel(source, 0, mode="constant") ** 2 + ndimage.sobel(source, 1, mode="constant") ** 2
        saliency = _blocks(energy**2 * np.sqrt(energy)).sum((1, 3))
        seen = fft.irfft2(fft.rfft2(source - fused) * sensitivity, s=source.shape)
        distortion += np.sum(saliency * _blocks(seen**2).mean((1, 3)))
        weight += np.sum(saliency)
    return float(distortion / weight)


def _window(image):
    """Weighted means in the 11x11 Gaussian window of sigma 1.5, only where it lies inside the image."""
    return ndimage.gaussian_filter(image, 1.5, radius=5)[5:-5, 5:-5]


def ssim(fused: np.ndarray, ir: np.ndarray, visible: np.ndarray) -> float:
    """SSIM (Wang et al. 2004) of the fused image with one source plus that with the other, -2..2."""
    c1, c2, total = (0.01 * 255) ** 2, (0.03 * 255) ** 2, 0.0
    fused = fused.astype(float)
    mean_fused = _window(fused)
    variance_fused = _window(fused**2) - mean_fused**2
    for source in (ir.astype(float), visible.astype(float)):
        mean = _window(source)
        variance = _window(source**2) - mean**2
        covariance = _window(source * fused) - mean * mean_fused
        similarity = (2 * mean * mean_fused + c1) * (2 * covariance + c2)
        total += np.mean(similarity / ((mean**2 + mean_fused**2 + c1) * (variance + variance_fused + c2)))
    return float(total)


def average_gradient(fused: np.ndarray, ir: np.ndarray, visible: np.ndarray) -> float:
    """AG (Cui et al. 2015): the mean gradient of the fused image, in gray values; the sources are not looked at."""
    height, width = fused.shape
    gy, gx = np.gradient(fused.astype(float))
    return float(np.sum(np.sqrt((gx**2 + gy**2) / 2)) / ((height - 1) * (width - 1)))


def scd(fused: np.ndarray, ir: np.ndarray, visible: np.ndarray) -> float:
    """SCD (Aslantas and Bendes 2015): correlation of what is not of one source with the other source, summed, -2..2."""
    fused, ir, visible = (image.astype(float).ravel() for image in (fused, ir, visible))
    return float(np.corrcoef(fused - visible, ir)[0, 1] + np.corrcoef(fused - ir, visible)[0, 1])


METRICS = {"Q_AB/F": q_abf, "Q_CV": q_cv, "SSIM": ssim, "AG": average_gradient, "SCD": scd}
