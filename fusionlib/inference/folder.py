"""Fuse two folders of images, one pair at a time; a repeated call resumes an interrupted one.

A fused image is a png whose text chunk records its sources, settings, weights and code. So whether it is up to date can
be told from the file itself, even after images were moved, removed or replaced.
"""

import hashlib
import json
import zlib
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from fusionlib.data.image_io import IMAGE_SUFFIXES, decode_image
from fusionlib.data.image_types import to_image
from fusionlib.data.matching import match_names
from fusionlib.inference.pair import STAGE_1, STAGE_2, VIDEO_SUFFIXES, WEIGHTS, check_settings, fuse_pair
from fusionlib.inference.video import fuse_video
from fusionlib.utils import distributed
from fusionlib.utils.code import code_of
from fusionlib.utils.errors import FusionError, is_main_process, print_problems
from fusionlib.utils.files import file_fingerprint, read_bytes, write_atomically

HEADER = 33  # bytes of a png's signature and first chunk
END = b"\0\0\0\0IEND\xae\x42\x60\x82"
KEYWORD = b"tEXtfusionlib\0"  # type and keyword of the text chunk


def fuse_files(ir, visible, out, instruction: str | None = None, *, align: str | None = None,
               problems: list[str] | None = None) -> list[Path]:
    """Fuse every pair in two folders, two images, or two videos, and write the results to a folder.

    A fused image is a png with the name, size, colour and 8 or 16 bits of the visible one. Complete ones of the same
    sources, settings, weights and code are kept. What cannot be fused (no partner, another size, unreadable) is skipped
    and reported on stderr at the end, as are pairs that seem misaligned; the first 20 of a kind. The processes of
    `accelerate launch` share the pairs.

    Args:
        ir, visible: folders of images whose file names agree up to the suffix; where names contain more, patterns in
            which a star marks the name: "recordings/*_ir" and "recordings/*_rgb". Or two images, or two videos (see
            `video.fuse_video`), of any names.
        out: a folder, which is created if missing.
        instruction, align: as for `fusionlib.fuse`.
        problems: a list that receives one sentence per file left out.

    Returns:
        The fused images, including those kept, ordered by name.

    Raises:
        FusionError: invalid settings, no common name, nothing that can be fused, or an `out` that contains the sources
            or cannot be written.
    """
    check_settings(instruction, align)
    out, results, kept = Path(out).expanduser(), {}, 0  # by number: fused image, problem, notes
    pairs, unmatched = _pairs(ir, visible)
    if any(path.resolve().parent == out.resolve() for pair in pairs for path in pair):
        raise FusionError(f"{out}: expected a folder apart from the sources, found one that holds some of them; "
                          "choose another one, because sources are never overwritten")
    weights = [file_fingerprint(WEIGHTS / name) for name in (STAGE_1, STAGE_2) if (WEIGHTS / name).is_file()]
    settings = {"instruction": instruction, "align": align, "weights": weights, "code": code_of(fuse_pair)}
    bar = tqdm(distributed.share(list(enumerate(pairs))), desc="fusing", disable=not is_main_process())
    for index, files in bar:
        try:
            if files[1].suffix.lower() in VIDEO_SUFFIXES:
                target, notes = fuse_video(*files, out, instruction, align)
            else:
                target, notes = _fuse_images(*files, out, settings)
        except FusionError as error:
            results[index] = None, str(error), []
            continue
        except OSError as error:
            raise FusionError(f"{out}: cannot be written ({error.strerror or error}); free space or choose another "
                              "folder, and repeat the command to resume") from None
        kept += notes is None
        results[index] = target, None, notes or []
        bar.set_postfix_str(f"{kept} kept" if kept else "", refresh=False)
    results = [result for _, result in sorted(item for share in distributed.gather(results) for item in share.items())]
    fused = [target for target, problem, _ in results if problem is None]
    unfused = [problem for _, problem, _ in results if problem is not None]
    notes = [note for *_, notes in results for note in notes]
    for kind, found in (("not matched", unmatched), ("not fused", unfused), ("to look at", notes)):
        print_problems(kind, found)
    if problems is not None:
        problems += unmatched + unfused
    if not fused:
        raise FusionError(f"{visible}: expected at least one image that can be fused, found none among {len(pairs)}, "
                          f"the first problem being: {unfused[0]}")
    return fused


def _pairs(ir, visible) -> tuple[list[tuple[Path, Path]], list[str]]:
    """(infrared file, visible file) ordered by name, and a sentence for each file without a partner."""
    files = Path(ir).expanduser(), Path(visible).expanduser()
    if not any(path.is_file() for path in files):
        found, unmatched = match_names({"infrared": ir, "visible": visible})
        return [(pair["infrared"], pair["visible"]) for pair in found.values()], unmatched
    for path in files:
        if not path.is_file():
            found = "a folder" if path.is_dir() else "nothing"
            raise FusionError(f"{path}: expected a file like its partner, found {found}; give two files or two folders")
    if any(all(path.suffix.lower() in suffixes for path in files) for suffixes in (IMAGE_SUFFIXES, VIDEO_SUFFIXES)):
        return [files], []
    raise FusionError(f"{files[0]} and {files[1]}: expected two images ({', '.join(IMAGE_SUFFIXES)}) or two videos "
                      f"({', '.join(VIDEO_SUFFIXES)}), found other files; convert them")


def _fuse_images(ir: Path, visible: Path, out: Path, settings: dict) -> tuple[Path, list[str] | None]:
    """The path of the fused image, and notes for the user; None for an image that is kept."""
    target = out / f"{visible.stem}.png"
    sources = [read_bytes(path) for path in (ir, visible)]
    record = {"sources": [hashlib.sha256(data).hexdigest() for data in sources], **settings}
    content = KEYWORD + json.dumps(record).encode("ascii")
    chunk = (len(content) - 4).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")
    if target.exists():
        existing = target.read_bytes()
        if not existing[HEADER + 4 :].startswith(KEYWORD):
            raise FusionError(f"{target}: expected an image that this command made, found another one, which is not "
                              "overwritten; move it away, or choose another folder")
        if existing[HEADER:].startswith(chunk) and existing.endswith(END):
            return target, None
    images = [to_image(decode_image(data, path), str(path)) for data, path in zip(sources, (ir, visible))]
    fused, notes = fuse_pair(*images, settings["instruction"], settings["align"])
    data = cv2.imencode(".png", fused if fused.ndim == 2 else np.ascontiguousarray(fused[..., ::-1]))[1].tobytes()
    write_atomically(target, data[:HEADER] + chunk + data[HEADER:])
    return target, notes
