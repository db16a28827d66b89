"""VIF, MSE and PSNR against plain NumPy written from the definitions, and by hand."""

import math

import numpy as np
import pytest
import torch
from scipy import signal

from fusionlib.metrics.fidelity import (
    mean_squared_error,
    psnr_of_maximum,
    psnr_of_root_error,
    psnr_of_unit_error,
    root_error_over_pixels,
    vif_sum,
)


def vif_by_numpy(source, fused):
    source, fused = source.astype(float), fused.astype(float)
    numerator = denominator = 0.0
    for scale in range(1, 5):
        size = 2 ** (5 - scale) + 1
        offsets = np.arange(size) - size // 2
        window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * (size / 5) ** 2))
        window /= window.sum()

        def mean(image, window=window):
            return signal.convolve2d(image, window, mode="valid")

        if scale > 1:
            source, fused = mean(source)[::2, ::2], mean(fused)[::2, ::2]
        for s, f, ss, ff, sf in zip(*(m.ravel() for m in (mean(source), mean(fused), mean(source * source),
                                                          mean(fused * fused), mean(source * fused)))):
            s1, s2, s12 = max(ss - s * s, 0), max(ff - f * f, 0), sf - s * f
            g = s12 / (s1 + 1e-10)
            sv = s2 - g * s12
            if s1 < 1e-10:
                g, sv, s1 = 0, s2, 0
            if s2 < 1e-10:
                g, sv = 0, 0
            if g < 0:
                g, sv = 0, s2
            numerator += math.log10(1 + g * g * s1 / (max(sv, 1e-10) + 2))
            denominator += math.log10(1 + s1 / 2)
    return numerator / denominator


def test_vif_matches_the_definition():
    random = np.random.default_rng(5)
    y, x = np.mgrid[:45, :52]
    ir = np.clip(120 + 90 * np.sin(x / 4) + random.normal(0, 10, x.shape), 0, 255).round()
    visible = np.clip(110 + 80 * np.cos(y / 6) + random.normal(0, 10, x.shape), 0, 255).round()
    ir[:24, :24] = 40
    fused = ((ir + visible) / 2).round()
    planes = [torch.from_numpy(image).float()[None, None] for image in (fused, ir, visible)]
    assert vif_sum(*planes).item() == pytest.approx(vif_by_numpy(ir, fused) + vif_by_numpy(visible, fused), rel=1e-6)


def test_vif_of_equal_brighter_and_flat_images():
    image = torch.randint(0, 128, (1, 1, 41, 41)).float()
    assert vif_sum(image, image, image).item() == pytest.approx(2, rel=1e-6)
    assert vif_sum(2 * image, image, image).item() > 2  # contrast beyond the source's counts
    flat = torch.full_like(image, 90.0)
    assert vif_sum(image, flat, flat).item() == 2  # a flat source has nothing to lose
    assert vif_sum(flat, image, image).item() == pytest.approx(0, abs=1e-6)


def test_errors_and_psnr(triple, planes):
    fused, ir, visible = (image.astype(float) for image in triple)
    squares = [((fused - source) ** 2).sum() for source in (ir, visible)]
    mse = sum(squares) / 2 / fused.size
    assert mean_squared_error(*planes).item() == pytest.approx(mse, rel=1e-5)
    assert mean_squared_error(*planes, peak=1).item() == pytest.approx(mse / 255**2, rel=1e-5)
    assert psnr_of_maximum(*planes).item() == pytest.approx(10 * math.log10(fused.max() ** 2 / mse), rel=1e-5)
    usual = 10 * math.log10(255**2 / mse)
    assert psnr_of_unit_error(*planes).item() == pytest.approx(usual + 20 * math.log10(255), rel=1e-5)
    root = sum(math.sqrt(square) / fused.size for square in squares) / 2
    assert root_error_over_pixels(*planes).item() == pytest.approx(root, rel=1e-5)
    assert psnr_of_root_error(*planes).item() == pytest.approx(20 * math.log10(255 / math.sqrt(root)), rel=1e-5)


def test_equal_and_black_images(planes):
    image, black = planes[0], torch.zeros_like(planes[0])
    for psnr in (psnr_of_maximum, psnr_of_root_error, psnr_of_unit_error):
        assert psnr(image, image, image).item() == math.inf
    assert psnr_of_maximum(black, image, image).item() == -math.inf
    assert psnr_of_maximum(black, black, black).isnan()
    assert mean_squared_error(image, image, image).item() == root_error_over_pixels(image, image, image).item() == 0
