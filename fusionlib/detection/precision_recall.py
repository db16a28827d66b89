"""Average precision, recall at a precision and log-average miss rate of a detector, from one matching by pycocotools.

pycocotools assigns detections to true boxes once. Everything after that only counts: a bootstrap sample has the same
matches, each image counted as often as it was drawn. The counting is our own, because pycocotools' `accumulate` loops
in Python over recalls and detections and takes 13 to 33 times as long (200 images of 20 to 100 detections). The values
agree to 1e-12, resampled or not; only the order of equal scores within an image drawn twice may differ.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fusionlib.utils.errors import FusionError

#: Far, medium and near people by the height of their box in pixels, low <= height < high (Dollár et al., PAMI 2012).
HEIGHTS = {"far": (0, 30), "medium": (30, 80), "near": (80, np.inf)}
#: By measure; average precision of a range of heights is better when higher, too.
HIGHER_IS_BETTER = {"mAP@.5": True, "mAP@.75": True, "mAP@.5:.95": True, "R@P.9": True, "LAMR": False}

_RECALLS = np.linspace(0, 1, 101)
_FPPI = np.logspace(-2, 0, 9)


def average_precision(predictions: Sequence[torch.Tensor], truths: Sequence[torch.Tensor], class_index: int = 0,
                      ignore: Sequence[torch.Tensor] | None = None) -> dict[str, float]:
    """COCO average precision of one class: the first three values of `measure`, and the counts "images" and "boxes"."""
    values = measure(predictions, truths, class_index, {}, ignore)
    return {name: values[name] for name in ("mAP@.5", "mAP@.75", "mAP@.5:.95", "images", "boxes")}


def measure(predictions: Sequence[torch.Tensor], truths: Sequence[torch.Tensor], class_index: int = 0,
            heights: Mapping[str, tuple[float, float]] = HEIGHTS,
            ignore: Sequence[torch.Tensor] | None = None) -> dict[str, float]:
    """Detection measures of one class over a set of images.

    Images without labels must not be passed: an empty list of truths makes every detection a false positive.

    Args:
        predictions: per image [n, 6]: x1, y1, x2, y2, score, class. As in COCO, the 100 best of the class count.
        truths: per image [m, 4]: x1, y1, x2, y2.
        class_index: predictions of other classes are ignored.
        heights: ranges of box height by name, low <= height < high, in pixels. As COCO does with areas, true boxes
            outside the range, their detections, and unmatched detections outside are ignored.
        ignore: per image [k, 4], regions as COCO's `iscrowd`: a detection that matches no true box is no false positive
            where the share of its area that lies in one of them reaches the overlap asked for. None: no such regions.

    Returns:
        "mAP@.5", "mAP@.75", "mAP@.5:.95": COCO average precision, 0..1, higher is better (Lin et al., ECCV 2014): the
            mean over 101 recalls, the last also over the ten overlaps .5, .55, ... .95.
        "R@P.9": the largest recall, at an overlap of .5, at which precision is at least .9, 0..1, higher is better: the
            share of people who are found where at most one alarm in ten is false. 0 if precision never is.
        "LAMR": log-average miss rate, 0..1, lower is better (Dollár et al., Pedestrian Detection: An Evaluation of the
            State of the Art, PAMI 34(4), 2012): geometric mean of the miss rates at nine numbers of false
            positives per image, evenly spaced in log space from .01 to 1, at an overlap of .5. Where the curve ends
            before such a number its lowest miss rate counts, before it begins 1; miss rates are at least 1e-10.
        "AP@.5 far", "AP@.5:.95 far", "boxes far", and so on for each range.
        "images" and "boxes": the counts of the truths.

        Without a true box (in the range) a measure is undefined: NaN.

    Raises:
        FusionError: lists of different length, boxes with NaN, reversed corners or (truths) no area, a wrong shape, or
            an impossible range of heights.
    """
    matches = match(predictions, truths, class_index, heights, ignore)
    counts = {f"boxes {name}": int(one.boxes.sum()) for name, one in matches.ranges.items() if name}
    return count_once(matches) | counts | {"images": matches.images, "boxes": int(matches.ranges[""].boxes.sum())}


def miss_rate_curve(predictions: Sequence[torch.Tensor], truths: Sequence[torch.Tensor], class_index: int = 0,
                    ignore: Sequence[torch.Tensor] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The curve behind "LAMR": false positives per image and miss rate at an overlap of .5, by falling score.

    Arguments as for `measure`. Returns two arrays [detections of the class]; the miss rate is NaN without a true box.
    """
    matches = match(predictions, truths, class_index, {}, ignore)
    boxes, curves = matches.ranges[""]
    fppi, miss = _miss_rates(curves[0], np.maximum(boxes.sum(keepdims=True), 1), np.ones((1, matches.images), int))
    return fppi[0], miss[0] if boxes.any() else np.full_like(miss[0], np.nan)


