"""Fuse a pair of files into a png; and which pairs of a folder are checked for lining up.

The png's text chunk records its sources, settings, weights and code.
"""

import hashlib
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from fusionlib.data.image_io import MAX_PIXELS, decode_image, encode_image, stated_size
from fusionlib.data.image_types import to_image, to_infrared
from fusionlib.data.infrared import Reading
from fusionlib.data.pairs import require_equal_sizes
from fusionlib.inference.pair import OR_ALIGN, Fuser, coverage_note, fuse_registered, misalignment_note, register
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import LONGEST_IMAGE, not_a_file, read_bytes, write_atomically

HEADER = 33  # bytes of a png's signature and first chunk
END = b"\0\0\0\0IEND\xae\x42\x60\x82"
KEYWORD = b"tEXtfusionlib\0"  # type and keyword of the text chunk
FIRST, EVERY = 10, 10  # pairs of a camera that are checked for lining up, and every so many-th of the following
BYTES = 8  # of a file, at most, for each of its pixels


class PairFiles(NamedTuple):
    """Infrared and visible file, and the one to write.

    `pixels`: about those of the larger image; `camera`: the same for pairs of one size in the same folders; `check`:
    whether to look if the two line up.
    """

    index: int
    ir: Path
    visible: Path
    target: Path
    pixels: int
    camera: tuple
    check: bool


class Result(NamedTuple):
    """The fused image of a pair, warnings, whether it is new (or kept), and whether the pair lines up, if checked."""

    target: Path
    notes: list[str] = []
    new: bool = False
    lines_up: bool | None = None


class Sample:
    """Which pairs are checked for lining up, which takes nearly half as long as to fuse them.

    Of one camera, the first `FIRST` pairs are and then every `EVERY`-th; from one in `doubtful` on, each. Of pairs of
    other sizes or folders, which may be from other cameras, the count begins anew.
    """

    def __init__(self):
        self._seen, self.doubtful = Counter(), set()  # cameras

    def planned(self, pairs: Iterable[tuple[int, Path, Path, Path]]) -> Iterator[PairFiles]:
        """For each index, infrared file, visible file and target."""
        for index, ir, visible, target in pairs:
            sizes = [_size(path) for path in (ir, visible)]
            pixels = [MAX_PIXELS if size is None else prod(size) for size in sizes]
            lengths = [_length(path) // BYTES for path in (ir, visible, target)]
            camera = *sizes, ir.parent, visible.parent
            number, self._seen[camera] = self._seen[camera], self._seen[camera] + 1
            check = None in sizes or number < FIRST or number % EVERY == 0 or camera in self.doubtful
            yield PairFiles(index, ir, visible, target, max(pixels + lengths), camera, check)


def fuse_to_file(files: PairFiles, settings: dict, reading: Reading, fuser: Fuser | None) -> Result:
    """Read, fuse and write a pair, unless its image is up to date.

    Args:
        files: see there.
        settings: a result of others is made again. Holds "instruction" and "align".
        reading: of the infrared image.
        fuser: what fuses in place of the networks of this package.

    Raises:
        FusionError: a file that is no image, another size without "align", or a target that something else made.
        OSError: the target cannot be written.
    """
    paths, align = (files.ir, files.visible), settings["align"]
    sources = [read_bytes(path) for path in paths]
    chunk = _record(sources, settings)
    if _is_up_to_date(files.target, chunk):
        return Result(files.target)
    if not align:
        sizes = [stated_size(data, path) for data, path in zip(sources, paths)]
        require_equal_sizes(files.ir, sizes[0], files.visible, sizes[1], OR_ALIGN)
    values = [decode_image(data, path, alpha=True) for data, path in zip(sources, paths)]
    ir, visible = to_infrared(values[0], str(files.ir), reading), to_image(values[1], str(files.visible))
    *registered, notes = register(ir, visible, align, check=False)
    check = files.check and not align
    misaligned = misalignment_note(str(files.ir), str(files.visible), *registered[:2]) if check else []
    fused = fuse_registered(visible, *registered, settings["instruction"], fuser)
    _write(fused, files.target, chunk)
    notes += misaligned + coverage_note(str(files.ir), registered[2])
    return Result(files.target, notes, True, not misaligned if check else None)


def _record(sources: list[bytes], settings: dict) -> bytes:
    """The text chunk of a png that is made of these files by these settings."""
    record = {"sources": [hashlib.sha256(data).hexdigest() for data in sources], **settings}
    content = KEYWORD + json.dumps(record).encode("ascii")
    return (len(content) - 4).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")


def _is_up_to_date(target: Path, chunk: bytes) -> bool:
    found = not_a_file(target, LONGEST_IMAGE)
    existing = target.read_bytes() if os.path.exists(target) and not found else b""
    if found or (existing and not existing[HEADER + 4 :].startswith(KEYWORD)):
        raise FusionError(f"{target}: expected an image that this command made, found {found or 'another one'}, "
                          "which is not overwritten; move it away, or choose another folder")
    return existing[HEADER:].startswith(chunk) and existing.endswith(END) and _reads_back(existing)


def _write(fused: np.ndarray, target: Path, chunk: bytes) -> None:
    if fused.dtype.kind == "f":
        fused = (fused * 65535).round().astype(np.uint16)
    if fused.ndim == 3:
        fused = fused[..., [2, 1, 0, 3][: fused.shape[2]]]
    data = encode_image(fused, ".png", target)
    write_atomically(target, data[:HEADER] + chunk + data[HEADER:])


def _size(path: Path) -> tuple[int, int] | None:
    """(H, W) in the header of an image file; None for one that Pillow cannot read or that will be refused."""
    try:
        return stated_size(None, path)
    except FusionError:
        return None


def _length(path: Path) -> int:
    try:
        return os.path.getsize(path)
    except (OSError, ValueError):
        return 0


def _reads_back(data: bytes) -> bool:
    """Whether an image is whole, which after a power failure it may not be although its beginning and end are."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) is not None
