"""`fusionlib.fuse`, for images, batches, folders and videos."""

import warnings
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fusionlib.data.image_io import Picture
from fusionlib.data.image_types import raw_values, to_image, to_infrared
from fusionlib.data.infrared import Reading
from fusionlib.inference.pair import VIDEO_SUFFIXES, check_settings, fuse_pair, require_text_dfh
from fusionlib.utils.errors import FusionError


def fuse(ir, visible, instruction: str | None = None, *, align: str | None = None, ir_range=None,
         invert_ir: bool = False, out=None):
    """Fuse an infrared and a visible image of the same scene.

    Args:
        ir, visible: each a path, an array [H,W] or [H,W,1|3|4], a PIL image, or a tensor [H,W] or [1|3,H,W]; uint8,
            uint16, or float 0..1. Two tensors may be batches, [B,1|3,H,W]. With `out`: two folders of images of the
            same names, two images, or two videos. Infrared may also be radiometric: counts, centikelvin or kelvin, of
            16 bit, int32 or float; and in the false colours of a common map, which are turned back into gray.
        instruction: None for stage 1; "auto" for Text-DFH guided by the advice of `feedback.rules` on the damages that
            are found in the pair, and stage 1 where none is found; any other text for Text-DFH guided by it (its first
            510 tokens).
        align: "features" or "ecc" registers infrared to visible first, see `registration.align`; sizes may then differ.
        ir_range: the infrared values (low, high) that become black and white, in their own units; "auto": the
            percentiles .5 and 99.5; None: "auto" for radiometric images alone, other ones as they are. Folders, batches
            and videos have one range.
        invert_ir: hot is dark in the infrared image (black-hot).
        out: a folder to write to, or for two images the name of a png file, for two videos that of an mp4; results that
            are up to date are kept, see `inference.folder.fuse_files`.

    Returns:
        The fused image in the type of `visible`, for a path an array as of `data.image_io.read_image`; of the same
        size, data type, device and transparency, gray if it is gray. It is upright, as the EXIF orientation says. Where
        an aligned infrared image does not reach, it is the visible image. Arrays show themselves in a notebook
        (`data.image_io.Picture`). With `out`: the paths of the results.

    Raises:
        FusionError: an unreadable or unsupported image, different sizes without `align`, or an instruction that is no
            text or for which the weights of Text-DFH or the sentence encoder are missing.

    Warns:
        UserWarning: the images seem misaligned or swapped; infrared is radiometric (with the range that was taken), in
            false colours, black-hot, or narrower than the visible image; 16 bits of the visible image are hardly used.
    """
    if out is not None:
        if wrong := [image for image in (ir, visible) if not isinstance(image, str | PathLike)]:
            raise FusionError(f"out: expected paths of images, folders or videos, found {type(wrong[0]).__name__}; "
                              "leave out= away and write the result by fusionlib.data.write_image")
        from fusionlib.inference.folder import fuse_files

        return fuse_files(ir, visible, out, instruction, align=align, ir_range=ir_range, invert_ir=invert_ir)
    for image in (ir, visible):
        path = Path(image).expanduser() if isinstance(image, str | Path) else None
        if path and (path.is_dir() or path.suffix.lower() in VIDEO_SUFFIXES):
            found = "folder" if path.is_dir() else "video"
            raise FusionError(f"{image}: expected an image, found a {found}; give two {found}s, and with out=FOLDER "
                              "the folder to write to")
    check_settings(instruction, align)
    if instruction is not None:
        require_text_dfh()
    reading = Reading(ir_range, bool(invert_ir))
    batch = isinstance(visible, Tensor) and visible.ndim == 4
    if batch and not (isinstance(ir, Tensor) and ir.ndim == 4 and len(ir) == len(visible) > 0):
        found = list(ir.shape) if isinstance(ir, Tensor) else type(ir).__name__
        raise FusionError(f"ir: expected a batch [B,1|3,H,W] of as many images as visible, {list(visible.shape)}, "
                          f"found {found}; give one infrared image for each visible one")
    if batch:
        from fusionlib.data import common_range  # here, since most calls are about one pair

        reading = common_range.of_images(reading, (raw_values(image, "ir")[0] for image in ir))
    results = []
    for index, images in enumerate(zip(ir, visible) if batch else [(ir, visible)]):
        number = f"[{index}]" if batch else ""
        converted = to_infrared(images[0], f"ir{number}", reading), to_image(images[1], f"visible{number}")
        fused, notes = fuse_pair(*converted, instruction, align)
        results.append(fused.view(Picture) if isinstance(fused, np.ndarray) else fused)
        for note in notes:
            warnings.warn(note, stacklevel=2)
    return torch.stack(results) if batch else results[0]
