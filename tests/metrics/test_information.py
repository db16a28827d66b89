"""EN, MI and CE against sums over histograms in plain Python, against scikit-learn's definition, and by hand."""

import math
from collections import Counter

import pytest
import torch

from fusionlib.metrics.information import cross_entropy, entropy, mutual_information


def shares(*images):
    counts = Counter(zip(*(image.ravel().tolist() for image in images)))
    return {values: count / images[0].size for values, count in counts.items()}


def mutual(x, y):
    px, py = shares(x), shares(y)
    return sum(p * math.log(p / (px[a,] * py[b,])) for (a, b), p in shares(x, y).items())


def stretched(image):
    low, high = int(image.min()), int(image.max())
    return ((image.astype(float) - low) / (high - low) * 255 + 0.5).astype(int)


def test_entropy(triple, planes):
    expected = -sum(p * math.log2(p) for p in shares(triple[0]).values())
    assert entropy(*planes).item() == pytest.approx(expected, rel=1e-5)


def test_entropy_by_hand():
    every = torch.arange(256.0).view(1, 1, 16, 16)
    half = torch.tensor([0.0, 255.0]).repeat(4, 4)[None, None]
    assert entropy(every, every, every).item() == pytest.approx(8)
    assert entropy(half, half, half).item() == pytest.approx(1)
    assert entropy(half * 0, half, half).item() == 0


def test_mutual_information_in_its_three_forms(triple, planes):
    fused, ir, visible = triple
    nats = mutual(fused, ir) + mutual(fused, visible)
    assert mutual_information(*planes).item() == pytest.approx(nats, rel=1e-4)
    assert mutual_information(*planes, bits=True).item() == pytest.approx(nats / math.log(2), rel=1e-4)
    fused, ir, visible = map(stretched, triple)
    expected = mutual(fused, ir) + mutual(fused, visible)
    assert mutual_information(*planes, stretched=True).item() == pytest.approx(expected, rel=1e-4)


def test_an_image_tells_all_about_itself_and_a_flat_one_nothing(planes):
    fused = planes[0]
    flat = torch.full_like(fused, 90.0)
    for form in (False, True):
        own = mutual_information(fused, fused, flat, stretched=form)
        assert own.item() == pytest.approx(entropy(fused, fused, fused).item() * math.log(2), rel=1e-5)
        assert mutual_information(flat, fused, fused, stretched=form).item() == pytest.approx(0, abs=1e-6)


def test_batches_do_not_mix(planes):
    fused, ir, visible = planes
    both = [torch.cat((a, b)).expand(-1, 3, -1, -1) for a, b in ((fused, ir), (ir, ir), (visible, fused))]
    for metric in (entropy, mutual_information, cross_entropy):
        result = metric(*both)
        assert result.shape == (2, 3)
        torch.testing.assert_close(result[0, 1], metric(fused, ir, visible)[0, 0])
        torch.testing.assert_close(result[1, 2], metric(ir, ir, fused)[0, 0])


def test_cross_entropy(triple, planes):
    fused, *sources = map(shares, triple)
    expected = sum(p * math.log2(p / fused[v]) for source in sources for v, p in source.items() if v in fused) / 2
    assert cross_entropy(*planes).item() == pytest.approx(expected, rel=1e-4)
    assert cross_entropy(planes[1], planes[1], planes[1]).item() == 0
    black = torch.zeros_like(planes[1])
    assert cross_entropy(black + 1, black, black + 2).item() == 0  # no gray value in common
