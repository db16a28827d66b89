"""Statistics over images or scenes: confidence intervals, paired tests, Holm's correction, and verdicts."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from fusionlib.utils.errors import FusionError

LEVEL = 0.05  # of significance, for p values after Holm's correction

_SIGNS = 10_000  # random sign flips
_BATCH = 8_000_000  # random numbers held in memory at a time, for any number of images


def mean_interval(values: ArrayLike, resamples: int = 2000, seed: int = 0,
                  scenes: Sequence[str] | None = None) -> tuple[float, float, float]:
    """(mean, low, high) of the values [n], with the percentile bootstrap's 95 % confidence interval.

    NaN for n = 0; for n = 1 the interval is the value itself. With the scenes [n] of the values, scenes are drawn where
    there are several (`draw_counts`).

    Reference: Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics 7(1), 1979.
    """
    from scipy.stats import bootstrap  # here, because its import takes most of a second

    values = np.asarray(values, float)
    units = count_units(len(values), scenes)
    if len(values) < 2:
        return (float(values[0]) if len(values) else np.nan,) * 3
    if units < len(values):
        draws = draw_counts(len(values), resamples, seed, scenes)
        low, high = np.quantile(draws @ values / draws.sum(1), [0.025, 0.975])
        return float(values.mean()), float(low), float(high)
    result = bootstrap((values,), np.mean, n_resamples=resamples, method="percentile", rng=np.random.default_rng(seed),
                       batch=_BATCH // len(values) + 1)
    return float(values.mean()), *map(float, result.confidence_interval)


def sign_flip_test(differences: ArrayLike, seed: int = 0, scenes: Sequence[str] | None = None) -> float:
    """Two-sided p value of paired differences [n]: how often random signs give a mean at least as far from 0.

    Up to n = 13, all 2^n signs are tried and p is exact; 1 for a single difference, NaN for none. Beyond, 10,000 signs
    are drawn, and the observed ones count as one of them, so p is at least 1e-4. `scipy.stats.permutation_test` agrees
    but takes some twenty times as long. With the scenes [n] of the differences, where there are several, those of a
    scene get one sign, and the number of scenes takes the place of n.

    Reference: Fisher, The Design of Experiments, 1935, section 21; Phipson and Smyth, Permutation p-values should never
    be zero, Statistical Applications in Genetics and Molecular Biology 9(1), 2010.
    """
    differences = np.asarray(differences, float)
    if count_units(len(differences), scenes) < len(differences):
        differences = np.bincount(np.unique(scenes, return_inverse=True)[1], differences)  # the sum of each scene
    n = len(differences)
    if not n:
        return np.nan
    exact = 2**n <= _SIGNS
    if exact:
        sums = (1 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)) @ differences
    else:
        rng, rows = np.random.default_rng(seed), _BATCH // n + 1
        batches = [min(rows, _SIGNS - start) for start in range(0, _SIGNS, rows)]
        sums = np.concatenate([rng.choice((-1.0, 1.0), (batch, n)) @ differences for batch in batches])
    # Sums that are equal on paper differ in the last digits, depending on their order.
    extreme = np.count_nonzero(np.abs(sums) >= abs(differences.sum()) - 1e-12 * np.abs(differences).sum())
    return extreme / len(sums) if exact else (extreme + 1) / (len(sums) + 1)


def draw_counts(images: int, resamples: int, seed: int, scenes: Sequence[str] | None = None) -> np.ndarray:
    """How often each image is drawn with replacement, or its scene where there are several, [resamples, images].

    Raises FusionError for less than one resample, or where not every image has a scene.
    """
    if resamples < 1:
        raise FusionError(f"A bootstrap interval needs resamples, found resamples = {resamples}: give 1000 or more.")
    count = count_units(images, scenes)
    if not images:
        return np.zeros((resamples, 0), int)
    number = {scene: index for index, scene in enumerate(dict.fromkeys(scenes or ()))}
    drawn = [number[scene] for scene in scenes] if len(number) > 1 else range(images)
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)[:, drawn]


def count_units(images: int, scenes: Sequence[str] | None = None) -> int:
    """How many independent units there are: the scenes of the images where these are several, or else the images.

    Raises FusionError where not every image has a scene.
    """
    if scenes is not None and len(scenes) != images:
        raise FusionError(f"A bootstrap over scenes needs the scene of each of {images} images, found {len(scenes)}.")
    count = len(set(scenes or ()))
    return count if count > 1 else images


def holm(p_values: ArrayLike) -> np.ndarray:
    """Correct the p values [m] of m comparisons for the probability of any false positive among them; [m] in order.

    The smallest is multiplied by m, the next by m - 1 and so on; none gets smaller than one before it or larger than 1.
    NaN, an impossible comparison, stays NaN and does not count. FusionError for a value outside 0..1.

    Reference: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6(2),
    1979.
    """
    p = np.asarray(p_values, float)
    if invalid := [value for value in p if value < 0 or value > 1]:
        raise FusionError(f"Holm's correction takes p values in 0..1, found {invalid[0]:g}: give the uncorrected ones.")
    order = np.argsort(p)[:np.count_nonzero(~np.isnan(p))]  # NaN is sorted to the end
    corrected = np.full_like(p, np.nan)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)).clip(max=1)
    return corrected


def check_reference(methods: Iterable[str], reference: str) -> None:
    """FusionError unless the methods include the reference and another one to compare with it."""
    methods = list(methods)
    if reference not in methods or len(methods) < 2:
        raise FusionError(f"Expected {reference} and at least one method to compare it with, found "
                          f"{', '.join(methods) or 'none'}: add their results, or choose another reference.")


def compare_to_reference(samples: Mapping[str, Mapping], reference: str, higher_is_better: Mapping[str, bool],
                         difference: Callable[..., dict[str, float]]) -> pd.DataFrame:
    """Compare methods with a reference method, measure by measure.

    Args:
        samples: {method: {measure: argument of `difference`}}; the reference has all measures.
        higher_is_better: by measure.
        difference: of a method's sample and the reference's: "difference", "low", "high", "p" and further columns.

    Returns:
        Rows indexed by (method, measure): "difference", method minus reference, with its 95 % interval "low" to "high";
        "p"; "p_holm", corrected for all comparisons in the table (`holm`); further columns; and "verdict" (`verdict`).
        Raises as `check_reference`.
    """
    check_reference(samples, reference)
    rows = {(method, measure): difference(sample, samples[reference][measure])
            for method, measures in samples.items() if method != reference for measure, sample in measures.items()}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(index=["method", "measure"])
    table.insert(4, "p_holm", holm(table["p"]))
    return table.assign(verdict=[verdict(row, higher_is_better[name]) for (_, name), row in table.iterrows()])


def verdict(row: Mapping[str, float], higher_is_better: bool) -> str:
    """Whether a method is "better" or "worse" by its "difference", or "inconclusive": "p_holm" is `LEVEL` or more.

    Without a p value, it is inconclusive if 0 lies within "low" to "high".
    """
    p = row.get("p_holm", np.nan)
    conclusive = row.get("low", np.nan) > 0 or row.get("high", np.nan) < 0 if np.isnan(p) else p < LEVEL
    if not conclusive:
        return "inconclusive"
    return "better" if (row["difference"] > 0) == higher_is_better else "worse"


def count_verdicts(verdicts: Iterable[str]) -> str:
    """Verdicts in words: "better in 2, worse in 0, inconclusive in 3"."""
    verdicts = list(verdicts)
    return ", ".join(f"{word} in {verdicts.count(word)}" for word in ("better", "worse", "inconclusive"))


def summarise_comparison(compared: pd.DataFrame) -> list[str]:
    """A comparison in words, one sentence per method: each measure's verdict, difference and interval.

    Args:
        compared: rows indexed by (method, measure) with "verdict", "difference", "low" and "high"; with "verdict" alone
            the sentences count the verdicts.
    """
    def describe(row):
        difference, low, high = (f"{round(row[key], 3) + 0.0:+.3f}" for key in ("difference", "low", "high"))  # no -0.0
        return f"{row['verdict']} (difference {difference}, 95 % CI {low} to {high})"

    groups = compared.groupby(level=0, sort=False)
    if "difference" not in compared:
        return [f"{method}: {count_verdicts(rows['verdict'])}" for method, rows in groups]
    return [f"{method}: " + "; ".join(f"{measure} {describe(row)}" for (_, measure), row in rows.iterrows())
            for method, rows in groups]
