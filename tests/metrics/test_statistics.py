"""Interval, test and correction: against the normal theory, SciPy, and an enumeration by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import permutation_test

from fusionlib.metrics import statistics
from fusionlib.metrics.statistics import (
    compare_to_reference,
    holm,
    mean_interval,
    sign_flip_test,
    summarise_comparison,
    verdict,
)
from fusionlib.utils.errors import FusionError


def test_the_interval_is_the_percentile_bootstrap_of_the_mean():
    """The same draws taken by hand; and for many values the normal interval, mean +- 1.96 standard errors."""
    values = np.random.default_rng(3).gamma(4, size=400)
    mean, low, high = mean_interval(values, resamples=2000, seed=5)
    draws = np.random.default_rng(5).integers(400, size=(2000, 400))
    np.testing.assert_allclose([low, high], np.percentile(values[draws].mean(1), [2.5, 97.5]), rtol=1e-12)
    error = values.std() / 20
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((mean - 1.96 * error, mean + 1.96 * error), abs=0.15 * error)


@pytest.mark.parametrize(("values", "expected"), [([], (np.nan,) * 3), ([5], (5, 5, 5)), ([2, 2, 2], (2, 2, 2))])
def test_an_interval_of_little(values, expected):
    np.testing.assert_equal(mean_interval(values), expected)


def test_scenes_are_drawn_with_all_their_values():
    """Against the draws taken by hand; the values of a scene together are less than so many independent ones."""
    values, scenes = np.random.default_rng(5).normal(size=7), [*"abacbba"]
    counts = np.random.default_rng(2).multinomial(3, [1 / 3] * 3, size=500)
    means = []
    for a, b, c in counts:
        drawn = [*values[[0, 2, 6]]] * a + [*values[[1, 4, 5]]] * b + [values[3]] * c
        means.append(np.mean(drawn))
    mean, low, high = mean_interval(values, 500, 2, scenes)
    np.testing.assert_allclose([mean, low, high], [values.mean(), *np.percentile(means, [2.5, 97.5])], rtol=1e-12)
    repeated, of_each = np.repeat(values, 9), np.repeat(np.arange(7), 9).astype(str).tolist()
    wide, narrow = (np.ptp(mean_interval(repeated, scenes=each)[1:]) for each in (of_each, None))
    assert wide > 2 * narrow


def test_the_differences_of_a_scene_have_one_sign():
    differences, scenes = np.array([3, 1, 2, -1.0, 4]), [*"aabcb"]  # sums 4, 6, -1: |9| of |+-4 +-6 +-1|
    assert sign_flip_test(differences, scenes=scenes) == 4 / 8  # 11 and 9, twice each
    assert sign_flip_test([1.0] * 20, scenes=[*"ab"] * 10) == 2 / 4 > sign_flip_test([1.0] * 20)


def test_scenes_of_one_image_each_and_a_single_scene_are_as_images():
    values = np.random.default_rng(6).normal(0.4, size=6)
    for scenes in ([*"abcdef"], ["a"] * 6):
        assert mean_interval(values, scenes=scenes) == mean_interval(values)
        assert sign_flip_test(values, scenes=scenes) == sign_flip_test(values)
    for function in (mean_interval, sign_flip_test):
        with pytest.raises(FusionError, match="needs the scene of each of 6 images, found 2"):
            function(values, scenes=["a", "b"])
    np.testing.assert_equal(mean_interval([], scenes=[]), (np.nan,) * 3)


@pytest.mark.parametrize("n", [2, 5, 13])
def test_few_differences_are_tested_exactly(n):
    differences = np.random.default_rng(n).normal(1, size=n)
    signs = np.array(list(itertools.product((-1, 1), repeat=n)))
    expected = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12)
    assert sign_flip_test(differences) == expected
    result = permutation_test((differences,), np.mean, permutation_type="samples", vectorized=True)
    assert sign_flip_test(differences) == pytest.approx(result.pvalue, rel=1e-12)


@pytest.mark.parametrize("shift", [0.1, 0.3])
def test_many_differences_are_tested_by_drawn_signs(shift):
    """SciPy draws other signs: both p values scatter by sqrt(p / 10,000) around the true one."""
    differences = np.random.default_rng(1).normal(shift, size=60)
    p = sign_flip_test(differences)
    result = permutation_test((differences,), np.mean, permutation_type="samples", vectorized=True, n_resamples=9999,
                              rng=np.random.default_rng(9))
    assert p == pytest.approx(result.pvalue, abs=4 * np.sqrt(2 * p / 1e4)) and p == sign_flip_test(differences)
    assert p != sign_flip_test(differences, seed=1)


def test_numbers_do_not_depend_on_how_many_are_drawn_at_a_time(monkeypatch):
    values = np.random.default_rng(4).normal(0.05, size=150)
    at_once = mean_interval(values), sign_flip_test(values)
    monkeypatch.setattr(statistics, "_BATCH", 777)
    assert (mean_interval(values), sign_flip_test(values)) == at_once


def test_p_values_of_equal_methods_are_uniform():
    """Where the two methods are equally good, p < .05 comes in 5 % of all cases (30 +- 5.3 of 600)."""
    cases = np.random.default_rng(2).normal(size=(600, 9))
    assert 14 <= sum(sign_flip_test(case) < 0.05 for case in cases) <= 46


def test_p_of_little_and_of_much():
    assert np.isnan(sign_flip_test([])) and sign_flip_test([3]) == 1 and sign_flip_test([0, 0, 0]) == 1
    assert sign_flip_test([1, 1, 1]) == 2 / 8 and sign_flip_test([-0.1] * 10) == 2 / 1024
    assert sign_flip_test(np.ones(40)) == 1 / 10001


def test_holm():
    """The worked example of Holm's procedure: .01 x 4, .015 x 3, .03 x 2, .04 x 1, none below the one before."""
    np.testing.assert_allclose(holm([0.04, 0.01, 0.03, 0.015]), [0.06, 0.04, 0.06, 0.045])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1, 1])
    np.testing.assert_allclose(holm([0.02, np.nan, 0.03]), [0.04, np.nan, 0.04])
    assert holm([]).shape == (0,) and list(holm([0.3])) == [0.3]
    with pytest.raises(FusionError, match=r"p values in 0..1, found 1.2"):
        holm([0.1, 1.2])


