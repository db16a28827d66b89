"""Fit the classifiers of `fusionlib.feedback.damage_analysis` to damaged pairs, and count what they find and miss.

The shipped ones were fitted by `refit(DATA)` to the training parts; see weights/README.md for their mistakes.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import astuple, fields
from itertools import chain, compress
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from kornia.color import rgb_to_grayscale
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm.auto import tqdm

from fusionlib.data.degradation import DEGRADATIONS, KINDS, degrade, draw
from fusionlib.data.layouts import read
from fusionlib.data.pairs import Pair, load
from fusionlib.data.splits import choose
from fusionlib.data.synthetic import scene
from fusionlib.feedback.damage_analysis import CLASSIFIERS, Measurements, detect_in, measure, score, standardise
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import write_json

NONE = "none"
DATASETS = "LLVIP", "MSRS", "RoadScene"  # in `refit`
SCENES = 12  # embedded ones in `refit`
CLEAN = 6  # undamaged samples of a pair: several, since there are dozens of damaged ones
DOUBLE = 6  # samples of a pair with several damages, as `draw` gives them
GRAY = 0.2  # fraction of the pairs whose visible image is made gray, as some cameras' are
CROPPED, SMALLEST_CROP = 0.5, 128  # fraction of the samples that are cut out, of half of each side or more, in pixels
HIDDEN, STEPS, BATCH, RATE, DECAY = 32, 3000, 512, 0.01, 0.1  # of a network and its training by AdamW
LEVEL_WEIGHT = 2.0  # of the squared error of levels in the loss
FOLDS = 4  # of pairs, for the scores of samples that a network has not seen
FALSE_CLEAN, FALSE_OTHER = 0.02, 0.02  # false alarms among those: undamaged of one data set, all without the damage
FOUND, STRONG = 0.5, 0.5  # fraction of the damages above this level that must be found; others are left out


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
    pairs = [pair for pair in train if pair.dataset in DATASETS]
    if not pairs:
        raise FusionError(f"{root}: expected training pairs of {', '.join(DATASETS)}, found none; give the folder that "
                          "holds these data sets")
    with tempfile.TemporaryDirectory() as folder:
        pairs += read(scene.write(folder, SCENES, 0)).pairs
        write_json(path, fit(pairs, seed))


def fit(pairs: Sequence[Pair], seed: int = 0) -> dict:
    """Fit a network of one hidden layer for each modality, on measurements in standard deviations.

    It is trained to tell the presence of each damage (cross entropy) and the level of those that are there (squared
    error). Presence is then shifted so that 0 is the threshold: the least that gives a probability of a half and at
    most 2 % false alarms among the undamaged samples of every data set, and 2 % among all samples without the damage,
    of pairs that the network was not trained on (4 folds). A damage of which fewer than half of the strong cases are
    found there, at that price, is left out: its alarms would say little. Returns the content of
    weights/damage_analysis.json.
    """
    samples, classifiers = _samples(pairs, seed), {}
    for modality, rows in samples.items():
        damages = [name for name, of in KINDS if of == modality]
        measured = np.array([astuple(measurements) for _, measurements, _ in rows])
        mean, deviation = measured.mean(0).round(4), (measured.std(0) + 1e-4).round(4)
        values = np.stack([standardise(measurements, mean, deviation) for _, measurements, _ in rows])
        levels = np.array([[there.get(name, 0.0) for name in damages] for *_, there in rows])
        folds = np.array([number for number, *_ in rows]) % min(FOLDS, len(pairs))
        unseen = np.empty_like(levels)
        for fold in set(folds.tolist()):
            train = folds != fold if len(pairs) > 1 else folds == fold
            unseen[folds == fold] = score(_train(values[train], levels[train], seed), values[folds == fold])[0]
        layers, datasets = _train(values, levels, seed), np.array([pairs[number].dataset for number, *_ in rows])
        clean = [(levels == 0).all(1) & (datasets == dataset) for dataset in set(datasets)]
        found = []
        for number, scores in enumerate(unseen.T):
            limits = [np.quantile(scores[each], 1 - FALSE_CLEAN) for each in clean]
            limits.append(np.quantile(scores[levels[:, number] == 0], 1 - FALSE_OTHER))
            limit = max(0, *limits)
            layers["presence"][number, -1] -= limit
            found.append((scores > limit)[levels[:, number] > STRONG].mean() >= FOUND)
        for name in ("presence", "level"):
            layers[name] = layers[name][found]
        classifiers[modality] = {"damages": list(compress(damages, found)),
                                 "mean": mean.tolist(), "deviation": deviation.tolist(),
                                 **{name: weights.round(4).tolist() for name, weights in layers.items()}}  # fmt: skip
    return {"made by": "fusionlib.experiments.damage_detection.refit", "seed": seed, "pairs": len(pairs),
            "measurements": [field.name for field in fields(Measurements)], "classifiers": classifiers}


def _samples(pairs, seed):
    """{modality: [(number of the pair, measurements, {damage: level})]}.

    Of each pair: undamaged, one damage at a low, middle and high level, several damages.
    """
    samples = {"ir": [], "visible": []}
    for index, pair in enumerate(tqdm(pairs, desc="measure", leave=False)):
        random, (ir, visible) = np.random.default_rng([seed, index]), load(pair)
        if random.random() < GRAY:
            visible = rgb_to_grayscale(visible).expand(3, -1, -1).clamp(0, 1).contiguous()
        single = [[(*one, low + random.uniform(0, 0.25))] for one in KINDS for low in (0.25, 0.5, 0.75)]
        several = [draw(int(random.integers(2**31)), 5) for _ in range(DOUBLE)]
        double = [[damage for damage in drawn if damage[1] == of][:2] for drawn in several for of in samples]
        for damages in chain([[]] * CLEAN, single, filter(None, double)):
            images = degrade(*_cropped(ir, visible, random), damages, int(random.integers(2**31)))
            for modality, image in zip(samples, images):
                if not damages or modality == damages[0][1]:
                    levels = {name: level for name, _, level in damages}
                    samples[modality].append((index, measure(image, modality), levels))
    return samples


def _cropped(ir, visible, random):
    """A pair, or a random part of it: more scenes, of other sizes, than there are pairs."""
    if random.random() >= CROPPED:
        return ir, visible
    scale = random.uniform(0.5, 1)
    height, width = (min(side, max(SMALLEST_CROP, round(scale * side))) for side in ir.shape[1:])
    top, left = (int(random.integers(whole - part + 1)) for whole, part in zip(ir.shape[1:], (height, width)))
    return tuple(image[:, top : top + height, left : left + width].contiguous() for image in (ir, visible))


def _train(values, levels, seed):
    """Weights of a network as `damage_analysis.score` takes them, trained on values [N,20] and levels [N,D]."""
    inputs, levels = (torch.from_numpy(each.astype(np.float32)) for each in (values, levels))
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = nn.Linear(inputs.shape[1] - 1, HIDDEN)
        last = nn.Linear(HIDDEN, 2 * levels.shape[1])
    optimizer = torch.optim.AdamW([*first.parameters(), *last.parameters()], RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS)
    for _ in range(STEPS):
        drawn = torch.randint(len(inputs), (BATCH,), generator=generator)
        presence, level = last(first(inputs[drawn, :-1]).tanh()).chunk(2, 1)
        there = (levels[drawn] > 0).float()
        wrong = binary_cross_entropy_with_logits(presence, there, reduction="none")  # "mean" differs in a bit
        loss = wrong.mean() + LEVEL_WEIGHT * (there * (level - levels[drawn]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    hidden, both = (torch.cat([layer.weight, layer.bias[:, None]], 1).detach().double().numpy()
                    for layer in (first, last))  # fmt: skip
    presence, level = np.split(both, 2)
    return {"hidden": hidden, "presence": presence, "level": level}
