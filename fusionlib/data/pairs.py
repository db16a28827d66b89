"""The `Pair` of one registered infrared and one visible image."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fusionlib.data.image_io import as_tensor, decode_image, stated_size
from fusionlib.data.infrared import Reading, to_plane
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import read_bytes


@dataclass(frozen=True, eq=False)
class Pair:
    """One registered pair of images with its annotations. Pairs are compared by identity.

    `split` is "train", "test" or "" (the data set has no official split); `name` is the stem of the files, unique
    within data set and split. `boxes` [N,4] float32 are xyxy in pixels, `classes` has one lower-case name per box
    ("person" for people and pedestrians, "ignore" for a region in which nothing is counted). Both are None for an
    unlabelled pair and empty for one without objects. `scene` is the name of the scene, "" if unknown. `ir_range` is
    the range of the data set's radiometric infrared images that becomes 0..1; None: 8 bit, or each image's own.
    """

    dataset: str
    split: str
    name: str
    ir: Path
    visible: Path
    boxes: np.ndarray | None = None
    classes: tuple[str, ...] | None = None
    scene: str = ""
    ir_range: tuple[float, float] | None = None

    @property
    def label(self) -> str:
        """A unique name, also the path of the pair's files in a run: LLVIP/test/190001, TNO/001."""
        return "/".join(filter(None, (self.dataset, self.split, self.name)))


def load(pair: Pair) -> tuple[torch.Tensor, torch.Tensor]:
    """Load a pair as float32 in 0..1: infrared [1,H,W] and visible [3,H,W].

    Infrared is what `infrared.to_plane` makes of it, so that radiometric values and false colours become gray levels; a
    gray visible image is repeated to three channels. Raises FusionError for an unreadable file and for images of
    different size.
    """
    data = [(read_bytes(path), path) for path in (pair.ir, pair.visible)]
    require_equal_sizes(pair.ir, stated_size(*data[0]), pair.visible, stated_size(*data[1]))
    ir, visible = (decode_image(*each) for each in data)
    require_equal_sizes(pair.ir, ir.shape[:2], pair.visible, visible.shape[:2])
    plane, _ = to_plane(ir, pair.ir, Reading(common=pair.ir_range))
    return torch.from_numpy(plane)[None], as_tensor(visible, pair.visible).expand(3, -1, -1).contiguous()


def require_equal_sizes(ir, ir_size, visible, visible_size, hint: str = "") -> None:
    """FusionError, with a further hint, for two images of a pair whose sizes (H, W) differ; None: not known yet."""
    if None not in (ir_size, visible_size) and ir_size != visible_size:
        raise FusionError(size_mismatch(ir, ir_size, visible, visible_size) + hint)


def size_mismatch(ir: Path, ir_size, visible: Path, visible_size) -> str:
    """The error message for two images of a pair whose sizes (H, W) differ."""
    (h, w), (vh, vw) = ir_size, visible_size
    hint = "turn one of them by a quarter" if (h, w) == (vw, vh) else "register the two first"
    return f"{visible}: expected {w}x{h} like its infrared partner {ir}, found {vw}x{vh}; {hint}"
