"""Read box annotations: Pascal VOC xml (coordinates as written) and YOLO txt -> boxes in pixels and class names."""

from pathlib import Path
from xml.etree.ElementTree import ParseError

import numpy as np
from defusedxml import DTDForbidden, ElementTree

from fusionlib.data.pairs import Problem

#: The class of regions in which nothing is counted: people too many, too small or too hidden to be boxed one by one.
IGNORE = "ignore"

# Class names in the data sets -> one canonical name each (LLVIP: person; M3FD: People, Car, Bus, Motorcycle, Lamp,
# Truck; MSRS: person, bike, car). Regions to ignore have the names of VisDrone, KITTI, CityPersons (a "person group"),
# KAIST and CVC ("person?"). "people" is a person, as M3FD means it, though KAIST calls a group so.
CLASSES = {
    "person": "person", "people": "person", "pedestrian": "person",
    "car": "car", "bus": "bus", "truck": "truck", "lamp": "lamp",
    "motorcycle": "motorcycle", "motorbike": "motorcycle", "bicycle": "bicycle", "bike": "bicycle",
    **dict.fromkeys(("ignore", "ignored", "ignore region", "ignore regions", "ignored region", "ignored regions",
                     "dontcare", "don't care", "person?", "person group", "crowd"), IGNORE),
}

# Class indices of YOLO files without a classes.txt beside them. In the detection labels of MSRS, 0 is seen on people
# and 2 on cars; the meaning of other indices is not documented, so they are reported as unknown.
YOLO_NAMES = {"MSRS": {0: "person", 2: "car"}}
YOLO_DEFAULT = {0: "person"}
LARGEST = 1e6  # above any valid class index or fraction of an image


def read_labels(path: Path, size: tuple[int, int], dataset: str = ""):
    """Read the annotations of one image.

    Args:
        path: `.xml` (VOC) or `.txt` (YOLO: class cx cy w h per line, as fractions of the image size).
        size: (H, W) of the image in pixels.
        dataset: gives YOLO class indices their names where `path` has no `classes.txt` beside it.

    Returns boxes [N,4] float32 xyxy in pixels, their N class names, and a list of `Problem`. A box is clipped to the
    image, and reported if it exceeds it by more than 1 pixel; one without area inside or of an unknown class is dropped
    and reported. For an unreadable file, boxes and names are None.
    """
    path = Path(path)
    try:
        rows, problems = (_voc_rows if path.suffix.lower() == ".xml" else _yolo_rows)(path, size, dataset)
    except (OSError, UnicodeDecodeError, ParseError, ValueError) as error:
        message = f"cannot be used, so its pair counts as unlabelled: {error}; correct or replace it"
        return None, None, [Problem(path, "label", message)]
    return checked_boxes(path, rows, problems, size)


def checked_boxes(path: Path, rows: list[tuple[str, str, np.ndarray]], problems: list[Problem], size: tuple[int, int]):
    """What `read_labels` returns, from rows of (where in the file, class, box xyxy in pixels) and their problems."""
    if problems and not rows:  # damage alone is not the same as an image without people
        return None, None, problems
    boxes, classes = [], []
    for where, name, box in rows:
        if problem := _box_problem(where, name, box, size):
            problems.append(Problem(path, *problem))
        clipped = np.clip(box, 0, [size[1], size[0]] * 2)
        if name.lower() in CLASSES and (clipped[2:] > clipped[:2]).all():
            boxes.append(clipped)
            classes.append(CLASSES[name.lower()])
    return np.array(boxes, np.float32).reshape(-1, 4), tuple(classes), problems


def _box_problem(where, name, box, size):
    """The problem of one box as (kind, message), or None."""
    height, width = size
    corners = ", ".join(f"{v:g}" for v in box)
    if name.lower() not in CLASSES:
        known = ", ".join(sorted(set(CLASSES.values())))
        return "class", f"{where} is of the unknown class {name!r} and left out; known classes are {known}"
    x1, y1, x2, y2 = box
    if not (x1 < x2 and y1 < y2):
        return "label", f"{where} has no area (x1, y1, x2, y2 = {corners}) and is left out"
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        return "label", f"{where} lies outside its {width}x{height} image ({corners}) and is left out"
    if min(x1, y1, width - x2, height - y2) < -1:
        return "label", f"{where} sticks out of its {width}x{height} image ({corners}) and is clipped"
    return None


def _voc_rows(path, size, dataset):
    try:
        root = ElementTree.fromstring(path.read_bytes(), forbid_dtd=True)
    except DTDForbidden:
        raise ValueError("it declares a document type or entities, which annotations do not need") from None
    if root.tag != "annotation":
        raise ValueError(f"expected VOC's <annotation>, found <{root.tag}>")
    stated = [int(float(root.findtext(f"size/{side}", "0"))) for side in ("height", "width")]
    if all(stated) and tuple(stated) != tuple(size):
        raise ValueError(f"it is made for {stated[1]}x{stated[0]} pixels, its image has {size[1]}x{size[0]}")
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
    class_list = path.with_name("classes.txt")
    names = YOLO_NAMES.get(dataset, YOLO_DEFAULT)
    if class_list.is_file():
        names = dict(enumerate(line.strip() for line in class_list.read_text("utf-8-sig").splitlines()))
    scale = np.array([size[1], size[0]] * 2)
    rows, problems = [], []
    for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            index, cx, cy, w, h = (float(value) for value in line.split())
            if not all(abs(value) < LARGEST for value in (index, cx, cy, w, h)):  # false for NaN too
                raise ValueError
        except ValueError:
            message = f"{where} is left out: expected five numbers 'class cx cy w h', found {line.strip()[:60]!r}"
            problems.append(Problem(path, "label", message))
            continue
        box = np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]) * scale
        rows.append((where, names.get(index, f"{index:g}"), box))
    return rows, problems
