"""Attribution of the gain in detection to the text, by the bootstrap over images, or scenes, and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from fusionlib.detection import bootstrap
from fusionlib.detection.bootstrap import Estimate, interval, resample_measures, resampled_difference
from fusionlib.detection.precision_recall import HIGHER_IS_BETTER, match
from fusionlib.experiments.ablation import FULL, STAGE_1
from fusionlib.metrics.statistics import compare_to_reference, draw_counts, summarise_comparison, verdict
from fusionlib.utils.errors import FusionError
from fusionlib.visualization import tables

SEEDS, IMAGES = 3, 20  # fewer seeds allow no conclusion; with fewer images or scenes intervals tend to be too narrow
#: The text of the controls, by name of the experiment.
WITH = {"no text": "without any text", "no MLLM": "with one fixed sentence for every image",
        "shuffled text": "with another image's answer"}
OWN = "own-text gain"


@dataclass(frozen=True)
class Resampled:
    """Detection measures of experiments on the same images, for the same numbers of seeds, images and boxes."""

    values: dict[str, dict[str, np.ndarray]]  # {experiment: {measure: [seeds]}}
    estimates: dict[str, dict[str, Estimate]]  # {experiment: {measure: (mean over seeds, [resamples])}}
    seeds: int
    images: int
    boxes: int
    scenes: Sequence[str] | None = None  # of each image


def resample(found: Mapping[str, Sequence[Sequence[Tensor]]], truths: Sequence[Tensor], resamples: int = 2000,
             seed: int = 0, ignore: Sequence[Tensor] | None = None, scenes: Sequence[str] | None = None) -> Resampled:
    """Draw images, or scenes, and seeds with replacement, the same for all experiments; average over the drawn seeds.

    Args:
        found: {experiment: per seed, predictions as for `detection.measure`}, the same seeds for all.
        truths: true boxes [m,4] per image, of two images or more.
        resamples, seed, ignore, scenes: as for `detection.intervals`.

    Raises:
        FusionError: no experiment, different numbers of seeds, a single image, or as for `detection.measure`.
    """
    if len(truths) < 2:
        raise FusionError(f"an interval over images needs two or more, found {len(truths)}: raise ablation_test")
    counts = {name: len(runs) for name, runs in found.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        listed = ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
        raise FusionError(f"experiments are compared seed by seed, so all need the same number of them, found {listed}")
    seeds = next(iter(counts.values()))
    images = draw_counts(len(truths), resamples, seed, scenes)
    weights = draw_counts(seeds, resamples, seed + 1) / seeds
    values, estimates = {}, {}
    for name, runs in found.items():
        measured = [resample_measures(match(predictions, truths, 0, {}, ignore), images) for predictions in runs]
        values[name] = {measure: np.array([one[measure][0] for one in measured]) for measure in HIGHER_IS_BETTER}
        estimates[name] = {
            measure: (value.mean(), (weights * np.stack([one[measure][1] for one in measured], 1)).sum(1))
            for measure, value in values[name].items()
        }
    return Resampled(values, estimates, seeds, len(truths), sum(map(len, truths)), scenes)


def compare(resampled: Resampled, reference: str = FULL.name) -> pd.DataFrame:
    """Compare every experiment with one of them.

    Returns:
        Rows indexed by (experiment, measure): "mean" over seeds with its 95 % bootstrap interval "low" to "high" over
        images and seeds; "lowest" and "highest" seed; "difference", experiment minus reference, its interval
        "difference low" to "difference high", "p", "p_holm" and "verdict" (`metrics.statistics.compare_to_reference`),
        NaN for the reference itself.

    Raises:
        FusionError: an unknown reference, or nothing to compare it with.
    """
    rows = {}
    for name, values in resampled.values.items():
        for measure, value in values.items():
            mean, drawn = resampled.estimates[name][measure]
            rows[name, measure] = {"mean": mean, **interval(drawn, mean), "lowest": value.min(), "highest": value.max()}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(index=["experiment", "measure"])
    compared = compare_to_reference(resampled.estimates, reference, HIGHER_IS_BETTER, resampled_difference)
    compared = compared.rename(columns={"low": "difference low", "high": "difference high"})
    return table.join(compared.rename_axis(index=table.index.names))


def ablation_table(resampled: Resampled, notes: Mapping[str, str], dataset: str, profile: str,
                   held_out: Mapping[str, Resampled] | None = None) -> pd.DataFrame:
    """The paper's table 7 as a table of `fusionlib.visualization`, with `FULL` as its reference.

    `held_out` is {name of a further detector: what it found}, for columns that are labelled with this name.
    """
    def cells_of(each):
        fields = compare(each).drop(columns="p").rename(columns={"p_holm": "p"})[list(tables.FIELDS)]
        return {name: fields.loc[name].to_dict("index") for name in each.values}

    cells = tables.by_detector({name: cells_of(each) for name, each in {"": resampled, **(held_out or {})}.items()})
    caption = (f"Pedestrian detection of the ablations on {dataset}, profile {profile}, one frozen detector for all, "
               f"n = {bootstrap.number_of(resampled.images, resampled.scenes)} with {resampled.boxes} people. "
               f"{_seeds(resampled.seeds).capitalize()}, with its 95 % bootstrap interval over "
               f"{'scenes' if 1 < _units(resampled) < resampled.images else 'images'}"
               f"{' and seeds' * (resampled.seeds > 1)}.{tables.held_out_note(held_out)}")
    return tables.build(cells, dict.fromkeys(cells, resampled.images), caption, FULL.name, notes, "differs in")


def attribute_gain(resampled: Resampled, measure: str = "mAP@.5:.95") -> pd.DataFrame:
    """Divide the gain of stage 2 over stage 1 between training under the detector and the text.

    Args:
        resampled: of `STAGE_1`, `FULL` and the experiments in `WITH`.
        measure: of detection; the signs are such that a positive gain is an improvement.

    Returns:
        A row for each experiment but stage 1: "mean"; "gain" over stage 1, from training under the detector with that
        text; "own-text gain", from each image's own answer in its place (NaN for `FULL`); each gain has its interval
        "gain low" to "gain high". `attrs` has measure, seeds, images, boxes and stage 1, what is
        resampled in words ("over") and how many of them there are ("units").
    """
    def gain(*names):
        estimates = [resampled.estimates[name][measure] for name in names]
        difference = resampled_difference(*(estimates if HIGHER_IS_BETTER[measure] else estimates[::-1]))
        return [difference[key] for key in ("difference", "low", "high")]

    rows = {}
    for name in (*WITH, FULL.name):
        own_text = gain(FULL.name, name) if name != FULL.name else [np.nan] * 3
        rows[name] = (resampled.values[name][measure].mean(), *gain(name, STAGE_1), *own_text)
    columns = ["mean", *(f"{what}{end}" for what in ("gain", OWN) for end in ("", " low", " high"))]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis(index="trained")
    table.attrs = {"measure": measure, "seeds": resampled.seeds, "images": resampled.images, "boxes": resampled.boxes,
                   "over": bootstrap.number_of(resampled.images, resampled.scenes), "units": _units(resampled),
                   "stage 1": float(resampled.values[STAGE_1][measure].mean())}
    return table


def explain(table: pd.DataFrame) -> str:
    """Summarise the table of `attribute_gain` in words: how much of stage 2's gain comes from the text."""
    facts, gain, own_text = table.attrs, _verdicts(table, "gain"), _verdicts(table, OWN)
    total, measure = gain.loc[FULL.name], facts["measure"]
    rows = {("Stage 2 with each image's own answer against stage 1", measure): total}
    for name, phrase in WITH.items():
        row = gain.loc[name]
        share = f" ({row['difference'] / total['difference']:.0%} of that gain)" if total["verdict"] == "better" else ""
        rows[f"Stage 2 trained {phrase} against stage 1{share}", measure] = row
        rows[f"Own answer against training {phrase}", measure] = own_text.loc[name]
    lines = [
        f"{measure} on {facts['over']} with {facts['boxes']} people, {_seeds(facts['seeds'])}: "
        f"{facts['stage 1']:.3f} for stage 1, {table.loc[FULL.name, 'mean']:.3f} for stage 2 with each image's own "
        "answer. Positive differences are improvements.",
        *summarise_comparison(pd.DataFrame.from_dict(rows, orient="index")),
        _conclusion(total["verdict"], own_text["verdict"], facts["seeds"]),
    ]
    if facts["units"] < IMAGES:
        lines.append(f"With only {facts['over']} the intervals tend to be too narrow.")
    return "\n".join(lines)


