"""Fusion metrics over a data set: one row per image, their means with confidence intervals, and paired comparisons."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from fusionlib.data.infrared import FULL, range_words
from fusionlib.data.matching import load_fused, match, swapped_names
from fusionlib.data.pairs import Pair, load
from fusionlib.metrics import evaluate
from fusionlib.metrics.conventions import METRICS, PAPER, check
from fusionlib.metrics.statistics import check_reference, compare_to_reference, mean_interval, sign_flip_test
from fusionlib.utils import distributed
from fusionlib.utils.errors import FusionError, print_problems


def evaluate_pairs(fused: Mapping[str, torch.Tensor] | Iterable[torch.Tensor], pairs: Sequence[Pair],
                   names: Iterable[str] = PAPER, convention: str = "vifb") -> pd.DataFrame:
    """Measure one fused image per pair.

    Args:
        fused: images [1 or 3, H, W], uint8 or float 0..1, of the size of their pair; by the name of the pair, or in the
            order of `pairs`. A generator keeps one image in memory at a time.
        pairs: the sources.
        names, convention: as for `fusionlib.metrics.evaluate`.

    Returns:
        One row per pair, indexed by (dataset, name), one column per metric; in `attrs` the "convention" and, where any
        is known, the "scenes" (`known_scenes`).

    Raises:
        FusionError: no pairs, a missing or surplus image, or one that does not fit its pair; names the pair.
    """
    if not pairs:
        raise FusionError("There are no pairs to evaluate: expected at least one; check the data folder and the split.")
    if isinstance(fused, Mapping):
        pair_names = [pair.name for pair in pairs]
        if len(set(pair_names)) < len(pair_names):
            raise FusionError("Several pairs have the same name: give the fused images in order instead of by name.")
        if missing := [name for name in pair_names if name not in fused]:
            raise FusionError(f"There is no fused image for {len(missing)} of {len(pairs)} pairs, the first is "
                              f"{missing[0]}: fuse it, or leave the pair out.")
        fused = map(fused.__getitem__, pair_names)
    return _evaluate_each(iter(fused), pairs, names, convention)


def evaluate_folder(fused, ir, visible, names: Iterable[str] = PAPER, convention: str = "vifb",
                    problems: list[str] | None = None) -> pd.DataFrame:
    """Measure the fused images of any method in one folder against their sources in two others.

    Images belong together if their file names agree up to the suffix. Gray, colour and palette images of 8 or 16 bits
    are read one at a time, without alpha. What cannot be measured (no partner, another size, unreadable) is reported on
    stderr at the end, the first 20 of a kind. The processes of `accelerate launch` share the images.

    Args:
        fused, ir, visible: folders, or where file names contain more than the name, patterns in which a star marks it:
            "results/*_ours" takes 1_ours.png for 1. All three may then be in one folder.
        names, convention: as for `fusionlib.metrics.evaluate`.
        problems: a list that receives one sentence per file left out.

    Returns:
        As `evaluate_pairs`, ordered by name; the data set is named after the folder around `ir`.

    Raises:
        FusionError: no folder, the same images twice, no common name, nothing measurable, unknown metric or convention.
    """
    names = tuple(names)
    check(names, convention)
    pairs, unmatched = match(fused, ir, visible)
    unmeasured, share = [], dict(distributed.share(list(pairs.items())))
    images = map(load_fused, share, share.values())  # `map` goes on after an error, as a generator would not
    frame = _evaluate_each(images, list(share.values()), names, convention, unmeasured)
    gathered = distributed.gather((frame, unmeasured))
    frame = pd.concat([rows for rows, _ in gathered if len(rows)] or [frame]).sort_index()
    unmeasured = [problem for _, found in gathered for problem in found]
    common, remarks = next(iter(pairs.values())).ir_range, swapped_names(ir, visible)
    if common not in (None, FULL):
        remarks.append(f"{ir}: radiometric values: {range_words(common, True)}")
    print_problems("to look at", remarks)
    for kind, found in (("not matched", unmatched), ("not measured", unmeasured)):
        print_problems(kind, found)
        if problems is not None:
            problems += found
    if not len(frame):
        raise FusionError(f"{fused}: expected at least one fused image that can be measured, found none among "
                          f"{len(pairs)}, the first problem being: {unmeasured[0]}")
    return frame


def _evaluate_each(fused: Iterator[torch.Tensor], pairs, names, convention, problems=None):
    """One row of metrics per pair; problems are added to the list and their pairs skipped, without a list raised."""
    names, rows, index = list(dict.fromkeys(names)), [], []
    for pair in tqdm(pairs, desc="metrics", leave=False):
        try:
            if (image := next(fused, None)) is None:
                raise FusionError(f"There are only {len(rows)} fused images for {len(pairs)} pairs: give one per pair.")
            ir, visible = load(pair)
            values = evaluate(image[None], ir[None], visible[None], names, convention)
        except FusionError as error:
            message = f"{pair.dataset} {pair.name}: {error}"
            if problems is None:
                raise FusionError(message) from error
            problems.append(message)
            continue
        rows.append({name: value.item() for name, value in values.items()})
        index.append((pair.dataset, pair.name))
    if next(fused, None) is not None:
        raise FusionError(f"There are more fused images than the {len(pairs)} pairs: give one per pair.")
    frame = pd.DataFrame(rows, index=pd.MultiIndex.from_tuples(index, names=["dataset", "name"]), columns=names)
    frame.attrs |= {"convention": convention} | known_scenes(pairs)
    return frame


def known_scenes(pairs: Sequence[Pair]) -> dict[str, dict[str, str]]:
    """{"scenes": {"<dataset>/<name>": scene}} of the pairs whose scene is known, for `attrs` of a frame, or {}."""
    known = {f"{pair.dataset}/{pair.name}": pair.scene for pair in pairs if pair.scene}
    return {"scenes": known} if known else {}


def scenes_of(frame: pd.DataFrame) -> pd.Series:
    """The scene of each row of a frame of `evaluate_pairs`; a pair of an unknown scene is a scene of its own."""
    known, labels = frame.attrs.get("scenes", {}), [f"{dataset}/{name}" for dataset, name in frame.index]
    return pd.Series([known.get(label, label) for label in labels], frame.index, dtype=str)


def summary(frame: pd.DataFrame, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Mean of every metric per data set, with its 95 % interval over scenes as by `statistics.mean_interval`.

    `frame` is of `evaluate_pairs` or `evaluate_folder`. Returns rows indexed by (dataset, metric), columns mean, low,
    high, and n, the number of finite values; others are left out.
    """
    rows, scenes = {}, scenes_of(frame).to_numpy()
    for dataset in frame.index.unique("dataset"):
        there = frame.index.get_level_values("dataset") == dataset
        for metric in frame.columns:
            finite = there & np.isfinite(frame[metric].to_numpy())
            values = frame[metric].to_numpy()[finite]
            rows[dataset, metric] = (*mean_interval(values, resamples, seed, list(scenes[finite])), len(values))
    index = pd.MultiIndex.from_tuples(rows, names=["dataset", "metric"])
    result = pd.DataFrame(list(rows.values()), index, ["mean", "low", "high", "n"])
    result.attrs.update(frame.attrs)
    return result


