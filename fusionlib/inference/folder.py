"""Fuse two folders of images, one pair at a time; a repeated call resumes an interrupted one.

A fused image is a png whose text chunk records its sources, settings, weights and code. So whether it is up to date can
be told from the file itself, even after images were moved, removed or replaced.
"""

import errno
import hashlib
import json
import math
import os
import zlib
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from fusionlib.data import common_range
from fusionlib.data.image_io import decode_image, encode_image, stated_size
from fusionlib.data.image_types import to_image, to_infrared
from fusionlib.data.infrared import BLACK_HOT, Reading, range_words
from fusionlib.data.matching import match_names, swapped_names
from fusionlib.data.pairs import require_equal_sizes
from fusionlib.inference.pair import (
    OR_ALIGN,
    STAGE_1,
    STAGE_2,
    VIDEO_SUFFIXES,
    WEIGHTS,
    Fuser,
    check_settings,
    fuse_pair,
)
from fusionlib.inference.video import fuse_video
from fusionlib.utils import distributed
from fusionlib.utils.code import code_of
from fusionlib.utils.errors import FusionError, is_main_process, print_problems
from fusionlib.utils.files import (
    IMAGE_SUFFIXES,
    LONGEST_IMAGE,
    file_fingerprint,
    not_a_file,
    read_bytes,
    write_atomically,
)

HEADER = 33  # bytes of a png's signature and first chunk
END = b"\0\0\0\0IEND\xae\x42\x60\x82"
KEYWORD = b"tEXtfusionlib\0"  # type and keyword of the text chunk


def fuse_files(ir, visible, out, instruction: str | None = None, *, align: str | None = None, ir_range=None,
               invert_ir: bool = False, fuser: Fuser | None = None, problems: list[str] | None = None) -> list[Path]:
    """Fuse every pair in two folders, two images, or two videos, and write the results to a folder or a file.

    A fused image is a png with the name, size, colour, transparency and 8 or 16 bits of the visible one (16 of floats),
    in a subfolder of `out` if that is in one. Complete ones of the same sources, settings, weights and code are kept.
    Radiometric infrared images of a folder have one range, the percentiles of up to 32 of them. What cannot be fused
    (no partner, another size, unreadable) is skipped and reported on stderr at the end, as are pairs that seem
    misaligned and what else `fuse` warns of; the first 20 of a kind. The processes of `accelerate launch` share the
    pairs.

    Args:
        ir, visible: folders of images whose names agree up to the suffix, see `data.places`; where they contain more,
            patterns whose stars stand for the name: "recordings/*_ir" and "recordings/*_rgb". Or two images, or two
            videos (see `video.fuse_video`), of any names.
        out: a folder, which is created if missing; or a file, .png for two images and .mp4 for two videos.
        instruction, align, ir_range, invert_ir: as for `fusionlib.fuse`.
        fuser: what fuses in place of the networks of this package.
        problems: a list that receives one sentence per file left out.

    Returns:
        The fused images, including those kept, ordered by name.

    Raises:
        FusionError: invalid settings, no common name, nothing that can be fused, or an `out` that contains the sources,
            is a file of another kind or cannot be written.
    """
    check_settings(instruction, align)
    reading = Reading(ir_range, bool(invert_ir))
    out, results, kept = Path(out).expanduser(), {}, 0  # by number: fused image, problem, notes
    pairs, unmatched = pairs_of(ir, visible, out)
    targets = _targets(out, pairs, Path(visible).expanduser().is_file())
    reading = common_range.of_files(reading, [files[0] for _, *files in pairs])
    weights = [file_fingerprint(WEIGHTS / name) for name in (STAGE_1, STAGE_2) if (WEIGHTS / name).is_file()]
    settings = {"instruction": instruction, "align": align, "reading": asdict(reading),
                "weights": fuser.record if fuser else weights, "code": code_of(fuse_pair)}
    bar = tqdm(distributed.share(list(enumerate(pairs))), desc="fusing", disable=not is_main_process())
    for index, (_, *files) in bar:
        try:
            if files[1].suffix.lower() in VIDEO_SUFFIXES:
                target, notes = targets[index], fuse_video(*files, targets[index], instruction, align, reading, fuser)
            else:
                target, notes = _fuse_images(*files, targets[index], settings, reading, fuser)
        except FusionError as error:
            results[index] = None, str(error), []
            continue
        except OSError as error:
            if error.errno not in (errno.ENAMETOOLONG, errno.EISDIR, errno.ELOOP):  # of this one
                raise FusionError(f"{out}: cannot be written ({error.strerror or error}); free space or choose another "
                                  "folder, and repeat the command to resume") from None
            results[index] = None, f"{targets[index]}: cannot be written ({error.strerror}); rename its sources", []
            continue
        kept += notes is None
        results[index] = target, None, notes
        bar.set_postfix_str(f"{kept} kept" if kept else "", refresh=False)
    results = [result for _, result in sorted(item for share in distributed.gather(results) for item in share.items())]
    fused = [target for target, problem, _ in results if problem is None]
    unfused = [problem for _, problem, _ in results if problem is not None]
    new = [notes for *_, notes in results if notes is not None]
    notes = swapped_names(ir, visible) + _summary([note for notes in new for note in notes], ir, len(new), reading)
    for kind, found in (("not matched", unmatched), ("not fused", unfused), ("to look at", notes)):
        print_problems(kind, found)
    if problems is not None:
        problems += unmatched + unfused
    if not fused:
        raise FusionError(f"{visible}: expected at least one image that can be fused, found none among {len(pairs)}, "
                          f"the first problem being: {unfused[0]}")
    return fused