class Range(NamedTuple):
    """The true boxes and matched detections in one range of heights."""

    boxes: np.ndarray  # [images], number of true boxes
    curves: list[tuple[np.ndarray, np.ndarray]]  # per overlap: each detection's image and whether it is a hit, by score


class Matches(NamedTuple):
    """The matching of a set of images by pycocotools."""

    images: int
    ranges: dict[str, Range]  # "" holds all heights


def match(predictions, truths, class_index, heights, ignore=None) -> Matches:
    """Check the input (see `measure`) and match it by pycocotools, once per range of heights and overlap."""
    if len(predictions) != len(truths):
        raise FusionError(f"Detection measures need one list of predictions per image, found {len(predictions)} for "
                          f"{len(truths)} images.")
    if ignore is not None and len(ignore) != len(truths):
        raise FusionError(f"Detection measures need one list of regions to ignore per image, found {len(ignore)} for "
                          f"{len(truths)} images.")
    for name, (low, high) in heights.items():
        if not name or not 0 <= low < high:
            raise FusionError(f"heights {name!r}: expected a name and (low, high) with 0 <= low < high, found "
                              f"({low}, {high}).")
    truths = [_checked(rows, 4, f"truths of image {i}") for i, rows in enumerate(truths)]
    ignore = [_checked(rows, 4, f"regions to ignore of image {i}") for i, rows in enumerate(ignore or ())]
    detections = [_checked(rows, 6, f"predictions of image {i}") for i, rows in enumerate(predictions)]
    detections = [rows[rows[:, 5] == class_index, :5] for rows in detections]
    ranges = {"": (0, np.inf), **heights}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress with print
        run = COCOeval(_coco(truths, ignore), _coco(detections), "bbox")
        run.params.areaRng = [[low, np.nextafter(high, 0)] for low, high in ranges.values()]  # both ends count
        run.params.maxDets = [100]
        run.evaluate()
    images = len(truths)
    results = [run.evalImgs[i * images:(i + 1) * images] for i in range(len(ranges))]
    return Matches(images, {name: _sorted(rows, images) for name, rows in zip(ranges, results)})


def _checked(rows, columns, what):
    rows = torch.as_tensor(rows).detach().cpu().double().numpy()
    if not rows.size:
        return np.zeros((0, columns))
    if rows.ndim != 2 or rows.shape[1] != columns:
        expected = "x1, y1, x2, y2" + ", score, class" * (columns == 6)
        raise FusionError(f"{what}: expected [n, {columns}], {expected}, found the shape {list(rows.shape)}.")
    if not np.isfinite(rows).all():
        raise FusionError(f"{what}: expected finite numbers, found NaN or infinity: check the step before.")
    sides = rows[:, 2:4] - rows[:, :2]
    wrong = (sides < 0 if columns == 6 else sides <= 0).any(1)  # a detection may be clipped to nothing
    if wrong.any():
        corners = ", ".join(f"{value:g}" for value in rows[wrong][0, :4])
        raise FusionError(f"{what}: expected corners x1 < x2 and y1 < y2, found {corners}: give boxes as x1, y1, x2, "
                          "y2, not as centre or size, and leave out empty ones.")
    return rows


def _coco(boxes, ignore=()):
    """A COCO data set of boxes [n, 4], or [n, 5] with scores, per image, and of regions to ignore [k, 4].

    Their height takes the place of the area.
    """
    coco, annotations = COCO(), []
    for iscrowd, images in enumerate((boxes, ignore)):
        for image, rows in enumerate(images):
            for x1, y1, x2, y2, *score in rows.tolist():
                annotations.append({"id": len(annotations) + 1,  # from 1: pycocotools takes the id 0 for "not matched"
                                    "image_id": image, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1],
                                    "area": y2 - y1, "iscrowd": iscrowd, **dict(zip(["score"], score))})
    coco.dataset = {"images": [{"id": image} for image in range(len(boxes))], "annotations": annotations,
                    "categories": [{"id": 1, "name": "object"}]}
    coco.createIndex()
    return coco