def paired(frames: Mapping[str, pd.DataFrame], reference: str, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Compare methods with a reference method on the same images.

    Args:
        frames: {method: frame of `evaluate_pairs` or `evaluate_folder`}; the scenes are those of the reference.
        resamples, seed: as for `statistics.mean_interval`.

    Returns:
        As `statistics.compare_to_reference`, indexed by (dataset, method, metric), over the metrics and images
        that the method and the reference share: "difference", mean of method minus reference, with its bootstrap
        interval; "p" of `sign_flip_test`; "p_holm", corrected within a data set; "n", images with finite differences.

    Raises:
        FusionError: an unknown reference, no method to compare it with, different conventions, an image twice in one
            frame, or a method without a metric or image of the reference.
    """
    check_reference(frames, reference)
    convention = common_convention(frames)
    for method, frame in frames.items():
        if frame.index.has_duplicates:
            name = " ".join(map(str, frame.index[frame.index.duplicated()][0]))
            raise FusionError(f"{method} has the image {name} twice, so it cannot be paired: drop one of its rows.")
    base, samples, scenes = frames[reference], {}, scenes_of(frames[reference])
    for method in [method for method in frames if method != reference]:
        metrics = [metric for metric in base.columns if metric in frames[method].columns]
        images = base.index.intersection(frames[method].index, sort=False)
        if not len(images) or not metrics:
            raise FusionError(f"{method} shares no {'metric' if len(images) else 'image'} with {reference}: measure "
                              "both on the same images and by the same metrics.")
        for dataset, group in frames[method].loc[images, metrics].groupby(level="dataset", sort=False):
            samples.setdefault(dataset, {reference: base})[method] = group

    def difference(values, others):
        differences = values - others.loc[values.index]
        differences = differences[np.isfinite(differences)]
        of_each = scenes.loc[differences.index].tolist()
        interval = mean_interval(differences, resamples, seed, of_each)
        return dict(zip(("difference", "low", "high"), interval)) | {
            "p": sign_flip_test(differences, seed, of_each), "n": len(differences)}

    directions = {name: metric.higher_is_better for name, metric in METRICS.items()}
    table = pd.concat({dataset: compare_to_reference(methods, reference, directions, difference)
                       for dataset, methods in samples.items()}, names=["dataset", "method", "metric"])
    table.attrs["convention"] = convention
    return table


def side_by_side(frames: Mapping[str, pd.DataFrame], digits: int = 3) -> pd.DataFrame:
    """Table of methods by metrics: the mean over each data set with its 95 % interval, as text.

    `frames` as for `paired`, of one convention; `digits` are significant in the means, and the interval has as many
    decimals. Returns rows (dataset, method), columns "n" and one per metric with an arrow for its better direction.
    """
    convention, rows = common_convention(frames), {}
    for method, frame in frames.items():
        for (dataset, metric), row in summary(frame).iterrows():
            decimals = max(0, digits - 1 - int(np.floor(np.log10(abs(row["mean"]) or 1)))) if row["n"] else 0
            mean, low, high = (f"{row[key]:.{decimals}f}" for key in ("mean", "low", "high"))
            column = f"{metric} {'↑' if METRICS[metric].higher_is_better else '↓'}"
            rows.setdefault((dataset, method), {"n": len(frame.loc[dataset])})[column] = f"{mean} [{low}, {high}]"
    order = list(dict.fromkeys(dataset for dataset, _ in rows))
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(index=["data set", "image"])
    table = table.sort_index(level=0, key=lambda level: level.map(order.index), sort_remaining=False)
    table.attrs["convention"] = convention
    return table


def common_convention(frames: Mapping[str, pd.DataFrame]) -> str | None:
    """The convention that all frames share; FusionError without a frame, or if two conventions differ."""
    if not frames:
        raise FusionError("There is nothing to compare: expected at least one method with its frame.")
    found = {method: frame.attrs.get("convention") for method, frame in frames.items()}
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{method} {convention}" for method, convention in found.items())
        raise FusionError(f"Numbers of different conventions are not comparable, found {listed}: measure all by one.")
    return next(iter(found.values()))
