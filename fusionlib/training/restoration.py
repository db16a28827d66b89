"""Damaged pairs with words about their damages, by which Text-DFH learns to mend them. Not in the paper.

Words can matter only where they say what the neighbourhood of a pixel does not. Undamaged pairs are much alike, and so
are the answers about them. So that it costs to ignore the words, some do not fit the damage: then the target is the
image that stage 1 makes of the damaged pair. Two controls are trained on the same pairs: one reads the numbers behind
the words, one nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from torch.nn.functional import pad
from tqdm.auto import tqdm

from fusionlib.data.augment import augment
from fusionlib.data.datasets import ignored, people, resize_longer_side
from fusionlib.data.degradation import degrade, draw
from fusionlib.data.pairs import Pair, load
from fusionlib.feedback.controls import UNRELATED_READ, as_numbers
from fusionlib.feedback.damage_analysis import detect
from fusionlib.feedback.damage_words import describe, paraphrase
from fusionlib.feedback.text_encoder import encode_one
from fusionlib.utils.errors import FusionError

LONGER_SIDES = 320, 384, 480, 640  # pixels that images are reduced to, at most: damages are of pixels and of scenes
UNDAMAGED = 0.1  # of the pairs
UNRELATED_TEXT, WRONG_TEXT = 0.08, 0.08  # of the samples of damaged pairs; the target is then the damaged image
ANALYST = 0.4  # of the samples: the words of `describe` about what was found, not of `paraphrase` about what is there
FALLING = "rain", "snow"  # they fall down, so their images are not turned
READS = "words", "numbers", "nothing"  # what a network is given about damages

Damages = Sequence[tuple[str, str, float]]  # name, "ir" or "visible", level in 0..1


@dataclass(frozen=True)
class DamagedPair:
    """A pair before and after, infrared and visible as bytes [4,H,W], with its damages and those that were found.

    `boxes` [N,5] are xyxy in pixels, and 0 for people or 1 for a region to ignore; None without labels.
    """

    name: str
    clean: Tensor
    damaged: Tensor
    damages: Damages
    found: Damages
    boxes: Tensor | None = None


def damage_pairs(pairs: Sequence[Pair], count: int, seed: int, crop: int) -> list[DamagedPair]:
    """`count` damaged copies of pairs, drawn from a seed; reduced to one of `LONGER_SIDES`, but not below `crop`."""
    made = []
    for number in tqdm(range(count), desc="damages", leave=False):
        random = Random(f"{seed} {number}")
        pair = random.choice(pairs)
        clean = load(pair)
        height, width = clean[0].shape[1:]
        longer = max(random.choice(LONGER_SIDES), -(-crop * max(height, width) // min(height, width)))
        clean = resize_longer_side(*clean, longer)
        damages = [] if random.random() < UNDAMAGED else draw(random.randrange(2**31))
        stored = _bytes(degrade(*clean, damages, random.randrange(2**31)))
        damaged = stored / 255
        boxes = None
        if pair.boxes is not None:
            boxes = torch.cat([pad(each * (clean[0].shape[1] / height), (0, 1), value=kind)
                               for kind, each in enumerate((people(pair), ignored(pair)))])  # fmt: skip
        made.append(DamagedPair(pair.label, _bytes(clean), stored, damages, detect(damaged[:1], damaged[1:]), boxes))
    return made


class RestorationSamples:
    """Crops of damaged pairs with words: {"ir", "visible", "clean_ir", "clean_visible", "text", "boxes", "ignore"}.

    clean_ir and clean_visible are what stage 1 shall make the target of: the undamaged crop, or the damaged one where
    the words do not fit. "boxes" are the people, and None where the pair has no labels or the words do not fit, and
    "ignore" the regions to ignore.

    Args:
        pairs: to cut out of.
        crop: side of the square in pixels.
        reads: "words"; "numbers" for the numbers of `controls.as_numbers` in place of the words; "nothing" for an empty
            text whose target is always the undamaged image.
    """

    def __init__(self, pairs: Sequence[DamagedPair], crop: int, reads: str = "words"):
        if reads not in READS:
            raise FusionError(f"restoration_reads must be one of {', '.join(READS)}, but is {reads!r}")
        self.pairs, self.crop, self.reads = pairs, crop, reads

    def sample(self, seed: int) -> dict:
        """The sample of a seed."""
        random = Random(seed)
        pair = random.choice(self.pairs)
        said, fits = self.words(pair, random)
        # A frozen detector knows no people who lie on their side.
        upright = any(name in FALLING for name, *_ in pair.damages) or (pair.boxes is not None and len(pair.boxes))
        both = pair.damaged, pair.clean if fits else pair.damaged
        *both, boxes = augment(*both, pair.boxes if fits else None, seed=random.randrange(2**31), crop=self.crop,
                               rotate=0 if upright else "quarter")  # fmt: skip
        ir, visible, clean_ir, clean_visible = (torch.cat(both) / 255).split((1, 3, 1, 3))
        ignore = torch.zeros(0, 4)
        if boxes is not None:
            boxes, ignore = (boxes[boxes[:, 4] == kind, :4] for kind in (0, 1))
        return {"ir": ir, "visible": visible, "clean_ir": clean_ir, "clean_visible": clean_visible, "boxes": boxes,
                "ignore": ignore, "text": encode_one(said) if isinstance(said, str) else as_numbers(said),
                "name": pair.name}  # fmt: skip

    def words(self, pair: DamagedPair, random: Random) -> tuple[str | Damages, bool]:
        """Words to a pair, or damages to be read as numbers, and whether they fit its damages."""
        if self.reads == "nothing":
            return "", True
        words, kind = self.reads == "words", random.random()
        if kind < UNRELATED_TEXT:
            return random.choice(("", *UNRELATED_READ)) if words else [], False
        other = random.choice(self.pairs)
        if kind < UNRELATED_TEXT + WRONG_TEXT and not {d[:2] for d in other.damages} & {d[:2] for d in pair.damages}:
            return paraphrase(other.damages, random) if words else other.damages, False
        if kind > 1 - ANALYST:
            return describe(pair.found) if words else pair.found, bool(pair.found)
        return paraphrase(pair.damages, random) if words else pair.damages, True


def _bytes(images):
    return torch.cat(images).mul(255).round().byte()
