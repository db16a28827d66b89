"""Embedded default data: procedural, registered infrared and visible street scenes with labelled pedestrians.

A scene is drawn once, with two materials for everything in it: colour, lit by sun, sky, lamps, headlights and shop
windows, and temperature. Two simulated sensors then look at the same canvas. Dark clothes far from a lamp vanish in the
visible picture of a night; insulating clothes, or a pavement heated by the sun to the temperature of clothes, hide
people from the infrared one.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np

from fusionlib.data.synthetic import plan as plan
from fusionlib.data.synthetic import street as streets
from fusionlib.data.synthetic.canvas import Canvas, mask
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import write_atomically

DRAWING = 1                       # raise it when the same arguments come to draw another picture
SMALLEST, LARGEST = 64, 4096      # pixels along either side
LEAST_VISIBLE, LEAST_TALL = 0.3, 8 / 256   # share of a pedestrian, share of the picture's height: below, no label


@dataclass(frozen=True)
class Scene:
    """One registered pair.

    `ir` uint8 [H, W]; `visible` uint8 [H, W, 3], RGB; `boxes` float32 [N, 4], xyxy pixels, tight around what is seen of
    each labelled pedestrian; `distances` float32 [N], metres in front of the camera; `people` uint8 [H, W]: k + 1
    where the person of boxes[k] is seen, 255 where a person is seen too little or too small for a label, 0 elsewhere.
    """

    ir: np.ndarray
    visible: np.ndarray
    boxes: np.ndarray
    distances: np.ndarray
    people: np.ndarray
    night: bool


def render(index: int, seed: int = 0, size: tuple[int, int] = (256, 320)) -> Scene:
    """Draw scene number `index` of the sequence `seed` at `size` (height, width).

    The same arguments give the same bytes; another size of the same shape gives the same scene at another resolution.
    Raises FusionError where an argument is out of range.
    """
    _check(index, seed, size)
    rng = np.random.Generator(np.random.SFC64([seed, index]))
    night = bool(rng.random() < 0.55)
    street = streets.plan(rng, night)
    camera, light = plan.camera(rng, street, size), plan.light(rng, street)
    scenery = plan.Scenery(rng, street, camera, light)
    canvas = Canvas(camera, light)
    shadows = 1 - 0.85 * cv2.GaussianBlur(mask(size, scenery.shadows), (0, 0), 0.5 + size[0] / 400) / np.float32(255)
    streets.paint(canvas, street, rng, shadows)
    items, whole = sorted(scenery.items, key=lambda item: -item.depth), {}
    for item in items:
        item.draw(canvas)
        if item.person:
            whole[item.person] = np.count_nonzero(canvas.people == item.person)
    boxes, distances, seen = _label(canvas, items, whole)
    picture = cv2.resize(canvas.image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    ir = _infrared_sensor(picture[..., 3], street, seed, rng)
    visible = _visible_sensor(picture[..., :3], night, rng)
    return Scene(ir, visible, boxes, distances, seen, night)


def _check(index, seed, size):
    for name, value in (("index", index), ("seed", seed)):
        if not isinstance(value, int | np.integer) or value < 0:
            raise FusionError(f"{name} of an embedded scene must be a whole number from 0 on, found {value!r}.")
    if (not isinstance(size, tuple | list) or len(size) != 2
            or not all(isinstance(n, int | np.integer) and SMALLEST <= n <= LARGEST for n in size)):
        raise FusionError(f"size of an embedded scene must be (height, width), two whole numbers from {SMALLEST} to "
                          f"{LARGEST} pixels, found {size!r}.")


def _label(canvas, items, whole):
    """Boxes, distances and the mask of people at the size of the picture."""
    seen = np.maximum(canvas.people[::2, ::2], canvas.people[1::2, 1::2])
    numbers = np.zeros(256, np.uint8)
    numbers[1:] = 255
    boxes, distances = [], []
    count = np.bincount(canvas.people.ravel(), minlength=256)
    for item in (item for item in items if item.person and whole[item.person]):
        where = seen == item.person
        columns, rows = np.flatnonzero(where.any(0)), np.flatnonzero(where.any(1))
        share = item.framed * count[item.person] / whole[item.person]
        if share >= LEAST_VISIBLE and len(rows) and rows[-1] + 1 - rows[0] >= LEAST_TALL * seen.shape[0]:
            boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
            distances.append(item.depth)
            numbers[item.person] = len(boxes)
    return (np.array(boxes, np.float32).reshape(-1, 4), np.array(distances, np.float32), numbers[seen])


@lru_cache(maxsize=4)
def _pattern(seed, size):
    """The fixed pattern of one uncooled infrared sensor: columns, pixels, and warm corners."""
    rng = np.random.default_rng([seed, 7])
    height, width = size
    y, x = np.mgrid[-1:1:height * 1j, -1:1:width * 1j]
    pattern = 0.006 * rng.standard_normal((1, width)) + 0.005 * rng.standard_normal(size) + 0.02 * (x * x + y * y)
    return pattern.astype(np.float32)


def _infrared_sensor(degrees, street, seed, rng):
    """Blur, automatic gain, fixed pattern and temporal noise: float degrees [H, W] to uint8, hot is white."""
    size = degrees.shape
    degrees = cv2.GaussianBlur(degrees, (0, 0), 0.75 * size[0] / 256)
    low, high = map(float, np.percentile(degrees[::4, ::4], (1.0, 99.6)))
    low, high = max(low, street.air - 4), max(high, street.air + 9)
    signal = (degrees - low) / (high - low) * 0.92 + 0.03
    signal += _pattern(seed, size) + np.float32(0.011) * rng.standard_normal(size, np.float32)
    return (signal.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _visible_sensor(radiance, night, rng):
    """Exposure, glare, shot and read noise, tone curve: linear RGB [H, W, 3] to uint8."""
    height, width = radiance.shape[:2]
    mean = np.minimum(radiance[::4, ::4], 1).mean()
    signal = radiance * np.float32(np.clip((0.045 if night else 0.3) / mean, 0.6, 3.0))
    bright = cv2.resize(np.clip(signal - 1, 0, 25), (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    glare = 0.12 * cv2.GaussianBlur(bright, (0, 0), height / 200) + 0.1 * cv2.GaussianBlur(bright, (0, 0), height / 50)
    signal = cv2.GaussianBlur(signal, (0, 0), 0.4 * height / 256) + cv2.resize(glare, (width, height))
    shot, read = (0.0016, 0.0042) if night else (0.0004, 0.002)
    noise = rng.standard_normal(signal.shape, np.float32)
    signal += noise * np.sqrt(shot * np.maximum(signal, 0) + read * read)
    return (255 * np.sqrt(1 - np.exp(-1.25 * np.maximum(signal, 0))) + 0.5).astype(np.uint8)


def write(folder, train: int, test: int, seed: int = 0, size: tuple[int, int] = (256, 320)) -> Path:
    """Write `train` + `test` pairs as a data set in the official layout of LLVIP, and return its folder.

    infrared/{train,test}/NNNNNN.png, visible/{train,test}/NNNNNN.png and Annotations/NNNNNN.xml (VOC, corners in pixels
    from 0 on); the test pairs take the numbers after the training pairs. What is there already is left as it is,
    what is missing is added, and no file is ever half written. Raises FusionError where the folder holds other scenes.
    """
    folder, marker = Path(folder), Path(folder) / "scenes.json"
    for name, count in (("train", train), ("test", test)):
        if not isinstance(count, int | np.integer) or count < 0:
            raise FusionError(f"{name} must be a whole number of embedded scenes from 0 on, found {count!r}.")
    _check(0, seed, size)
    wanted = {"drawing": DRAWING, "train": int(train), "test": int(test), "seed": int(seed), "size": [*map(int, size)]}
    if marker.exists():
        found = _parameters(marker)
        if {name: found.get(name) for name in wanted} != wanted:
            raise FusionError(f"{marker}: expected embedded scenes with {wanted}, found {found}; give another "
                              "folder, or delete this one.")
    write_atomically(marker, json.dumps({**wanted, "finished": False}).encode())
    for index in range(train + test):
        split, stem = "train" if index < train else "test", f"{index + 1:06d}"
        paths = [folder / "infrared" / split / f"{stem}.png", folder / "visible" / split / f"{stem}.png",
                 folder / "Annotations" / f"{stem}.xml"]
        if not all(path.exists() for path in paths):
            scene = render(index, seed, size)
            contents = _png(scene.ir), _png(scene.visible[..., ::-1]), _voc(stem, scene)
            for path, content in zip(paths, contents):
                write_atomically(path, content)
    write_atomically(marker, json.dumps({**wanted, "finished": True}).encode())
    return folder


def _parameters(marker):
    try:
        found = json.loads(marker.read_text())
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def _png(image):
    return cv2.imencode(".png", image)[1].tobytes()


def _voc(stem, scene):
    """The annotation of one scene as VOC xml."""
    height, width = scene.ir.shape
    root = ElementTree.Element("annotation")

    def add(parent, **texts):
        for tag, text in texts.items():
            ElementTree.SubElement(parent, tag).text = str(text)

    add(root, filename=f"{stem}.png")
    add(ElementTree.SubElement(root, "size"), width=width, height=height, depth=3)
    for box in scene.boxes.astype(int):
        item = ElementTree.SubElement(root, "object")
        add(item, name="person", difficult=0)
        add(ElementTree.SubElement(item, "bndbox"), **dict(zip(("xmin", "ymin", "xmax", "ymax"), box)))
    ElementTree.indent(root)
    return ElementTree.tostring(root)
