"""What seeds and images allow to say: differences in detection, and how much of a gain the text can claim."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from fusionlib.detection.bootstrap import draw_counts, interval, p_value, resample_measures
from fusionlib.detection.precision_recall import match
from fusionlib.experiments.ablation import FULL, STAGE_1
from fusionlib.metrics.statistics import holm
from fusionlib.utils.errors import FusionError
from fusionlib.visualization import tables
from fusionlib.visualization.tables import DETECTION

SEEDS, IMAGES = 3, 20  # fewer seeds conclude nothing; from fewer images an interval is rather too narrow
#: What a network was trained with, by the name of the experiment.
WITH = {
    "no text": "without any text", "no MLLM": "with one fixed sentence for every image",
    "shuffled text": "with another image's answer",
}  # fmt: skip


@dataclass(frozen=True)
class Resampled:
    """Detection measures of experiments on the same images and with the same seeds.

    values: {experiment: {measure: [seeds]}}. samples: {experiment: {measure: [resamples]}}, means over seeds on drawn
    images and drawn seeds, the same draws for all experiments. images, boxes: how many there are.
    """

    values: dict[str, dict[str, np.ndarray]]
    samples: dict[str, dict[str, np.ndarray]]
    images: int
    boxes: int

    @property
    def seeds(self) -> int:
        """The number of seeds."""
        return len(next(iter(next(iter(self.values.values())).values())))


def resample(found: Mapping[str, Sequence[Sequence[Tensor]]], truths: Sequence[Tensor], resamples: int = 2000,
             seed: int = 0) -> Resampled:
    """Draw images and seeds with replacement, the same for all experiments.

    Args:
        found: {experiment: per seed, predictions as for `detection.measure`}, the same seeds for all.
        truths: true boxes [m,4] per image, of two images at least.
        resamples, seed: as for `detection.intervals`.

    Raises:
        FusionError: nothing given, different numbers of seeds, a single image, or as for `detection.measure`.
    """
    if len(truths) < 2:
        raise FusionError(f"an interval over images needs two or more, found {len(truths)}: raise ablation_test")
    counts = {name: len(runs) for name, runs in found.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        listed = ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
        raise FusionError(f"experiments are compared seed by seed, so all need the same number of them, found {listed}")
    seeds = next(iter(counts.values()))
    images, weights = draw_counts(len(truths), resamples, seed), draw_counts(seeds, resamples, seed + 1) / seeds
    values, samples = {}, {}
    for name, runs in found.items():
        each = [resample_measures(match(predictions, truths, 0, {}), images) for predictions in runs]
        values[name] = {measure: np.array([value[measure] for value, _ in each]) for measure in DETECTION}
        samples[name] = {measure: (weights * np.stack([drawn[measure] for _, drawn in each], 1)).sum(1)
                         for measure in DETECTION}
    return Resampled(values, samples, len(truths), sum(map(len, truths)))


def compare(resampled: Resampled, reference: str = FULL.name) -> pd.DataFrame:
    """Every experiment, and how it differs from one of them.

    Returns:
        Rows indexed by (experiment, measure): "mean" over seeds with its 95 % bootstrap interval "low" to "high" over
        images and seeds, "lowest" and "highest" seed; "difference", experiment minus reference, with its interval
        "difference low" to "difference high", its p value and, corrected for all comparisons in the table, "p_holm".
        The reference's own difference is NaN.
    """
    rows = {}
    for name, values in resampled.values.items():
        for measure, value in values.items():
            drawn, row = resampled.samples[name][measure], {"mean": value.mean()}
            row |= {**interval(drawn, value.mean()), "lowest": value.min(), "highest": value.max()}
            if name != reference:
                row["difference"], apart = _apart(resampled, name, reference, measure)
                row |= {f"difference {end}": number for end, number in interval(apart).items()}
                row["p"] = p_value(apart)
            rows[name, measure] = row
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(index=["experiment", "measure"])
    return table.assign(p_holm=holm(table["p"]))


def ablation_table(resampled: Resampled, notes: Mapping[str, str], dataset: str, profile: str) -> pd.DataFrame:
    """The paper's table 7 as a table of `fusionlib.visualization`, with `FULL` as its reference."""
    compared, names = compare(resampled), {"p_holm": "p"}
    fields = compared[["mean", "low", "high", "difference", "p_holm"]].rename(columns=names)
    cells = {name: fields.loc[name].to_dict("index") for name in resampled.values}
    caption = (f"Pedestrian detection of the ablations on {dataset}, profile {profile}, one frozen detector for all, "
               f"n = {resampled.images} images with {resampled.boxes} people. {_seeds(resampled.seeds).capitalize()}, "
               f"with its 95 % bootstrap interval over images{' and seeds' * (resampled.seeds > 1)}.")  # fmt: skip
    return tables.build(cells, dict.fromkeys(cells, resampled.images), caption, FULL.name, notes, "differs in")


