"""Instructions that Text-DFH learns to follow: words, and what they ask of the image of stage 1. Not in the paper.

The detector in the loss of stage 2 rewards what makes people easier to find, and nothing else: under it, "darker" and
"brighter" come to mean the same. So that a user can change the image by words, Text-DFH then learns from crops that
have an instruction, with the image that it asks for as their target.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

from fusionlib.data.datasets import FusionDataset, collate
from fusionlib.data.pairs import Pair
from fusionlib.feedback.text_encoder import DIM, encode
from fusionlib.training.restoration import RestorationSamples
from fusionlib.utils.errors import FusionError

RESTORE = "restore"  # in place of the name of an instruction


class InstructionDataset(FusionDataset):
    """Crops with words: an instruction in one of its wordings, an answer, or words about damages.

    Args:
        pairs, and options of FusionDataset.
        instructions: {name: features [L,D] of ways to say it}.
        answers: features [L,D] of answers about images.
        answer_fraction: share of the crops that carry one of the answers; their instruction is "".
        restoration: damaged crops with words, `restoration.RestorationSamples`; their instruction is `RESTORE`.
        restoration_fraction: share of all crops that are taken from there.
    """

    def __init__(self, pairs: Sequence[Pair], *, instructions: Mapping[str, Sequence[Tensor]],
                 answers: Sequence[Tensor], answer_fraction: float, restoration: RestorationSamples | None = None,
                 restoration_fraction: float = 0.0, **options):  # fmt: skip
        super().__init__(pairs, **options)
        self.instructions, self.answers, self.answer_fraction = instructions, answers, answer_fraction
        self.restoration, self.restoration_fraction = restoration, restoration_fraction if restoration else 0.0

    @staticmethod
    def collate(samples: list[dict]) -> dict:
        """As `datasets.collate`, with "clean_ir" and "clean_visible", of which the target is made."""
        clean = {f"clean_{name}": torch.stack([s.get(f"clean_{name}", s[name]) for s in samples])
                 for name in ("ir", "visible")}  # fmt: skip
        return collate(samples) | clean

    def sample(self, index: int) -> dict[str, Tensor]:
        """A crop with words."""
        draw = np.random.default_rng([self.seed, self.epoch, index])
        if self.restoration_fraction and draw.random() < self.restoration_fraction:
            return self.restoration.sample(int(draw.integers(2**31))) | {"instruction": RESTORE}
        answered = draw.random() < self.answer_fraction
        name = "" if answered else list(self.instructions)[draw.integers(len(self.instructions))]
        ways = self.instructions[name] if name else self.answers
        text = ways[int(draw.integers(len(ways)))]
        return super().sample(index) | {"boxes": None, "text": text, "instruction": name}


@dataclass(frozen=True)
class Instruction:
    """Something to ask for.

    texts: ways to say it; the last one is kept out of the training, to see whether other words are understood. change:
    a refined luma and infrared, [1,H,W] in 0..1, to the luma that is asked for. measure: the property that changes
    (a field of `feedback.rules.ImageStatistics`), up (1) or down (-1) by `sign`.
    """

    texts: tuple[str, ...]
    change: Callable[[Tensor, Tensor], Tensor]
    measure: str
    sign: int


def _blurred(luma: Tensor, sigma: float) -> Tensor:
    return gaussian_blur2d(luma[None], (9, 9), (sigma, sigma), border_type="replicate")[0]


def _contrast(luma: Tensor, factor: float) -> Tensor:
    return luma.mean() + factor * (luma - luma.mean())


INSTRUCTIONS = {
    "brighter": Instruction(
        ("Make the image brighter.", "Increase the overall brightness.", "Brighter brightness.", "Lighten the picture.",
         "It is too dark; raise the exposure.", "Make it lighter.", "More light, please.", "Turn up the brightness.",
         "The scene is dark: increase the overall brightness strongly.", "A brighter image would help.",
         "Light up the shadows.", "Brighten the scene."),
        lambda luma, ir: luma.clamp_min(1e-3) ** 0.7, "brightness", 1),
    "darker": Instruction(
        ("Make the image darker.", "Reduce the overall brightness.", "Lower brightness.", "Darken the picture.",
         "It is too bright; lower the exposure.", "Make it dimmer.", "Less light, please.", "Turn down the brightness.",
         "The scene is very bright: reduce the overall brightness.", "A dim image would help.",
         "Dim the lights in the picture.", "Dim the scene."),
        lambda luma, ir: luma.clamp_min(1e-3) ** 1.4, "brightness", -1),
    "more contrast": Instruction(
        ("Increase the contrast.", "Raise the contrast between people and the background.", "Higher contrast.",
         "Make the contrast stronger.", "The image is flat; give it more contrast.", "More contrast, please.",
         "Turn up the contrast.", "A stronger contrast would help.", "Widen the range between dark and bright.",
         "It looks dull and flat: add contrast.", "Boost the contrast."),
        lambda luma, ir: _contrast(luma, 1.4), "contrast", 1),
    "less contrast": Instruction(
        ("Reduce the contrast.", "Soften the global contrast to keep detail in both shadows and lights.",
         "Lower contrast.", "Make the contrast weaker.", "The image is harsh; give it less contrast.",
         "Less contrast, please.", "Turn down the contrast.", "A weaker contrast would help.",
         "Narrow the range between dark and bright.", "It looks hard and harsh: take away contrast.",
         "Tone the contrast down."),
        lambda luma, ir: _contrast(luma, 0.65), "contrast", -1),
    "sharper": Instruction(
        ("Make the image sharper.", "Sharpen edges and textures.", "Clearer texture details.",
         "Bring out fine details and outlines.", "The image is soft; sharpen it.", "More sharpness, please.",
         "Sharpen edges and textures so that the outlines of pedestrians are clear.", "Make the edges crisp.",
         "A sharper image would help.", "It looks blurred: make the details clear.", "Crisper edges, please."),
        lambda luma, ir: luma + 1.0 * (luma - _blurred(luma, 1.5)), "sharpness", 1),
    "smoother": Instruction(
        ("Make the image smoother.", "Reduce the noise.", "Less noise and grain.", "Blur the fine texture a little.",
         "The image is noisy; denoise it.", "Reduce the noise without blurring small people far away.",
         "Remove the grain.", "A smoother image would help.", "It looks grainy: smooth it.", "Clean up the noise.",
         "Soften the grain."),
        lambda luma, ir: _blurred(luma, 1.2), "sharpness", -1),
    "warmer targets": Instruction(
        ("Make people stand out.", "Make warm targets brighter against their surroundings.",
         "Emphasise the thermal radiation of people.", "Highlight the pedestrians.",
         "The people are hard to see; make them brighter.", "Show the pedestrians more clearly.",
         "Make the warm regions glow.", "Bring out the thermal targets.", "Brighter people would help.",
         "Hot objects should be brighter.", "Let the hot objects glow more."),
        lambda luma, ir: luma + 0.6 * (ir - ir.mean() - ir.std()).clamp_min(0) * (1 - luma), "warm_contrast", 1),
    "less glare": Instruction(
        ("Reduce the glare.", "Suppress the glare of lamps and headlights.", "Less overexposure.",
         "Tone down the bright lights.", "The lights are blinding; dim them.", "Less glare, please.",
         "Take back the overexposed lamps.", "The headlights are too strong: weaken them.",
         "Recover detail in the overexposed lights.", "Lower the highlights.", "Tame the highlights."),
        lambda luma, ir: luma - 0.6 * (luma - 0.6).clamp_min(0), "highlights", -1),
}  # fmt: skip


def encoded_instructions(dim: int) -> dict[str, list[Tensor]]:
    """Features [L,dim] of every way to say each instruction, but those that are kept out of the training.

    Raises:
        FusionError: the answers have features of another length: they are not the sentence encoder's.
    """
    if dim != DIM:
        raise FusionError(f"instructions have {DIM} features a token, those of the sentence encoder, but the answers "
                          f"have {dim}: set instruction_steps to 0, or take a back end whose answers come as text")
    return {name: encode(list(told.texts[:-1])) for name, told in INSTRUCTIONS.items()}
