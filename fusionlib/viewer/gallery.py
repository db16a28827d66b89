"""The entries of a viewer, each one scene in several panes: from a folder, or from two images or folders to compare."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fusionlib.data.image_io import find_images
from fusionlib.data.layouts import INFRARED, VISIBLE
from fusionlib.data.matching import match_names
from fusionlib.feedback.store import Answer
from fusionlib.utils.errors import FusionError


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


@dataclass
class Gallery:
    """Entries and panes, in the order in which they are shown."""

    title: str
    entries: list[Entry]
    panes: list[str]
    notes: list[str] = field(default_factory=list)  # sentences on what is missing and how to make it
    sources: tuple[str, str] | None = None  # the panes of the infrared and the visible image, if there are both
    saves: Path = Path(".")  # folder for figures


def from_folder(folder: Path) -> Gallery:
    """All images below a folder; its subfolders are panes if they have file names in common, and groups otherwise.

    Raises FusionError for a missing folder, and for one without images.
    """
    subfolders: dict[str, dict[str, Path]] = {}  # {subfolder: {name: file}}
    for path in find_images(folder):
        top, *rest = path.relative_to(folder).with_suffix("").parts
        subfolders.setdefault(top if rest else "", {}).setdefault("/".join(rest or [top]), path)
    images = [(top, name, path) for top, files in subfolders.items() for name, path in files.items()]
    if len(images) == len({name for _, name, _ in images}):  # no name occurs in two subfolders
        entries = [Entry("/".join(filter(None, (top, name))), top, {"image": path}) for top, name, path in images]
        return Gallery(folder.name, entries, ["image"])
    panes = sorted((top or folder.name for top in subfolders), key=_order)
    entries = {}
    for top, name, path in images:
        entries.setdefault(name, Entry(name, name.rpartition("/")[0], {})).images[top or folder.name] = path
    ir, visible = (next((pane for pane in panes if pane.lower() in names), None) for names in (INFRARED, VISIBLE))
    return Gallery(folder.name, [entries[name] for name in sorted(entries)], panes,
                   sources=(ir, visible) if ir and visible else None)


def from_comparison(a, b) -> Gallery:
    """Two images or two folders, as for `fusionlib.compare`, which says what is raised."""
    paths = [Path(image).expanduser() if isinstance(image, str | Path) else None for image in (a, b)]
    are_folders = [path is not None and (path.is_dir() or "*" in path.name) for path in paths]
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
        for names in zip(*(path.resolve().parts[:0:-1] for path in paths)):
            if names[0] != names[1]:
                return list(names)
    return [(path and path.name) or letter for path, letter in zip(paths, "ab")]


def _order(pane: str) -> tuple[int, str]:
    """Sort key: infrared, visible, then the others by name."""
    return 0 if pane.lower() in INFRARED else 1 if pane.lower() in VISIBLE else 2, pane


def file_name(text: str) -> str:
    """Turn a name into a valid file name: all but letters, digits, dots and dashes becomes an underscore."""
    return re.sub(r"[^\w.-]+", "_", text).strip("_.") or "view"
