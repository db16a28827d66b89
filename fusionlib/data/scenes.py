"""The scenes that pairs belong to: from a table, or from their numbers; and files that two data sets have in common.

Frames of one scene resemble each other, so a scene is trained on or tested on as a whole (`splits`), and intervals are
by scene (`detection.bootstrap`). Scenes of one name are one scene, in whatever data set.
"""

import csv
import filecmp
import io
import math
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fusionlib.data.label_formats import content_of
from fusionlib.data.pairs import Pair
from fusionlib.data.problems import Problem
from fusionlib.utils.files import IMAGE_SUFFIXES, absolute

LONGEST_TABLE = 1 << 24  # bytes
FILES = ("scenes.tsv", "manifest.tsv")  # in the folder of the data set or the one around it
# The video in the name of one of its frames: video-7_0001, walk_clip3-0001, set00_V000_I00001, walk_frame_0001_x.
VIDEO = re.compile(r"""(
    (?:.*[-_ ])? (?: (?:video|vid|sequence|seq|clip)[-_ ]?[a-z]*\d[a-z0-9]*? | set\d+[-_]v\d+ ) (?=[-_ ].*\d)
    | .+? (?=[-_ ]*frame[-_ ]?\d)
)""", re.IGNORECASE | re.VERBOSE)
NEAR = 100  # frames of one camera belong to one scene as long as the next number is at most so far away


def names(pairs: Sequence[Pair]) -> list[str]:
    """The scene of each pair; a pair of an unknown scene is a scene of its own, called by its label."""
    return [pair.scene or pair.label for pair in pairs]


def table(folder: Path) -> tuple[dict[str, tuple[str, bool]], list[Problem]]:
    """Read the table of scenes of a data set: {name: (scene, whether everybody in view has a box)}, and problems.

    The table has a header and tab-separated columns: name (of the files, or of the pairs), scene, and optionally
    complete (yes or no) and folder, where it serves several data sets; others are ignored. Without a table the result
    is empty.
    """
    around = folder, absolute(folder).parent, folder.resolve().parent
    for path in (place / name for place in around for name in FILES):
        if not os.path.lexists(path) or path.is_dir():
            continue
        try:
            text = content_of(path, LONGEST_TABLE).decode("utf-8-sig")
            rows = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
            found = set(rows.fieldnames or ())
            if {"name", "scene"} <= found:
                return _read(path, rows, folder)
        except (OSError, ValueError, csv.Error) as error:
            return {}, [Problem(path, "scene", f"cannot be read, so no scene is known: {error}; correct or remove it")]
        if path.name == "scenes.tsv":  # a manifest may be about something else
            message = ("expected a header with the tab-separated columns name and scene, found "
                       f"{', '.join(sorted(found)) or 'nothing'}; correct or remove it")
            return {}, [Problem(path, "scene", message)]
    return {}, []


def _read(path, rows, folder):
    scenes, problems = {}, []
    for row in rows:
        if row.get("folder") not in (None, "", absolute(folder).name, folder.resolve().name):
            continue
        file = Path((row["name"] or "").strip())
        name = (file.with_suffix("") if file.suffix.lower() in IMAGE_SUFFIXES else file).as_posix()
        scene, complete = (row["scene"] or "").strip(), (row.get("complete") or "yes").strip().lower()
        if name in scenes:
            problems.append(Problem(path, "scene", f"line {rows.line_num} repeats the name {name}, whose first line is "
                                                   "used; remove one"))
            continue
        if not scene or complete not in ("yes", "no"):
            message = (f"line {rows.line_num}, {name}: expected a scene and, as complete, yes or no, found {scene!r} "
                       f"and {complete!r}; no scene counts as unknown, anything but yes as no")
            problems.append(Problem(path, "scene", message))
        scenes[name] = scene, complete == "yes"
    return scenes, problems


def by_number(pairs: Sequence[Pair]) -> list[Pair]:
    """The same pairs, those of data sets without any scene with the scenes that their names suggest.

    Pairs in one folder, such as KAIST's set00/V000, and frames of one video, such as video-7-frame-0020-x, are of one
    scene. Other pairs whose names are equal but for a number at their end are frames of one camera, and of one scene as
    long as neighbouring numbers are at most `NEAR` apart: LLVIP numbers its places 010001, 020001, ... So are all pairs
    of a data set with one folder or video alone. If all would still be one scene, the numbers may as well count
    independent images (M3FD, TNO), and scenes stay unknown, as do those of MSRS, whose names do not end in numbers.
    """
    names = {dataset: [] for dataset in {p.dataset for p in pairs} - {p.dataset for p in pairs if p.scene}}
    for pair in pairs:
        if pair.dataset in names:
            names[pair.dataset].append(pair.name)
    several = {}
    for dataset, of_set in names.items():
        for by_video in (True, False):
            scenes = _scenes(of_set, by_video)
            if len(set(scenes.values())) > 1:
                several |= {(dataset, name): f"{dataset}/{scene}" for name, scene in scenes.items()}
                break
    return [replace(pair, scene=several.get((pair.dataset, pair.name), pair.scene)) for pair in pairs]


def _scenes(names, by_video):
    """{name: scene} by folders and videos or else, without `by_video` for all, by numbers."""
    scenes, cameras = {}, {}
    for name in names:
        folder, video = name.rpartition("/")[0], VIDEO.match(name)
        if by_video and (folder or video):
            scenes[name] = folder or video[1]
        elif match := re.fullmatch(r"(.*?)(\d+)", name):
            cameras.setdefault(match[1], []).append((int(match[2]), name))
    for frames in cameras.values():
        scene, last = "", -math.inf
        for number, name in sorted(frames):
            scene = scene if number - last <= NEAR else name
            scenes[name], last = scene, number
    return scenes


def without_copies(pairs: Sequence[Pair], official: Sequence[str]) -> tuple[list[Pair], list[str]]:
    """Leave out pairs whose two files are, byte by byte, those of a pair of another data set; also notes about them.

    Otherwise one could train and the other test. The pair of an official data set stays, or the first; where it has no
    boxes or no scene, it gets those of the other.
    """
    kept, copies = {}, {}  # by position among the pairs; names of the left-out ones by their data sets
    by_size = {}
    order = sorted(range(len(pairs)), key=lambda i: not pairs[i].split and pairs[i].dataset not in official)
    for index in order:
        pair = pairs[index]
        alike = by_size.setdefault((pair.ir.stat().st_size, pair.visible.stat().st_size), [])
        first = next((i for i in alike if kept[i].dataset != pair.dataset and _same_files(kept[i], pair)), None)
        if first is None:
            kept[index] = pair
            alike.append(index)
            continue
        original = kept[first]
        if original.boxes is None:
            kept[first] = replace(original, boxes=pair.boxes, classes=pair.classes)
        kept[first] = replace(kept[first], scene=original.scene or pair.scene)
        copies.setdefault((pair.dataset, original.dataset), []).append(pair.name)
    notes = [f"{len(of)} pairs of {dataset} are left out, since {original} has the same files, which get boxes and "
             f"scenes from them where they have none: {', '.join(of[:3])}{', ...' * (len(of) > 3)}"
             for (dataset, original), of in copies.items()]
    return [kept[index] for index in sorted(kept)], notes


def _same_files(one, other):
    return all(filecmp.cmp(getattr(one, side), getattr(other, side), shallow=False) for side in ("ir", "visible"))
