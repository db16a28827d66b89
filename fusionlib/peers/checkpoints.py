"""Weights of the compared methods, read without executing code from a file.

Official releases hold plain tensors: one state dict, a dict of several, or one file per part of the network. They load
unchanged; files that do not fit exactly are refused.
"""

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fusionlib.utils.errors import FusionError, first_line
from fusionlib.utils.tensors import require_readable, require_weights, short

SUFFIXES = (".model", ".pkl", ".pt", ".pth", ".safetensors")
WRAPPERS = ("model", "state_dict", "params")  # keys under which training scripts store the network beside other things
DERIVED = ("relative_position_index", "attn_mask", ".filt")  # buffers that follow from the architecture
FOREIGN = "model_clip."  # frozen CLIP in Text-IF's files


def load(peer: nn.Module, weights: str | Path | Mapping | Sequence) -> None:
    """Load all weights of a network, or none.

    Args:
        peer: the network.
        weights: a file (.safetensors, or saved by torch), a folder, a list of files or a dict {part: file}. Without a
            dict, the part of the network that a file holds is inferred from its keys.

    Raises:
        FusionError: a file is missing, damaged or holds Python objects instead of tensors; or the tensors do not fit:
            the error counts the missing, unexpected and misshaped keys and names the first of each.
    """
    expected = peer.state_dict()
    found, origin = {}, {}
    files = _files(weights)
    for part, path in files:
        state = read(path)
        prefix = _prefix(state, expected) if part is None else f"{part}."
        for key, tensor in state.items():
            key = prefix + key
            if key in found:
                raise FusionError(f"{origin[key]} and {path} both hold {key}: give the files of one training only")
            found[key], origin[key] = tensor, path
    shapes = [f"{key} {list(found[key].shape)} instead of {list(tensor.shape)}" for key, tensor in expected.items()
              if key in found and found[key].shape != tensor.shape]
    problems = {"missing": [key for key in expected if key not in found],
                "unexpected": [key for key in found if key not in expected], "of another shape": shapes}
    if any(problems.values()):
        where = " and ".join(str(path) for _, path in files) or "an empty list of files"
        counts = ", ".join(f"{len(keys)} {kind} (first {short(keys[0])})" for kind, keys in problems.items() if keys)
        raise FusionError(f"{where} does not fit {type(peer).__name__}, which has {len(expected)} tensors: {counts}; "
                          "fusionlib.peers.describe() says which file of which release fits")
    peer.load_state_dict(found)


def _files(weights) -> list[tuple[str | None, Path]]:
    """(part or None, file) for each file of the weights."""
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
    """The tensors of one file, by their names in the network or in a part of it.

    Raises:
        FusionError: the file is missing, damaged, holds Python objects, or no tensors.
    """
    if not path.is_file():
        raise FusionError(f"{path}: expected a weight file, found none; fusionlib.peers.describe() names the source")
    try:
        require_readable(path)
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = _plain(torch.load(path, map_location="cpu", weights_only=True))
        require_weights(state, path.stat().st_size)
    except Exception as error:  # a damaged or hostile file can fail in any way
        if refused := re.search(r"GLOBAL (\S+)", str(error)):
            raise FusionError(f"{path} holds Python objects ({refused[1]}) instead of plain tensors, and reading them "
                              "would run code from the file: save the network's state_dict() in the program that it "
                              "comes from, and give that file") from error
        reason = "no pickle of tensors" if isinstance(error, pickle.UnpicklingError) else first_line(error)[:120]
        raise FusionError(f"{path} is damaged or not a weight file ({reason}): copy it again") from error
    if not state:
        raise FusionError(f"{path}: expected a state dict of tensors, found none: check that this is the weight file")
    return state


def _plain(content) -> dict[str, Tensor]:
    """The tensors of a file saved by torch that are the network's own."""
    state = {re.sub(r"(^|\.)module\.", r"\1", key): tensor for key, tensor in _tensors(content).items()}
    return {key: tensor for key, tensor in state.items() if not key.endswith(DERIVED) and not key.startswith(FOREIGN)}


def _tensors(content) -> dict[str, Tensor]:
    """Flatten a state dict or a dict of them."""
    if not isinstance(content, Mapping):
        return {}
    for key in WRAPPERS:
        if isinstance(content.get(key), Mapping):
            return _tensors(content[key])
    flat = {}
    for key, value in content.items():
        flat |= {f"{key}.{name}": v for name, v in value.items()} if isinstance(value, Mapping) else {str(key): value}
    return {name: value for name, value in flat.items() if isinstance(value, Tensor)}


def _prefix(state, expected) -> str:
    """The prefix that turns most of a file's keys into the network's: empty, or the name of a part."""
    prefixes = dict.fromkeys(["", *(f"{key.split('.')[0]}." for key in expected)])
    return max(prefixes, key=lambda prefix: sum(prefix + key in expected for key in state))
