"""Synthetic street scenes: procedural, registered infrared and visible images with labelled pedestrians.

Every surface has a temperature and a colour, which is lit by sun, sky, lamps, headlights and shop windows. Two
simulated sensors image the same canvas. Dark clothes far from a lamp vanish in the visible image at night; insulating
clothes, or a pavement as warm as clothes, hide people in the infrared one.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np

from fusionlib.data.synthetic.canvas import Canvas, coverage
from fusionlib.data.synthetic.plan import Scenery, random_camera, random_light
from fusionlib.data.synthetic.street import draw_street, random_street
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import read_json, write_atomically

DRAWING = 1                       # version of the drawing: increase it when the same arguments give another image
SIZES = ("height", "width"), 64, 4096   # axes, smallest and largest number of pixels
LEAST_VISIBLE, LEAST_TALL = 0.3, 8 / 256   # visible share of a pedestrian, share of the image's height: below, no label


@dataclass(frozen=True)
class Scene:
    """One registered pair.

    `ir` uint8 [H, W]; `visible` uint8 [H, W, 3], RGB; `boxes` float32 [N, 4], xyxy pixels, tight around the visible
    pixels of each labelled pedestrian; `distances` float32 [N] from the camera in metres; `people` uint8 [H, W]: k + 1
    on the person of boxes[k], 255 on people that are too small or too occluded for a label, 0 elsewhere.
    """

    ir: np.ndarray
    visible: np.ndarray
    boxes: np.ndarray
    distances: np.ndarray
    people: np.ndarray
    night: bool


def render(index: int, seed: int = 0, size: tuple[int, int] = (256, 320)) -> Scene:
    """Render scene number `index` of the sequence `seed` at `size` (height, width).

    The same arguments give the same bytes; another size of the same shape gives the same scene at another resolution.
    Raises FusionError where an argument is out of range.
    """
    check_arguments("synthetic scenes", size, *SIZES, index=index, seed=seed)
    rng = np.random.Generator(np.random.SFC64([seed, index]))
    night = bool(rng.random() < 0.55)
    street = random_street(rng, night)
    camera, light = random_camera(rng, street, size), random_light(rng, street)
    scenery = Scenery(rng, street, camera, light)
    canvas = Canvas(camera, light)
    shadows = cv2.GaussianBlur(coverage(size, scenery.shadows), (0, 0), 0.5 + size[0] / 400)
    draw_street(canvas, street, rng, 1 - 0.85 * shadows / np.float32(255))
    items, whole = sorted(scenery.items, key=lambda item: -item.depth), {}
    for item in items:
        item.draw(canvas)
        if item.person:
            whole[item.person] = np.count_nonzero(canvas.people == item.person)
    boxes, distances, people = _label(canvas, items, whole)
    image = cv2.resize(canvas.image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    ir = _infrared_sensor(image[..., 3], street, seed, rng)
    return Scene(ir, _visible_sensor(image[..., :3], night, rng), boxes, distances, people, night)


def check_arguments(what, size, axes, smallest, largest, **numbers):
    """Raise FusionError unless `numbers` are integers from 0 on and `size` has integers in range."""
    for name, value in numbers.items():
        if not isinstance(value, int | np.integer) or value < 0:
            raise FusionError(f"{what}: {name} must be an integer from 0 on, found {value!r}")
    if (not isinstance(size, tuple | list) or len(size) != len(axes)
            or not all(isinstance(n, int | np.integer) and smallest <= n <= largest for n in size)):
        raise FusionError(f"{what}: size must be ({', '.join(axes)}), integers from {smallest} to {largest}, found "
                          f"{size!r}")


def _label(canvas, items, whole):
    """Boxes, distances and the mask of people at the size of the image; `whole`: pixels of each unoccluded person."""
    visible = np.maximum(canvas.people[::2, ::2], canvas.people[1::2, 1::2])
    numbers = np.array([0] + 255 * [255], np.uint8)
    boxes, distances = [], []
    count = np.bincount(canvas.people.ravel(), minlength=256)
    for item in (item for item in items if item.person and whole[item.person]):
        x, y, width, height = cv2.boundingRect((visible == item.person).astype(np.uint8))
        share = item.framed * count[item.person] / whole[item.person]
        if share >= LEAST_VISIBLE and height >= LEAST_TALL * visible.shape[0]:
            boxes.append((x, y, x + width, y + height))
            distances.append(item.depth)
            numbers[item.person] = len(boxes)
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(distances, np.float32), numbers[visible]


@lru_cache(maxsize=4)
def _fixed_pattern(seed, size):
    """Fixed-pattern noise of an uncooled infrared sensor: columns, pixels, and warm corners."""
    rng = np.random.default_rng([seed, 7])
    y, x = np.mgrid[-1:1:size[0] * 1j, -1:1:size[1] * 1j]
    pattern = 0.006 * rng.standard_normal((1, size[1])) + 0.005 * rng.standard_normal(size) + 0.02 * (x * x + y * y)
    return pattern.astype(np.float32)


def _infrared_sensor(degrees, street, seed, rng):
    """Blur, automatic gain, fixed-pattern and temporal noise: degrees Celsius [H, W] to uint8, white hot."""
    size = degrees.shape
    degrees = cv2.GaussianBlur(degrees, (0, 0), 0.75 * size[0] / 256)
    low, high = map(float, np.percentile(degrees[::4, ::4], (1.0, 99.6)))
    low, high = max(low, street.air - 4), max(high, street.air + 9)
    signal = (degrees - low) / (high - low) * 0.92 + 0.03
    signal += _fixed_pattern(seed, size) + np.float32(0.011) * rng.standard_normal(size, np.float32)
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
    signal += rng.standard_normal(signal.shape, np.float32) * np.sqrt(shot * np.maximum(signal, 0) + read * read)
    return (255 * np.sqrt(1 - np.exp(-1.25 * np.maximum(signal, 0))) + 0.5).astype(np.uint8)


def write(folder, train: int, test: int, seed: int = 0, size: tuple[int, int] = (256, 320)) -> Path:
    """Write `train` + `test` pairs as a data set in the official layout of LLVIP, and return its folder.

    {infrared,visible}/{train,test}/NNNNNN.png and Annotations/NNNNNN.xml (VOC, corners in pixels from 0 on), test pairs
    numbered after the training pairs. Existing files stay, missing ones are added, each written atomically. Raises
    FusionError where an argument is out of range or the folder holds other scenes.
    """
    folder, marker = Path(folder), Path(folder) / "scenes.json"
    check_arguments("synthetic scenes", size, *SIZES, train=train, test=test, seed=seed)
    wanted = {"drawing": DRAWING, "train": int(train), "test": int(test), "seed": int(seed), "size": [*map(int, size)]}
    found = read_json(marker) if marker.exists() else wanted
    if found is None or any(found.get(name) != value for name, value in wanted.items()):
        raise FusionError(f"{marker}: expected synthetic scenes with {wanted}, found {found}; give another folder, or "
                          "delete this one")
    write_atomically(marker, json.dumps({**wanted, "finished": False}).encode())
    for index in range(train + test):
        split, stem = "train" if index < train else "test", f"{index + 1:06d}"
        ir, visible = (folder / modality / split / f"{stem}.png" for modality in ("infrared", "visible"))
        annotation = folder / "Annotations" / f"{stem}.xml"
        if not (ir.exists() and visible.exists() and annotation.exists()):
            scene = render(index, seed, size)
            for path, image in ((ir, scene.ir), (visible, scene.visible[..., ::-1])):
                write_atomically(path, cv2.imencode(".png", image)[1].tobytes())
            write_atomically(annotation, _voc(stem, scene))
    write_atomically(marker, json.dumps({**wanted, "finished": True}).encode())
    return folder


def _voc(stem, scene):
    """The annotation of one scene as VOC xml."""
    height, width = scene.ir.shape
    objects = "".join("<object><name>person</name><difficult>0</difficult><bndbox>"
                      f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
                      for x1, y1, x2, y2 in scene.boxes.astype(int))
    root = ElementTree.fromstring(f"<annotation><filename>{stem}.png</filename><size><width>{width}</width>"
                                  f"<height>{height}</height><depth>3</depth></size>{objects}</annotation>")
    ElementTree.indent(root)
    return ElementTree.tostring(root)
