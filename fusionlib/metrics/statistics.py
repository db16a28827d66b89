"""Statistics over images: intervals, paired tests, correction for many comparisons, and what a comparison says."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from fusionlib.utils.errors import FusionError

VERDICTS = ("better", "worse", "inconclusive")
LEVEL = 0.05  # of significance, for p values after Holm's correction

_SIGNS = 10_000  # random sign flips
_AT_ONCE = 8_000_000  # random numbers held at a time, so that any number of images fits into memory


def mean_interval(values: ArrayLike, resamples: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """Mean of the values [n] and the percentile bootstrap's 95 % confidence interval.

    The samples are drawn by a generator of their own from `seed`. With n = 0 the numbers are NaN, with n = 1 the
    interval is the value itself.

    Returns:
        (mean, low, high).

    Reference: Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics 7(1), 1979.
    """
    from scipy.stats import bootstrap  # here, for it takes most of a second to import, and few need it

    values = np.asarray(values, float)
    if len(values) < 2:
        return (float(values[0]) if len(values) else np.nan,) * 3
    rng = np.random.default_rng(seed)
    interval = bootstrap(
        (values,), np.mean, n_resamples=resamples, method="percentile", rng=rng, batch=_AT_ONCE // len(values) + 1
    ).confidence_interval
    return float(values.mean()), float(interval.low), float(interval.high)


def sign_flip_test(differences: ArrayLike, seed: int = 0) -> float:
    """Two-sided p value of paired differences [n]: how often chance signs give a mean as far from 0 as theirs.

    If two methods are equally good, each difference could as well have had the other sign. Up to 13 differences, all
    2^n signs are tried and p is exact. Beyond, 10,000 signs are drawn from `seed`, and the observed ones count as one
    of them, so p is at least 1e-4. `scipy.stats.permutation_test` agrees and takes some twenty times as long.

    Returns:
        p in 0..1; 1 for a single difference, which proves nothing, NaN for none.

    Reference: Fisher, The Design of Experiments, 1935, section 21; Phipson and Smyth, Permutation p-values should never
    be zero, Statistical Applications in Genetics and Molecular Biology 9(1), 2010.
    """
    differences = np.asarray(differences, float)
    n = len(differences)
    if not n:
        return np.nan
    exact = 2**n <= _SIGNS
    if exact:
        sums = (1 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)) @ differences
    else:
        rng, rows = np.random.default_rng(seed), _AT_ONCE // n + 1
        blocks = [min(rows, _SIGNS - first) for first in range(0, _SIGNS, rows)]
        sums = np.concatenate([rng.choice((-1.0, 1.0), (block, n)) @ differences for block in blocks])
    # Sums that are equal on paper differ in the last digits, depending on their order.
    extreme = np.count_nonzero(np.abs(sums) >= abs(differences.sum()) - 1e-12 * np.abs(differences).sum())
    return extreme / len(sums) if exact else (extreme + 1) / (len(sums) + 1)


def holm(p_values: ArrayLike) -> np.ndarray:
    """Correct the p values [m] of m comparisons, so that one false alarm among all of them is as rare as p says.

    The smallest is multiplied by m, the next by m - 1 and so on; none gets smaller than one before it or larger than 1.
    NaN, a comparison that could not be made, stays NaN and does not count.

    Returns:
        [m] in the order given.

    Raises:
        FusionError: a value outside 0..1.

    Reference: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6(2),
    1979.
    """
    p = np.asarray(p_values, float)
    if wrong := [value for value in p if value < 0 or value > 1]:
        raise FusionError(f"Holm's correction takes p values in 0..1, found {wrong[0]:g}: give the uncorrected ones.")
    order = np.argsort(p)[:np.count_nonzero(~np.isnan(p))]  # NaN is sorted to the end
    corrected = np.full_like(p, np.nan)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)).clip(max=1)
    return corrected


def check_reference(methods: Iterable[str], reference: str) -> None:
    """FusionError unless the reference is one of the methods and there is another one to compare it with."""
    methods = list(methods)
    if reference not in methods or len(methods) < 2:
        raise FusionError(f"Expected {reference} and at least one method to compare it with, found "
                          f"{', '.join(methods) or 'none'}: add their results, or choose another reference.")


def compare_to_reference(samples: Mapping[str, Mapping], reference: str, higher_is_better: Mapping[str, bool],
                         difference: Callable[..., dict[str, float]]) -> pd.DataFrame:
    """Compare methods with a reference method, measure by measure.

    Args:
        samples: {method: {measure: what `difference` takes}}; the reference has all measures.
        reference: the method that the others are compared with.
        higher_is_better: {measure: its direction}.
        difference: from a method's sample and the reference's, "difference", "low", "high", "p" and further columns.

    Returns:
        Rows indexed by (method, measure): "difference", method minus reference, with its 95 % interval "low" to "high";
        "p"; "p_holm", corrected for all comparisons in the table (`holm`); further columns; and "verdict", whether the
        method is better, worse, or the comparison inconclusive (`verdict`).

    Raises:
        FusionError: as for `check_reference`.
    """
    check_reference(samples, reference)
    rows = {(method, measure): difference(sample, samples[reference][measure])
            for method, measures in samples.items() if method != reference for measure, sample in measures.items()}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(index=["method", "measure"])
    table.insert(4, "p_holm", holm(table["p"]))
    return table.assign(verdict=[verdict(row, higher_is_better[name]) for (_, name), row in table.iterrows()])


def verdict(row: Mapping[str, float], higher_is_better: bool) -> str:
    """One of `VERDICTS` on a method by its "difference" to a reference.

    It is inconclusive where "p_holm" is `LEVEL` or more and, without a p, unless 0 lies outside "low" to "high".
    """
    p = row.get("p_holm", np.nan)
    conclusive = row.get("low", np.nan) > 0 or row.get("high", np.nan) < 0 if np.isnan(p) else p < LEVEL
    if not conclusive:
        return "inconclusive"
    return "better" if (row["difference"] > 0) == higher_is_better else "worse"


def count_verdicts(verdicts: Iterable[str]) -> str:
    """Verdicts in words: "better in 2, worse in 0, inconclusive in 3"."""
    verdicts = list(verdicts)
    return ", ".join(f"{word} in {verdicts.count(word)}" for word in VERDICTS)


def summarise_comparison(compared: pd.DataFrame) -> list[str]:
    """A comparison in words.

    Args:
        compared: rows indexed by (what is compared, measure) with "verdict", and either "difference", "low" and "high"
            or none of them.

    Returns:
        A sentence for each thing compared: per measure the verdict, the difference and its interval, or, where there
        are no differences, how many verdicts there are of each kind.
    """
    lines = []
    for label, rows in compared.groupby(level=0, sort=False):
        said = count_verdicts(rows["verdict"])
        if "difference" in rows:
            said = "; ".join(f"{measure} {_in_words(row)}" for (_, measure), row in rows.iterrows())
        lines.append(f"{label}: {said}")
    return lines


def _in_words(row):
    difference, low, high = (f"{round(row[key], 3) + 0.0:+.3f}" for key in ("difference", "low", "high"))  # no -0.000
    return f"{row['verdict']} (difference {difference}, 95 % CI {low} to {high})"
