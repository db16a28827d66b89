"""Load a detector of any supported kind, and detect chosen classes in a set of images."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import yaml
from torch import nn
from torchvision.ops import box_convert

from fusionlib.detection.blocks import ROOT as ULTRALYTICS
from fusionlib.detection.blocks import DetectionModel
from fusionlib.detection.checkpoints import coco_names, load_yolov5, read
from fusionlib.detection.onnx_detector import OnnxDetector, load_onnx
from fusionlib.detection.postprocessing import check_images, pad, select, suppress
from fusionlib.detection.yolov5 import YOLOv5
from fusionlib.utils.errors import FusionError

_EXPECTED = "detector weights (a classic YOLOv5, an official .pt such as yolov5nu, yolov8n or yolo11n, or an .onnx)"
_ACTIVATIONS = {name: getattr(nn, name) for name in ("SiLU", "Identity", "ReLU", "LeakyReLU", "Hardswish", "GELU")}


class UltralyticsDetector(nn.Module):
    """A detection network of ultralytics, with `names`, one per class, and `predict` as of `YOLOv5`."""

    def __init__(self, model: DetectionModel, names: Sequence[str]):
        super().__init__()
        self.model, self.names = model, list(names)

    @torch.no_grad()
    def predict(self, images: torch.Tensor, conf: float = 0.001, iou: float = 0.6, max_det: int = 300,
                classes: Sequence[int] | None = None) -> list[torch.Tensor]:
        """As YOLOv5.predict. Networks without non-maximum suppression (YOLOv10, YOLO26) ignore `iou`."""
        check_images(images)
        training = self.training
        self.eval()
        outputs = self.model(pad(images, int(self.model.stride.max())))[0].float()
        self.train(training)
        size = images.shape[-2:]
        if not self.model.end2end:
            boxes, scores = outputs.transpose(1, 2).split((4, len(self.names)), dim=2)
            return [suppress(box_convert(b, "cxcywh", "xyxy"), s, size, conf, iou, max_det, classes)
                    for b, s in zip(boxes, scores)]
        return [select(rows, size, conf, max_det, classes) for rows in outputs]


Detector = YOLOv5 | UltralyticsDetector | OnnxDetector


def load_detector(path: str | Path, device: str | torch.device = "cpu") -> Detector:
    """Read a detector for `detect`, in evaluation mode, float32.

    Reads every file that `load_yolov5` reads; weights of ultralytics' detection networks: official checkpoints,
    checkpoints of their training, and state dicts whose file name is the network's, such as yolov8n.pt; and every .onnx
    that `load_onnx` reads, which runs on the CPU whatever the `device`. Nothing is ever downloaded.

    Raises:
        FusionError: the file is missing, damaged, unsafe, or holds a network without a configuration in ultralytics.
    """
    if Path(path).suffix == ".onnx":
        return load_onnx(path).eval()
    state, metadata = read(path, _EXPECTED)
    if "model.24.anchors" in state:
        return load_yolov5(path, device)
    config = metadata.get("yaml") if isinstance(metadata.get("yaml"), dict) else {}
    name = Path(str(config.get("yaml_file") or path).replace("\\", "/")).stem
    description = _description(name, config.get("scale"))
    if description is None:
        raise FusionError(f"{path}: expected {_EXPECTED}, found {len(state)} tensors of a network called {name}, which "
                          "ultralytics does not describe: name a state dict after its network, or take another file.")
    names = metadata["names"] or list(coco_names().values())
    try:
        if description["head"][-1][2] not in ("Detect", "v10Detect"):
            raise FusionError("it is no plain detection network")
        if not any(tensor.ndim == 4 and len(tensor) == len(names) for tensor in state.values()):
            raise FusionError(f"it has no output for {len(names)} classes")
        model = DetectionModel(description, nc=len(names), verbose=False)
        model.load_state_dict({key: value.float() if value.is_floating_point() else value
                               for key, value in state.items()})
        _restore_activations(model, metadata.get("activations", {}))
    except (RuntimeError, KeyError, AttributeError, FusionError) as error:
        reason = textwrap.shorten(str(error).splitlines()[-1], 120)
        raise FusionError(f"{path}: expected {_EXPECTED}, found one that does not fit {name}: {reason}") from error
    return UltralyticsDetector(model, names).to(device).eval()


def _description(name, scale):
    """ultralytics' own configuration of a network such as yolov8n or yolov5nu, for DetectionModel; None if unknown."""
    files = {path.stem: path for path in (ULTRALYTICS / "cfg" / "models").rglob("*.yaml")}
    groups = re.fullmatch(r"(yolov?\d+)([nsmlx]?)(6?)u?(-.+?)?u?", name)
    family = groups and f"{groups[1]}{'-p6' if groups[3] else ''}{groups[4] or ''}"
    path = files.get(family) or files.get(name)
    if path is None:
        return None
    description = yaml.safe_load(path.read_text(encoding="utf-8"))
    if scales := description.get("scales"):
        letter = groups[2] or scale if groups else scale
        description["scale"] = letter if letter in scales else next(iter(scales))
    return description


def _restore_activations(model, activations):
    """Give each convolution the activation stored in the file: defaults differ between versions of ultralytics."""
    for path, name in activations.items():
        if type(model.get_submodule(path)).__name__ != name:
            if name not in _ACTIVATIONS:
                raise FusionError(f"its activation {name} is unknown")
            parent, _, child = path.rpartition(".")
            setattr(model.get_submodule(parent), child, _ACTIVATIONS[name]())


_PERSON = {"people", "pedestrian", "pedestrians", "persons"}


def detect(model: Detector, images: Iterable[torch.Tensor], classes: Sequence[str] = ("person",),
           conf: float = 0.001, iou: float = 0.6, max_det: int = 300) -> list[torch.Tensor]:
    """Detect objects of some classes in images, which may differ in size.

    Args:
        model: the detector.
        images: [3, H, W] each, RGB in 0..1.
        classes: class names, in upper or lower case; "people", "persons" and "pedestrian(s)" stand for "person".
        conf, iou, max_det: as for `YOLOv5.predict`.

    Returns:
        Per image [n, 6] on the CPU: x1, y1, x2, y2 in pixels, score, index into `classes`.

    Raises:
        FusionError: the detector does not know one of the classes.
    """
    indices = class_indices(model, classes)
    device = next(model.parameters()).device
    results = []
    for image in images:
        rows = model.predict(image[None].to(device), conf, iou, max_det, indices)[0].cpu()
        rows[:, 5] = torch.tensor([indices.index(int(label)) for label in rows[:, 5]])
        results.append(rows)
    return results


def class_indices(model: Detector, classes: Sequence[str]) -> list[int]:
    """The detector's indices of classes by name; FusionError for a class that it does not know."""
    labels = [_canonical(name) for name in model.names]
    if missing := [name for name in classes if _canonical(name) not in labels]:
        raise FusionError(f"The detector knows {', '.join(model.names)}, not {', '.join(missing)}: load another one.")
    return [labels.index(_canonical(name)) for name in classes]


def _canonical(name):
    return "person" if name.lower() in _PERSON else name.lower()
