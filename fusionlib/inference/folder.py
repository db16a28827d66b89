"""Fuse two folders of images; a repeated call resumes an interrupted one.

A fused image is a png whose text chunk records its sources, settings, weights and code. So whether it is up to date can
be told from the file itself, even after images were moved, removed or replaced.
"""

import errno
import math
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path

from tqdm.auto import tqdm

from fusionlib.data import common_range
from fusionlib.data.infrared import BLACK_HOT, Reading, range_words
from fusionlib.data.matching import match_names, swapped_names
from fusionlib.inference.pair import (
    STAGE_1,
    STAGE_2,
    VIDEO_SUFFIXES,
    WEIGHTS,
    Fuser,
    check_settings,
    fuse_pair,
    require_text_dfh,
)
from fusionlib.inference.pair_files import EVERY, FIRST, Result, Sample, fuse_to_file
from fusionlib.inference.parallel import in_order
from fusionlib.inference.video import fuse_video
from fusionlib.utils import distributed
from fusionlib.utils.code import code_of
from fusionlib.utils.errors import FusionError, is_main_process, print_problems
from fusionlib.utils.files import IMAGE_SUFFIXES, file_fingerprint, not_a_file, remove_abandoned


def fuse_files(ir, visible, out, instruction: str | None = None, *, align: str | None = None, ir_range=None,
               invert_ir: bool = False, fuser: Fuser | None = None, problems: list[str] | None = None) -> list[Path]:
    """Fuse every pair in two folders, two images, or two videos, and write the results to a folder or a file.

    A fused image is a png with the name, size, colour, transparency and 8 or 16 bits of the visible one (16 of floats),
    in a subfolder of `out` if that is in one. Complete ones of the same sources, settings, weights and code are kept.
    Radiometric infrared images of a folder have one range, the percentiles of up to 32 of them. What cannot be fused
    (no partner, another size, unreadable) is skipped and reported on stderr at the end, as are pairs that seem
    misaligned and what else `fuse` warns of; the first 20 of a kind. Where more than ten pairs have one size, a sample
    of them is checked for that (see `pair_files.Sample`), and how many were is reported. The processes of `accelerate
    launch` share the pairs.

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
    if instruction is not None and fuser is None:
        require_text_dfh()
    reading = Reading(ir_range, bool(invert_ir))
    out, results, kept = Path(out).expanduser(), {}, 0  # by number: fused image, problem, notes
    pairs, unmatched = pairs_of(ir, visible, out)
    targets = _targets(out, pairs, Path(visible).expanduser().is_file())
    reading = common_range.of_files(reading, [files[0] for _, *files in pairs])
    weights = [file_fingerprint(WEIGHTS / name) for name in (STAGE_1, STAGE_2) if (WEIGHTS / name).is_file()]
    settings = {"instruction": instruction, "align": align, "reading": asdict(reading),
                "weights": fuser.record if fuser else weights, "code": code_of(fuse_pair)}
    pairs = [(index, *files, targets[index]) for index, (_, *files) in enumerate(pairs)]
    mine = distributed.share(pairs)
    remove_abandoned(target for *_, target in mine)
    outcomes = _outcomes(mine, settings, reading, fuser)
    with closing(outcomes), tqdm(total=len(mine), desc="fusing", disable=not is_main_process()) as bar:
        for index, outcome in outcomes:
            try:
                results[index] = outcome(), None
            except FusionError as error:
                results[index] = None, str(error)
            except OSError as error:
                if error.errno not in (errno.ENAMETOOLONG, errno.EISDIR, errno.ELOOP):  # of this one
                    raise FusionError(f"{out}: cannot be written ({error.strerror or error}); free space or choose "
                                      "another folder, and repeat the command to resume") from None
                results[index] = None, f"{targets[index]}: cannot be written ({error.strerror}); rename its sources"
            else:
                kept += not results[index][0].new
                bar.set_postfix_str(f"{kept} kept" if kept else "", refresh=False)
            bar.update()
    results = [result for _, result in sorted(item for share in distributed.gather(results) for item in share.items())]
    made = [result for result, problem in results if problem is None]
    fused, unfused = [result.target for result in made], [problem for _, problem in results if problem is not None]
    new = [result for result in made if result.new]
    notes = swapped_names(ir, visible) + _summary([note for each in new for note in each.notes], ir, len(new), reading)
    if not align and (checked := sum(result.lines_up is not None for result in new)) < len(new):
        notes.append(f"{ir} and {visible}: {checked} of {len(new)} pairs were checked for whether they line up: of one "
                     f"size, the first {FIRST}, then every {EVERY}th, and each begun after one was found that does not")
    for kind, found in (("not matched", unmatched), ("not fused", unfused), ("to look at", notes)):
        print_problems(kind, found)
    if problems is not None:
        problems += unmatched + unfused
    if not fused:
        raise FusionError(f"{visible}: expected at least one image that can be fused, found none among {len(pairs)}, "
                          f"the first problem being: {unfused[0]}")
    return fused


def _outcomes(pairs, settings: dict, reading: Reading, fuser) -> Iterator[tuple[int, Callable[[], Result]]]:
    """The index of each pair, and a function that returns the `Result` or raises."""
    if pairs and pairs[0][1].suffix.lower() in VIDEO_SUFFIXES:  # two files
        for index, *files in pairs:
            yield index, partial(_fuse_video, files, settings, reading, fuser)
        return
    sample, work = Sample(), partial(fuse_to_file, settings=settings, reading=reading, fuser=fuser)
    with closing(in_order(sample.planned(pairs), work, lambda files: files.pixels)) as fused:
        for files, future in fused:
            if not future.exception() and future.result().lines_up is False:
                sample.doubtful.add(files.camera)
            yield files.index, future.result


def _fuse_video(files, settings, reading, fuser) -> Result:
    notes = fuse_video(*files, settings["instruction"], settings["align"], reading, fuser)
    return Result(files[-1], notes, new=True, lines_up=True)


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
