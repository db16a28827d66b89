"""Are people found in damaged pairs that are refined, and is it the words that help?

Both images of a labelled pair are damaged, so that people fade in both. They are refined by the stand-in's answer about
the damages that it finds, by its answer about another pair, without text, and by networks that read no words. The
comparison is with stage 1 of the same damaged pair. As everywhere, a pair is fused at its own size and letterboxed
afterwards.
"""

from collections.abc import Mapping, Sequence
from random import Random

import pandas as pd
from torch import Tensor, nn
from tqdm.auto import tqdm

from fusionlib.data.datasets import letterbox
from fusionlib.data.degradation import KINDS, degrade
from fusionlib.data.pairs import Pair, load
from fusionlib.detection.bootstrap import paired
from fusionlib.detection.detectors import detect
from fusionlib.experiments.restoration import DAMAGED, NO_TEXT, OTHER, OWN, Control, Refine, as_stored
from fusionlib.feedback.damage_analysis import detect as detect_damages
from fusionlib.feedback.damage_words import describe
from fusionlib.metrics.statistics import verdict
from fusionlib.utils.errors import FusionError

CLEAN = "stage 1, undamaged"
LEVEL = 0.8  # of the damage in each image
EQUIVALENT = 0.01  # AP: what is less counts as no difference
MEASURES = "mAP@.5", "mAP@.5:.95"

Found = dict[str, list[Tensor]]  # detections [n,6] per pair, for each way to refine


def detections(refine: Refine, pairs: Sequence[Pair], size: tuple[int, int], detectors: Mapping[str, nn.Module],
               controls: Mapping[str, Control] | None = None, seed: int = 0) -> dict[str, Found]:  # fmt: skip
    """Detect people in damaged pairs that are refined in several ways.

    Args:
        refine: the network that reads.
        pairs: two or more labelled test pairs; each gets one damage in either image, drawn from the seed.
        size: (H, W) that images are letterboxed to.
        detectors: by name.
        controls: other networks by name, which are given the damages that were found.

    Returns:
        {detector: {way to refine: [n,6] per pair}}; the ways are `CLEAN`, those of `experiments.restoration`, and the
        controls. Boxes are in pixels at `size`.

    Raises:
        FusionError: fewer than two pairs, or what `degrade` raises.
    """
    if len(pairs) < 2:
        raise FusionError(f"people under damage: expected two or more labelled pairs, found {len(pairs)}: each is "
                          "refined by the answer about another one too")
    damaged = [damage(pair, seed, number) for number, pair in enumerate(pairs)]
    found = [detect_damages(*images) for images in tqdm(damaged, desc="damages", leave=False)]
    results = {name: {} for name in detectors}
    for number, (pair, images) in enumerate(zip(tqdm(pairs, desc="people", leave=False), damaged)):
        other = (number + 1 + Random(f"{seed} {number}").randrange(len(pairs) - 1)) % len(pairs)
        ways = {CLEAN: refine(*load(pair), None), DAMAGED: refine(*images, None),
                OWN: refine(*images, describe(found[number]) or None),
                OTHER: refine(*images, describe(found[other]) or None), NO_TEXT: refine(*images, "")}  # fmt: skip
        ways |= {name: control(*images, found[number]) for name, control in (controls or {}).items()}
        for way, image in ways.items():
            shown = letterbox(image, size)[0]
            for name, detector in detectors.items():
                results[name].setdefault(way, []).extend(detect(detector, [shown]))
    return results


def damage(pair: Pair, seed: int, number: int) -> tuple[Tensor, Tensor]:
    """A pair with one damage of `LEVEL` in each image, as files of 8 bits hold it; which ones, says the seed."""
    random = Random(f"{seed} {number} damage")
    kinds = [random.choice([kind for kind in KINDS if kind[1] == modality]) for modality in ("ir", "visible")]
    images = degrade(*load(pair), [(*kind, LEVEL) for kind in kinds], random.randrange(2**31))
    return tuple(map(as_stored, images))


def pool(found: Sequence[Found]) -> Found:
    """The results of several seeds as one, pair after pair, with the truths repeated as often."""
    return {way: [boxes for one in found for boxes in one[way]] for way in found[0]}


def compare(found: Found, truths: Sequence[Tensor], scenes: Sequence[str], reference: str = OWN,
            ignore: Sequence[Tensor] | None = None) -> pd.DataFrame:  # fmt: skip
    """The reference against every other way to refine, with intervals by scene.

    Args:
        found: of one detector, see `detections`; of several seeds, see `pool`.
        truths: people [m,4] per pair, at the size of the detections.
        scenes: of each pair; whole scenes are resampled.
        reference: a way to refine.
        ignore: regions [k,4] per pair in which detections count neither way.

    Returns:
        Rows (way, measure): "difference" of average precision, reference minus way, its 95 % interval "low" to "high",
        and "verdict": better or worse where the interval leaves out 0, equivalent where it lies within `EQUIVALENT`,
        and otherwise inconclusive.
    """
    table = paired(found, reference, truths, heights={}, ignore=ignore, scenes=scenes)
    table = table[table.index.get_level_values(1).isin(MEASURES)]
    differences = pd.DataFrame({"difference": -table["difference"], "low": -table["high"], "high": -table["low"]})
    verdicts = [verdict(row, higher_is_better=True) for _, row in differences.iterrows()]
    small = differences[["low", "high"]].abs().max(axis=1) <= EQUIVALENT
    return differences.assign(verdict=["equivalent" if within and each == "inconclusive" else each
                                       for each, within in zip(verdicts, small)])  # fmt: skip
