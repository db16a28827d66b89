"""SCD and CC against np.corrcoef and by hand."""

import numpy as np
import pytest
import torch

from fusionlib.metrics.correlation import correlation_coefficient, pearson, scd


def test_matches_numpy(triple, planes):
    fused, ir, visible = (image.astype(float).ravel() for image in triple)
    expected = np.corrcoef(fused - visible, ir)[0, 1] + np.corrcoef(fused - ir, visible)[0, 1]
    assert scd(*planes).item() == pytest.approx(expected, abs=1e-6)


def test_cc_matches_numpy(triple, planes):
    fused, ir, visible = (image.astype(float).ravel() for image in triple)
    expected = (np.corrcoef(fused, ir)[0, 1] + np.corrcoef(fused, visible)[0, 1]) / 2
    assert correlation_coefficient(*planes).item() == pytest.approx(expected, abs=1e-6)
    assert correlation_coefficient(torch.ones_like(planes[0]), *planes[1:]).isnan()


def test_a_sum_of_the_sources_scores_two_and_a_difference_less():
    ir, visible = torch.randint(0, 128, (2, 4, 1, 16, 16)).float().unbind()
    torch.testing.assert_close(scd(ir + visible, ir, visible), torch.full((4, 1), 2.0))
    # F - B = -A counts -1; F - A = B - 2A goes with B, but not fully.
    assert (scd(visible - ir, ir, visible) < 0).all()


def test_flat_differences_are_undefined_at_any_size():
    # 0.1 is not exact in binary, and 99 x 101 is no power of two: a mean with rounding would give a number here.
    ir, flat = torch.rand(1, 1, 99, 101), torch.full((1, 1, 99, 101), 0.1)
    assert pearson(ir, flat).isnan()
    assert scd(ir, ir, torch.rand_like(ir)).isnan()
