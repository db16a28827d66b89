"""Fit the classifiers of `fusionlib.feedback.damage_analysis` to damaged pairs, and count what they find and miss.

The shipped ones were fitted by `refit(DATA)` to the training parts; see weights/README.md for their mistakes.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import astuple, fields
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from kornia.color import rgb_to_grayscale
from scipy.optimize import minimize
from tqdm.auto import tqdm

from fusionlib.data.degradation import DEGRADATIONS, KINDS, degrade, draw
from fusionlib.data.layouts import read
from fusionlib.data.pairs import Pair, load
from fusionlib.data.splits import choose, evenly_spaced
from fusionlib.data.synthetic import scene
from fusionlib.feedback.damage_analysis import CLASSIFIERS, Measurements, detect_in, measure, standardise
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import write_json

NONE = "none"
PAIRS = {"LLVIP": 8, "MSRS": 0, "RoadScene": 0}  # of each data set in `refit`, 0: all; LLVIP's are of one camera
SCENES = 12  # embedded ones in `refit`
DOUBLE = 6  # samples of a pair with several damages, as `draw` gives them
GRAY = 0.2  # fraction of the pairs whose visible image is made gray, as some cameras' are
CLEAN_WEIGHT = 6.0  # of an undamaged image: there is one to dozens of damaged ones, and a false alarm is worse
FALSE_CLEAN, FALSE_OTHER = 0.02, 0.01  # false alarms of a classifier in training: in undamaged images, and in all
RIDGE_PRESENCE, RIDGE_LEVEL = 1e-4, 1.0


def detections(pairs: Sequence[Pair], levels: Sequence[float] = (0.33, 0.67, 1), seeds: Sequence[int] = (0,)
               ) -> pd.DataFrame:  # fmt: skip
    """What is found in every pair without damage, and with each single damage at each level and seed.

    Returns a row for each image: "dataset", "name", "modality", "damage" ("none" without), "level" (0 without), "seed",
    "estimate" (the level that is estimated for this damage, nan where it is missed), and for each damage's name whether
    it is found. Raises FusionError: no pairs, a level outside 0..1, and what `load` and `detect_in` raise.
    """
    if not pairs:
        raise FusionError("damage detection: expected pairs to damage, found none; read some by fusionlib.data.read")
    rows = []
    for pair in tqdm(pairs, desc="damages", leave=False):
        images = load(pair)
        cases = [(NONE, modality, 0.0, 0) for modality in ("ir", "visible")]
        cases += [(*one, level, seed) for one in KINDS for level in levels for seed in seeds]
        for damage, modality, level, seed in cases:
            damages = [] if damage == NONE else [(damage, modality, level)]
            found = dict(detect_in(degrade(*images, damages, seed)[modality == "visible"], modality))
            rows.append((pair.dataset, pair.name, modality, damage, level, seed, found.get(damage, np.nan),
                         *(name in found for name in DEGRADATIONS)))
    columns = ["dataset", "name", "modality", "damage", "level", "seed", "estimate", *DEGRADATIONS]
    return pd.DataFrame(rows, columns=columns)


def confusion(table: pd.DataFrame) -> pd.DataFrame:
    """The fraction of images with each damage and level in which each damage is found, a row of `detections` each.

    The rows "none" are false alarms; "any": at least one damage is found; "estimate": the median level of those found;
    attrs["pairs"] is the number of pairs.
    """
    names = list(DEGRADATIONS)
    groups = table.assign(any=table[names].any(axis=1)).groupby(["modality", "damage", "level"], sort=False)
    shares = groups[[*names, "any"]].mean().join(groups["estimate"].median())
    shares.attrs["pairs"] = len(table[["dataset", "name"]].drop_duplicates())
    return shares


def refit(root: str | Path, path: str | Path = CLASSIFIERS, seed: int = 0) -> None:
    """Fit to the training parts of LLVIP, MSRS and RoadScene below `root` and to embedded scenes, and write `path`.

    The shipped file: python -c "from fusionlib.experiments.damage_detection import refit; refit('DATA')". Raises
    FusionError where `root` lacks the data sets.
    """
    train = choose(read(root).pairs)["train"]
    pairs = [pair for name, count in PAIRS.items()
             for pair in evenly_spaced([pair for pair in train if pair.dataset == name], count)]  # fmt: skip
    if not pairs:
        raise FusionError(f"{root}: expected training pairs of {', '.join(PAIRS)}, found none; give the folder that "
                          "holds these data sets")
    with tempfile.TemporaryDirectory() as folder:
        pairs += read(scene.write(folder, SCENES, 0)).pairs
        write_json(path, fit(pairs, seed))


def fit(pairs: Sequence[Pair], seed: int = 0) -> dict:
    """Fit two linear models for each damage and modality, on measurements in standard deviations.

    Presence is a logistic regression, shifted so that 0 is the threshold: the least that gives a probability of a half
    and at most 2 % false alarms in the undamaged and 1 % in all training images without the damage. The level is a
    ridge regression on the images that have the damage. Returns the content of weights/damage_analysis.json.
    """
    samples, classifiers = _samples(pairs, seed), {}
    for modality, rows in samples.items():
        measured = np.array([astuple(measurements) for measurements, _ in rows])
        mean, deviation = measured.mean(0).round(4), (measured.std(0) + 1e-4).round(4)
        values = np.stack([standardise(measurements, mean, deviation) for measurements, _ in rows])
        clean = np.array([not damages for _, damages in rows])
        classifiers[modality] = {"mean": mean.tolist(), "deviation": deviation.tolist(), "damages": {}}
        for name in (name for name, of in KINDS if of == modality):
            level = np.array([damages.get(name, 0.0) for _, damages in rows])
            presence = _logistic(values, level > 0, np.where(clean, CLEAN_WEIGHT, 1.0))
            scores = values @ presence
            presence[-1] -= max(np.quantile(scores[clean], 1 - FALSE_CLEAN),
                                np.quantile(scores[level == 0], 1 - FALSE_OTHER), 0)  # fmt: skip
            known = values[level > 0]
            ridge = RIDGE_LEVEL * np.eye(known.shape[1])
            estimate = np.linalg.solve(known.T @ known + ridge, known.T @ level[level > 0])
            classifiers[modality]["damages"][name] = {"presence": presence.round(3).tolist(),
                                                      "level": estimate.round(4).tolist()}  # fmt: skip
    return {"made by": "fusionlib.experiments.damage_detection.refit", "seed": seed, "pairs": len(pairs),
            "measurements": [field.name for field in fields(Measurements)], "classifiers": classifiers}


def _samples(pairs, seed):
    """{modality: [(measurements, {damage: level})]}: undamaged, one damage at a low, middle and high level, several."""
    samples = {"ir": [], "visible": []}
    for index, pair in enumerate(tqdm(pairs, desc="measure", leave=False)):
        random, (ir, visible) = np.random.default_rng([seed, index]), load(pair)
        if random.random() < GRAY:
            visible = rgb_to_grayscale(visible).expand(3, -1, -1).clamp(0, 1).contiguous()
        single = [[(*one, low + random.uniform(0, 0.25))] for one in KINDS for low in (0.25, 0.5, 0.75)]
        several = [draw(int(random.integers(2**31)), 5) for _ in range(DOUBLE)]
        double = [[damage for damage in drawn if damage[1] == of][:2] for drawn in several for of in samples]
        for damages in chain([[]], single, filter(None, double)):
            images = degrade(ir, visible, damages, int(random.integers(2**31)))
            for modality, image in zip(samples, images):
                if not damages or modality == damages[0][1]:
                    samples[modality].append((measure(image, modality), {name: level for name, _, level in damages}))
    return samples


def _logistic(values, present, weights):
    """Weights [n] of a logistic regression with a small penalty; the last is the constant and goes without."""
    free = np.append(np.full(values.shape[1] - 1, RIDGE_PRESENCE), 0.0)

    def loss(coefficients):
        scores = values @ coefficients
        error = weights * (1 / (1 + np.exp(-scores)) - present)
        value = (weights * (np.logaddexp(0, scores) - present * scores)).sum() / weights.sum()
        return value + (free * coefficients**2).sum() / 2, values.T @ error / weights.sum() + free * coefficients

    return minimize(loss, np.zeros(values.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 1000}).x
