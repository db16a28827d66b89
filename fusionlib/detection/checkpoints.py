"""YOLOv5 weights in and out, without running a line of code from the file.

An official `.pt` pickles the whole model object. Here torch's weights-only reader rebuilds its tensors while every
class or function that the file names is replaced by an empty stand-in, so that nothing but data comes out.
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

_EXPECTED = "a classic YOLOv5 (official yolov5n/s/m/l/x.pt, a state dict of one, or our .safetensors)"


def load_yolov5(path: str | Path, device: str | torch.device = "cpu") -> YOLOv5:
    """Read a classic YOLOv5 in evaluation mode, float32.

    Reads official checkpoints (and those of the official training), plain state dicts saved by torch in any precision,
    bare or under a key "state_dict", and what save_yolov5 writes. Anchors, classes, depth and width come from the file.

    Raises:
        FusionError: the file is missing, damaged, unsafe or holds another network.
    """
    state, info = read(path, _EXPECTED)
    head, anchors = state.get("model.24.m.0.weight"), state.get("model.24.anchors")
    if any(".dfl." in key for key in state):
        raise FusionError(f"{path}: expected {_EXPECTED}, found an anchor-free network (yolov5u, YOLOv8 or newer), "
                          "which has neither anchors nor objectness: take the file without the u in its name.")
    if head is None or anchors is None or tuple(anchors.shape) != (3, 3, 2) or "model.9.cv2.conv.weight" not in state:
        raise FusionError(f"{path}: expected {_EXPECTED}, found another network or none ({len(state)} tensors).")

    num_classes = head.shape[0] // 3 - 5
    width = state["model.9.cv2.conv.weight"].shape[0] / 1024
    names = info.get("names") or (coco_names() if num_classes == 80 else None)
    try:
        model = YOLOv5(num_classes, _depth(state), width, names=names.values() if isinstance(names, dict) else names)
        model.load_state_dict(state)
    except (RuntimeError, FusionError) as error:
        reason = textwrap.shorten(str(error).splitlines()[-1], 120)
        raise FusionError(f"{path}: expected {_EXPECTED}, found a variant that does not fit: {reason}") from error
    return model.to(device).eval()


def save_yolov5(model: YOLOv5, path: str | Path, half: bool = False) -> None:
    """Write weights, anchors and names to a `.safetensors` file, in float16 if `half`."""
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    if half:
        state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    write_atomically(path, serialise(state, metadata={"yolov5": json.dumps({"names": model.names})}))


def read(path: str | Path, expected: str) -> tuple[dict[str, torch.Tensor], dict]:
    """Tensors of a weight file by name, and what else it says: names, and for pickled modules yaml and activations.

    Raises:
        FusionError: the file is missing, damaged or unsafe; the sentence says what was `expected`.
    """
    path = Path(path)
    if not path.is_file():
        raise FusionError(f"{path}: expected {expected}, but there is no such file; nothing is downloaded, so put it "
                          "there.")
    return (_read_safetensors if path.suffix == ".safetensors" else _read_torch)(path, expected)


def _read_safetensors(path, expected):
    try:
        with safe_open(path, framework="pt") as file:
            info = json.loads((file.metadata() or {}).get("yolov5", "{}"))
            return {key: file.get_tensor(key) for key in file.keys()}, info
    except Exception as error:  # the reader's own exception type is not public
        raise FusionError(f"{path}: expected {expected}, found a damaged file ({error}): copy or "
                          "download it again.") from error


def _read_torch(path, expected):
    """State dict and facts (names) of a file written by torch.save."""
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals([_stand_in(name) for name in named]):
            content = torch.load(path, map_location="cpu", weights_only=True)
        return _state_and_info(content)
    except Exception as error:  # a damaged or hostile pickle can fail in any way
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 120)
        raise FusionError(f"{path}: expected {expected}, but it cannot be read safely ({reason}): download it again "
                          "from a source you trust.") from error


class _StandIn:
    """Takes the place of any class or function that a file names: it keeps the attributes and does nothing."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        pass


def _stand_in(full_name):
    module, _, name = full_name.rpartition(".")
    return type(name, (_StandIn,), {"__module__": module})


def _state_and_info(content):
    if isinstance(content, dict) and "model" in content:  # official; the averaged weights are the better ones
        content = content.get("ema") or content["model"]
    if isinstance(content, _StandIn):
        info = {"names": getattr(content, "names", None), "yaml": getattr(content, "yaml", None)}
        return dict(_tensors(content)), info | {"activations": dict(_activations(content))}
    if isinstance(content, dict) and "state_dict" in content:
        return _only_tensors(content["state_dict"]), {"names": content.get("names")}
    return _only_tensors(content), {}


def _only_tensors(content):
    if not isinstance(content, dict):
        return {}
    return {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, torch.Tensor)}


def _tensors(module: _StandIn, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Walk a pickled nn.Module as its state_dict() would."""
    fields = vars(module)
    for name, value in {**fields.get("_parameters", {}), **fields.get("_buffers", {})}.items():
        if isinstance(value, torch.Tensor):
            yield prefix + name, value.detach()
    for name, child in fields.get("_modules", {}).items():
        if isinstance(child, _StandIn):
            yield from _tensors(child, f"{prefix}{name}.")


def _activations(module: _StandIn, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The class of each activation of a pickled nn.Module; a state dict does not tell them."""
    for name, child in vars(module).get("_modules", {}).items():
        if name == "act" and isinstance(child, _StandIn):
            yield prefix + name, type(child).__name__
        elif isinstance(child, _StandIn):
            yield from _activations(child, f"{prefix}{name}.")


def _depth(state):
    """The depth multiplier that rounds to the numbers of repeated blocks in the modules 2, 4 and 6."""
    least, most = 0.0, float("inf")
    for module, repeats in ((2, 3), (4, 6), (6, 9)):
        prefix = f"model.{module}.m."
        count = len({key[len(prefix):].split(".")[0] for key in state if key.startswith(prefix)})
        least = max(least, (count - 0.5) / repeats if count > 1 else 0.0)
        most = min(most, (count + 0.5) / repeats)
    return (least + most) / 2


def coco_names() -> dict[int, str]:
    """The 80 classes of COCO, in the order of official detectors."""
    return yaml.safe_load((ULTRALYTICS / "cfg" / "datasets" / "coco.yaml").read_text(encoding="utf-8"))["names"]
