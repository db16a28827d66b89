"""Bootstrap confidence intervals and paired tests for detection measures, by resampling images or scenes."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from scipy.special import ndtr, ndtri

from fusionlib.detection.precision_recall import HEIGHTS, HIGHER_IS_BETTER, Matches, count, count_once, match
from fusionlib.metrics.statistics import LEVEL, check_reference, compare_to_reference, draw_counts
from fusionlib.utils.errors import FusionError

_BATCH = 1_000_000  # resamples x detections counted at a time, 8 MB per array
_TOLERANCE = 1e-9  # numbers that are equal on paper differ in the last digits, depending on the order of the sums

Estimate = tuple[float, np.ndarray]  # a measure, and its values [resamples] on bootstrap samples


def intervals(predictions: Sequence[torch.Tensor], truths: Sequence[torch.Tensor], class_index: int = 0,
              heights: Mapping[str, tuple[float, float]] = HEIGHTS, resamples: int = 2000, seed: int = 0,
              ignore: Sequence[torch.Tensor] | None = None, scenes: Sequence[str] | None = None) -> pd.DataFrame:
    """Every measure with a 95 % confidence interval, by the bias-corrected bootstrap over images.

    On few images average precision is biased upwards, since its envelope takes the best of chance, and on resamples of
    them more so; plain percentile intervals inherit that bias. Of 200 simulated 95 % intervals over 60 images, 90 %
    covered the true average precision with plain percentiles and 93 % with these; for random scores, 81 % and 91 %.

    Args:
        predictions, truths, class_index, heights, ignore: as for `measure`.
        resamples: number of bootstrap samples. Those without a true box, on which a measure is undefined, are left out.
        seed: equal seeds and numbers of images (or equal scenes) give equal samples.
        scenes: the scene of each image. Frames of a scene resemble each other, so scenes are drawn in place of images;
            of a single scene images are drawn, and the interval is about that scene alone.

    Returns:
        One row per measure, columns value, low, high and boxes, the number of true boxes it is computed on; in `attrs`
        the number of "images", and what they are in words ("over"). With one image the interval is the value itself.

    Raises:
        FusionError: as for `measure`.

    Reference: Efron, Better bootstrap confidence intervals, JASA 82(397), 1987.
    """
    matches = match(predictions, truths, class_index, heights, ignore)
    resampled = resample_measures(matches, draw_counts(matches.images, resamples, seed, scenes))
    rows = {name: {"value": value, **interval(samples, value), "boxes": _boxes(matches, name)}
            for name, (value, samples) in resampled.items()}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(index="measure")
    table.attrs |= {"images": matches.images, "over": number_of(matches.images, scenes)}
    return table


def paired(found: Mapping[str, Sequence[torch.Tensor]], reference: str, truths: Sequence[torch.Tensor],
           class_index: int = 0, heights: Mapping[str, tuple[float, float]] = HEIGHTS, resamples: int | None = None,
           seed: int = 0, ignore: Sequence[torch.Tensor] | None = None,
           scenes: Sequence[str] | None = None) -> pd.DataFrame:
    """Compare methods with a reference method on the same images and the same bootstrap samples of them.

    Most of the bias that `intervals` corrects cancels in a difference, whose intervals are plain percentiles.

    Args:
        found: {method: predictions as for `measure`}.
        reference: the method that the others are compared with.
        resamples: number of bootstrap samples; None: 2000, or where there are so many comparisons that not even the
            least p would be below `LEVEL` after the correction, as many as that takes.
        truths, class_index, heights, seed, ignore, scenes: as for `intervals`.

    Returns:
        As `metrics.statistics.compare_to_reference`, with "boxes" and `attrs` as in `intervals`. "p" is the
        two-sided bootstrap p value: twice the share of resampled differences at or beyond 0 on the rarer side, one
        added to both counts (Davison and Hinkley, Bootstrap Methods and their Application, 1997), so at least
        2 / (resamples + 1); 1 for a single image.

    Raises:
        FusionError: an unknown reference, no method to compare it with, or as for `measure`.
    """
    check_reference(found, reference)
    matches = {}
    for method, predictions in found.items():
        try:
            matches[method] = match(predictions, truths, class_index, heights, ignore)
        except FusionError as error:
            raise FusionError(f"{method}: {error}") from error
    boxes = {name: _boxes(matches[reference], name) for name in count_once(matches[reference])}
    if resamples is None:
        resamples = max(2000, int(2 * len(boxes) * (len(found) - 1) / LEVEL))
    draws = draw_counts(len(truths), resamples, seed, scenes)
    resampled = {method: resample_measures(each, draws) for method, each in matches.items()}

    def difference(sample, base):
        return resampled_difference(sample, base) | ({} if len(truths) > 1 else {"p": 1.0})

    directions = {name: HIGHER_IS_BETTER.get(name, True) for name in boxes}
    table = compare_to_reference(resampled, reference, directions, difference)
    table.insert(5, "boxes", [boxes[name] for _, name in table.index])
    table.attrs |= {"images": len(truths), "over": number_of(len(truths), scenes)}
    return table


def number_of(images: int, scenes: Sequence[str] | None = None) -> str:
    """What is resampled in words: "36 images", or "36 images of 9 scenes" where scenes have several."""
    count = len(set(scenes or ()))
    return f"{images} images" + (f" of {count} scene{'s' * (count > 1)}" if 0 < count < images else "")


def resample_measures(matches: Matches, draws: np.ndarray) -> dict[str, Estimate]:
    """Each measure of the matched detections, and its values [resamples] on the samples of `draw_counts`."""
    detections = max(len(image) for one in matches.ranges.values() for image, _ in one.curves)
    batches = np.array_split(draws, min(len(draws), 1 + len(draws) * detections // _BATCH))
    counted = [count(matches, batch) for batch in batches]
    return {name: (value, np.concatenate([one[name] for one in counted]))
            for name, value in count_once(matches).items()}


def resampled_difference(sample: Estimate, base: Estimate) -> dict[str, float]:
    """Two estimates on the same samples: "difference", its 95 % percentile interval "low" to "high", two-sided "p"."""
    differences = sample[1] - base[1]
    defined = differences[~np.isnan(differences)]
    rarer = min((defined <= _TOLERANCE).sum(), (defined >= -_TOLERANCE).sum())
    p = min(1.0, 2 * (rarer + 1) / (len(defined) + 1)) if len(defined) else np.nan
    return {"difference": sample[0] - base[0], **interval(defined), "p": p}


def interval(samples: np.ndarray, value: float | None = None) -> dict[str, float]:
    """95 % percentile interval {"low", "high"} of samples [n], bias-corrected if the estimate itself is given."""
    samples = samples[~np.isnan(samples)]
    if not len(samples):
        return {"low": np.nan, "high": np.nan}
    shift = 0.0
    if value is not None:
        below = ((samples < value - _TOLERANCE).mean() + (samples <= value + _TOLERANCE).mean()) / 2
        shift = 2 * ndtri(np.clip(below, 0.5 / len(samples), 1 - 0.5 / len(samples)))
    low, high = np.quantile(samples, ndtr(shift + ndtri([0.025, 0.975])))
    return {"low": low, "high": high}


def _boxes(matches, measure):
    """The number of true boxes that count for a measure, whose name ends with its range of heights."""
    return int(matches.ranges[measure.partition(" ")[2]].boxes.sum())
