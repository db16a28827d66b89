"""Q_AB/F and AG against loops over pixels written from the definitions, and against cases worked out by hand."""

import math

import numpy as np
import pytest
import torch

from fusionlib.metrics.gradient import average_gradient, q_abf, sobel


def sobel_by_loops(image):
    padded = np.pad(image.astype(float), 1)
    gx, gy = np.zeros(image.shape), np.zeros(image.shape)
    # Convolution turns the kernel round, so the output is the sum of kernel[i, j] * image[y - i, x - j].
    kernel_x, kernel_y = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], [[1, 2, 1], [0, 0, 0], [-1, -2, -1]]
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            for i in range(3):
                for j in range(3):
                    gx[y, x] += kernel_x[i][j] * padded[y + 2 - i, x + 2 - j]
                    gy[y, x] += kernel_y[i][j] * padded[y + 2 - i, x + 2 - j]
    return gx, gy


def q_abf_by_loops(fused, *sources):
    fused_x, fused_y = sobel_by_loops(fused)
    kept = total = 0.0
    for source in sources:
        source_x, source_y = sobel_by_loops(source)
        for x, y, fx, fy in zip(source_x.flat, source_y.flat, fused_x.flat, fused_y.flat):
            g, gf = math.hypot(x, y), math.hypot(fx, fy)
            angle, angle_f = (math.pi / 2 if dx == 0 else math.atan(dy / dx) for dx, dy in ((x, y), (fx, fy)))
            ratio = g if g == gf else min(g, gf) / max(g, gf)
            alignment = 1 - abs(angle - angle_f) / (math.pi / 2)
            strength = 0.9994 / (1 + math.exp(-15 * (ratio - 0.5)))
            orientation = 0.9879 / (1 + math.exp(-22 * (alignment - 0.8)))
            kept, total = kept + strength * orientation * g, total + g
    return kept / total


def test_sobel_is_true_convolution_with_zeros_outside(triple, planes):
    for ours, reference in zip(sobel(planes[0]), sobel_by_loops(triple[0])):
        np.testing.assert_array_equal(ours[0, 0].numpy(), reference)


def test_q_abf_matches_the_definition(triple, planes):
    assert q_abf(*planes).item() == pytest.approx(q_abf_by_loops(*triple), rel=1e-5)


def test_q_abf_of_identical_images_is_its_upper_bound():
    image = torch.randint(0, 2, (2, 1, 20, 20)).float() * 255  # every edge is strong: the strength term saturates
    bound = 0.9994 * 0.9879 / (1 + math.exp(-22 * 0.2))
    torch.testing.assert_close(q_abf(image, image, image), torch.full((2, 1), bound))


def test_q_abf_is_undefined_only_without_any_edge():
    black, gray = torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 90.0)
    assert q_abf(gray, black, black).isnan().all()
    assert q_abf(black, gray, gray).isfinite().all()


def test_average_gradient_of_a_ramp():
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(9.0), indexing="ij")
    ramp = (3 * x + 4 * y)[None, None]
    assert average_gradient(ramp, ramp, ramp).item() == pytest.approx(math.sqrt(12.5) * 6 * 9 / (5 * 8))


def test_average_gradient_matches_numpy(triple, planes):
    gy, gx = np.gradient(triple[0].astype(float))
    reference = np.sqrt((gx**2 + gy**2) / 2).sum() / (36 * 52)
    assert average_gradient(*planes).item() == pytest.approx(reference, rel=1e-6)


def test_average_gradient_of_a_flat_image_is_zero():
    flat = torch.full((1, 3, 5, 5), 77.0)
    assert average_gradient(flat, flat, flat).tolist() == [[0, 0, 0]]
