"""Read box annotations: VOC xml (coordinates as written), YOLO or bbGt txt, labelme json -> boxes and class names.

A box that cannot be used is left out and reported. Where nothing is left, or nobody while a person may have been left
out, the image counts as unlabelled: it would be learned and counted as one without people.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from xml.etree.ElementTree import ParseError

import numpy as np
from defusedxml import DTDForbidden, ElementTree

from fusionlib.data.label_formats import (
    BBGT,
    GROUP,
    bbgt_rows,
    class_names,
    content_of,
    labelme_rows,
    require_size,
)
from fusionlib.data.problems import Problem

#: The class of regions in which nothing is counted: people too many, too small or too hidden to be boxed one by one.
IGNORE = "ignore"

# Class names in the data sets -> one canonical name each (LLVIP: person; M3FD: People, Car, Bus, Motorcycle, Lamp,
# Truck; MSRS: person, bike, car). Hyphens and underscores count as blanks. People on vehicles, people who may be none
# and regions to ignore have the names of KAIST, CVC, Caltech ("person?", "person-fa", "cyclist"), CityPersons and
# EuroCity ("rider", "person group"), KITTI and VisDrone.
CLASSES = {
    **dict.fromkeys(("person", "persons", "people", "pedestrian", "pedestrians", "human", "man", "woman", "child"),
                    "person"),
    "car": "car", "bus": "bus", "truck": "truck", "lamp": "lamp",
    "motorcycle": "motorcycle", "motorbike": "motorcycle", "bicycle": "bicycle", "bike": "bicycle",
    **dict.fromkeys(("ignore", "ignored", "ignore region", "ignore regions", "ignored region", "ignored regions",
                     "dontcare", "dont care", "don't care", "person?", "person group", "crowd", "person fa",
                     "person fa?", "cyclist", "bicyclist", "motorcyclist", "rider", "sitting person", "person sitting",
                     "other person", "person group far away"), IGNORE),
}
PERSON = "person"
#: Names of unknown classes that may be of people: with such a word in them, or a number that no list names.
MAY_BE_PERSON = re.compile(r"person|people|pedestrian|human|\b(?:man|men|woman|women|child|children)\b|^-?[\d.]+$")
#: In these data sets, as in any whose class list has "person" too, "people" are a group; in M3FD each one is a person.
GROUP_SETS = ("kaist", "cvc", "caltech")

# Class indices of YOLO files without a list of class names. In the detection labels of MSRS, 0 is seen on people
# and 2 on cars; the meaning of other indices is not documented, so they are reported as unknown.
YOLO_NAMES = {"MSRS": {0: "person", 2: "car"}}
YOLO_DEFAULT = {0: "person"}
LARGEST = 1e6  # above any valid class index or coordinate
LARGEST_FRACTION = 2  # of the image: larger numbers are pixels


def read_labels(path: Path, size: tuple[int, int], dataset: str = "", top: Path | None = None):
    """Read the annotations of one image.

    Args:
        path: `.xml` (VOC, or KAIST's with x, y, w, h), `.json` (labelme) or `.txt` (YOLO: class cx cy w h per line, as
            fractions of the image size; or bbGt, which says so in its first line).
        size: (H, W) of the image in pixels.
        dataset: gives YOLO class indices their names where there is no list of them, and "people" its meaning.
        top: the last folder above `path` in which such a list is looked for, see `label_formats.class_names`.

    Returns boxes [N,4] float32 xyxy in pixels, their N class names, and a list of `Problem`. A box is clipped to the
    image, and reported if it exceeds it by more than 1 pixel; one without area inside or of an unknown class is dropped
    and reported. Boxes and names are None for an unreadable file, and where boxes were dropped so that none is left, or
    no person while a dropped one may have been one.
    """
    path, classes = Path(path), ()
    try:
        if path.suffix.lower() == ".xml":
            rows, problems = _voc_rows(path, size)
        elif path.suffix.lower() == ".json":
            rows, problems = labelme_rows(path, size)
        elif (text := content_of(path).decode("utf-8-sig")).startswith(BBGT):
            rows, problems = bbgt_rows(path, text)
            classes = (PERSON,)  # which the format has, so that people are a group
        else:
            names = class_names(path, top)
            names = YOLO_NAMES.get(dataset, YOLO_DEFAULT) if names is None else names
            classes = names.values()
            rows, problems = _yolo_rows(path, text, size, names)
    except (OSError, ParseError, ValueError, OverflowError, LookupError) as error:  # the last: an encoding of xml
        message = f"cannot be used, so its pair counts as unlabelled: {error}; correct or replace it"
        return None, None, [Problem(path, "label", message)]
    known = meaning([*classes, *(name for _, name, _ in rows)], dataset)
    return checked_boxes(path, [(where, known[name], box) for where, name, box in rows], problems, size)


def checked_boxes(path: Path, rows: list[tuple[str, str, np.ndarray]], problems: list[Problem], size: tuple[int, int],
                  image: str = ""):
    """What `read_labels` returns, from rows of (where in the file, class, box xyxy in pixels) and their problems.

    image: its name, where the file is about several.
    """
    doubtful = bool(problems)  # damaged rows, which may be of people
    boxes, classes = [], []
    for where, name, box in rows:
        known = class_of(name)
        if problem := _box_problem(where, name, box, size):
            problems.append(Problem(path, *problem))
        clipped = np.clip(box, 0, [size[1], size[0]] * 2)
        if known and (clipped[2:] > clipped[:2]).all() and not _is_fraction(box):
            boxes.append(clipped)
            classes.append(known)
        else:
            doubtful |= known in (PERSON, IGNORE) if known else bool(MAY_BE_PERSON.search(_plain(name)))
    nothing_left = not boxes and (rows or problems)
    if nothing_left or (doubtful and not {PERSON, IGNORE} & set(classes)):
        left = "no box" if nothing_left else "no box of a person"
        message = f"{image and image + ': '}{left} is left, so its pair counts as unlabelled; correct it"
        return None, None, [*problems, Problem(path, "label", message)]
    return np.array(boxes, np.float32).reshape(-1, 4), tuple(classes), problems


def meaning(names: Iterable[str], dataset: str = "") -> dict[str, str]:
    """Class names of a data set -> names for `CLASSES`, which differ for "people" where these are groups."""
    plain = {_plain(name) for name in names}
    groups = PERSON in plain or any(word in dataset.lower() for word in GROUP_SETS)
    return {name: GROUP if groups and _plain(name) == "people" else name for name in names}


def class_of(name: str) -> str | None:
    """The canonical name of a class, however it is written; None for an unknown one."""
    return CLASSES.get(_plain(name))


def _plain(name):
    return name.lower().replace("_", " ").replace("-", " ").strip()


def _is_fraction(box):
    """Whether a box, which should be in pixels, seems to be in fractions of the image."""
    return 0 <= box.min() <= box.max() <= 1


def _box_problem(where, name, box, size):
    """The problem of one box as (kind, message), or None."""
    height, width = size
    corners = ", ".join(f"{v:g}" for v in box)
    if class_of(name) is None:
        known = ", ".join(sorted(set(CLASSES.values())))
        return "class", f"{where} is of the unknown class {name[:60]!r} and left out; known classes are {known}"
    x1, y1, x2, y2 = box
    if not (x1 < x2 and y1 < y2):
        return "label", f"{where} has no area (x1, y1, x2, y2 = {corners}) and is left out"
    if _is_fraction(box):
        return "label", f"{where} is left out: expected pixels, found {corners}, which seem to be fractions"
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        return "label", f"{where} lies outside its {width}x{height} image ({corners}) and is left out"
    if min(x1, y1, width - x2, height - y2) < -1:
        return "label", f"{where} sticks out of its {width}x{height} image ({corners}) and is clipped"
    return None


def _voc_rows(path, size):
    try:
        root = ElementTree.fromstring(content_of(path), forbid_dtd=True)
    except DTDForbidden:
        raise ValueError("it declares a document type or entities, which annotations do not need") from None
    if root.tag != "annotation":
        raise ValueError(f"expected VOC's <annotation>, found <{root.tag}>")
    require_size([int(float(root.findtext(f"size/{side}", "0"))) or None for side in ("height", "width")], size)
    rows, problems = [], []
    for number, item in enumerate(root.iter("object"), start=1):
        where = f"object {number}"
        try:
            is_kaist = item.find("bndbox/w") is not None  # corner and size
            edges = ("x", "y", "w", "h") if is_kaist else ("xmin", "ymin", "xmax", "ymax")
            box = np.array([float(item.findtext(f"bndbox/{edge}")) for edge in edges])
            box[2:] += box[:2] * is_kaist
            if not np.isfinite(box).all():
                raise ValueError
        except (TypeError, ValueError):
            message = f"{where} has no bndbox of four numbers xmin, ymin, xmax, ymax and is left out"
            problems.append(Problem(path, "label", message))
            continue
        name = (item.findtext("name") or "").strip()
        difficult = (item.findtext("difficult") or "").strip() == "1" and class_of(name) == PERSON
        rows.append((where, IGNORE if difficult else name, box))  # as VOC's own evaluation does
    return rows, problems


def _yolo_rows(path, text, size, names):
    scale = np.array([size[1], size[0]] * 2)
    rows, problems = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        where, found = f"line {number}", line.strip()[:60]
        try:
            index, *values = (float(value) for value in line.split())
            cx, cy, w, h = values
            if not all(abs(value) < LARGEST for value in (index, *values)):  # false for NaN too
                raise ValueError
        except ValueError:
            message = f"{where} is left out: expected five numbers 'class cx cy w h', found {found!r}"
            problems.append(Problem(path, "label", message))
            continue
        if max(map(abs, values)) > LARGEST_FRACTION:
            message = (f"{where} lies outside its image and is left out: expected fractions of the image, found "
                       f"{found!r}, which seem to be pixels")
            problems.append(Problem(path, "label", message))
            continue
        box = np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]) * scale
        rows.append((where, names.get(index, f"{index:g}"), box))
    return rows, problems
