"""Weights in and out: safetensors that know which network they belong to."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import nn

from fusionlib.models.fusion_network import FusionNetwork
from fusionlib.models.text_dfh import TextDFH, TextGuidedFusion
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import write_atomically

KINDS = {"FusionNetwork": FusionNetwork, "TextDFH": TextDFH}


def save(model: FusionNetwork | TextGuidedFusion, path: str | Path) -> Path:
    """Write the weights of a model, with its constructor's arguments in the header; of a TextGuidedFusion, Text-DFH's.

    The file appears whole or not at all.
    """
    part = model.harmonise if isinstance(model, TextGuidedFusion) else model
    kind, config = ("TextDFH", part["ir"].config) if part is not model else ("FusionNetwork", model.config)
    path = Path(path)
    tensors = {k: v.detach().cpu().contiguous() for k, v in part.state_dict().items()}
    write_atomically(path, serialise(tensors, metadata={"kind": kind, "config": json.dumps(config)}))
    return path


def load(path: str | Path, network: FusionNetwork | None = None) -> FusionNetwork | TextGuidedFusion:
    """Read what `save` wrote, in evaluation mode, on the CPU or on the device of `network`.

    Args:
        path: a .safetensors file.
        network: the fusion network that Text-DFH weights belong in front of; needed for those only.

    Raises:
        FusionError: the file is missing, damaged, or holds something else.
    """
    tensors, kind, config = read(path)
    if kind == "FusionNetwork":
        model = part = FusionNetwork(**config)
    elif network is None:
        raise FusionError(f"{path} holds Text-DFH weights: give the fusion network that they were trained for")
    else:
        model = TextGuidedFusion(network, config["text_dim"], config["variant"])
        model.to(next(network.parameters()).device)
        part = model.harmonise
    wrong = part.load_state_dict(tensors, strict=False) if _fits(part, tensors) else None
    if wrong is None or wrong.missing_keys or wrong.unexpected_keys:
        raise FusionError(f"{path} does not fit a {kind} with {config}: it was trained with other settings")
    return model.eval()


def read(path: str | Path) -> tuple[dict, str, dict]:
    """Tensors, kind of network and constructor's arguments of a weight file of ours."""
    if not Path(path).is_file():
        raise FusionError(f"no weights at {path}: run the notebook that trains them first")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise FusionError(f"{path} is not a readable safetensors file ({error}): train or copy it again") from error
    if metadata.get("kind") not in KINDS:
        raise FusionError(f"{path} should be weights of {' or '.join(KINDS)}, but says it is {metadata.get('kind')!r}")
    return tensors, metadata["kind"], json.loads(metadata["config"])


def _fits(module: nn.Module, tensors: dict) -> bool:
    own = module.state_dict()
    return all(name not in own or own[name].shape == tensor.shape for name, tensor in tensors.items())
