"""Fusion metrics over a data set: one row per image, their means with confidence intervals, and paired comparisons."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from fusionlib.data.matching import load_fused, match
from fusionlib.data.pairs import Pair, load
from fusionlib.metrics import evaluate
from fusionlib.metrics.conventions import METRICS, PAPER, check
from fusionlib.metrics.statistics import check_reference, compare_to_reference, mean_interval, sign_flip_test
from fusionlib.utils import distributed
from fusionlib.utils.errors import FusionError, print_problems


def evaluate_pairs(fused: Mapping[str, torch.Tensor] | Iterable[torch.Tensor], pairs: Sequence[Pair],
                   names: Iterable[str] = PAPER, convention: str = "vifb") -> pd.DataFrame:
    """Measure one fused image per pair with `fusionlib.metrics.evaluate`.

    Args:
        fused: images [1 or 3, H, W], uint8 or float 0..1, of the size of their pair; by the name of the pair, or in the
            order of `pairs`. A generator keeps one image in memory at a time.
        pairs: the sources.
        names, convention: as for `evaluate`.

    Returns:
        One row per pair, indexed by (dataset, name), one column per metric; `attrs["convention"]` keeps the convention.

    Raises:
        FusionError: no pairs, a missing or left-over image, or one that does not fit its pair; names the pair.
    """
    if not pairs:
        raise FusionError("There are no pairs to evaluate: expected at least one; check the data folder and the split.")
    if isinstance(fused, Mapping):
        called = [pair.name for pair in pairs]
        if len(set(called)) < len(called):
            raise FusionError("Several pairs have the same name: give the fused images in order instead of by name.")
        if missing := [name for name in called if name not in fused]:
            raise FusionError(f"There is no fused image for {len(missing)} of {len(pairs)} pairs, the first is "
                              f"{missing[0]}: fuse it, or leave the pair out.")
        fused = map(fused.__getitem__, called)
    return _score(iter(fused), pairs, names, convention)


def evaluate_folder(fused, ir, visible, names: Iterable[str] = PAPER, convention: str = "vifb",
                    problems: list[str] | None = None) -> pd.DataFrame:
    """Measure the pictures of one folder against their sources in two others, whoever made them.

    Pictures belong together where their file names agree up to the suffix: 1.png, 1.jpg and 1.PNG. 8 and 16 bit, gray,
    colour and palettes are read, alpha is dropped, one picture at a time. All that can be measured is; what cannot (no
    partner, another size, unreadable) is named on stderr at the end, the first 20 of a kind. The processes of
    `accelerate launch` share the pictures.

    Args:
        fused, ir, visible: folders of pictures. Where file names carry more than the name, a star says what the name
            is: "results/*_ours" takes 1_ours.png for 1, and all three may then be in one folder.
        names, convention: as for `fusionlib.metrics.evaluate`.
        problems: a list that gets a sentence for each file that was left out, to see them all.

    Returns:
        As `evaluate_pairs`, ordered by name; the data set is called after the folder around `ir`.

    Raises:
        FusionError: not a folder, the same pictures twice, no name in common, nothing left that could be measured, or
            an unknown metric or convention.
    """
    names = tuple(names)
    check(names, convention)
    pairs, unmatched = match(fused, ir, visible)
    unmeasured = []
    # An iterator of `map` goes on after an error, as a generator would not.
    own = dict(distributed.share(list(pairs.items())))
    images = map(load_fused, own, own.values())
    frame = _score(images, list(own.values()), names, convention, unmeasured)
    parts = distributed.gather((frame, unmeasured))
    frame = pd.concat([part for part, _ in parts if len(part)] or [frame]).sort_index()
    unmeasured = [text for _, found in parts for text in found]
    for what, found in (("not matched", unmatched), ("not measured", unmeasured)):
        print_problems(what, found)
        if problems is not None:
            problems += found
    if not len(frame):
        raise FusionError(f"{fused}: expected at least one fused picture that can be measured, found none among "
                          f"{len(pairs)}, the first problem being: {unmeasured[0]}")
    return frame


def _score(fused: Iterator[torch.Tensor], pairs, names, convention, problems=None):
    """One row of metrics per pair; the first problem is raised, or all are added to a list and their pairs left out."""
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
    index = pd.MultiIndex.from_tuples(index, names=["dataset", "name"])
    frame = pd.DataFrame(rows, index=index, columns=names)
    frame.attrs["convention"] = convention
    return frame


def summary(frame: pd.DataFrame, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Mean of every metric per data set, with the percentile bootstrap's 95 % confidence interval.

    Args:
        frame: what `evaluate_pairs` or `evaluate_folder` returns.
        resamples, seed: as for `metrics.statistics.mean_interval`.

    Returns:
        Rows indexed by (dataset, metric), columns mean, low, high, n. Undefined (NaN) and infinite values are left out,
        and n counts what is left; with n = 0 the numbers are NaN, with n = 1 the interval is the value itself.
    """
    rows = {}
    for dataset, group in frame.groupby(level="dataset", sort=False):
        for metric in frame.columns:
            values = _finite(group[metric])
            mean, low, high = mean_interval(values, resamples, seed)
            rows[dataset, metric] = {"mean": mean, "low": low, "high": high, "n": len(values)}
    result = pd.DataFrame.from_dict(rows, orient="index").rename_axis(index=["dataset", "metric"])
    result.attrs.update(frame.attrs)
    return result


