"""What there is to look at: entries with the same scene in several panes, from any folder or from two images."""

import re
from collections.abc import Mapping
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
    """One scene.

    name, group: its own, and of the set that it belongs to. images: {pane: what `data.images.understand` takes}. truth:
    boxes of people [N,4] xyxy in pixels of the images, None without labels. answer: of the language model. metrics:
    {pane: {metric: value}} and people: {pane: [n,5] xyxy and score}, as far as they are known.
    """

    name: str
    group: str
    images: dict[str, object]
    truth: np.ndarray | None = None
    answer: Answer | None = None
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    people: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class Gallery:
    """Entries in order, the panes in order, and what to know about them.

    title: for people. notes: sentences on what is not there, and how to make it. sources: the panes of the infrared and
    the visible image, where there are both. saves: the folder for figures.
    """

    title: str
    entries: list[Entry]
    panes: list[str]
    notes: list[str] = field(default_factory=list)
    sources: tuple[str, str] | None = None
    saves: Path = Path(".")

    def sources_of(self, entry: Entry) -> tuple[object, object] | None:
        """The infrared and the visible image of an entry that has both."""
        if self.sources and all(pane in entry.images for pane in self.sources):
            return tuple(entry.images[pane] for pane in self.sources)
        return None


def of_folder(folder: Path) -> Gallery:
    """All pictures below a folder; folders in it that share names of pictures are panes, side by side.

    Raises:
        FusionError: no folder, or no picture in it.
    """
    files: dict[str, dict[str, Path]] = {}  # {top folder: {name: file}}
    for path in find_images(folder):
        top, *rest = path.relative_to(folder).with_suffix("").parts
        files.setdefault(top if rest else "", {}).setdefault("/".join(rest or [top]), path)
    names = [name for pictures in files.values() for name in pictures]
    if len(names) == len(set(names)):  # nothing is there twice: the folders are groups of different pictures
        entries = [Entry("/".join(filter(None, (top, name))), top, {"image": path})
                   for top, pictures in files.items() for name, path in pictures.items()]  # fmt: skip
        return Gallery(folder.name, entries, ["image"])
    panes = sorted((top or folder.name for top in files), key=_place)
    entries = {}
    for top, pictures in files.items():
        for name, path in pictures.items():
            group = name.rpartition("/")[0]
            entries.setdefault(name, Entry(name, group, {})).images[top or folder.name] = path
    ir, visible = (next((pane for pane in panes if pane.lower() in known), None) for known in (INFRARED, VISIBLE))
    return Gallery(folder.name, [entries[name] for name in sorted(entries)], panes,
                   sources=(ir, visible) if ir and visible else None)  # fmt: skip


def of_two(a, b) -> Gallery:
    """Two images, each of any kind that `fusionlib.fuse` takes, or two folders of pictures with names in common.

    Raises:
        FusionError: a folder and something else, or folders without a name in common.
    """
    paths = [Path(each).expanduser() if isinstance(each, str | Path) else None for each in (a, b)]
    folders = [path is not None and (path.is_dir() or "*" in path.name) for path in paths]
    panes = _titles(paths)
    title = " and ".join(panes)
    if not any(folders):
        return Gallery(title, [Entry(title, "", dict(zip(panes, (a, b))))], panes)
    if not all(folders):
        one, other = (a, b) if folders[0] else (b, a)
        what = f"an image of type {type(other).__name__}" if not isinstance(other, str | Path) else other
        raise FusionError(f"{one} is a folder, {what} is none: give two folders or two images to compare")
    found, problems = match_names(dict(zip(panes, paths)))
    return Gallery(title, [Entry(name, "", files) for name, files in found.items()], panes, problems)


def _titles(paths: list[Path | None]) -> list[str]:
    """Two different names for what is compared: of the files or folders, as far as they differ."""
    if None not in paths:
        parts = [path.resolve().parts for path in paths]
        for depth in range(1, min(map(len, parts))):
            if parts[0][-depth] != parts[1][-depth]:
                return [part[-depth] for part in parts]
    names = [path.name if path else None for path in paths]
    return [name or fallback for name, fallback in zip(names, ("a", "b"))]


def _place(pane: str) -> tuple[int, str]:
    """Infrared before visible before all others, and these by name."""
    order: Mapping[str, int] = dict.fromkeys(INFRARED, 0) | dict.fromkeys(VISIBLE, 1)
    return order.get(pane.lower(), 2), pane


def file_name(text: str) -> str:
    """A name as part of a file name: letters, digits, dots and dashes stay."""
    return re.sub(r"[^\w.-]+", "_", text).strip("_.") or "view"
