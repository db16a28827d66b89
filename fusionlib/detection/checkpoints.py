"""Read and write YOLOv5 weights without executing code from the file.

An official `.pt` pickles the whole model object. torch's weights-only reader rebuilds its tensors here, while an empty
stand-in replaces every class or function that the file names.
"""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save as serialise

from fusionlib.detection.blocks import ROOT as ULTRALYTICS
from fusionlib.detection.yolov5 import YOLOv5
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import write_atomically

_EXPECTED = "a classic YOLOv5 (official yolov5n/s/m/l/x.pt, a state dict of one, or a .safetensors of this package)"


def load_yolov5(path: str | Path, device: str | torch.device = "cpu") -> YOLOv5:
    """Read a classic YOLOv5 in evaluation mode, float32.

    Reads official checkpoints (and those of the official training code), state dicts saved by torch in any precision,
    bare or under a key "state_dict", and files of `save_yolov5`. Anchors, classes, depth and width come from the file.

    Raises:
        FusionError: the file is missing, damaged, unsafe or holds another network.
    """
    state, metadata = read(path, _EXPECTED)
    head, anchors = state.get("model.24.m.0.weight"), state.get("model.24.anchors")
    if any(".dfl." in key for key in state):
        raise FusionError(f"{path}: expected {_EXPECTED}, found an anchor-free network (yolov5u, YOLOv8 or newer), "
                          "which has neither anchors nor objectness: take the file without the u in its name.")
    if head is None or anchors is None or tuple(anchors.shape) != (3, 3, 2) or "model.9.cv2.conv.weight" not in state:
        raise FusionError(f"{path}: expected {_EXPECTED}, found another network or none ({len(state)} tensors).")

    num_classes = head.shape[0] // 3 - 5
    width = state["model.9.cv2.conv.weight"].shape[0] / 1024
    names = metadata.get("names") or (coco_names() if num_classes == 80 else None)
    try:
        model = YOLOv5(num_classes, _depth(state), width, names=names.values() if isinstance(names, dict) else names)
        model.load_state_dict(state)
    except (RuntimeError, FusionError) as error:
        reason = textwrap.shorten(str(error).splitlines()[-1], 120)
        raise FusionError(f"{path}: expected {_EXPECTED}, found a variant that does not fit: {reason}") from error
    return model.to(device).eval()


def save_yolov5(model: YOLOv5, path: str | Path, half: bool = False) -> None:
    """Write weights, anchors and names to a `.safetensors` file, in float16 if `half`."""
    state = {key: (value.half() if half and value.is_floating_point() else value).detach().cpu().contiguous()
             for key, value in model.state_dict().items()}
    write_atomically(path, serialise(state, metadata={"yolov5": json.dumps({"names": model.names})}))


def read(path: str | Path, expected: str) -> tuple[dict[str, torch.Tensor], dict]:
    """Tensors of a weight file by name, and its metadata: "names", and for a pickled module "yaml" and "activations".

    Raises:
        FusionError: the file is missing, damaged or unsafe; the message says what was `expected`.
    """
    path = Path(path)
    if not path.is_file():
        raise FusionError(f"{path}: expected {expected}, found no such file; nothing is downloaded, so copy it here.")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                metadata = json.loads((file.metadata() or {}).get("yolov5", "{}"))
                return {key: file.get_tensor(key) for key in file.keys()}, metadata
        named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals([_stand_in(name) for name in named]):
            return _state_and_metadata(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # a damaged or hostile file can fail in any way
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 120)
        raise FusionError(f"{path}: expected {expected}, found a file that is damaged or cannot be read safely "
                          f"({reason}): download it again from a source you trust.") from error


class _StandIn:
    """Replaces a class or function that a file names: it keeps the attributes and does nothing."""

    def __init__(self, *args, **kwargs):
        pass


def _stand_in(full_name):
    module, _, name = full_name.rpartition(".")
    return type(name, (_StandIn,), {"__module__": module})


def _state_and_metadata(content):
    if isinstance(content, dict) and "model" in content:  # official; the averaged weights are the better ones
        content = content.get("ema") or content["model"]
    if isinstance(content, _StandIn):
        metadata = {"names": getattr(content, "names", None), "yaml": getattr(content, "yaml", None)}
        return dict(_tensors(content)), metadata | {"activations": dict(_activations(content))}
    metadata = {}
    if isinstance(content, dict) and "state_dict" in content:
        content, metadata = content["state_dict"], {"names": content.get("names")}
    items = content.items() if isinstance(content, dict) else ()
    return {key: value for key, value in items if isinstance(key, str) and isinstance(value, torch.Tensor)}, metadata


def _tensors(module: _StandIn, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Traverse a pickled nn.Module as its state_dict() would."""
    fields = vars(module)
    for name, value in {**fields.get("_parameters", {}), **fields.get("_buffers", {})}.items():
        if isinstance(value, torch.Tensor):
            yield prefix + name, value.detach()
    for name, child in fields.get("_modules", {}).items():
        if isinstance(child, _StandIn):
            yield from _tensors(child, f"{prefix}{name}.")


def _activations(module: _StandIn, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The class of each activation of a pickled nn.Module, which its state dict does not contain."""
    for name, child in vars(module).get("_modules", {}).items():
        if name == "act" and isinstance(child, _StandIn):
            yield prefix + name, type(child).__name__
        elif isinstance(child, _StandIn):
            yield from _activations(child, f"{prefix}{name}.")


def _depth(state):
    """The depth multiplier that rounds to the numbers of repeated blocks in the modules 2, 4 and 6."""
    lowest, highest = 0.0, float("inf")
    for module, repeats in ((2, 3), (4, 6), (6, 9)):
        prefix = f"model.{module}.m."
        count = len({key[len(prefix):].split(".")[0] for key in state if key.startswith(prefix)})
        lowest = max(lowest, (count - 0.5) / repeats if count > 1 else 0.0)
        highest = min(highest, (count + 0.5) / repeats)
    return (lowest + highest) / 2


def coco_names() -> dict[int, str]:
    """The 80 classes of COCO, in the order of official detectors."""
    return yaml.safe_load((ULTRALYTICS / "cfg" / "datasets" / "coco.yaml").read_text(encoding="utf-8"))["names"]
