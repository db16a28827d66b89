"""Q_CV and Q_CB against plain NumPy versions written from the definitions, and against cases worked out by hand."""

import math

import numpy as np
import pytest
import torch
from scipy import signal

from fusionlib.metrics.perceptual import q_cb, q_cv


def sensitivity(r):
    return 2.6 * (0.0192 + 0.144 * r) * np.exp(-((0.144 * r) ** 1.1))


def stretch(image):
    image = image.astype(float)
    return np.floor((image - image.min()) / (image.max() - image.min()) * 255 + 0.5)


def frequency(height, width, per_degree):
    def axis(n):  # the frequency axis of MATLAB's freqspace, -1..1
        return (np.arange(-n, n - 1, 2) if n % 2 == 0 else np.arange(1 - n, n, 2)) / n

    return np.hypot(*np.meshgrid(axis(width) * width / per_degree, axis(height) * height / per_degree))


def q_cv_by_blocks(fused, *sources):
    height, width = fused.shape
    r = frequency(height, width, 8)
    fused, upper, lower = stretch(fused), 0.0, 0.0
    for source in map(stretch, sources):
        # The sign that convolution and correlation do not share is lost in the magnitude.
        def separable(down, across, image=source):
            image = np.apply_along_axis(np.convolve, 0, image, down, "same")
            return np.apply_along_axis(np.convolve, 1, image, across, "same")

        magnitude = np.hypot(separable([1, 2, 1], [1, 0, -1]), separable([1, 0, -1], [1, 2, 1]))
        spectrum = np.fft.fftshift(np.fft.fft2(source - fused)) * sensitivity(r)
        seen = np.fft.ifft2(np.fft.ifftshift(spectrum)).real
        for y in range(0, height, 16):
            for x in range(0, width, 16):
                block = np.s_[y:y + 16, x:x + 16]
                saliency = (magnitude[block] ** 5).sum()
                upper, lower = upper + saliency * (seen[block] ** 2).sum() / 256, lower + saliency
    return upper / lower


def test_matches_the_definition_on_odd_sizes(triple, planes):
    assert q_cv(*planes).item() == pytest.approx(q_cv_by_blocks(*triple), rel=1e-4)


def test_matches_the_definition_on_even_sizes(triple, planes):
    assert q_cv(*(image[..., :36, :48] for image in planes)).item() == pytest.approx(
        q_cv_by_blocks(*(image[:36, :48] for image in triple)), rel=1e-4)


def test_checkerboard_against_black():
    """Two frequencies only, 0 and the corner of the spectrum, so every block has the same known distortion."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    board, black = 255.0 * ((x + y) % 2)[None, None], torch.zeros(1, 1, 64, 64)
    corner = math.hypot(8, 8)  # cycles per degree at 64 pixels, 8 pixels per degree
    expected = 127.5**2 * (sensitivity(0) ** 2 + sensitivity(corner) ** 2)
    assert q_cv(black, board, black).item() == pytest.approx(expected, rel=1e-5)


def test_only_contrast_after_the_stretch_counts():
    image = torch.randint(0, 2, (1, 1, 20, 30)).float()
    assert q_cv(40 + 100 * image, 255 * image, 7 + image).item() == 0


def test_flat_images_are_undefined(planes):
    fused, ir, visible = planes
    flat, black = torch.full_like(fused, 90.0), torch.zeros_like(fused)
    assert q_cv(flat, ir, visible).isnan() and q_cv(fused, ir, flat).isnan() and q_cv(fused, black, black).isnan()
    assert q_cv(black, ir, black).isfinite()


def q_cb_by_numpy(fused, *sources):
    r = frequency(*fused.shape, 30)
    filtering = np.exp(-((r / 15.387) ** 2)) - 0.7622 * np.exp(-((r / 1.3456) ** 2))
    y, x = np.mgrid[-15:16, -15:16]
    narrow, wide = (np.exp(-(x**2 + y**2) / (2 * s**2)) / (2 * np.pi * s**2) for s in (2, 4))

    def contrast(image):
        spectrum = np.fft.fftshift(np.fft.fft2(stretch(image))) * filtering
        seen = np.fft.ifft2(np.fft.ifftshift(spectrum)).real
        narrow_mean, wide_mean = (signal.convolve2d(seen, window, mode="same") for window in (narrow, wide))
        local = np.abs(narrow_mean / wide_mean - 1)
        return local**3 / (local**2 + 1e-4)

    f, a, b = map(contrast, (fused, *sources))
    share = a**2 / (a**2 + b**2)
    return (share * np.minimum(a, f) / np.maximum(a, f) + (1 - share) * np.minimum(b, f) / np.maximum(b, f)).mean()


def test_q_cb_matches_the_definition(triple, planes):
    assert q_cb(*planes).item() == pytest.approx(q_cb_by_numpy(*triple), rel=1e-4)


def test_q_cb_of_equal_images_is_one_and_of_flat_ones_undefined(planes):
    fused, ir, visible = planes
    assert q_cb(ir, ir, ir).item() == pytest.approx(1)
    flat = torch.full_like(fused, 90.0)
    assert q_cb(flat, ir, visible).isnan() and q_cb(fused, flat, visible).isnan()
