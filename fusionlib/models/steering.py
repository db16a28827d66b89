"""Instructions that Text-DFH learns to follow: words, and what they ask of the image of stage 1. Not in the paper.

The detector in the loss of stage 2 rewards what makes people easier to find, and nothing else: under it, "darker" and
"brighter" come to mean the same. So that a user can steer the image by words, some samples of a training carry an
instruction in place of an answer, and the image that it asks for as their target.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor, nn

from fusionlib.data.pairs import split_luma
from fusionlib.errors import FusionError
from fusionlib.feedback.encode import DIM, encode
from fusionlib.models.detection_loss import DetectionLosses, refine
from fusionlib.models.fusion_loss import FusionLoss
from fusionlib.models.fusion_network import FusionNetwork


@dataclass(frozen=True)
class Instruction:
    """Something to ask for.

    texts: ways to say it; the last one is kept out of the training, to see whether other words are understood. change:
    the luma of stage 1 and infrared, [1,H,W] in 0..1, to the luma that is asked for. measure: the property that changes
    (a field of `feedback.rules.Measures`), up (1) or down (-1) by `sign`.
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
                          f"have {dim}: set steer to 0, or take a back end whose answers come as text")
    return {name: encode(list(told.texts[:-1])) for name, told in INSTRUCTIONS.items()}


class SteeredLosses:
    """The loss of stage 2 for batches in which some samples carry an instruction instead of an answer.

    Those with an answer have the loss of `DetectionLosses`; the others weight * (mean |F - T| + mean |S(F) - S(T)|),
    where T is what the instruction makes of the image of stage 1 and S is `sobel`. Both are summed over their samples.
    """

    def __init__(self, detection: DetectionLosses, network: FusionNetwork, weight: float):
        self.detection, self.network, self.weight = detection, network, weight
        self.loss = FusionLoss(intensity=1.0, edge=1.0)

    def __call__(self, model: nn.Module, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        """A batch as `collate` makes it -> (total, parts); a part counts as 0 for samples that it is not about."""
        refined, parts = refine(model, batch), {}
        told, answered = ([row for row, name in enumerate(batch["instruction"]) if bool(name) == wanted]
                          for wanted in (True, False))  # fmt: skip
        total = zero = refined.new_zeros(())
        if answered:
            detection, parts = self.detection.judge(refined[answered], _rows(batch, answered))
            total = total + detection
        # Every batch has all parts, in this order: processes that train together add them up.
        parts = {name: len(answered) / len(refined) * parts.get(name, zero) for name in self.detection.PARTS}
        if told:
            target = self._targets(_rows(batch, told))
            steering, _ = self.loss(refined[told], target, target)  # the larger of the target and itself
            total = total + self.weight * len(told) * steering
            parts["steering"] = len(told) / len(refined) * steering.detach()
        return total, {"steering": zero, **parts}

    @torch.no_grad()
    def _targets(self, batch: dict) -> Tensor:
        fused = self.network(batch["ir"], split_luma(batch["visible"])[0])
        changes = [INSTRUCTIONS[name].change for name in batch["instruction"]]
        return torch.stack([change(*each) for change, *each in zip(changes, fused, batch["ir"])]).clamp(0, 1)


def _rows(batch: dict, rows: Sequence[int]) -> dict:
    return {k: [v[row] for row in rows] if isinstance(v, list) else v[rows] for k, v in batch.items()}
