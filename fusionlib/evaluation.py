"""Fusion metrics over a data set: one row per image, and their means with confidence intervals."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from fusionlib.data.pairs import Pair, load
from fusionlib.errors import FusionError
from fusionlib.metrics import METRICS, PAPER, evaluate


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
    names = tuple(names)
    if isinstance(fused, Mapping):
        called = [pair.name for pair in pairs]
        if len(set(called)) < len(called):
            raise FusionError("Several pairs have the same name: give the fused images in order instead of by name.")
        if missing := [name for name in called if name not in fused]:
            raise FusionError(f"There is no fused image for {len(missing)} of {len(pairs)} pairs, the first is "
                              f"{missing[0]}: fuse it, or leave the pair out.")
        fused = map(fused.__getitem__, called)

    rows, images = [], iter(fused)
    for pair in tqdm(pairs, desc="metrics", leave=False):
        image = next(images, None)
        if image is None:
            raise FusionError(f"There are only {len(rows)} fused images for {len(pairs)} pairs: give one per pair.")
        ir, visible = load(pair)
        try:
            values = evaluate(image[None], ir[None], visible[None], names, convention)
        except FusionError as error:
            raise FusionError(f"{pair.dataset} {pair.name}: {error}") from error
        rows.append({name: value.item() for name, value in values.items()})
    if next(images, None) is not None:
        raise FusionError(f"There are more fused images than the {len(pairs)} pairs: give one per pair.")

    index = pd.MultiIndex.from_tuples([(pair.dataset, pair.name) for pair in pairs], names=["dataset", "name"])
    frame = pd.DataFrame(rows, index=index, columns=list(names))
    frame.attrs["convention"] = convention
    return frame


def summary(frame: pd.DataFrame, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Mean of every metric per data set, with the percentile bootstrap's 95 % confidence interval.

    Args:
        frame: what `evaluate_pairs` returns.
        resamples: number of bootstrap samples of images, drawn by a generator of their own from `seed`.
        seed: the same seed and frame give the same interval.

    Returns:
        Rows indexed by (dataset, metric), columns mean, low, high, n. NaN values (undefined metrics) are left out, and
        n counts what is left; with n = 0 the numbers are NaN, with n = 1 the interval is the value itself.

    Reference: Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics 7(1), 1979.
    """
    rows = {}
    for dataset, group in frame.groupby(level="dataset", sort=False):
        for metric in frame.columns:
            values = group[metric].dropna().to_numpy()
            n = len(values)
            mean, low, high = np.nan, np.nan, np.nan
            if n:
                draws = np.random.default_rng(seed).integers(n, size=(resamples, n))
                mean, (low, high) = values.mean(), np.percentile(values[draws].mean(1), [2.5, 97.5])
            rows[dataset, metric] = {"mean": mean, "low": low, "high": high, "n": n}
    result = pd.DataFrame.from_dict(rows, orient="index").rename_axis(index=["dataset", "metric"])
    result.attrs.update(frame.attrs)
    return result


def side_by_side(frames: Mapping[str, pd.DataFrame], digits: int = 3) -> pd.DataFrame:
    """Methods as rows, metrics as columns: the mean over each data set with its 95 % interval, as text.

    Args:
        frames: {method: what `evaluate_pairs` returns}.
        digits: significant digits of the means; the interval has as many decimals.

    Returns:
        Rows (dataset, method), columns "n" and one per metric with an arrow for its better direction.
    """
    rows = {}
    for method, frame in frames.items():
        for (dataset, metric), row in summary(frame).iterrows():
            decimals = max(0, digits - 1 - int(np.floor(np.log10(abs(row["mean"]) or 1)))) if row["n"] else 0
            text = f"{row['mean']:.{decimals}f} [{row['low']:.{decimals}f}, {row['high']:.{decimals}f}]"
            arrow = "↑" if METRICS[metric].higher_is_better else "↓"
            rows.setdefault((dataset, method), {"n": len(frame.loc[dataset])})[f"{metric} {arrow}"] = text
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(index=["data set", "image"])
    order = list(dict.fromkeys(dataset for dataset, _ in rows))
    return table.sort_index(level=0, key=lambda level: level.map(order.index), sort_remaining=False)