def _sorted(results, images):
    """pycocotools' results per image -> `Range`, best score first."""
    results = [one for one in results if one is not None]  # images with neither true boxes nor detections
    if not results:
        return Range(np.zeros(images, int), [(np.zeros(0, int), np.zeros(0, bool))] * 10)
    boxes = np.zeros(images, int)
    boxes[[one["image_id"] for one in results]] = [np.sum(np.equal(one["gtIgnore"], 0)) for one in results]
    order = np.argsort(-np.concatenate([one["dtScores"] for one in results]), kind="stable")
    image = np.repeat([one["image_id"] for one in results], [len(one["dtScores"]) for one in results])[order]
    hits = np.concatenate([one["dtMatches"] for one in results], 1)[:, order] > 0
    counted = ~np.concatenate([one["dtIgnore"] for one in results], 1).astype(bool)[:, order]
    return Range(boxes, [(image[keep], hit[keep]) for hit, keep in zip(hits, counted)])


def count_once(matches: Matches) -> dict[str, float]:
    """Every measure, each image counted once."""
    return {name: float(value[0]) for name, value in count(matches, np.ones((1, matches.images), int)).items()}


def count(matches: Matches, times: np.ndarray) -> dict[str, np.ndarray]:
    """Every measure [B], each image counted as often as `times` [B, images] says."""
    values = {}
    for name, (boxes, curves) in matches.ranges.items():
        total = times @ boxes
        defined, total = np.where(total > 0, 1.0, np.nan), np.maximum(total, 1)
        precision = [defined * _average_precision(curve, total, times) for curve in curves]
        if name:
            values |= {f"AP@.5 {name}": precision[0], f"AP@.5:.95 {name}": np.mean(precision, 0)}
        else:
            values |= {"mAP@.5": precision[0], "mAP@.75": precision[5], "mAP@.5:.95": np.mean(precision, 0)}
            values["R@P.9"] = defined * _recall_at_precision(curves[0], total, times)
            values["LAMR"] = defined * _log_average_miss_rate(curves[0], total, times)
    return values


def _average_precision(curve, total, times):
    """Average precision [B]; `total` [B] is the number of true boxes.

    Only the points of hits matter: between two of them recall is constant and precision falls. For the same reason an
    image that is drawn twice may count as two hits, or two false positives, in one step.
    """
    found, counted = _at_hits(curve, times)
    precision = found / np.maximum(counted, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    reached = np.searchsorted(_RECALLS, found / total[:, None], side="right")  # number of the 101 recalls
    return (envelope * np.diff(reached, axis=1, prepend=0)).sum(1) / len(_RECALLS)


def _recall_at_precision(curve, total, times):
    """Largest recall [B] at a precision of .9 or more; at points of hits, see `_average_precision`."""
    found, counted = _at_hits(curve, times)
    precise = 10 * found >= 9 * counted
    return (found * precise).max(1, initial=0) / total


def _at_hits(curve, times):
    """Number of hits and of detections drawn up to each hit, [B, hits]."""
    image, hit = curve
    hits = np.flatnonzero(hit)
    if not len(hits):
        return np.zeros((2, len(times), 0), int)
    # Detections are summed between hits first, because hits are few.
    between = np.add.reduceat(times[:, image[: hits[-1] + 1]], [0, *hits[:-1] + 1], axis=1)
    return np.cumsum(times[:, image[hits]], 1), np.cumsum(between, 1)


def _miss_rates(curve, total, times):
    """False positives per image and miss rate after each detection, [B, detections]."""
    image, hit = curve
    drawn = np.take(times, image, 1)  # contiguous rows, unlike `times[:, image]`: sums are three times faster
    return np.cumsum(drawn * ~hit, 1) / times.sum(1, keepdims=True), 1 - np.cumsum(drawn * hit, 1) / total[:, None]


def _log_average_miss_rate(curve, total, times):
    fppi, miss = _miss_rates(curve, total, times)
    miss = np.pad(miss, ((0, 0), (1, 0)), constant_values=1)
    last = np.reshape([np.searchsorted(row, _FPPI, side="right") for row in fppi], (len(times), len(_FPPI)))
    return np.exp(np.log(np.maximum(np.take_along_axis(miss, last, 1), 1e-10)).mean(1))
