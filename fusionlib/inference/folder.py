"""Fuse two folders of pictures, picture by picture, so that the same call goes on where an earlier one stopped.

A fused picture is a png that says, in a text chunk of its own, what it was made of: both sources, the settings, the
weights and the code. So the folder holds pictures and nothing else, and the answer to "is this one done?" stays true
when pictures are moved, removed or replaced.
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
MARK = b"tEXtfusionlib\0"


def fuse_files(ir, visible, out, instruction: str | None = None, *, align: str | None = None,
               problems: list[str] | None = None) -> list[Path]:
    """Fuse every pair in two folders, two pictures, or two videos, and write the results to a folder.

    The fused picture is called after the visible one, and is a png of its size, colour and 8 or 16 bits. One that is
    there whole, made of the same sources by the same settings, weights and code, is kept. What cannot be fused (no
    partner, another size, unreadable) is left out and named on stderr at the end, as are pairs that seem not to line
    up; the first 20 of a kind. The processes of `accelerate launch` share the pairs.

    Args:
        ir, visible: folders of pictures that belong together where their file names agree up to the suffix. Where names
            carry more, a star says what the name is: "recordings/*_ir" and "recordings/*_rgb". Or two pictures, or two
            videos, see `video.fuse_video`, of any names.
        out: a folder, which is made where it is not there.
        instruction, align: as for `fusionlib.fuse`.
        problems: a list that gets a sentence for each file that was left out, to see them all.

    Returns:
        The fused pictures, those that were there before included, in order of the names.

    Raises:
        FusionError: wrong settings, folders without a common name, nothing that could be fused, an `out` that holds
            the sources, or one that cannot be written.
    """
    check_settings(instruction, align)
    out, results, kept = Path(out).expanduser(), {}, 0  # by number: fused picture, why there is none, what to look at
    pairs, unmatched = _pairs(ir, visible)
    if any(path.resolve().parent == out.resolve() for pair in pairs for path in pair):
        raise FusionError(f"{out}: expected a folder apart from the sources, found one that holds some of them; "
                          "choose another one, because sources are never overwritten")
    settings = {"instruction": instruction, "align": align, **_versions()}
    bar = tqdm(distributed.share(list(enumerate(pairs))), desc="fusing", disable=not is_main_process())
    for index, files in bar:
        try:
            if files[1].suffix.lower() in VIDEO_SUFFIXES:
                target, more = fuse_video(*files, out, instruction, align)
            else:
                target, more = _fuse_pictures(*files, out, settings)
        except FusionError as error:
            results[index] = None, str(error), []
            continue
        except OSError as error:
            raise FusionError(f"{out}: cannot be written ({error.strerror or error}); make room or choose another "
                              "folder, and the same command goes on") from None
        kept += more is None
        results[index] = target, None, more or []
        bar.set_postfix_str(f"{kept} kept" if kept else "", refresh=False)
    results = [result for _, result in sorted(item for part in distributed.gather(results) for item in part.items())]
    done = [target for target, problem, _ in results if problem is None]
    unfused = [problem for _, problem, _ in results if problem is not None]
    notes = [note for *_, noted in results for note in noted]
    for what, found in (("not matched", unmatched), ("not fused", unfused), ("to look at", notes)):
        print_problems(what, found)
    if problems is not None:
        problems += unmatched + unfused
    if not done:
        raise FusionError(f"{visible}: expected at least one picture that can be fused, found none among {len(pairs)}, "
                          f"the first problem being: {unfused[0]}")
    return done


def _pairs(ir, visible) -> tuple[list[tuple[Path, Path]], list[str]]:
    """(infrared file, visible file) in order of the names, and a sentence for each file without a partner."""
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
    raise FusionError(f"{files[0]} and {files[1]}: expected two pictures ({', '.join(IMAGE_SUFFIXES)}) or two videos "
                      f"({', '.join(VIDEO_SUFFIXES)}), found other files; convert them")


def _fuse_pictures(ir: Path, visible: Path, out: Path, settings: dict) -> tuple[Path, list[str] | None]:
    """The fused picture's path, and what to look at; None for one that was kept."""
    target = out / f"{visible.stem}.png"
    sources = [read_bytes(path) for path in (ir, visible)]
    made_of = [hashlib.sha256(data).hexdigest() for data in sources]
    chunk = _text_chunk(json.dumps({"sources": made_of, **settings}))
    if target.exists():
        there = target.read_bytes()
        if not there[HEADER + 4 :].startswith(MARK):
            raise FusionError(f"{target}: expected a picture that this command made, found another one, which is not "
                              "overwritten; move it away, or choose another folder")
        if there[HEADER:].startswith(chunk) and there.endswith(END):
            return target, None
    given = [to_image(decode_image(data, path), str(path)) for data, path in zip(sources, (ir, visible))]
    fused, notes = fuse_pair(*given, settings["instruction"], settings["align"])
    _, data = cv2.imencode(".png", fused if fused.ndim == 2 else np.ascontiguousarray(fused[..., ::-1]))
    data = data.tobytes()
    write_atomically(target, data[:HEADER] + chunk + data[HEADER:])
    return target, notes


def _text_chunk(text: str) -> bytes:
    """A text chunk of a png, as its specification has it: length, type, keyword and text, checksum."""
    content = MARK + text.encode("ascii")
    return (len(content) - 4).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")


def _versions() -> dict:
    """What a fused picture depends on besides its sources and the settings."""
    files = [WEIGHTS / name for name in (STAGE_1, STAGE_2)]
    return {"weights": [file_fingerprint(file) for file in files if file.is_file()], "code": code_of(fuse_pair)}
