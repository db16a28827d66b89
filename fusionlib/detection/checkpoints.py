"""Read and write YOLOv5 weights without executing code from the file.

An official `.pt` pickles the whole model object. torch's weights-only reader rebuilds its tensors here, while an empty
stand-in replaces every class or function that the file names.
"""

import json
import reprlib
import textwrap
from collections.abc import Iterator
from pathlib import Path

import torch
import yaml
from safetensors import safe_open

from fusionlib.detection.blocks import ROOT as ULTRALYTICS
from fusionlib.detection.yolov5 import YOLOv5
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import write_atomically
from fusionlib.utils.tensors import require_readable, require_weights, serialise

MAX_MODULES = 10_000  # in one file; the largest detectors have about 1,000
MAX_DEPTH = 4  # of YOLOv5; that of the largest, x6, is 1.33
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
    middle = state.get("model.9.cv2.conv.weight")
    if anchors is None or anchors.shape != (3, 3, 2) or any(t is None or t.ndim != 4 for t in (head, middle)):
        raise FusionError(f"{path}: expected {_EXPECTED}, found another network or none ({len(state)} tensors).")

    num_classes = head.shape[0] // 3 - 5
    names = metadata["names"] or (list(coco_names().values()) if num_classes == 80 else None)
    try:
        settings = num_classes, _depth(state), middle.shape[0] / 1024
        with torch.device("meta"):  # a file may state a network that fits into no memory
            YOLOv5(*settings, names=names).load_state_dict(state, assign=True)
        model = YOLOv5(*settings, names=names)
        model.load_state_dict(state)
    except (RuntimeError, FusionError) as error:
        reason = textwrap.shorten(str(error).splitlines()[-1], 120)
        raise FusionError(f"{path}: expected {_EXPECTED}, found a variant that does not fit: {reason}") from error
    return model.to(device).eval()


def save_yolov5(model: YOLOv5, path: str | Path, half: bool = False) -> None:
    """Write weights, anchors and names to a `.safetensors` file, in float16 if `half`."""
    state = {key: (value.half() if half and value.is_floating_point() else value).detach().cpu().contiguous()
             for key, value in model.state_dict().items()}
    write_atomically(path, serialise(state, {"yolov5": json.dumps({"names": model.names})}))


def read(path: str | Path, expected: str) -> tuple[dict[str, torch.Tensor], dict]:
    """Tensors of a weight file by name, and metadata: "names", a list or None; of a module also "yaml", "activations".

    Raises:
        FusionError: the file is missing, damaged or unsafe; the message says what was `expected`.
    """
    path = Path(path)
    if not path.is_file():
        raise FusionError(f"{path}: expected {expected}, found no such file; nothing is downloaded, so copy it here.")
    try:
        require_readable(path)
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                metadata = dict(json.loads((file.metadata() or {}).get("yolov5", "{}")))
                state = {key: file.get_tensor(key) for key in file.keys()}
        else:
            named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            with torch.serialization.safe_globals([_stand_in(name) for name in named]):
                state, metadata = _state_and_metadata(torch.load(path, map_location="cpu", weights_only=True))
        require_weights(state, path.stat().st_size)
        return state, metadata | {"names": _names(metadata.get("names"))}
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


def _names(names):
    """The names of the classes as a list; None if there are none."""
    names = list(names.values()) if isinstance(names, dict) else names
    if not isinstance(names, list | tuple) or not names:
        return None
    return [name if isinstance(name, str) else reprlib.repr(name) for name in names]  # lists may be shared by lists


def _modules(module: _StandIn) -> Iterator[tuple[str, _StandIn]]:
    """A pickled nn.Module and all modules in it, by name, in the order of its state_dict().

    A module that is shared has several names. A few of them that share each other can have more than any program could
    list, so ValueError is raised beyond `MAX_MODULES`.
    """
    waiting, count = [("", module)], 0
    while waiting:
        name, current = waiting.pop()
        yield name, current
        children = [(f"{name}.{key}" if name else key, child) for key, child in
                    vars(current).get("_modules", {}).items() if isinstance(child, _StandIn)]  # fmt: skip
        waiting += reversed(children)
        count += 1
        if count > MAX_MODULES:
            raise ValueError(f"it has more than {MAX_MODULES} modules")


def _tensors(module: _StandIn) -> Iterator[tuple[str, torch.Tensor]]:
    """Traverse a pickled nn.Module as its state_dict() would."""
    for prefix, current in _modules(module):
        fields = vars(current)
        for name, value in {**fields.get("_parameters", {}), **fields.get("_buffers", {})}.items():
            if isinstance(value, torch.Tensor):
                yield f"{prefix}.{name}" if prefix else name, value.detach()


def _activations(module: _StandIn) -> Iterator[tuple[str, str]]:
    """The class of each activation of a pickled nn.Module, which its state dict does not contain."""
    return ((name, type(child).__name__) for name, child in _modules(module) if name.rpartition(".")[2] == "act")


def _depth(state):
    """The depth multiplier that rounds to the numbers of repeated blocks in the modules 2, 4 and 6."""
    lowest, highest = 0.0, float("inf")
    for module, repeats in ((2, 3), (4, 6), (6, 9)):
        prefix = f"model.{module}.m."
        count = len({key[len(prefix):].split(".")[0] for key in state if key.startswith(prefix)})
        lowest = max(lowest, (count - 0.5) / repeats if count > 1 else 0.0)
        highest = min(highest, (count + 0.5) / repeats)
    if not lowest <= highest < MAX_DEPTH:
        raise FusionError("its numbers of repeated blocks are those of no YOLOv5")
    return (lowest + highest) / 2


def coco_names() -> dict[int, str]:
    """The 80 classes of COCO, in the order of official detectors."""
    return yaml.safe_load((ULTRALYTICS / "cfg" / "datasets" / "coco.yaml").read_text(encoding="utf-8"))["names"]
