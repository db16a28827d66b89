"""Detections of chosen classes over a set of images, and their COCO-style average precision by pycocotools."""

import contextlib
import io
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fusionlib.errors import FusionError

from .yolov5 import YOLOv5

_PERSON = {"people", "pedestrian", "pedestrians", "persons"}


def detect(model: YOLOv5, images: Iterable[torch.Tensor], classes: Sequence[str] = ("person",), conf: float = 0.001,
           iou: float = 0.6, max_det: int = 300) -> list[torch.Tensor]:
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
    device = model.anchors.device
    results = []
    for image in images:
        found = model.predict(image[None].to(device), conf, iou, max_det, wanted)[0].cpu()
        found[:, 5] = torch.tensor([wanted.index(int(label)) for label in found[:, 5]])
        results.append(found)
    return results


def class_indices(model: YOLOv5, classes: Sequence[str]) -> list[int]:
    """The detector's indices of classes by name; FusionError where it does not know one."""
    known = [_canonical(name) for name in model.names]
    missing = [name for name in classes if _canonical(name) not in known]
    if missing:
        raise FusionError(f"the detector knows {', '.join(model.names)}, not {', '.join(missing)}: load another one.")
    return [known.index(_canonical(name)) for name in classes]


def average_precision(predictions: Sequence[torch.Tensor], truths: Sequence[torch.Tensor],
                      class_index: int = 0) -> dict[str, float]:
    """COCO average precision of one class: 101 recalls, the 100 best boxes of an image (Lin et al., ECCV 2014).

    Images without labels must not be passed: for COCO an empty list of truths means that every detection is wrong.

    Args:
        predictions: per image [n, 6]: x1, y1, x2, y2, score, class.
        truths: per image [m, 4]: x1, y1, x2, y2.
        class_index: predictions of other classes are left out.

    Returns:
        {"mAP@.5", "mAP@.75", "mAP@.5:.95"} in 0..1, and the counts "images" and "boxes" of the truths. Without any
        prediction the three are 0; without any true box they are not defined: nan.
    """
    if len(predictions) != len(truths):
        raise FusionError(f"average precision needs one list of predictions per image, found {len(predictions)} for "
                          f"{len(truths)} images.")
    truths = [_xywh(boxes) for boxes in truths]
    rows = []  # image, x, y, w, h, score, category, as pycocotools' loadRes takes them
    for image, found in enumerate(predictions):
        found = _array(found, 6)
        found = found[found[:, 5] == class_index]
        images, category = np.full((len(found), 1), image), np.ones((len(found), 1))
        rows.append(np.hstack((images, _xywh(found[:, :4]), found[:, 4:5], category)))
    counts = {"images": len(truths), "boxes": sum(map(len, truths))}
    if not counts["boxes"] or not sum(map(len, rows)):
        value = 0.0 if counts["boxes"] else float("nan")
        return {"mAP@.5": value, "mAP@.75": value, "mAP@.5:.95": value, **counts}

    annotations = []
    for image, boxes in enumerate(truths):
        for box in boxes:  # ids from 1: pycocotools takes the id 0 for "not matched"
            annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": 1, "bbox": box.tolist(),
                                "area": box[2] * box[3], "iscrowd": 0})
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress with print
        coco = COCO()
        coco.dataset = {
            "images": [{"id": image} for image in range(len(truths))],
            "categories": [{"id": 1, "name": "object"}],
            "annotations": annotations,
        }
        coco.createIndex()
        run = COCOeval(coco, coco.loadRes(np.vstack(rows)), "bbox")
        run.params.areaRng, run.params.areaRngLbl, run.params.maxDets = [[0, 1e10]], ["all"], [100]
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][:, :, 0, 0, 0].mean(axis=1)  # [10 overlaps]
    at_50, at_75, mean = (float(value) for value in (precision[0], precision[5], precision.mean()))
    return {"mAP@.5": at_50, "mAP@.75": at_75, "mAP@.5:.95": mean, **counts}


def _array(rows, columns):
    return torch.as_tensor(rows).detach().cpu().double().reshape(-1, columns).numpy()


def _xywh(boxes):
    boxes = _array(boxes, 4)
    return np.hstack((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]))


def _canonical(name):
    return "person" if name.lower() in _PERSON else name.lower()
