"""AG, EI, SF and SD against NumPy and SciPy, and by hand."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from fusionlib.metrics.activity import (
    average_gradient,
    edge_intensity,
    spatial_frequency,
    spatial_frequency_of_planes,
    standard_deviation,
)


def test_average_gradient_of_a_ramp():
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(9.0), indexing="ij")
    ramp = (3 * x + 4 * y)[None, None]
    assert average_gradient(ramp, ramp, ramp).item() == pytest.approx(math.sqrt(12.5) * 6 * 9 / (5 * 8))


def test_average_gradient_matches_numpy(triple, planes):
    gy, gx = np.gradient(triple[0].astype(float))
    strength = np.sqrt((gx**2 + gy**2) / 2)
    assert average_gradient(*planes).item() == pytest.approx(strength.sum() / (36 * 52), rel=1e-6)
    assert average_gradient(*planes, per_pixel=True).item() == pytest.approx(strength.mean(), rel=1e-6)


def test_average_gradient_of_a_flat_image_is_zero():
    flat = torch.full((1, 3, 5, 5), 77.0)
    assert average_gradient(flat, flat, flat).tolist() == [[0, 0, 0]]


def test_edge_intensity_matches_scipy(triple, planes):
    image = triple[0].astype(float)
    magnitude = np.hypot(*(ndimage.sobel(image, axis, mode="nearest") for axis in (0, 1)))
    assert edge_intensity(*planes).item() == pytest.approx(magnitude.mean(), rel=1e-6)


def test_spatial_frequency_in_its_two_forms(triple, planes):
    image = triple[0].astype(float)
    rows, columns = np.diff(image, axis=1) ** 2, np.diff(image, axis=0) ** 2
    assert spatial_frequency(*planes).item() == pytest.approx(math.sqrt(rows.mean() + columns.mean()), rel=1e-6)
    over_pixels = math.sqrt((rows.sum() + columns.sum()) / image.size)
    assert spatial_frequency_of_planes(*planes).item() == pytest.approx(over_pixels, rel=1e-6)


def test_spatial_frequency_counts_the_jump_between_colour_planes():
    planes = torch.tensor([10.0, 30.0, 60.0]).view(1, 3, 1, 1).expand(1, 3, 4, 5)
    expected = math.sqrt(4 * (20**2 + 30**2) / (4 * 15))
    assert spatial_frequency_of_planes(planes, planes, planes).item() == pytest.approx(expected)
    assert spatial_frequency(planes, planes, planes).tolist() == [[0, 0, 0]]


def test_standard_deviation_is_that_of_the_population(triple, planes):
    assert standard_deviation(*planes).item() == pytest.approx(triple[0].std(), rel=1e-6)
    halves = torch.tensor([0.0, 255.0]).repeat(2, 2)[None, None]
    assert standard_deviation(halves, halves, halves).item() == 127.5
