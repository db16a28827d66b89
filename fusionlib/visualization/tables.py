"""Tables from what was measured: means, intervals, and differences to a reference method."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from fusionlib.metrics.conventions import METRICS
from fusionlib.metrics.evaluation import common_convention, paired, summary
from fusionlib.utils.errors import FusionError

FIELDS = ("mean", "low", "high", "difference", "p")
DETECTION = {"mAP@.5": True, "mAP@.75": True, "mAP@.5:.95": True, "LAMR": False}  # whether higher is better


def fusion_table(frames: Mapping[str, pd.DataFrame | None], dataset: str, reference: str,
                 notes: Mapping[str, str] | None = None, profile: str = "", what: str = "Fusion quality",
                 note: str = "weights") -> pd.DataFrame:
    """Image quality on one data set, as in the paper's tables 1 to 3, 5 and 6.

    Args:
        frames: {method: what `evaluation.evaluate_pairs` returns, or None for a method without results}. Rows of other
            data sets are left out; a method that has none of this one has no results.
        dataset: the data set of the frames' index.
        reference: the method that the others are compared with on the same images; without results of its own, no
            method is compared.
        notes: {method: text for the column `note`}.
        profile: of the run, for the caption.
        what: how the caption begins.
        note: title of the column of notes.

    Returns:
        A table as described above: means with 95 % bootstrap intervals over images (`evaluation.summary`), p
        values of the sign-flip test, corrected for all comparisons in the table (`evaluation.paired`).

    Raises:
        FusionError: no method has results, an unknown reference, different conventions, or a method that shares no
            image with the reference.
    """
    there = {method: frame[frame.index.get_level_values("dataset") == dataset] for method, frame in frames.items()
             if frame is not None}
    there = {method: frame for method, frame in there.items() if len(frame)}
    _check_methods(frames, there, reference, f"on {dataset}")
    convention = common_convention({method: frames[method] for method in there}) or ""
    cells, undefined = {}, {}
    for method, frame in there.items():
        means = summary(frame).loc[dataset]
        cells[method] = means[["mean", "low", "high"]].to_dict("index")
        for metric in means.index[means["n"] < len(frame)]:
            undefined[metric] = max(undefined.get(metric, 0), len(frame) - int(means.loc[metric, "n"]))
    if reference in there and len(there) > 1:
        for (method, metric), row in paired(there, reference).loc[dataset].iterrows():
            cells[method][metric] |= {"difference": row["difference"], "p": row["p_holm"]}
    counts = {method: len(frame) for method, frame in there.items()}
    caption = _sentence(f"{what} on {dataset}", profile and f"profile {profile}", _span(counts, "image pairs"),
                        convention and f"convention {convention}")
    caption += " Mean with its 95 % bootstrap interval over images."
    if undefined:
        left_out = ", ".join(f"{metric} on up to {n}" for metric, n in undefined.items())
        caption += f" Images on which a metric is not defined are left out of it ({left_out})."
    return build({method: cells.get(method) for method in frames}, counts, caption, reference, notes, note, convention)


def detection_table(found: Mapping[str, Sequence[torch.Tensor] | None], truths: Sequence[torch.Tensor], reference: str,
                    notes: Mapping[str, str] | None = None, dataset: str = "", profile: str = "",
                    what: str = "Pedestrian detection", note: str = "weights", class_index: int = 0) -> pd.DataFrame:
    """How well people are found, as in the paper's tables 4 and 7: average precision and log-average miss rate.

    Args:
        found: {method: predictions as for `detection.measure`, or None for a method without results}.
        truths, class_index: as for `detection.measure`.
        reference, notes, profile, what, note: as for `fusion_table`; `what` is the place to name detector and protocol.
        dataset: for the caption.

    Returns:
        A table as `fusionlib.visualization` says: values over all images with 95 % bootstrap intervals
        (`detection.intervals`), p values of the paired bootstrap, corrected for all comparisons in the table
        (`detection.paired`).

    Raises:
        FusionError: no method has results, an unknown reference, or as for `detection.measure`.
    """
    from fusionlib.detection.bootstrap import intervals
    from fusionlib.detection.bootstrap import (
        paired as compared,  # here, for a table of fusion metrics needs no detector
    )

    there = {method: predictions for method, predictions in found.items() if predictions is not None}
    _check_methods(found, there, reference, "of detection")
    cells, boxes = {}, 0
    for method, predictions in there.items():
        rows = intervals(predictions, truths, class_index, heights={}).rename(columns={"value": "mean"})
        boxes = int(rows.loc["LAMR", "boxes"])
        cells[method] = rows.loc[list(DETECTION), ["mean", "low", "high"]].to_dict("index")
    if reference in there and len(there) > 1:
        for (method, metric), row in compared(there, reference, truths, class_index, heights={}).iterrows():
            cells[method][metric] |= {"difference": row["difference"], "p": row["p_holm"]}
    caption = _sentence(what + (f" on {dataset}" if dataset else ""), profile and f"profile {profile}",
                        f"n = {len(truths)} images with {boxes} people")
    caption += " Value over all images with its 95 % bootstrap interval."
    return build({method: cells.get(method) for method in found}, dict.fromkeys(there, len(truths)), caption, reference,
                 notes, note)


def build(cells: Mapping[str, Mapping[str, Mapping[str, float]] | None], counts: Mapping[str, int], caption: str,
          reference: str = "", notes: Mapping[str, str] | None = None, note: str = "weights", convention: str = "",
          higher: Mapping[str, bool] | None = None) -> pd.DataFrame:
    """A table, as `fusionlib.visualization` says, of numbers that are there already.

    Args:
        cells: {method: {metric: {"mean": ..., and any of "low", "high", "difference", "p"}}, or None without results}.
        counts: {method: n}; a method that is not named has 0.
        caption: what the numbers are; what the colours and differences mean is added.
        reference: the method that the differences are to.
        notes, note: as for `fusion_table`.
        convention: of the metrics.
        higher: directions of metrics that the suite does not know (`higher_is_better`).

    Raises:
        FusionError: no metric at all, a field that is none of `FIELDS`, or a metric of unknown direction.
    """
    metrics = list(dict.fromkeys(metric for row in cells.values() for metric in row or ()))
    if not metrics:
        raise FusionError("A table needs at least one method with at least one metric: measure a method first.")
    rows = {}
    for method, row in cells.items():
        rows[method] = {("", note): (notes or {}).get(method, ""), ("", "n"): int(counts.get(method, 0))}
        for metric in metrics:
            values = (row or {}).get(metric, {})
            if wrong := set(values) - set(FIELDS):
                raise FusionError(f"{method}, {metric}: a cell has {', '.join(FIELDS)}, but found {min(wrong)!r}.")
            rows[method] |= {(metric, field): float(values.get(field, np.nan)) for field in FIELDS}
    result = pd.DataFrame.from_dict(rows, orient="index").rename_axis(index="method")
    result.columns = pd.MultiIndex.from_tuples(result.columns, names=["metric", "value"])
    compared = result.xs("difference", axis=1, level="value").notna().any(axis=None)
    if compared:
        caption += f" Below: difference to {reference} on the same data, p after Holm's correction."
    result.attrs = {"caption": caption, "convention": convention, "reference": reference if compared else "",
                    "higher_is_better": {metric: higher_is_better(metric, higher) for metric in metrics}}
    return result


def higher_is_better(metric: str, known: Mapping[str, bool] | None = None) -> bool:
    """The better direction of a fusion metric or a detection measure, or of one in `known`.

    Raises:
        FusionError: neither the suite nor `known` has the metric.
    """
    if metric in (known or {}):
        return known[metric]
    if metric in METRICS:
        return METRICS[metric].higher_is_better
    if metric in DETECTION or metric.startswith("AP@"):
        return DETECTION.get(metric, True)
    raise FusionError(f"The better direction of {metric!r} is not known: give it in higher_is_better, as "
                      f"{{{metric!r}: True}} or False.")


def _check_methods(given, there, reference, where):
    if reference not in given:
        raise FusionError(f"The reference {reference!r} is none of the methods {', '.join(given) or '(none)'}: choose "
                          "one of them.")
    if not there:
        raise FusionError(f"None of {', '.join(given)} has results {where}: measure at least one of them.")


def _sentence(*parts):
    return ", ".join(filter(None, parts)) + "."


def _span(counts, of):
    low, high = min(counts.values()), max(counts.values())
    return f"n = {low} {of}" if low == high else f"n = {low} to {high} {of}"
