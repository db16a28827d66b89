"""Save and load weights as safetensors whose header names the network and its arguments."""

import json
import textwrap
from pathlib import Path

import torch
from safetensors import safe_open

from fusionlib.models.fusion_network import FusionNetwork
from fusionlib.models.text_dfh import TextGuidedFusion
from fusionlib.utils.errors import FusionError, first_line
from fusionlib.utils.files import write_atomically
from fusionlib.utils.tensors import require_readable, require_weights, serialise, short

KINDS = ("FusionNetwork", "TextDFH")


def save(model: FusionNetwork | TextGuidedFusion, path: str | Path) -> Path:
    """Write a model's weights, of a TextGuidedFusion those of Text-DFH alone, and its constructor's arguments.

    The file is written atomically.
    """
    if isinstance(model, TextGuidedFusion):
        kind, config = "TextDFH", model.harmonise["ir"].config
    else:
        kind, config = "FusionNetwork", model.config
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _module(model).state_dict().items()}
    write_atomically(path, serialise(tensors, {"kind": kind, "config": json.dumps(config)}))
    return Path(path)


def load(path: str | Path, network: FusionNetwork | None = None) -> FusionNetwork | TextGuidedFusion:
    """Load a file of `save`, in evaluation mode, on the CPU or on the device of `network`.

    Args:
        path: a .safetensors file.
        network: the fusion network that Text-DFH weights were trained for; needed for those only.

    Raises:
        FusionError: the file is missing, damaged, or holds something else.
    """
    tensors, kind, config = read(path)
    if kind == "TextDFH" and network is None:
        raise FusionError(f"{path} holds Text-DFH weights: give the fusion network that they were trained for.")
    try:
        with torch.device("meta"):  # a file may state a network that fits into no memory
            expected = _module(_build(kind, config, network)).state_dict()
    except Exception as error:  # for each wrong argument, torch and Python raise another type
        raise FusionError(f"{path} should name the arguments of a {kind}, but its config {_short(config)} fits none "
                          f"({first_line(error)[:120]}): train or copy it again.") from error
    if {name: tensor.shape for name, tensor in expected.items()} != {name: t.shape for name, t in tensors.items()}:
        raise FusionError(f"{path} does not fit a {kind} with {_short(config)}: it was trained with other settings.")
    model = _build(kind, config, network)
    if kind == "TextDFH":
        model.to(next(network.parameters()).device)
    _module(model).load_state_dict(tensors)
    return model.eval()


def _build(kind, config, network):
    if kind == "FusionNetwork":
        return FusionNetwork(**config)
    return TextGuidedFusion(network, config["text_dim"], config["variant"])


def _module(model):
    """The part of a model whose weights are in a file."""
    return model.harmonise if isinstance(model, TextGuidedFusion) else model


def _short(config):
    return textwrap.shorten(str(config), 200, placeholder="...")


def read(path: str | Path) -> tuple[dict, str, dict]:
    """Tensors, kind of network and constructor's arguments in a file of `save`.

    Raises:
        FusionError: the file is missing, damaged, or holds something else.
    """
    if not Path(path).is_file():
        raise FusionError(f"{path}: expected a weight file, found none: run the notebook that trains it first.")
    try:
        require_readable(Path(path))
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        require_weights(tensors, Path(path).stat().st_size)
    except Exception as error:  # a damaged or hostile file can fail in any way
        raise FusionError(f"{path} is not a readable safetensors file ({first_line(error)[:120]}): train or copy it "
                          "again.") from error
    if metadata.get("kind") not in KINDS:
        raise FusionError(f"{path} should hold weights of {' or '.join(KINDS)}, but holds "
                          f"{short(repr(metadata.get('kind')))}: give another file.")
    try:
        config = json.loads(metadata.get("config", ""))
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise FusionError(f"{path} should name the arguments of a {metadata['kind']} in its config, but does not: "
                          "train or copy it again.")
    return tensors, metadata["kind"], config
