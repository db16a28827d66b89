"""SSIM in its three forms against kornia, against a loop over windows written from the definition, and by hand."""

import kornia
import numpy as np
import pytest
import torch

from fusionlib.metrics.structural import ssim_mean, ssim_sum, ssim_uniform


def ssim_by_windows(x, y, window=None, dynamic_range=255, correction=1.0):
    x, y = x.astype(float), y.astype(float)
    if window is None:
        taps = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
        window = np.outer(taps, taps) / taps.sum() ** 2
    c1, c2 = (0.01 * dynamic_range) ** 2, (0.03 * dynamic_range) ** 2
    size, values = len(window), []
    for row in range(x.shape[0] - size + 1):
        for column in range(x.shape[1] - size + 1):
            a, b = x[row:row + size, column:column + size], y[row:row + size, column:column + size]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = ((window * (z - m) ** 2).sum() * correction for z, m in ((a, mean_a), (b, mean_b)))
            covariance = (window * (a - mean_a) * (b - mean_b)).sum() * correction
            values.append((2 * mean_a * mean_b + c1) * (2 * covariance + c2)
                          / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)))
    return np.mean(values)


def test_matches_the_definition(triple, planes):
    fused, ir, visible = triple
    expected = ssim_by_windows(fused, ir) + ssim_by_windows(fused, visible)
    assert ssim_sum(*planes).item() == pytest.approx(expected, rel=1e-5)


def test_the_mean_with_a_range_of_one_and_repeated_borders(triple, planes):
    fused, ir, visible = (np.pad(image, 5, mode="edge") for image in triple)
    expected = (ssim_by_windows(fused, ir, dynamic_range=1) + ssim_by_windows(fused, visible, dynamic_range=1)) / 2
    assert ssim_mean(*planes).item() == pytest.approx(expected, rel=1e-6)


def test_the_uniform_window_with_a_range_of_two(triple, planes):
    form = {"window": np.full((7, 7), 1 / 49), "dynamic_range": 2, "correction": 49 / 48}
    fused, ir, visible = triple
    expected = ssim_by_windows(fused, ir, **form) + ssim_by_windows(fused, visible, **form)
    assert ssim_uniform(*planes).item() == pytest.approx(expected, rel=1e-6)


def test_matches_kornia(planes):
    fused = planes[0]
    expected = sum(kornia.metrics.ssim(fused, source, 11, 255.0, padding="valid").mean() for source in planes[1:])
    assert ssim_sum(*planes).item() == pytest.approx(expected.item(), rel=1e-5)


def test_flat_images_by_hand():
    fifty, hundred = torch.full((1, 1, 11, 11), 50.0), torch.full((1, 1, 11, 11), 100.0)
    assert ssim_sum(hundred, fifty, hundred).item() == pytest.approx((10000 + 6.5025) / (12500 + 6.5025) + 1, abs=3e-5)
