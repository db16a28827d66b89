"""Q_AB/F and N_AB/F against loops over pixels written from the definitions, and against cases worked out by hand."""

import math

import numpy as np
import pytest
import torch

from fusionlib.metrics.gradient import n_abf, q_abf, sobel


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


def n_abf_by_loops(fused, *sources):
    def edges(image):
        padded = np.pad(image.astype(float), 1, mode="reflect")
        gx, gy = np.zeros(image.shape), np.zeros(image.shape)
        for y in range(image.shape[0]):
            for x in range(image.shape[1]):
                window = padded[y:y + 3, x:x + 3]
                gx[y, x] = (window * [[1, 0, -1], [2, 0, -2], [1, 0, -1]]).sum() / 8
                gy[y, x] = (window * [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]).sum() / 8
        return gx.ravel(), gy.ravel()

    kept_apart = [edges(image) for image in (fused, *sources)]
    lost = total = 0.0
    for pixel in range(fused.size):
        (fx, fy), *others = [(gx[pixel], gy[pixel]) for gx, gy in kept_apart]
        gf = math.hypot(fx, fy)
        artefact = all(gf > math.hypot(x, y) for x, y in others)
        for x, y in others:
            g = math.hypot(x, y)
            ratio = min(g, gf) / max(g, gf) if g and gf else 0
            angles = [math.copysign(math.pi / 2, dy) if dx == 0 and dy else (math.atan(dy / dx) if dx else 0)
                      for dx, dy in ((x, y), (fx, fy))]
            alignment = abs(abs(angles[0] - angles[1]) - math.pi / 2) * 2 / math.pi
            quality = math.sqrt(0.9999 / (1 + math.exp(-19 * (ratio - 0.5)))
                                * 0.9995 / (1 + math.exp(-22 * (alignment - 0.5))))
            weight = g**1.5 if g >= 2 else 0.001
            lost, total = lost + artefact * (1 - quality) * weight, total + weight
    return lost / total


def test_n_abf_matches_the_definition(triple, planes):
    random = np.random.default_rng(3)
    noisy = np.clip(triple[0] + random.normal(0, 20, triple[0].shape), 0, 255).round().astype(np.uint8)
    value = n_abf(torch.from_numpy(noisy).float()[None, None], *planes[1:]).item()
    assert value > 0.05  # noise is an artefact
    assert value == pytest.approx(n_abf_by_loops(noisy, *triple[1:]), rel=1e-5)


def test_n_abf_counts_nothing_where_no_edge_is_new(planes):
    _, ir, visible = planes
    assert n_abf(ir, ir, visible).item() == 0
    flat = torch.full((1, 1, 2, 2), 90.0)
    assert n_abf(flat, flat, flat).item() == 0