def pairs_of(ir, visible, out) -> tuple[list[tuple[str, Path, Path]], list[str]]:
    """(name, infrared file, visible file) ordered by name, and a sentence for each file without a partner."""
    files = Path(ir).expanduser(), Path(visible).expanduser()
    if not any(path.is_file() for path in files):
        found, unmatched = match_names({"infrared": ir, "visible": visible}, out)
        return [(name, pair["infrared"], pair["visible"]) for name, pair in found.items()], unmatched
    for path in files:
        if not path.is_file():
            found = not_a_file(path, math.inf) or "nothing"
            raise FusionError(f"{path}: expected a file like its partner, found {found}; give two files or two folders")
    if any(all(path.suffix.lower() in suffixes for path in files) for suffixes in (IMAGE_SUFFIXES, VIDEO_SUFFIXES)):
        return [(files[1].stem, *files)], []
    raise FusionError(f"{files[0]} and {files[1]}: expected two images ({', '.join(IMAGE_SUFFIXES)}) or two videos "
                      f"({', '.join(VIDEO_SUFFIXES)}), found other files; convert them")


def _targets(out: Path, pairs: list[tuple[str, Path, Path]], of_files: bool) -> list[Path]:
    """The file to write for each pair; `of_files`: whether two files were given."""
    suffix = ".mp4" if pairs[0][2].suffix.lower() in VIDEO_SUFFIXES else ".png"
    place = Path(os.path.realpath(out))  # resolve() fails on a circular link
    sources = {Path(os.path.realpath(path)) for _, *files in pairs for path in files}
    if out.suffix.lower() not in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES) or out.is_dir():
        if any(path.parent == place for path in sources):
            raise FusionError(f"{out}: expected a folder apart from the sources, found one that holds some of them; "
                              "choose another one, because sources are never overwritten")
        return [(out / name).parent / f"{visible.stem}{suffix}" for name, _, visible in pairs]
    if not of_files:
        raise FusionError(f"{out}: expected a folder for the fused images of two folders, found the name of a file; "
                          "name a folder")
    if out.suffix.lower() != suffix:
        raise FusionError(f"{out}: expected a folder or a file that ends in {suffix}, found {out.suffix}; rename it")
    if place in sources:
        raise FusionError(f"{out}: expected another file than the sources, found one of them; choose another name, "
                          "because sources are never overwritten")
    return [out]


def _summary(notes: list[str], ir, count: int, reading: Reading) -> list[str]:
    """The notes on `count` images of a camera: their common range once, and none on a few that seem to be black-hot."""
    suspected = sum(note.endswith(BLACK_HOT) for note in notes)
    notes = [note for note in notes if not note.endswith(BLACK_HOT) or 3 * suspected > count]
    if not reading.common:
        return notes
    words = range_words(reading.common, True)
    others = [note for note in notes if not note.endswith(words)]
    return [f"{ir}: radiometric values: {words}", *others] if len(others) < len(notes) else others


def _fuse_images(ir: Path, visible: Path, target: Path, settings: dict, reading: Reading, fuser: Fuser | None
                 ) -> tuple[Path, list[str] | None]:  # fmt: skip
    """The path of the fused image, and notes for the user; None for an image that is kept."""
    sources = [read_bytes(path) for path in (ir, visible)]
    record = {"sources": [hashlib.sha256(data).hexdigest() for data in sources], **settings}
    content = KEYWORD + json.dumps(record).encode("ascii")
    chunk = (len(content) - 4).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")
    found = not_a_file(target, LONGEST_IMAGE)
    existing = target.read_bytes() if os.path.exists(target) and not found else b""
    if found or (existing and not existing[HEADER + 4 :].startswith(KEYWORD)):
        raise FusionError(f"{target}: expected an image that this command made, found {found or 'another one'}, which "
                          "is not overwritten; move it away, or choose another folder")
    if existing[HEADER:].startswith(chunk) and existing.endswith(END) and _reads_back(existing):
        return target, None
    if not settings["align"]:
        sizes = [stated_size(data, path) for data, path in zip(sources, (ir, visible))]
        require_equal_sizes(ir, sizes[0], visible, sizes[1], OR_ALIGN)
    values = [decode_image(data, path, alpha=True) for data, path in zip(sources, (ir, visible))]
    images = to_infrared(values[0], str(ir), reading), to_image(values[1], str(visible))
    fused, notes = fuse_pair(*images, settings["instruction"], settings["align"], fuser)
    if fused.dtype.kind == "f":
        fused = (fused * 65535).round().astype(np.uint16)
    if fused.ndim == 3:
        fused = fused[..., [2, 1, 0, 3][: fused.shape[2]]]
    data = encode_image(fused, ".png", target)
    write_atomically(target, data[:HEADER] + chunk + data[HEADER:])
    return target, notes


def _reads_back(data: bytes) -> bool:
    """Whether an image is whole, which after a power failure it may not be although its beginning and end are."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) is not None
