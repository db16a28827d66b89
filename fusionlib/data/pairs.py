"""The `Pair` of one registered infrared and one visible image."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from kornia.color import rgb_to_ycbcr

from fusionlib.data.image_io import as_tensor, is_coloured, read_image
from fusionlib.utils.errors import FusionError


@dataclass(frozen=True, eq=False)
class Pair:
    """One registered pair of images with its annotations. Pairs are compared by identity.

    `split` is "train", "test" or "" (the data set has no official split); `name` is the stem of the files, unique
    within data set and split. `boxes` [N,4] float32 are xyxy in pixels, `classes` has one lower-case name per box
    ("person" for people and pedestrians, "ignore" for a region in which nothing is counted). Both are None for an
    unlabelled pair and empty for one without objects. `scene` is the name of the scene, "" if unknown.
    """

    dataset: str
    split: str
    name: str
    ir: Path
    visible: Path
    boxes: np.ndarray | None = None
    classes: tuple[str, ...] | None = None
    scene: str = ""

    @property
    def label(self) -> str:
        """A unique name, also the path of the pair's files in a run: LLVIP/test/190001, TNO/001."""
        return "/".join(filter(None, (self.dataset, self.split, self.name)))


@dataclass(frozen=True)
class Problem:
    """What is wrong with one file: `kind` is partner, duplicate, size, unreadable, label, class, scene or volume."""

    path: Path
    kind: str
    message: str

    def __str__(self):
        return f"{self.path}: {self.message}"

    @classmethod
    def unreadable(cls, path: Path, error: FusionError) -> "Problem":
        """The problem of a file whose reading raised `error`."""
        return cls(path, "unreadable", str(error).removeprefix(f"{path}: "))


def load(pair: Pair) -> tuple[torch.Tensor, torch.Tensor]:
    """Load a pair as float32 in 0..1: infrared [1,H,W] and visible [3,H,W].

    Infrared with three equal channels is reduced to one, coloured infrared to its luma; a gray visible image is
    repeated to three channels. Raises FusionError for an unreadable file and for images of different size.
    """
    ir, visible = read_image(pair.ir), read_image(pair.visible)
    if ir.shape[:2] != visible.shape[:2]:
        raise FusionError(size_mismatch(pair.ir, ir.shape[:2], pair.visible, visible.shape[:2]))
    ir, visible = as_tensor(ir if is_coloured(ir) else ir.reshape(*ir.shape[:2], -1)[..., 0]), as_tensor(visible)
    ir = rgb_to_ycbcr(ir)[:1] if len(ir) == 3 else ir
    return ir, visible.expand(3, -1, -1).contiguous()


def size_mismatch(ir: Path, ir_size, visible: Path, visible_size) -> str:
    """The error message for two images of a pair whose sizes (H, W) differ."""
    (h, w), (vh, vw) = ir_size, visible_size
    hint = "undo the EXIF orientation, which is not applied here" if (h, w) == (vw, vh) else "register the two first"
    return f"{visible}: expected {w}x{h} like its infrared partner {ir}, found {vw}x{vh}; {hint}"
