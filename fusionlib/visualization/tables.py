"""Result tables: means, confidence intervals, and differences to a reference method.

A table is a frame with one row per method and two levels of columns: a column of notes and "n" below "", and the
`FIELDS` of each metric below its name, NaN where there is no number; "low" to "high" is the interval of the mean,
"difference low" to "difference high" that of the difference. `attrs` has "caption", "convention", "reference" ("" where
nothing is compared) and "higher_is_better". `show_table` and `save_table` take such tables.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from fusionlib.detection import bootstrap
from fusionlib.detection.precision_recall import HIGHER_IS_BETTER
from fusionlib.metrics.conventions import METRICS
from fusionlib.metrics.evaluation import common_convention, paired, scenes_of, summary
from fusionlib.metrics.statistics import count_units
from fusionlib.utils.errors import FusionError

FIELDS = ("mean", "low", "high", "difference", "difference low", "difference high", "p")


def fusion_table(frames: Mapping[str, pd.DataFrame | None], dataset: str | Sequence[str], reference: str,
                 notes: Mapping[str, str] | None = None, profile: str = "", what: str = "Fusion quality",
                 note: str = "weights") -> pd.DataFrame:
    """Image quality on one data set, as in the paper's tables 1 to 3, 5 and 6.

    Args:
        frames: {method: result of `evaluation.evaluate_pairs`, or None for a method without results}.
        dataset: the rows of other data sets in the frames are left out; of several, the rows are taken together.
        reference: the method that the others are compared with on the same images; without results of its own, no
            method is compared.
        notes: {method: text of the column `note`}.
        what, profile: beginning of the caption, and the profile of the run for it.
        note: title of the column of notes.

    Returns:
        A table (see the module): means with 95 % bootstrap intervals over images, or over scenes where these have
        several (`evaluation.summary`), p values of the sign-flip test, corrected for all comparisons in the table
        (`evaluation.paired`); the number of these images or scenes is `attrs["units"]`.

    Raises:
        FusionError: no method has results, an unknown reference, different conventions, or a method that shares no
            image with the reference.
    """
    if not isinstance(dataset, str):
        frames = {method: frame if frame is None else _together(frame, dataset) for method, frame in frames.items()}
        dataset = ", ".join(dataset)
    measured = {method: rows for method, frame in frames.items() if frame is not None
                and len(rows := frame[frame.index.get_level_values("dataset") == dataset])}
    _check_methods(frames, measured, reference, f"on {dataset}")
    convention = common_convention({method: frames[method] for method in measured}) or ""
    cells, undefined, scenes = dict.fromkeys(frames), {}, set()
    for method, frame in measured.items():
        means = summary(frame).loc[dataset]
        scenes.update(scenes_of(frame))
        cells[method] = means[["mean", "low", "high"]].to_dict("index")
        for metric in means.index[means["n"] < len(frame)]:
            undefined[metric] = max(undefined.get(metric, 0), len(frame) - int(means.loc[metric, "n"]))
    if reference in measured and len(measured) > 1:
        _add_differences(cells, paired(measured, reference).loc[dataset])
    counts = {method: len(frame) for method, frame in measured.items()}
    low, high = min(counts.values()), max(counts.values())
    of_scenes = f" of {len(scenes)} scene{'s' * (len(scenes) > 1)}" * (len(scenes) < high)
    caption = _sentence(f"{what} on {dataset}", profile and f"profile {profile}",
                        (f"n = {low}" if low == high else f"n = {low} to {high}") + f" image pairs{of_scenes}",
                        convention and f"convention {convention}")
    over = "scenes" if 1 < len(scenes) < high else "images"
    caption += f" Mean with its 95 % bootstrap interval over {over}."
    if undefined:
        left_out = ", ".join(f"{metric} on up to {n}" for metric, n in undefined.items())
        caption += f" Images on which a metric is not defined are left out of it ({left_out})."
    table = build(cells, counts, caption, reference, notes, note, convention)
    table.attrs["units"] = len(scenes) if over == "scenes" else high
    return table


def _together(frame, datasets):
    """The rows of several data sets as those of one, with the names of all; a scene stays a scene."""
    rows, together = frame[frame.index.get_level_values("dataset").isin(datasets)], ", ".join(datasets)
    labels = [f"{dataset}/{name}" for dataset, name in rows.index]
    index = pd.MultiIndex.from_arrays([[together] * len(rows), labels], names=rows.index.names)
    scenes = {f"{together}/{label}": scene for label, scene in zip(labels, scenes_of(rows))}
    result = rows.set_axis(index)
    result.attrs = frame.attrs | {"scenes": scenes}
    return result


def detection_table(found: Mapping[str, Sequence[torch.Tensor] | None], truths: Sequence[torch.Tensor], reference: str,
                    notes: Mapping[str, str] | None = None, dataset: str = "", profile: str = "",
                    what: str = "Pedestrian detection", note: str = "weights", class_index: int = 0,
                    ignore: Sequence[torch.Tensor] | None = None, scenes: Sequence[str] | None = None,
                    held_out: Mapping[str, Mapping[str, Sequence[torch.Tensor] | None]] | None = None) -> pd.DataFrame:
    """Pedestrian detection, as in the paper's tables 4 and 7: average precision and log-average miss rate.

    Args:
        found: {method: predictions as for `detection.measure`, or None for a method without results}.
        truths, class_index, ignore, scenes: as for `detection.intervals`.
        reference, notes, profile, what, note: as for `fusion_table`; `what` can name detector and protocol.
        dataset: for the caption.
        held_out: {name of a further detector: what it found, as `found`, in some or all of the methods}.

    Returns:
        A table (see the module): values over all images with 95 % bootstrap intervals (`detection.intervals`), p values
        of the paired bootstrap, corrected for all comparisons of one detector (`detection.paired`). Columns of further
        detectors are labelled with their names.

    Raises:
        FusionError: no method has results, an unknown reference, or as for `detection.measure`.
    """
    measured = [method for method, predictions in found.items() if predictions is not None]
    _check_methods(found, measured, reference, "of detection")
    cells = by_detector({name: _detection_cells(each, truths, reference, class_index, ignore, scenes)
                         for name, each in {"": found, **(held_out or {})}.items()})
    caption = _sentence(what + (f" on {dataset}" if dataset else ""), profile and f"profile {profile}",
                        f"n = {bootstrap.number_of(len(truths), scenes)} with {sum(map(len, truths))} people")
    over = "scenes" if count_units(len(truths), scenes) < len(truths) else "images"
    caption += f" Value over all images with its 95 % bootstrap interval over {over}.{held_out_note(held_out)}"
    return build(cells, dict.fromkeys(measured, len(truths)), caption, reference, notes, note)


def by_detector(cells: Mapping[str, Mapping[str, Mapping | None]]) -> dict[str, dict]:
    """Join {detector: {method: {measure: ...}}} to {method: {measure: ...}}.

    The measures of all detectors but the first are labelled with the detector's name, as in "LAMR yolox_nano".
    """
    joined = {method: {} for rows in cells.values() for method in rows}
    for number, (name, rows) in enumerate(cells.items()):
        label = f" {name}" if number else ""
        for method, row in rows.items():
            joined[method] |= {measure + label: cell for measure, cell in (row or {}).items()}
    return joined


def held_out_note(names: Sequence[str] | Mapping | None) -> str:
    """The sentence of a caption on the columns of held-out detectors; empty without one."""
    return f" Columns with the name {' or '.join(names)}: by a detector that was in no loss." if names else ""


def build(cells: Mapping[str, Mapping[str, Mapping[str, float]] | None], counts: Mapping[str, int], caption: str,
          reference: str = "", notes: Mapping[str, str] | None = None, note: str = "weights", convention: str = "",
          higher: Mapping[str, bool] | None = None) -> pd.DataFrame:
    """Build a table (see the module) from given numbers.

    Args:
        cells: {method: {metric: {"mean": ..., and any other of `FIELDS`}}, or None without results}.
        counts: {method: n}, 0 by default.
        caption: what the numbers are; which methods have none, and what the differences mean, is added.
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
    caption += _no_numbers([method for method, row in cells.items() if not row], notes or {})
    compared = result.xs("difference", axis=1, level="value").notna().any(axis=None)
    if compared:
        caption += f" Below: difference to {reference} on the same data, p after Holm's correction."
    result.attrs = {"caption": caption, "convention": convention, "reference": reference if compared else "",
                    "higher_is_better": {metric: higher_is_better(metric, higher) for metric in metrics}}
    return result


