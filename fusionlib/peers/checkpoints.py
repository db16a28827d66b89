"""Weights of the compared methods, read without running a line of code from a file.

The official releases save plain tensors: one state dict, a dict of several, or one file per part of the network. They
load unchanged; what does not fit exactly is refused.
"""

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fusionlib.utils.errors import FusionError

SUFFIXES = (".model", ".pkl", ".pt", ".pth", ".safetensors")
WRAPPERS = ("model", "state_dict", "params")  # keys under which training scripts put the network beside other things
DERIVED = ("relative_position_index", "attn_mask", ".filt")  # buffers that follow from the architecture
FOREIGN = "model_clip."  # Text-IF's files hold the frozen CLIP too


def load(peer: nn.Module, weights: str | Path | Mapping | Sequence) -> None:
    """Load weights into a network; all of them or none.

    Args:
        peer: the network that the weights belong to.
        weights: a file (.safetensors, or one that torch saved), a folder, a list of files or a dict {part: file}. Which
            part of the network a file holds is known by its keys, unless a dict says it.

    Raises:
        FusionError: a file is missing, damaged or holds Python objects instead of tensors; or what was found does not
            fit, with counts and the first missing, unexpected and misshaped key.
    """
    own = peer.state_dict()
    found, origin = {}, {}
    files = _files(weights)
    for part, path in files:
        state = read(path)
        prefix = _prefix(state, own) if part is None else f"{part}."
        for key, tensor in state.items():
            key = prefix + key
            if key in found:
                raise FusionError(f"{origin[key]} and {path} both hold {key}: give the files of one training only")
            found[key], origin[key] = tensor, path
    where = " and ".join(str(path) for _, path in files) or "an empty list of files"
    _check(own, found, where, type(peer).__name__)
    peer.load_state_dict(found)


def _files(weights) -> list[tuple[str | None, Path]]:
    if isinstance(weights, Mapping):
        return [(part, Path(path)) for part, path in weights.items()]
    if not isinstance(weights, (str, Path)):
        return [(None, Path(path)) for path in weights]
    path = Path(weights)
    if not path.is_dir():
        return [(None, path)]
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    if not files:
        raise FusionError(f"{path}: expected a folder with weights ({', '.join(SUFFIXES)}), found none in it")
    return [(None, file) for file in files]


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, by their names in the network or in a part of it."""
    if not path.is_file():
        raise FusionError(f"{path}: there are no weights here; fusionlib.peers.describe() says where to get them")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named is None:
            raise FusionError(f"{path} is not a file that torch saved, or is damaged: copy it again") from error
        raise FusionError(
            f"{path} holds Python objects ({named[1]}) where plain tensors were expected, and reading those would run "
            "code from the file: save the network's state_dict() in the program that it comes from, and give that file"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = shorten(str(error), 120)
        raise FusionError(f"{path} is damaged, or no file of weights ({reason}): copy it again") from error
    state = {re.sub(r"(^|\.)module\.", r"\1", key): tensor for key, tensor in _tensors(content).items()}
    state = {key: tensor for key, tensor in state.items() if not key.endswith(DERIVED) and not key.startswith(FOREIGN)}
    if not state:
        raise FusionError(f"{path}: expected a state dict of tensors, found none in it: is it the file of weights?")
    return state


def _tensors(content) -> dict[str, Tensor]:
    """Flatten a state dict or a dict of them."""
    if not isinstance(content, Mapping):
        return {}
    for key in WRAPPERS:
        if isinstance(content.get(key), Mapping):
            return _tensors(content[key])
    flat = {}
    for key, value in content.items():
        inner = {f"{key}.{name}": v for name, v in value.items()} if isinstance(value, Mapping) else {str(key): value}
        flat |= {name: v for name, v in inner.items() if isinstance(v, Tensor)}
    return flat


def _prefix(state, own) -> str:
    """What to put before a file's keys to find them in the network: nothing, or the part that most of them fit."""
    prefixes = dict.fromkeys(["", *(f"{key.split('.')[0]}." for key in own)])
    return max(prefixes, key=lambda prefix: sum(prefix + key in own for key in state))


def _check(own, found, where, name) -> None:
    missing = [key for key in own if key not in found]
    unexpected = [key for key in found if key not in own]
    shapes = [f"{key} {list(found[key].shape)} instead of {list(tensor.shape)}" for key, tensor in own.items()
              if key in found and found[key].shape != tensor.shape]
    wrong = [f"{len(keys)} {what} (first {keys[0]})" for keys, what in
             ((missing, "missing"), (unexpected, "unexpected"), (shapes, "of another shape")) if keys]
    if wrong:
        raise FusionError(f"{where} does not fit {name}, which has {len(own)} tensors: {', '.join(wrong)}; "
                          "fusionlib.peers.describe() says which file of which release fits")
