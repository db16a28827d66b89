"""Detectors from ONNX files, run by OpenCV: YOLOX, and the exports of ultralytics.

Such a file is data: OpenCV runs its layers, and no code of the file is ever executed. The size of the input and the
names of the classes are read from the same bytes; their format is protobuf, their fields are those of onnx.proto.
"""

import ast
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad
from torchvision.ops import box_convert

from fusionlib.data.datasets import letterbox_scale
from fusionlib.detection.checkpoints import coco_names
from fusionlib.detection.postprocessing import GREY, check_images, select, suppress
from fusionlib.utils.allocator import memory_limit
from fusionlib.utils.errors import FusionError, first_line
from fusionlib.utils.files import not_a_file

_EXPECTED = ("a detector in ONNX with one image [1, 3, H, W] of fixed size as its input and one output, as of YOLOX "
             "([1, N, 5 + classes]) or exported by ultralytics ([1, 4 + classes, N] or [1, N, 6])")
_LARGEST = 512 << 20  # bytes of a file; the largest of ultralytics has 390 MB
_MOST_PIXELS = 1 << 22  # of the input; detectors are exported for 640x640 to 1536x1536
#: Bytes that reading a network and running it once may take, more than so many for each byte of its file: a layer of
#: some bytes can make gigabytes.
_MEMORY, _MEMORY_PER_BYTE = 512 << 20, 8
_STRIDES = (8, 16, 32)


class OnnxDetector(nn.Module):
    """A detector read by `load_onnx`, with `names`, one per class, and `predict` as of `YOLOv5`; it runs on the CPU.

    Args:
        net: the network.
        size: (H, W) of its input.
        layout: of its output: "yolox", "yolox decoded", "ultralytics" or "end to end".
        names: one name per class.
    """

    def __init__(self, net: cv2.dnn.Net, size: tuple[int, int], layout: str, names: Sequence[str]):
        super().__init__()
        self.net, self.size, self.layout, self.names = net, size, layout, list(names)
        self.register_parameter("place", nn.Parameter(torch.empty(0), requires_grad=False))  # tells the device

    @torch.no_grad()
    def predict(self, images: Tensor, conf: float = 0.001, iou: float = 0.6, max_det: int = 300,
                classes: Sequence[int] | None = None) -> list[Tensor]:
        """As YOLOv5.predict. Networks that suppress by themselves ("end to end") ignore `iou`.

        Images of any size are resized to the network's input at the same aspect ratio, as for its training: bilinear
        without antialiasing, and padded with grey at the bottom and right. Boxes are in pixels of the images.
        """
        check_images(images)
        size, results = images.shape[-2:], []
        scale = letterbox_scale(size, self.size)
        height, width = (max(1, round(side * scale)) for side in size)
        inputs = interpolate(images.cpu().float(), (height, width), mode="bilinear")
        inputs = pad(inputs, (0, self.size[1] - width, 0, self.size[0] - height), value=GREY)
        for image in inputs:
            output = _run(self.net, image.flip(0) * 255 if self.layout.startswith("yolox") else image)
            if self.layout == "end to end":
                output[:, :4] /= scale
                results.append(select(output, size, conf, max_det, classes))
            else:
                boxes, scores = self._decode(output)
                results.append(suppress(boxes / scale, scores, size, conf, iou, max_det, classes))
        return [rows.to(images.device) for rows in results]

    def _decode(self, output):
        """Boxes [N, 4] xyxy in pixels of the network's input, and scores [N, classes]."""
        if self.layout == "ultralytics":
            boxes, scores = output.T[:, :4], output.T[:, 4:]
        else:
            boxes, scores = output[:, :4], output[:, 4:5] * output[:, 5:]
        if self.layout == "yolox":
            cells, strides = _grid(self.size)
            boxes = torch.cat((boxes[:, :2] + cells, boxes[:, 2:].exp()), 1) * strides
        return box_convert(boxes, "cxcywh", "xyxy"), scores


