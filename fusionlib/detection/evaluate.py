"""Detections of chosen classes over a set of images."""

from collections.abc import Iterable, Sequence

import torch

from fusionlib.errors import FusionError

from .detectors import UltralyticsDetector
from .yolov5 import YOLOv5

_PERSON = {"people", "pedestrian", "pedestrians", "persons"}


def detect(model: YOLOv5 | UltralyticsDetector, images: Iterable[torch.Tensor], classes: Sequence[str] = ("person",),
           conf: float = 0.001, iou: float = 0.6, max_det: int = 300) -> list[torch.Tensor]:
    """Run the detector over images, which may differ in size.

    Args:
        model: detector whose `names` contain the wanted classes (upper case, or "people" for "person", do not matter).
        images: [3, H, W] each, RGB in 0..1.
        classes: names of the wanted classes.
        conf, iou, max_det: see YOLOv5.predict.

    Returns:
        Per image [n, 6] on the CPU: x1, y1, x2, y2 in pixels, score, index into `classes`.

    Raises:
        FusionError: the detector does not know one of the classes.
    """
    wanted = class_indices(model, classes)
    device = next(model.parameters()).device
    results = []
    for image in images:
        found = model.predict(image[None].to(device), conf, iou, max_det, wanted)[0].cpu()
        found[:, 5] = torch.tensor([wanted.index(int(label)) for label in found[:, 5]])
        results.append(found)
    return results


def class_indices(model: YOLOv5 | UltralyticsDetector, classes: Sequence[str]) -> list[int]:
    """The detector's indices of classes by name; FusionError where it does not know one."""
    known = [_canonical(name) for name in model.names]
    missing = [name for name in classes if _canonical(name) not in known]
    if missing:
        raise FusionError(f"the detector knows {', '.join(model.names)}, not {', '.join(missing)}: load another one.")
    return [known.index(_canonical(name)) for name in classes]


def _canonical(name):
    return "person" if name.lower() in _PERSON else name.lower()