def paired(frames: Mapping[str, pd.DataFrame], reference: str, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Compare methods with a reference method on the same images, which are easy or hard for both.

    Args:
        frames: {method: what `evaluate_pairs` or `evaluate_folder` returns}.
        reference: the method that the others are compared with.
        resamples, seed: as for `metrics.statistics.mean_interval`.

    Returns:
        As `metrics.statistics.compare_to_reference`, indexed by (dataset, method, metric), for each metric and image
        that the method and the reference share: "difference", mean of method minus reference, with its bootstrap
        interval; "p" of `sign_flip_test`, and "p_holm", corrected within a data set; "n" images, less those where the
        difference is undefined or infinite.

    Raises:
        FusionError: an unknown reference, nothing to compare it with, different conventions, an image that a frame has
            twice, or no image or metric that a method shares with the reference.
    """
    check_reference(frames, reference)
    convention = common_convention(frames)
    for method, frame in frames.items():
        if frame.index.has_duplicates:
            name = " ".join(map(str, frame.index[frame.index.duplicated()][0]))
            raise FusionError(f"{method} has the image {name} twice, so it cannot be paired: drop one of its rows.")
    base, samples = frames[reference], {}
    for method in [method for method in frames if method != reference]:
        metrics = [metric for metric in base.columns if metric in frames[method].columns]
        images = base.index.intersection(frames[method].index, sort=False)
        if not len(images) or not metrics:
            raise FusionError(f"{method} shares no {'metric' if len(images) else 'image'} with {reference}: measure "
                              "both on the same images and by the same metrics.")
        for dataset, group in frames[method].loc[images, metrics].groupby(level="dataset", sort=False):
            samples.setdefault(dataset, {reference: base})[method] = group

    def difference(values, others):
        differences = _finite(values - others.loc[values.index])
        mean, low, high = mean_interval(differences, resamples, seed)
        return {"difference": mean, "low": low, "high": high, "p": sign_flip_test(differences, seed),
                "n": len(differences)}

    directions = {name: metric.higher_is_better for name, metric in METRICS.items()}
    table = pd.concat({dataset: compare_to_reference(methods, reference, directions, difference)
                       for dataset, methods in samples.items()}, names=["dataset", "method", "metric"])
    table.attrs["convention"] = convention
    return table


def side_by_side(frames: Mapping[str, pd.DataFrame], digits: int = 3) -> pd.DataFrame:
    """Methods as rows, metrics as columns: the mean over each data set with its 95 % interval, as text.

    Args:
        frames: {method: what `evaluate_pairs` or `evaluate_folder` returns}, all of one convention.
        digits: significant digits of the means; the interval has as many decimals.

    Returns:
        Rows (dataset, method), columns "n" and one per metric with an arrow for its better direction;
        `attrs["convention"]` as `fusionlib.metrics.describe` takes it.

    Raises:
        FusionError: different conventions.
    """
    convention, rows = common_convention(frames), {}
    for method, frame in frames.items():
        for (dataset, metric), row in summary(frame).iterrows():
            decimals = max(0, digits - 1 - int(np.floor(np.log10(abs(row["mean"]) or 1)))) if row["n"] else 0
            text = f"{row['mean']:.{decimals}f} [{row['low']:.{decimals}f}, {row['high']:.{decimals}f}]"
            arrow = "↑" if METRICS[metric].higher_is_better else "↓"
            rows.setdefault((dataset, method), {"n": len(frame.loc[dataset])})[f"{metric} {arrow}"] = text
    order = list(dict.fromkeys(dataset for dataset, _ in rows))
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(index=["data set", "image"])
    table = table.sort_index(level=0, key=lambda level: level.map(order.index), sort_remaining=False)
    table.attrs["convention"] = convention
    return table


def _finite(values):
    return values[np.isfinite(values)].to_numpy()


def common_convention(frames: Mapping[str, pd.DataFrame]) -> str | None:
    """The convention that all frames share; FusionError for two, whose numbers are not comparable, and for no frame."""
    if not frames:
        raise FusionError("There is nothing to compare: expected at least one method with its frame.")
    found = {method: frame.attrs.get("convention") for method, frame in frames.items()}
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{method} {convention}" for method, convention in found.items())
        raise FusionError(f"Numbers of different conventions are not comparable, found {listed}: measure all by one.")
    return next(iter(found.values()))
