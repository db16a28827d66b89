"""Label files of other tools: labelme's json, the bbGt text of KAIST and Caltech, and lists of class names."""

import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from fusionlib.data.problems import Problem
from fusionlib.utils.errors import first_line
from fusionlib.utils.files import LONGEST_TEXT, not_a_file, parse_json

# Files with the names of the classes that YOLO numbers, in order: of YOLO and labelImg, darknet, Roboflow.
CLASS_LISTS = re.compile(r"((?:predefined_)?classes\.txt|(?:class_)?names\.txt)|(.*\.names)|(_darknet\.labels)|"
                         r"(data\.ya?ml)|(.*\.ya?ml)", re.IGNORECASE)  # fmt: skip
YAML = (".yaml", ".yml")
BBGT = "% bbGt"  # the first line of such a text begins so
GROUP = "person group"
LONGEST_LABEL, LONGEST_LIST = 1 << 22, 1 << 18  # bytes: of the boxes of an image, and of a list of class names


def content_of(path: Path, longest: int = LONGEST_LABEL) -> bytes:
    """The content of a label file; ValueError for what is no regular file of at most `longest` bytes."""
    if found := not_a_file(path, longest):
        raise ValueError(f"it is {found}")
    return path.read_bytes()


def has_numbers(label: Path) -> bool:
    """Whether a label file is YOLO's, which has numbers in place of class names."""
    return label.suffix.lower() == ".txt" and not label.read_text("utf-8-sig").startswith(BBGT)


def class_names(label: Path, top: Path | None = None) -> dict[int, str] | None:
    """The names of YOLO's class numbers: from the list beside a label file or in the folders above it.

    `top` is the last folder that is searched, in which a yaml file has to be called data or like the folder below, as
    there may be those of others; without one above the label file, that above its own is the last. Returns None where
    no list is there; raises ValueError for one that is damaged.
    """
    shared, below = top if top in label.parents else None, label
    for place in label.parents:
        for path in _class_lists(place, place.stat().st_mtime_ns):
            named = path.suffix.lower() not in YAML or path.stem in ("data", below.name)
            names = _class_list(path, path.lstat().st_mtime_ns) if named or place != shared else None
            if isinstance(names, Exception):
                raise ValueError(f"its classes cannot be read from {path}, which should have names: [person, car] "
                                 f"({first_line(names)})")
            if names is not None:
                return names
        if place == (shared or label.parent.parent):
            return None
        below = place
    return None


@functools.lru_cache(maxsize=64)  # of as many files as there are labels
def _class_lists(folder: Path, modified: int) -> list[Path]:
    """The files that may be lists of class names in a folder, in the order of `CLASS_LISTS`."""
    try:
        names = sorted(os.listdir(folder))
    except PermissionError:  # such as the home of all users
        return []
    found = [(match.lastindex, name) for name in names if (match := CLASS_LISTS.fullmatch(name))]
    return [folder / name for _, name in sorted(found) if not (folder / name).is_dir()]


@functools.lru_cache(maxsize=64)
def _class_list(path: Path, modified: int) -> dict[int, str] | Exception | None:
    """The names in a list; None for a yaml file without `names`, the error of one that is damaged."""
    try:
        text = content_of(path, LONGEST_LIST).decode("utf-8-sig")
        if path.suffix.lower() not in (".yaml", ".yml"):
            return dict(enumerate(line.strip() for line in text.splitlines()))
        content = yaml.safe_load(text) if "names" in text else None
        names = content.get("names") if isinstance(content, dict) else None
        if names is None:
            return None
        names = dict(names if isinstance(names, dict) else enumerate(names))
        if any(isinstance(name, dict | list | set) for name in names.values()):  # which may be endless
            raise ValueError("a list is no name")
        return {int(index): str(name) for index, name in names.items()}
    except (OSError, yaml.YAMLError, TypeError, ValueError, OverflowError, RecursionError) as error:
        return error


def require_size(stated: Sequence[int | None], size: tuple[int, int]) -> None:
    """ValueError where labels state another (H, W) than that of their image; None: they state none."""
    if None not in stated and tuple(stated) != tuple(size):
        width, height = (str(side)[:12] for side in stated[::-1])
        raise ValueError(f"it is made for {width}x{height} pixels, its image has {size[1]}x{size[0]}")


def labelme_rows(path: Path, size: tuple[int, int]):
    """The rows and problems of a labelme file: the box around the points of each shape, see `checked_boxes`."""
    content = parse_json(content_of(path, LONGEST_TEXT))  # it may hold the image, too
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise ValueError("expected labelme's list of shapes, found none")
    require_size((content.get("imageHeight"), content.get("imageWidth")), size)
    rows, problems = [], []
    for number, shape in enumerate(content["shapes"], start=1):
        where = f"shape {number}"
        try:
            points = np.array(shape["points"], float)
            if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
                raise ValueError
            if shape.get("shape_type") == "circle":  # its centre, and a point on it
                points = points[0] + np.array([[-1], [1]]) * np.linalg.norm(points[1] - points[0])
            rows.append((where, str(shape["label"]).strip(), np.concatenate([points.min(0), points.max(0)])))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            problems.append(Problem(path, "label", f"{where} has no label and points of two numbers and is left out"))
    return rows, problems


def bbgt_rows(path: Path, text: str):
    """The rows and problems of a bbGt text: lines `class x y w h occluded x y w h ignore angle` after a first one.

    What has the ignore flag is a region to ignore.
    """
    rows, problems = [], []
    for number, line in enumerate(text.splitlines()[1:], start=2):
        if not line.strip():
            continue
        where, (name, *values) = f"line {number}", line.split()
        try:
            values = [float(value) for value in values]
            x, y, width, height = values[:4]
            if not np.isfinite(values).all():
                raise ValueError
        except ValueError:
            message = f"{where} is left out: expected 'class x y w h ...' in pixels, found {line.strip()[:60]!r}"
            problems.append(Problem(path, "label", message))
            continue
        ignored = len(values) > 9 and values[9] == 1
        rows.append((where, GROUP if ignored else name, np.array([x, y, x + width, y + height])))
    return rows, problems
