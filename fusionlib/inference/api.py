"""`fusionlib.fuse`, for images, batches, folders and videos."""

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
            uint16, or float 0..1. Two tensors may be batches, [B,1|3,H,W]. With `out`: two folders of images of the
            same names, two images, or two videos.
        instruction: None for stage 1; "auto" for Text-DFH guided by the advice of `feedback.rules` on the damages that
            are found in the pair, and stage 1 where none is found; any other text for Text-DFH guided by it (its first
            510 tokens).
        align: "features" or "ecc" registers infrared to visible first, see `registration.align`; sizes may then differ.
        out: a folder to write to; results that are up to date are kept, see `inference.folder.fuse_files`.

    Returns:
        The fused image in the type of `visible`, for a path an array as of `data.image_io.read_image`; of the same
        size, data type, device and transparency, gray if it is gray. With `out`: the paths of the results.

    Raises:
        FusionError: an unreadable or unsupported image, different sizes without `align`, or an instruction that is no
            text or for which the weights of Text-DFH or the sentence encoder are missing.

    Warns:
        UserWarning: the images seem misaligned, or nearly black because their 16-bit values are low: 16 bit is divided
            by 65535, and nothing is stretched silently.
    """
    if out is not None:
        from fusionlib.inference.folder import fuse_files

        return fuse_files(ir, visible, out, instruction, align=align)
    for image in (ir, visible):
        path = Path(image).expanduser() if isinstance(image, str | Path) else None
        if path and (path.is_dir() or path.suffix.lower() in VIDEO_SUFFIXES):
            found = "folder" if path.is_dir() else "video"
            raise FusionError(f"{image}: expected an image, found a {found}; give two {found}s, and with out=FOLDER "
                              "the folder to write to")
    check_settings(instruction, align)
    batch = isinstance(visible, Tensor) and visible.ndim == 4
    if batch and not (isinstance(ir, Tensor) and ir.ndim == 4 and len(ir) == len(visible) > 0):
        found = list(ir.shape) if isinstance(ir, Tensor) else type(ir).__name__
        raise FusionError(f"ir: expected a batch [B,1|3,H,W] of as many images as visible, {list(visible.shape)}, "
                          f"found {found}; give one infrared image for each visible one")
    results = []
    for index, images in enumerate(zip(ir, visible) if batch else [(ir, visible)]):
        number = f"[{index}]" if batch else ""
        fused, notes = fuse_pair(*map(to_image, images, (f"ir{number}", f"visible{number}")), instruction, align)
        results.append(fused)
        for note in notes:
            warnings.warn(note, stacklevel=2)
    return torch.stack(results) if batch else results[0]