def _verdicts(table, what):
    """A gain with its interval and verdict, in the columns of `compare_to_reference`; few seeds or images give none."""
    compared = table[[what, f"{what} low", f"{what} high"]].set_axis(["difference", "low", "high"], axis=1)
    enough = table.attrs["seeds"] >= SEEDS and table.attrs["units"] >= IMAGES
    return compared.assign(verdict=[verdict(row, True) if enough else "inconclusive" for _, row in compared.iterrows()])


def _conclusion(gain, own_text, seeds):
    if seeds < SEEDS:
        return (f"No conclusion about the text can be drawn from {'one seed' if seeds == 1 else f'{seeds} seeds'}: "
                "another seed may reverse the order.")
    if gain != "better":
        return "Without a significant gain over stage 1 there is nothing to attribute to the text."
    beaten, rest = ([phrase for name, phrase in WITH.items() if (own_text[name] == "better") == better]
                    for better in (True, False))
    if not rest:
        return "The text matters here: each image's own answer improves significantly on all three controls."
    if not beaten:
        return ("No effect of the text is shown here: the own answer improves significantly on none of the three "
                "controls, so training under the detector suffices to explain the gain.")
    return (f"The own answer improves significantly on training {' and '.join(beaten)}, but not on training "
            f"{' and '.join(rest)}.")


def _units(resampled):
    """The number of scenes, or of images where no scenes are given."""
    return len(set(resampled.scenes or range(resampled.images)))


def _seeds(count):
    return "one seed" if count == 1 else f"mean over {count} seeds"
