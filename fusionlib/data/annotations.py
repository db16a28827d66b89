"""Labels of people and things: Pascal VOC xml and YOLO txt -> boxes in pixels and class names.

Coordinates of VOC files are taken as written. What cannot be used is reported and left out; the rest counts.
"""

from pathlib import Path
from xml.etree.ElementTree import ParseError

import numpy as np
from defusedxml import DTDForbidden, ElementTree

from fusionlib.data.pairs import Problem

# The names that the data sets use -> one canonical name each (LLVIP: person; M3FD: People, Car, Bus, Motorcycle, Lamp,
# Truck; MSRS: person, bike, car).
CLASSES = {
    "person": "person", "people": "person", "pedestrian": "person",
    "car": "car", "bus": "bus", "truck": "truck", "lamp": "lamp",
    "motorcycle": "motorcycle", "motorbike": "motorcycle", "bicycle": "bicycle", "bike": "bicycle",
}
KNOWN = ", ".join(sorted(set(CLASSES.values())))

# What the numbers in YOLO files mean where no classes.txt beside them says so. In the detection labels of MSRS, 0 is
# seen on people and 2 on cars; other numbers are not known to us and so reported.
YOLO_NAMES = {"MSRS": {0: "person", 2: "car"}}
YOLO_DEFAULT = {0: "person"}
LARGEST = 1e6  # no fraction of a picture and no class is so large, and nan is not smaller


def read_labels(path: Path, size: tuple[int, int], dataset: str = ""):
    """Read the labels of one picture.

    Args:
        path: `.xml` (VOC) or `.txt` (YOLO: class cx cy w h per line, in fractions of the picture).
        size: (H, W) of the picture in pixels.
        dataset: name of the data set, for the meaning of YOLO numbers; a `classes.txt` beside `path` goes first.

    Returns:
        boxes [N,4] float32 xyxy in pixels, their N class names, and a list of `Problem`. A box that sticks out of the
        picture is clipped, and reported from 1 pixel on; one without area inside, or of an unknown class, is dropped
        and reported. For a file that cannot be read at all, boxes and names are None.
    """
    path = Path(path)
    try:
        rows, problems = (_voc_rows if path.suffix.lower() == ".xml" else _yolo_rows)(path, size, dataset)
    except (OSError, UnicodeDecodeError, ParseError, ValueError) as error:
        message = f"cannot be used, so its pair counts as unlabelled: {error}; mend or replace it"
        return None, None, [Problem(path, "label", message)]
    if problems and not rows:  # nothing but damage: not the same as a picture without people
        return None, None, problems
    boxes, classes = [], []
    for where, name, box in rows:
        problem = _misfit(where, name, box, size)
        if problem:
            problems.append(Problem(path, *problem))
        clipped = np.clip(box, 0, [size[1], size[0]] * 2)
        if name.lower() in CLASSES and (clipped[2:] > clipped[:2]).all():
            boxes.append(clipped)
            classes.append(CLASSES[name.lower()])
    return np.array(boxes, np.float32).reshape(-1, 4), tuple(classes), problems


def _misfit(where, name, box, size):
    """What is wrong with one box, as (kind, message), or None."""
    height, width = size
    drawn = ", ".join(f"{v:g}" for v in box)
    if name.lower() not in CLASSES:
        return "class", f"{where} is of the unknown class {name!r} and left out; known are {KNOWN}"
    x1, y1, x2, y2 = box
    if not (x1 < x2 and y1 < y2):
        return "label", f"{where} has no area (x1, y1, x2, y2 = {drawn}) and is left out"
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        return "label", f"{where} lies outside its {width}x{height} picture ({drawn}) and is left out"
    if min(x1, y1, width - x2, height - y2) < -1:
        return "label", f"{where} sticks out of its {width}x{height} picture ({drawn}) and is clipped"
    return None


def _voc_rows(path, size, dataset):
    try:
        root = ElementTree.fromstring(path.read_bytes(), forbid_dtd=True)
    except DTDForbidden:
        raise ValueError("it declares a document type or entities, which labels have no use for") from None
    if root.tag != "annotation":
        raise ValueError(f"expected VOC's <annotation>, found <{root.tag}>")
    written = [int(float(root.findtext(f"size/{side}", "0"))) for side in ("height", "width")]
    if all(written) and tuple(written) != tuple(size):
        raise ValueError(f"it is made for {written[1]}x{written[0]} pixels, its picture has {size[1]}x{size[0]}")
    rows, problems = [], []
    for number, item in enumerate(root.iter("object"), start=1):
        where = f"object {number}"
        try:
            box = np.array([float(item.findtext(f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax")])
            if not np.isfinite(box).all():
                raise ValueError
        except (TypeError, ValueError):
            message = f"{where} has no bndbox of four numbers xmin, ymin, xmax, ymax and is left out"
            problems.append(Problem(path, "label", message))
            continue
        rows.append((where, (item.findtext("name") or "").strip(), box))
    return rows, problems


def _yolo_rows(path, size, dataset):
    listed = path.with_name("classes.txt")
    names = YOLO_NAMES.get(dataset, YOLO_DEFAULT)
    if listed.is_file():
        names = dict(enumerate(line.strip() for line in listed.read_text("utf-8-sig").splitlines()))
    scale = np.array([size[1], size[0]] * 2)
    rows, problems = [], []
    for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            index, cx, cy, w, h = (float(value) for value in line.split())
            if not all(abs(value) < LARGEST for value in (index, cx, cy, w, h)):
                raise ValueError
        except ValueError:
            message = f"{where} is left out: expected five numbers 'class cx cy w h', found {line.strip()[:60]!r}"
            problems.append(Problem(path, "label", message))
            continue
        box = np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]) * scale
        rows.append((where, names.get(index, f"{index:g}"), box))
    return rows, problems
