"""The entries of a viewer, each one scene in several panes: from a folder, or from two images or folders to compare."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fusionlib.data.datasets import people
from fusionlib.data.finding import data_sets
from fusionlib.data.layouts import survey
from fusionlib.data.matching import match_names
from fusionlib.data.places import find_images, name_of, part_of
from fusionlib.feedback.store import Answer
from fusionlib.utils.errors import FusionError

SOURCES = ("infrared", "visible")  # panes of the two images of a pair
FUSED = "fused"  # the pane of the image that stage 1 makes of both sources


@dataclass
class Entry:
    """One scene. Metrics and people are filled in as they are computed."""

    name: str
    group: str  # name of its data set or folder
    images: dict[str, object]  # {pane: image as for `data.image_types.to_image`}
    truth: np.ndarray | None = None  # boxes of people [N,4], xyxy in pixels; None without labels
    answer: Answer | None = None  # of the language model
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)  # {pane: {metric: value}}
    people: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)  # {(pane, detector): [n,5] xyxy, score}
    makes_fused: bool = False  # whether its sources are fused when the pane `FUSED` is looked at
    ir_range: tuple[float, float] | None = None  # of the infrared image, see `data.pairs.Pair`


@dataclass
class Gallery:
    """Entries and panes, in the order in which they are shown."""

    title: str
    entries: list[Entry]
    panes: list[str]
    notes: list[str] = field(default_factory=list)  # sentences on what is missing and how to make it
    sources: tuple[str, str] | None = None  # the panes of the infrared and the visible image, if there are both
    saves: Path = Path(".")  # folder for figures and ratings


def from_folder(folder: Path) -> Gallery:
    """All images below a folder or of a pattern, by the same rules as everywhere (`data.places`, `data.layouts`).

    Of the data sets in it, each pair is an entry, with its labels, and with the images of the same name in other
    folders of the data set, such as fused/, as further panes. Without a data set, subfolders are panes if they have
    file names in common, and groups otherwise. Raises FusionError for a missing folder, and for one without images.
    """
    problems = []
    images = find_images(folder, problems)
    notes = list(map(str, problems))
    if folder.is_dir() and (found := data_sets(folder)):
        return _from_data_sets(folder, images, found, notes)
    subfolders: dict[str, dict[str, Path]] = {}  # {subfolder: {name: file}}
    for name, path in images.items():
        top, _, rest = name.partition("/")
        subfolders.setdefault(top if rest else "", {})[rest or top] = path
    listed = [(top, name, path) for top, files in subfolders.items() for name, path in files.items()]
    if len(listed) == len({name for _, name, _ in listed}):  # no name occurs in two subfolders
        entries = [Entry("/".join(filter(None, (top, name))), top, {"image": path}) for top, name, path in listed]
        return Gallery(folder.name, entries, ["image"], notes)
    panes = sorted(top or folder.name for top in subfolders)
    entries = {}
    for top, name, path in listed:
        entries.setdefault(name, Entry(name, name.rpartition("/")[0], {})).images[top or folder.name] = path
    return Gallery(folder.name, [entries[name] for name in sorted(entries)], panes, notes)


def _from_data_sets(folder: Path, images: dict[str, Path], found: dict, notes: list[str]) -> Gallery:
    """The gallery of a folder with the data sets `found`; images of none of them are entries with one pane."""
    report, entries, used = survey(folder), {}, set()
    for pair in report.pairs:
        truth = None if pair.boxes is None else people(pair).numpy()
        group = " ".join(filter(None, (pair.dataset, pair.split)))
        entries[pair.label] = Entry(pair.label, group, {"infrared": pair.ir, "visible": pair.visible}, truth,
                                    ir_range=pair.ir_range)
        used |= {pair.ir, pair.visible}
    sides = {side: pane for _, of in found.values() for _, *pair in of for side, pane in zip(pair, SOURCES)}
    around = {side.parent for side in sides}
    for name, path in images.items():
        if path in used:
            continue
        dataset = next((each for each, (root, _) in found.items() if root in path.parents), None)
        pane, label, group = "image", name, name.rpartition("/")[0]
        if dataset:
            parts = list(path.relative_to(found[dataset][0]).parts)
            if place := next((parent for parent in path.parents if parent.parent in around), None):
                pane = sides.get(place, place.name)
                parts.pop(len(place.relative_to(found[dataset][0]).parts) - 1)
            label, group = f"{dataset}/{name_of(parts)}", " ".join(filter(None, (dataset, part_of(name_of(parts))[0])))
        entries.setdefault(label, Entry(label, group, {})).images.setdefault(pane, path)
    panes = sorted({pane for entry in entries.values() for pane in entry.images}, key=_order)
    if FUSED not in panes:
        for entry in entries.values():
            entry.makes_fused = {*SOURCES} <= entry.images.keys()
        panes.append(FUSED)
    notes = list(dict.fromkeys([*report.notes, *map(str, report.problems), *notes]))
    return Gallery(folder.name, list(entries.values()), panes, notes, SOURCES)


def from_comparison(a, b) -> Gallery:
    """Two images or two folders, as for `fusionlib.compare`, which says what is raised."""
    paths = [Path(image).expanduser() if isinstance(image, str | Path) else None for image in (a, b)]
    are_folders = [path is not None and (path.is_dir() or "*" in str(path)) for path in paths]
    panes = _pane_names(paths)
    title = " and ".join(panes)
    if not any(are_folders):
        return Gallery(title, [Entry(title, "", dict(zip(panes, (a, b))))], panes)
    if not all(are_folders):
        folder, other = (a, b) if are_folders[0] else (b, a)
        other = other if isinstance(other, str | Path) else f"an image of type {type(other).__name__}"
        raise FusionError(f"{folder} is a folder, but {other} is not: give two folders or two images to compare")
    matched, problems = match_names(dict(zip(panes, paths)))
    return Gallery(title, [Entry(name, "", files) for name, files in matched.items()], panes, problems)


def _pane_names(paths: list[Path | None]) -> list[str]:
    """Two different names: the last parts in which the paths differ, or the file name, or "a" and "b"."""
    if None not in paths:
        for names in zip(*(Path(os.path.realpath(path)).parts[:0:-1] for path in paths)):
            if names[0] != names[1]:
                return list(names)
    return [(path and path.name) or letter for path, letter in zip(paths, "ab")]


def _order(pane: str) -> tuple[int, str]:
    """Sort key: infrared, visible, then the others by name."""
    return SOURCES.index(pane) if pane in SOURCES else len(SOURCES), pane


def file_name(text: str) -> str:
    """Turn a name into a valid file name: all but letters, digits, dots and dashes becomes an underscore."""
    return re.sub(r"[^\w.-]+", "_", text).strip("_.") or "view"
