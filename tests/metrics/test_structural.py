"""SSIM against kornia, against a loop over windows written from the definition, and by hand."""

import kornia
import numpy as np
import pytest
import torch

from fusionlib.metrics.structural import ssim_sum


def ssim_by_windows(x, y):
    x, y = x.astype(float), y.astype(float)
    taps = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    window = np.outer(taps, taps) / taps.sum() ** 2
    values = []
    for row in range(x.shape[0] - 10):
        for column in range(x.shape[1] - 10):
            a, b = x[row:row + 11, column:column + 11], y[row:row + 11, column:column + 11]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            values.append((2 * mean_a * mean_b + 6.5025) * (2 * covariance + 58.5225)
                          / ((mean_a**2 + mean_b**2 + 6.5025) * (var_a + var_b + 58.5225)))
    return np.mean(values)


def test_matches_the_definition(triple, planes):
    fused, ir, visible = triple
    expected = ssim_by_windows(fused, ir) + ssim_by_windows(fused, visible)
    assert ssim_sum(*planes).item() == pytest.approx(expected, rel=1e-5)


def test_matches_kornia(planes):
    fused = planes[0]
    expected = sum(kornia.metrics.ssim(fused, source, 11, 255.0, padding="valid").mean() for source in planes[1:])
    assert ssim_sum(*planes).item() == pytest.approx(expected.item(), rel=1e-5)


def test_flat_images_by_hand():
    fifty, hundred = torch.full((1, 1, 11, 11), 50.0), torch.full((1, 1, 11, 11), 100.0)
    assert ssim_sum(hundred, fifty, hundred).item() == pytest.approx((10000 + 6.5025) / (12500 + 6.5025) + 1, abs=3e-5)