def test_methods_against_a_reference():
    rows = {  # by difference: the p of each
        3.0: {"low": 1.0, "high": 5.0, "p": 0.01}, -3.0: {"low": -5.0, "high": -1.0, "p": 0.02},
        1.0: {"low": 0.5, "high": 2.0, "p": 0.03}, 0.0: {"low": 0.0, "high": 0.0, "p": 1.0},
    }  # fmt: skip
    samples = {"a": {"up": 4.0, "down": 5.0}, "base": {"up": 1.0, "down": 2.0}, "b": {"up": -2.0, "down": -1.0},
               "c": {"up": 2.0}}  # fmt: skip
    seen = []

    def difference(value, other):
        seen.append((value, other))
        return {"difference": value - other, **rows[value - other], "n": 7}

    table = compare_to_reference(samples, "base", {"up": True, "down": False}, difference)
    assert seen == [(4, 1), (5, 2), (-2, 1), (-1, 2), (2, 1)]
    assert table.index.tolist() == [("a", "up"), ("a", "down"), ("b", "up"), ("b", "down"), ("c", "up")]
    assert list(table.columns) == ["difference", "low", "high", "p", "p_holm", "n", "verdict"]
    np.testing.assert_array_equal(table["p_holm"], holm(table["p"]))
    assert table["p_holm"].tolist() == pytest.approx([0.05, 0.05, 0.06, 0.06, 0.06])
    assert list(table["verdict"]) == ["inconclusive"] * 5  # 0.05 itself is not below 0.05
    rows = {key: row | {"p": 0.001 if key else 1.0} for key, row in rows.items()}
    table = compare_to_reference(samples, "base", {"up": True, "down": False}, difference)
    assert list(table["verdict"]) == ["better", "worse", "worse", "better", "better"]
    for methods in ({"base": {}}, {"a": {}, "b": {}}):
        with pytest.raises(FusionError, match=r"Expected base and at least one method .* found (base|a, b): add"):
            compare_to_reference(methods, "base", {}, difference)


@pytest.mark.parametrize(("row", "expected"), [
    ({"difference": 1, "p_holm": 0.049}, "better"),
    ({"difference": -1, "p_holm": 0.049, "low": -3, "high": 1}, "worse"),  # p decides
    ({"difference": 1, "p_holm": 0.06, "low": 0.5, "high": 2}, "inconclusive"),
    ({"difference": 1, "low": 0.5, "high": 2}, "better"),
    ({"difference": -1, "p_holm": np.nan, "low": -2, "high": -0.5}, "worse"),
    ({"difference": 1, "low": 0.0, "high": 2}, "inconclusive"),
    ({"difference": np.nan, "p_holm": np.nan, "low": np.nan, "high": np.nan}, "inconclusive"),
    ({"difference": 1, "p_holm": np.nan}, "inconclusive"),
])  # fmt: skip
def test_verdict(row, expected):
    assert verdict(row, True) == expected
    assert verdict(row, False) == {"better": "worse", "worse": "better"}.get(expected, expected)


def test_a_comparison_in_words():
    table = pd.DataFrame.from_dict({
        ("Against a", "AG"): {"difference": -0.013, "low": -0.055, "high": 0.024, "verdict": "inconclusive"},
        ("Against a", "EN"): {"difference": 0.5, "low": 0.4, "high": 0.61239, "verdict": "better"},
        ("Against b", "AG"): {"difference": -0.0001, "low": -0.0, "high": -0.0004, "verdict": "worse"},
    }, orient="index")  # fmt: skip
    assert summarise_comparison(table) == [
        "Against a: AG inconclusive (difference -0.013, 95 % CI -0.055 to +0.024); "
        "EN better (difference +0.500, 95 % CI +0.400 to +0.612)",
        "Against b: AG worse (difference +0.000, 95 % CI +0.000 to +0.000)",
    ]
    assert summarise_comparison(table[["verdict"]]) == [
        "Against a: better in 1, worse in 0, inconclusive in 1",
        "Against b: better in 0, worse in 1, inconclusive in 0",
    ]
