"""Damaged pairs with words about their damages, by which Text-DFH learns to mend them. Not in the paper.

Words can matter only where they say what the neighbourhood of a pixel does not. Undamaged pairs are much alike, and so
are the answers about them. So that it costs to ignore the words, some do not fit the damage: then the target is the
image that stage 1 makes of the damaged pair.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from tqdm.auto import tqdm

from fusionlib.data.datasets import resize_longer_side
from fusionlib.data.degradation import degrade, draw
from fusionlib.data.pairs import Pair, load
from fusionlib.feedback.controls import UNRELATED_READ
from fusionlib.feedback.damage_analysis import detect
from fusionlib.feedback.damage_words import describe, paraphrase
from fusionlib.feedback.text_encoder import encode_one

LONGER_SIDES = 320, 384, 480, 640  # pixels that images are reduced to, at most: damages are of pixels and of scenes
UNDAMAGED = 0.1  # of the pairs
UNRELATED_TEXT, WRONG_TEXT = 0.12, 0.12  # of the samples of damaged pairs; the target is then the damaged image
ANALYST = 0.4  # of the samples: the words of `describe` about what was found, not of `paraphrase` about what is there
FALLING = "rain", "snow"  # they fall down, so their images are not turned


@dataclass(frozen=True)
class DamagedPair:
    """A pair before and after, infrared and visible as bytes [4,H,W], with its damages and those that were found."""

    name: str
    clean: Tensor
    damaged: Tensor
    damages: list[tuple[str, str, float]]
    found: list[tuple[str, str, float]]


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
        made.append(DamagedPair(pair.label, _bytes(clean), stored, damages, detect(damaged[:1], damaged[1:])))
    return made


class RestorationSamples:
    """Crops of damaged pairs with words: {"ir", "visible", "clean_ir", "clean_visible", "text"}, from a seed.

    clean_ir and clean_visible are what stage 1 shall make the target of: the undamaged crop, or the damaged one where
    the words do not fit.

    Args:
        pairs: to cut out of.
        crop: side of the square in pixels.
        read: False for a network that reads no text: there are no words, and the target is always the undamaged image.
    """

    def __init__(self, pairs: Sequence[DamagedPair], crop: int, read: bool = True):
        self.pairs, self.crop, self.read = pairs, crop, read

    def sample(self, seed: int) -> dict:
        """The sample of a seed."""
        random = Random(seed)
        pair = random.choice(self.pairs)
        text, fits = self.words(pair, random)
        top, left = (random.randint(0, max(side - self.crop, 0)) for side in pair.clean.shape[1:])
        both = torch.cat([pair.damaged, pair.clean if fits else pair.damaged])
        both = both[:, top : top + self.crop, left : left + self.crop] / 255
        both = both.flip(2) if random.random() < 0.5 else both
        if not any(name in FALLING for name, *_ in pair.damages):
            both = torch.rot90(both, random.randrange(4), (1, 2))
        ir, visible, clean_ir, clean_visible = both.contiguous().split((1, 3, 1, 3))
        return {"ir": ir, "visible": visible, "clean_ir": clean_ir, "clean_visible": clean_visible,
                "text": encode_one(text), "name": pair.name}  # fmt: skip

    def words(self, pair: DamagedPair, random: Random) -> tuple[str, bool]:
        """Words to a pair, and whether they fit its damages."""
        if not self.read:
            return "", True
        kind = random.random()
        if kind < UNRELATED_TEXT:
            return random.choice(("", *UNRELATED_READ)), False
        other = random.choice(self.pairs)
        if kind < UNRELATED_TEXT + WRONG_TEXT and not {d[:2] for d in other.damages} & {d[:2] for d in pair.damages}:
            return paraphrase(other.damages, random), False
        if kind > 1 - ANALYST:
            return describe(pair.found), bool(pair.found)
        return paraphrase(pair.damages, random), True


def _bytes(images):
    return torch.cat(images).mul(255).round().byte()
