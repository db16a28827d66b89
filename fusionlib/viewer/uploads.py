"""A pair of the user's own, sent by the page in parts, since a message to the kernel holds at most 10 MB."""

import io
import re
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np
import PIL.Image

from fusionlib.data.image_io import decode_image, is_coloured
from fusionlib.data.pairs import size_mismatch
from fusionlib.data.places import sides_in
from fusionlib.utils.errors import FusionError
from fusionlib.viewer.gallery import FUSED, Entry, Gallery

MAX_BYTES = 32 << 20  # of a file
MAX_PIXELS = 16_000_000  # of an image
MAX_PAIRS = 10  # that a viewer holds
GROUP = "own pairs"


class Upload:
    """The files that are being sent: parts come in order, file by file."""

    def __init__(self, names: Sequence[str]):
        if len(names) != 2:
            raise FusionError(f"expected two images, an infrared and a visible one, found {len(names)}: choose or drop "
                              "both at once")
        self.names = [PurePath(re.sub(r"[\\/]", "_", str(name))).name or "image" for name in names]
        self.files = [bytearray(), bytearray()]

    def add(self, index: int, part: bytes) -> None:
        """Add the next bytes of the first or second file. Raises FusionError above `MAX_BYTES`."""
        if len(self.files[index]) + len(part) > MAX_BYTES:
            raise FusionError(f"{self.names[index]}: expected an image file of at most {MAX_BYTES >> 20} MB, found a "
                              "larger one; browse its folder instead")
        self.files[index] += part

    def pair(self) -> tuple[np.ndarray, np.ndarray, str]:
        """The infrared and the visible image, uint8 or uint16, and the name of the visible file without its suffix.

        A word such as "ir" or "visible" in a file's name says which is which, or else that one alone has colours, or
        else their order. Raises FusionError for a file that is no image, has more than `MAX_PIXELS`, and for images of
        different sizes.
        """
        images = [_decode(bytes(data), name) for data, name in zip(self.files, self.names)]
        says = [sides_in(name) for name in self.names]
        clues = ([infrared for infrared, _ in says], [not visible for _, visible in says],
                 [not is_coloured(image) for image in images])  # what speaks for infrared
        ir = next((int(second) for first, second in clues if first != second), 0)
        sizes, names = [image.shape[:2] for image in images], self.names
        if sizes[0] != sizes[1]:
            raise FusionError(size_mismatch(names[ir], sizes[ir], names[1 - ir], sizes[1 - ir]))
        return images[ir], images[1 - ir], PurePath(names[1 - ir]).stem


def add_entry(gallery: Gallery, ir: np.ndarray, visible: np.ndarray, name: str) -> Entry:
    """Add a pair to a gallery, whose fused image is made when it is looked at. FusionError for too many of them."""
    own = [entry.name for entry in gallery.entries if entry.group == GROUP]
    if len(own) >= MAX_PAIRS:
        raise FusionError(f"{name}: expected at most {MAX_PAIRS} pairs of your own in a viewer, found one more; browse "
                          "their folder instead")
    gallery.sources = gallery.sources or ("infrared", "visible")
    gallery.panes = list(dict.fromkeys([*gallery.panes, *gallery.sources, FUSED]))
    names = (f"own/{name}{number}" for number in ("", *(f" {count}" for count in range(2, MAX_PAIRS + 2))))
    entry = Entry(next(each for each in names if each not in own), GROUP, dict(zip(gallery.sources, (ir, visible))),
                  makes_fused=True)
    gallery.entries.append(entry)
    return entry


def _decode(data: bytes, name: str) -> np.ndarray:
    try:
        with PIL.Image.open(io.BytesIO(data)) as image:  # the header alone
            pixels = image.width * image.height
    except PIL.Image.DecompressionBombError:
        pixels = MAX_PIXELS + 1
    except (OSError, SyntaxError, ValueError):
        raise FusionError(f"{name}: expected a png, jpg, bmp or tiff image, found something else; convert it") from None
    if pixels > MAX_PIXELS:
        raise FusionError(f"{name}: expected an image of at most {MAX_PIXELS // 1_000_000} million pixels, found more; "
                          "browse its folder instead")
    return decode_image(data, name)
