"""The steps in which a pair of files becomes a fused png: read, fuse, write; and which pairs are checked.

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
from fusionlib.data.image_types import Image, to_image, to_infrared
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
    """The fused image of a pair, warnings, and whether it is new (or kept) and was looked at for lining up."""

    target: Path
    notes: list[str] = []
    new: bool = False
    checked: bool = False


class _Pair(NamedTuple):
    """What was read: `registered` as of `pair.register`, the notes on what does not line up, and the record."""

    files: PairFiles
    visible: Image
    registered: tuple
    misaligned: list[str]
    chunk: bytes


class Steps:
    """The three steps of `pipeline.pipelined` for pairs of files.

    To look whether a pair lines up takes nearly half as long as to fuse it. So, of one camera, the first `FIRST` pairs
    are checked and then every `EVERY`-th; after one that does not line up, each. Of pairs of other sizes or folders,
    which may be from other cameras, the count begins anew.

    Args:
        settings: a result of others is made again. Holds "instruction" and "align".
        reading: of all infrared images.
        fuser: what fuses in place of the networks of this package.
    """

    def __init__(self, settings: dict, reading: Reading, fuser: Fuser | None):
        self._settings, self._reading, self._fuser = settings, reading, fuser
        self._seen, self._doubtful = Counter(), set()  # cameras

    def planned(self, pairs: Iterable[tuple[int, Path, Path, Path]]) -> Iterator[PairFiles]:
        """For each index, infrared file, visible file and target."""
        for index, ir, visible, target in pairs:
            sizes = [_size(path) for path in (ir, visible)]
            pixels = [MAX_PIXELS if size is None else prod(size) for size in sizes]
            lengths = [_length(path) // BYTES for path in (ir, visible, target)]
            camera = *sizes, ir.parent, visible.parent
            number, self._seen[camera] = self._seen[camera], self._seen[camera] + 1
            check = None in sizes or number < FIRST or number % EVERY == 0 or camera in self._doubtful
            yield PairFiles(index, ir, visible, target, max(pixels + lengths), camera, check)

    def read(self, files: PairFiles) -> "_Pair | Result":
        """Decode and register a pair; the result at once if it is up to date. Raises FusionError and OSError."""
        paths, target, align = (files.ir, files.visible), files.target, self._settings["align"]
        sources = [read_bytes(path) for path in paths]
        record = {"sources": [hashlib.sha256(data).hexdigest() for data in sources], **self._settings}
        content = KEYWORD + json.dumps(record).encode("ascii")
        chunk = (len(content) - 4).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")
        found = not_a_file(target, LONGEST_IMAGE)
        existing = target.read_bytes() if os.path.exists(target) and not found else b""
        if found or (existing and not existing[HEADER + 4 :].startswith(KEYWORD)):
            raise FusionError(f"{target}: expected an image that this command made, found {found or 'another one'}, "
                              "which is not overwritten; move it away, or choose another folder")
        if existing[HEADER:].startswith(chunk) and existing.endswith(END) and _reads_back(existing):
            return Result(target)
        if not align:
            sizes = [stated_size(data, path) for data, path in zip(sources, paths)]
            require_equal_sizes(files.ir, sizes[0], files.visible, sizes[1], OR_ALIGN)
        values = [decode_image(data, path, alpha=True) for data, path in zip(sources, paths)]
        ir, visible = to_infrared(values[0], str(files.ir), self._reading), to_image(values[1], str(files.visible))
        registered = register(ir, visible, align, check=False)
        misaligned = self._misaligned(files, registered) if files.check and not align else []
        return _Pair(files, visible, registered, misaligned, chunk)

    def fuse(self, pair: "_Pair | Result") -> "tuple[np.ndarray, bytes, Result] | Result":
        """Fuse what `read` returned, in the order of the pairs; a result is handed on."""
        if isinstance(pair, Result):
            return pair
        files, visible, (*registered, notes), misaligned, chunk = pair
        check = files.check
        if not check and files.camera in self._doubtful:  # by a pair that was fused after this one was read
            check, misaligned = True, self._misaligned(files, registered)
        if misaligned:
            self._doubtful.add(files.camera)
        notes = notes + misaligned + coverage_note(str(files.ir), registered[2])
        fused = fuse_registered(visible, *registered, self._settings["instruction"], self._fuser)
        return fused, chunk, Result(files.target, notes, True, check)

    def write(self, made: "tuple[np.ndarray, bytes, Result] | Result") -> Result:
        """Write what `fuse` returned. Raises FusionError and OSError."""
        if isinstance(made, Result):
            return made
        fused, chunk, result = made
        if fused.dtype.kind == "f":
            fused = (fused * 65535).round().astype(np.uint16)
        if fused.ndim == 3:
            fused = fused[..., [2, 1, 0, 3][: fused.shape[2]]]
        data = encode_image(fused, ".png", result.target)
        write_atomically(result.target, data[:HEADER] + chunk + data[HEADER:])
        return result

    @staticmethod
    def _misaligned(files, registered) -> list[str]:
        return misalignment_note(str(files.ir), str(files.visible), *registered[:2])


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
