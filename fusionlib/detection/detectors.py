"""Detections of chosen classes over a set of images."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import yaml
from torch import nn
from torchvision.ops import box_convert, clip_boxes_to_image

from fusionlib.detection.blocks import ROOT as ULTRALYTICS
from fusionlib.detection.blocks import DetectionModel
from fusionlib.detection.checkpoints import coco_names, load_yolov5, read
from fusionlib.detection.postprocessing import check, pad, suppress
from fusionlib.detection.yolov5 import YOLOv5
from fusionlib.utils.errors import FusionError

_EXPECTED = "weights of a detector (a classic YOLOv5, or an official yolov5nu, yolov8n, yolo11n .pt or the like)"
_ACTIVATIONS = {name: getattr(nn, name) for name in ("SiLU", "Identity", "ReLU", "LeakyReLU", "Hardswish", "GELU")}


class UltralyticsDetector(nn.Module):
    """A detection network of ultralytics, with the `names` and the `predict` of `YOLOv5`.

    Args:
        model: the network.
        names: one name per class.
    """

    def __init__(self, model: DetectionModel, names: Sequence[str]):
        super().__init__()
        self.model, self.names = model, list(names)

    @torch.no_grad()
    def predict(self, images: torch.Tensor, conf: float = 0.001, iou: float = 0.6, max_det: int = 300,
                classes: Sequence[int] | None = None) -> list[torch.Tensor]:
        """As YOLOv5.predict. Networks that end without suppression (YOLOv10, YOLO26) do not use `iou`."""
        check(images)
        training = self.training
        self.eval()
        found = self.model(pad(images, int(self.model.stride.max())))[0].float()
        self.train(training)
        size = images.shape[-2:]
        if not self.model.end2end:
            boxes, scores = found.transpose(1, 2).split((4, len(self.names)), dim=2)
            return [suppress(box_convert(b, "cxcywh", "xyxy"), s, size, conf, iou, max_det, classes)
                    for b, s in zip(boxes, scores)]
        results = []
        for rows in found:
            kept = rows[:, 4] > conf
            if classes is not None:
                kept &= torch.isin(rows[:, 5], rows.new_tensor(list(classes)))
            rows = rows[kept][:max_det]
            results.append(torch.cat((clip_boxes_to_image(rows[:, :4], size), rows[:, 4:6]), 1))
        return results


def load_detector(path: str | Path, device: str | torch.device = "cpu") -> YOLOv5 | UltralyticsDetector:
    """Read a detector in evaluation mode, float32, whatever its kind; `detect` takes what comes back.

    Reads all that load_yolov5 reads, and weights of ultralytics' detection networks: official files, files of their
    training, and state dicts whose file name is the network's, such as yolov8n.pt. Nothing is ever downloaded.

    Raises:
        FusionError: the file is missing, damaged, unsafe, or holds a network that ultralytics does not describe.
    """
    state, info = read(path, _EXPECTED)
    if "model.24.anchors" in state:
        return load_yolov5(path, device)
    given = info.get("yaml") if isinstance(info.get("yaml"), dict) else {}
    name = Path(str(given.get("yaml_file") or path).replace("\\", "/")).stem
    description = _description(name, given.get("scale"))
    if description is None:
        raise FusionError(f"{path}: expected {_EXPECTED}, found {len(state)} tensors of a network called {name}, which "
                          "ultralytics does not describe: rename a state dict after its network, or take another file.")
    names = info.get("names") or coco_names()
    names = [str(label) for label in (names.values() if isinstance(names, dict) else names)]
    try:
        if description["head"][-1][2] not in ("Detect", "v10Detect"):
            raise FusionError("it is no plain detection network")
        model = DetectionModel(description, nc=len(names), verbose=False)
        model.load_state_dict({key: value.float() if value.is_floating_point() else value
                               for key, value in state.items()})
        _restore_activations(model, info.get("activations", {}))
    except (RuntimeError, KeyError, AttributeError, FusionError) as error:
        reason = textwrap.shorten(str(error).splitlines()[-1], 120)
        raise FusionError(f"{path}: expected {_EXPECTED}, found a variant that does not fit {name}: "
                          f"{reason}") from error
    return UltralyticsDetector(model, names).to(device).eval()


def _description(name, scale):
    """ultralytics' own description of a network such as yolov8n or yolov5nu, as DetectionModel takes it; or None."""
    known = {path.stem: path for path in (ULTRALYTICS / "cfg" / "models").rglob("*.yaml")}
    parts = re.fullmatch(r"(yolov?\d+)([nsmlx]?)(6?)u?(-.+?)?u?", name)
    family = parts and f"{parts[1]}{'-p6' if parts[3] else ''}{parts[4] or ''}"
    path = known.get(family) or known.get(name)
    if path is None:
        return None
    description = yaml.safe_load(path.read_text(encoding="utf-8"))
    if scales := description.get("scales"):
        letter = parts[2] or scale if parts else scale
        description["scale"] = letter if letter in scales else next(iter(scales))
    return description


def _restore_activations(model, found):
    """Give each convolution the activation of the file: their defaults change between versions of ultralytics."""
    for place, name in found.items():
        if type(model.get_submodule(place)).__name__ != name:
            if name not in _ACTIVATIONS:
                raise FusionError(f"its activation {name} is unknown")
            parent, _, own = place.rpartition(".")
            setattr(model.get_submodule(parent), own, _ACTIVATIONS[name]())


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