def load_onnx(path: str | Path) -> OnnxDetector:
    """Read an exported YOLOX, decoded or not, or detection network of ultralytics (YOLOv8 and newer).

    YOLOX takes BGR in 0..255, networks of ultralytics RGB in 0..1. Classes have the names that ultralytics writes into
    the file, else those of COCO if there are 80, else "class 0" and so on.

    Raises:
        FusionError: the file is missing, damaged or too large, or holds another network.
    """
    path = Path(path)
    if not path.is_file():
        raise FusionError(f"{path}: expected {_EXPECTED}, found no such file; nothing is downloaded, so copy it here.")
    limit = _MEMORY + _MEMORY_PER_BYTE * path.stat().st_size
    try:
        if found := not_a_file(path, _LARGEST):
            raise FusionError(found)
        data = path.read_bytes()
        size, names = _describe(memoryview(data))
        image = torch.full((3, *size), GREY)
        with memory_limit(limit), _one_thread():
            net = cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8))
            output = _run(net, image)
        layout, classes = _recognise(output, size)
        if not names:
            names = coco_names().values() if classes in (80, None) else [f"class {i}" for i in range(classes)]
        if classes not in (len(names), None):
            raise FusionError(f"{classes} classes with {len(names)} names")
    except Exception as error:  # a damaged or hostile file can fail in any way
        found = textwrap.shorten(getattr(error, "err", "") or first_line(error), 120)
        if getattr(error, "code", None) == cv2.Error.StsNoMem:
            found = f"layers that take more than {limit / 1e6:.0f} MB ({found})"
        elif isinstance(error, cv2.error):
            found = f"layers that OpenCV cannot run ({found})"
        raise FusionError(f"{path}: expected {_EXPECTED}, found {found}: export it again.") from error
    return OnnxDetector(net, size, layout, names)


@contextmanager
def _one_thread():
    """OpenCV starts no threads within it: where one has no memory for its stack, the process would end."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _run(net, image):
    """The output of a network without the batch dimension for an image [3, H, W]; FusionError for several outputs."""
    net.setInput(np.ascontiguousarray(image[None].numpy()))
    outputs = net.forward(net.getUnconnectedOutLayersNames())
    if len(outputs) != 1 or outputs[0].ndim != 3 or len(outputs[0]) != 1:
        raise FusionError(f"the outputs {', '.join(str(list(output.shape)) for output in outputs)}")
    return torch.from_numpy(outputs[0][0].copy())  # OpenCV writes the next output to the same memory


def _recognise(output, size):
    """The layout of an output, and its number of classes: None where it does not tell."""
    cells, strides = _grid(size)
    if output.shape[1] == len(cells) and len(output) > 4:
        return "ultralytics", len(output) - 4
    if len(output) == len(cells) and output.shape[1] > 5:
        # Decoded centres lie near their cells, the others within a few units of 0.
        centres = output[:, :2]
        decoded = (centres - cells * strides).abs().median() < centres.abs().median()
        return "yolox decoded" if decoded else "yolox", output.shape[1] - 5
    if output.shape[1] == 6:
        return "end to end", None
    raise FusionError(f"an output [1, {len(output)}, {output.shape[1]}] for an input [1, 3, {size[0]}, {size[1]}]")


def _grid(size):
    """Column and row of each cell [N, 2] of the three maps, and its stride in pixels [N, 1]."""
    maps = [torch.cartesian_prod(torch.arange(size[0] // s), torch.arange(size[1] // s)).flip(1) for s in _STRIDES]
    return torch.cat(maps), torch.cat([torch.full((len(each), 1), s) for each, s in zip(maps, _STRIDES)])


def _describe(model: memoryview) -> tuple[tuple[int, int], list[str]]:
    """The (H, W) of a model's input and the names of its classes, none if it has no such metadata."""
    weights = {bytes(name) for name in _find(model, 7, 5, 8)}  # old files list them as inputs, too
    inputs = [item for item in _find(model, 7, 11) if bytes(next(_find(item, 1))) not in weights]
    shapes = [[next(_find(dimension, 1), 0) for dimension in _find(item, 2, 1, 2, 1)] for item in inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] != 3 or not all(
            0 < side <= 8192 and side % max(_STRIDES) == 0 for side in shapes[0][2:]) or (
            shapes[0][2] * shapes[0][3] > _MOST_PIXELS):
        raise FusionError(f"the inputs {', '.join(map(str, shapes)) or '(none)'}")
    metadata = {bytes(next(_find(entry, 1))): bytes(next(_find(entry, 2))) for entry in _find(model, 14)}
    names = ast.literal_eval(metadata.get(b"names", b"[]").decode())
    return tuple(shapes[0][2:]), [str(name) for name in (names.values() if isinstance(names, dict) else names)]


def _find(message: memoryview, number: int, *inner: int) -> Iterator[int | memoryview]:
    """The values of a field of a protobuf message, or with further numbers, of a field inside it."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if key < 8:  # no field has the number 0, of which an empty space is full
            raise FusionError("a damaged file")
        if kind in (0, 2):
            value, at = _varint(message, at)
        if kind != 0:  # by its length: stated before it, or 8 or 4 bytes
            length = value if kind == 2 else {1: 8, 5: 4}.get(kind, len(message) + 1)
            value, at = message[at : at + length], at + length
            if at > len(message):
                raise FusionError("a damaged file")
        if key >> 3 == number:
            if inner:
                yield from _find(value, *inner)
            else:
                yield value


def _varint(message, at):
    """An integer of variable length, and the position after it."""
    value = 0
    for shift in range(0, 64, 7):
        if at == len(message):
            break
        byte, at = message[at], at + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise FusionError("a damaged file")