def higher_is_better(metric: str, known: Mapping[str, bool] | None = None) -> bool:
    """Whether higher is better, for a fusion metric, a detection measure or one in `known`; FusionError for others."""
    if metric in (known or {}):
        return known[metric]
    if metric in METRICS:
        return METRICS[metric].higher_is_better
    measure = metric.partition(" ")[0]  # a range of heights or the name of a detector may follow
    if measure in HIGHER_IS_BETTER or measure.startswith("AP@"):
        return HIGHER_IS_BETTER.get(measure, True)
    raise FusionError(f"The better direction of {metric!r} is not known: give it in higher_is_better, as "
                      f"{{{metric!r}: True}} or False.")


def _check_methods(methods, measured, reference, where):
    if reference not in methods:
        raise FusionError(f"The reference {reference!r} is none of the methods {', '.join(methods) or '(none)'}: "
                          "choose one of them.")
    if not measured:
        raise FusionError(f"None of {', '.join(methods)} has results {where}: measure at least one of them.")


def _detection_cells(found, truths, reference, class_index, ignore, scenes):
    measured, cells = {method: boxes for method, boxes in found.items() if boxes is not None}, dict.fromkeys(found)
    resampling = {"heights": {}, "ignore": ignore, "scenes": scenes}
    for method, predictions in measured.items():
        rows = bootstrap.intervals(predictions, truths, class_index, **resampling).rename(columns={"value": "mean"})
        cells[method] = rows.loc[list(HIGHER_IS_BETTER), ["mean", "low", "high"]].to_dict("index")
    if reference in measured and len(measured) > 1:
        _add_differences(cells, bootstrap.paired(measured, reference, truths, class_index, **resampling))
    return cells


def _add_differences(cells, compared):
    for (method, metric), row in compared.iterrows():
        cells[method][metric] |= {"difference": row["difference"], "difference low": row["low"],
                                  "difference high": row["high"], "p": row["p_holm"]}


def _no_numbers(methods, notes):
    """The sentence of a caption on methods without numbers, by reason; a variant goes without saying."""
    by_reason = {}
    for method in methods:
        if method.partition(", ")[0] not in set(methods) - {method}:
            by_reason.setdefault(notes.get(method) or "no results", []).append(method)
    named = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())
    return f" No numbers: {named}." * bool(named)


def _sentence(*clauses):
    return ", ".join(filter(None, clauses)) + "."
