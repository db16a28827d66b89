"""`fusionlib.fuse`."""

import warnings
from pathlib import Path

import torch
from torch import Tensor

from fusionlib.data.image_types import to_image
from fusionlib.inference.pair import VIDEO_SUFFIXES, check_settings, fuse_pair
from fusionlib.utils.errors import FusionError


def fuse(ir, visible, instruction: str | None = None, *, align: str | None = None, out=None):
    """Fuse an infrared and a visible image of the same scene.

    Args:
        ir, visible: each a path, an array [H,W] or [H,W,1|3|4], a PIL image, or a tensor [H,W] or [1|3,H,W]; uint8,
            uint16, or float 0..1. Two tensors may be batches, [B,1|3,H,W]. With `out`: two folders of pictures that
            have the same names, two pictures, or two videos.
        instruction: None, stage 1; "auto", Text-DFH with the advice of `feedback.rules` on the image of stage 1; or any
            other text that says what to change, Text-DFH guided by it (its first 510 tokens).
        align: "features" or "ecc" lays infrared over visible first, see `registration.align`; the two may then differ
            in size.
        out: a folder to write to; what is there already is not made again, see `inference.folder.fuse_files`.

    Returns:
        What the visible image is, fused: array for array, PIL image for PIL image, tensor for tensor, for a path an
        array as `data.image_io.read_image` gives it; of the same size, type, device and transparency, gray where it is
        gray. With `out`: the paths that were written.

    Raises:
        FusionError: something unreadable or of another kind, different sizes without `align`, an instruction that is
            no text, or one without weights of Text-DFH or without the sentence encoder.

    Warns:
        UserWarning: the two seem not to line up, or 16-bit values are so low that an image is nearly black. Nothing is
            stretched silently: 16 bit divides by 65535.
    """
    if out is not None:
        from fusionlib.inference.folder import fuse_files

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
        pair = [to_image(image, name + number) for image, name in zip(images, ("ir", "visible"))]
        fused, notes = fuse_pair(*pair, instruction, align)
        results.append(fused)
        for note in notes:
            warnings.warn(note, stacklevel=2)
    return torch.stack(results) if batch else results[0]