def gains(resampled: Resampled, measure: str = "mAP@.5:.95") -> pd.DataFrame:
    """Divide the gain of stage 2 over stage 1 between training under the detector and text.

    Args:
        resampled: of `STAGE_1`, `FULL` and the experiments in `WITH`.
        measure: one of detection; differences are counted so that positive ones are better.

    Returns:
        A row for each of them but stage 1. "mean"; "gain" over stage 1 with its interval "gain low" to "gain high":
        what training under the detector gives with that text; "own adds", what the own answer gives beyond, with
        "own adds low" and "own adds high" (NaN for `FULL`). `attrs` has measure, seeds, images, boxes and stage 1.
    """
    sign = 1 if DETECTION[measure] else -1

    def better(name, other):
        difference, apart = _apart(resampled, name, other, measure)
        ends = interval(sign * apart)
        return sign * difference, ends["low"], ends["high"]

    rows = {}
    for name in (*WITH, FULL.name):
        added = better(FULL.name, name) if name != FULL.name else (np.nan,) * 3
        rows[name] = (resampled.values[name][measure].mean(), *better(name, STAGE_1), *added)
    columns = ["mean", *(f"{what}{end}" for what in ("gain", "own adds") for end in ("", " low", " high"))]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis(index="trained")
    table.attrs = {"measure": measure, "seeds": resampled.seeds, "images": resampled.images, "boxes": resampled.boxes,
                   "stage 1": float(resampled.values[STAGE_1][measure].mean())}
    return table


def _apart(resampled, name, other, measure):
    """By how much an experiment differs from another: of the means, and in each draw."""
    means, drawn = ([kind[each][measure] for each in (name, other)] for kind in (resampled.values, resampled.samples))
    return means[0].mean() - means[1].mean(), drawn[0] - drawn[1]


def explain(table: pd.DataFrame) -> str:
    """What `gains` found, in words: how much of stage 2's gain comes from the text, as far as that can be told."""
    facts, full = table.attrs, table.loc[FULL.name]
    seeds, images = facts["seeds"], facts["images"]
    gained = _sign(full, "gain")
    lines = [
        f"{facts['measure']} on {images} images with {facts['boxes']} people, {_seeds(seeds)}: {facts['stage 1']:.3f} "
        f"for stage 1, {full['mean']:.3f} for stage 2 with each image's own answer.",
        f"The gain is {_change(full, 'gain')}: "
        + ("0 lies inside, so whether there is one cannot be told.", "more than chance.",
           "a loss, by more than chance.")[gained],
    ]  # fmt: skip
    for name, phrase in WITH.items():
        row = table.loc[name]
        share = f", {row['gain'] / full['gain']:.0%} of that" if gained == 1 else ""
        verdict = ("0 lies inside, so no difference can be told.", "more than chance.",
                   "the own answer is worse, by more than chance.")[_sign(row, "own adds")]  # fmt: skip
        lines.append(f"Trained {phrase} it is {_change(row, 'gain')}{share}. "
                     f"To this the own answer adds {_change(row, 'own adds')}: {verdict}")
    lines.append(_conclusion(table, gained, seeds))
    if images < IMAGES:
        lines.append(f"The intervals come from {images} images and are rather too narrow than too wide.")
    return "\n".join(lines)


def _conclusion(table, gained, seeds):
    if seeds < SEEDS:
        return (f"Nothing can be concluded about the text from {'one seed' if seeds == 1 else f'{seeds} seeds'}: "
                "another one may turn the order round.")  # fmt: skip
    if gained != 1:
        return "Where no gain can be told there is nothing to divide between training and text."
    signs = {phrase: _sign(table.loc[name], "own adds") for name, phrase in WITH.items()}
    if set(signs.values()) == {1}:
        return "The text matters here: the own answer adds more than chance to each of the three."
    if 1 not in signs.values():
        return ("That the text matters is not shown here: training under the detector gives what can be told of the "
                "gain, and the own answer adds nothing that can be told to any of the three.")  # fmt: skip
    more, rest = ([phrase for phrase, sign in signs.items() if (sign == 1) == wanted] for wanted in (True, False))
    return (f"The own answer does more than training {' and '.join(more)}, but nothing that can be told beyond "
            f"training {' and '.join(rest)}.")  # fmt: skip


def _sign(row, what):
    """1 or -1 where the interval lies on that side of 0; 0 where it holds 0."""
    return int(row[f"{what} low"] > 0) - int(row[f"{what} high"] < 0)


def _change(row, what):
    keys = what, f"{what} low", f"{what} high"
    value, low, high = (f"{round(row[key], 3) + 0.0:+.3f}" for key in keys)  # + 0.0, or there were -0.000
    return f"{value} ({low} to {high})"


def _seeds(count):
    return "one seed" if count == 1 else f"mean over {count} seeds"
