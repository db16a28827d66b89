"""Fuse anybody's pair with the weights of this package: what `fusionlib.fuse` is.

Stage 1 fuses; an instruction, the user's or one that the rules give about the image of stage 1, steers Text-DFH. Both
networks are loaded once, onto the best device. fusionlib/weights/README.md says what they were trained on.
"""

import functools
import warnings
from pathlib import Path

import torch
from torch import Tensor

from fusionlib import devices, inference, models, registration
from fusionlib.data.images import Image, understand
from fusionlib.data.pairs import size_mismatch
from fusionlib.errors import FusionError
from fusionlib.feedback.encode import encode, encoder_name
from fusionlib.feedback.rules import advise, measure
from fusionlib.models import FusionNetwork, TextGuidedFusion
from fusionlib.peers.peer import mirrored

WEIGHTS = Path(__file__).parent / "weights"
STAGE_1, STAGE_2 = "fusion_network.safetensors", "text_dfh.safetensors"
ENCODER = "all-MiniLM-L6-v2"  # that the shipped Text-DFH was trained with
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv")
DARK = 0.3  # share of 16 bit; a camera of 14 bits fills .25


def fuse(ir, visible, instruction: str | None = None, *, align: str | None = None, out=None):
    """Fuse an infrared and a visible image of the same scene.

    Args:
        ir, visible: each a path, an array [H,W] or [H,W,1|3|4], a PIL image, or a tensor [H,W] or [1|3,H,W]; uint8,
            uint16, or float 0..1. Two tensors may be batches, [B,1|3,H,W]. With `out`: two folders of pictures that
            have the same names, two pictures, or two videos.
        instruction: None, stage 1; "auto", Text-DFH with the advice of `feedback.rules` on the image of stage 1; or any
            other text that says what to change, Text-DFH steered by it (its first 510 tokens).
        align: "features" or "ecc" lays infrared over visible first, see `registration.align`; the two may then differ
            in size.
        out: a folder to write to; what is there already is not made again, see `folders.fuse_files`.

    Returns:
        What the visible image is, fused: array for array, PIL image for PIL image, tensor for tensor, for a path an
        array as `data.pairs.read_image` gives it; of the same size, type, device and transparency, gray where it is
        gray. With `out`: the paths that were written.

    Raises:
        FusionError: something unreadable or of another kind, different sizes without `align`, an instruction that is
            no text, or one without weights of Text-DFH or without the sentence encoder.

    Warns:
        UserWarning: the two seem not to line up, or 16-bit values are so low that an image is nearly black. Nothing is
            stretched silently: 16 bit divides by 65535.
    """
    if out is not None:
        from fusionlib.folders import fuse_files

        return fuse_files(ir, visible, out, instruction, align=align)
    for image in (ir, visible):
        path = Path(image).expanduser() if isinstance(image, str | Path) else None
        if path and (path.is_dir() or path.suffix.lower() in VIDEO_SUFFIXES):
            found = "folder" if path.is_dir() else "video"
            raise FusionError(f"{image}: expected a picture, found a {found}; give two {found}s, and with out=FOLDER "
                              "say where the result goes")
    check_settings(instruction, align)
    batch = isinstance(visible, Tensor) and visible.ndim == 4
    if batch and not (isinstance(ir, Tensor) and ir.ndim == 4 and len(ir) == len(visible) > 0):
        found = list(ir.shape) if isinstance(ir, Tensor) else type(ir).__name__
        raise FusionError(f"ir: expected a batch [B,1|3,H,W] of as many images as visible, {list(visible.shape)}, "
                          f"found {found}; give one infrared image for each visible one")
    results = []
    for index, images in enumerate(zip(ir, visible) if batch else [(ir, visible)]):
        number = f"[{index}]" if batch else ""
        pair = [understand(image, name + number) for image, name in zip(images, ("ir", "visible"))]
        fused, notes = fuse_pair(*pair, instruction, align)
        results.append(fused)
        for note in notes:
            warnings.warn(note, stacklevel=2)
    return torch.stack(results) if batch else results[0]


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
        fused = inference.fuse(fusion_network(), *pair)
    else:
        fused = inference.fuse(text_dfh(), *pair, _features(instruction))
    return fused[:, :height, :width]


def advice(infrared: Tensor, colour: Tensor) -> str:
    """What the rules advise about the image that stage 1 makes of a pair: the instruction "auto"."""
    return advise(measure(fuse_tensors(infrared, colour)))


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
    if encoder_name() != ENCODER:
        raise FusionError("An instruction needs the sentence encoder that Text-DFH was trained with, which is not "
                          'installed: pip install "fusionlib[encoder]"')


@functools.cache
def fusion_network() -> FusionNetwork:
    """Stage 1 with the weights of this package, in evaluation mode on the best device."""
    return models.load(WEIGHTS / STAGE_1).to(devices.best())


@functools.cache
def text_dfh() -> TextGuidedFusion:
    """Stage 2 with the weights of this package, in front of `fusion_network()`."""
    return models.load(WEIGHTS / STAGE_2, fusion_network())


@functools.lru_cache(maxsize=64)  # a folder has one instruction
def _features(text: str) -> Tensor:
    return encode([text])[0]
