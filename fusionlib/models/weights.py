"""Save and load weights as safetensors whose header names the network and its arguments."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise

from fusionlib.models.fusion_network import FusionNetwork
from fusionlib.models.text_dfh import TextGuidedFusion
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import write_atomically

KINDS = ("FusionNetwork", "TextDFH")


def save(model: FusionNetwork | TextGuidedFusion, path: str | Path) -> Path:
    """Write a model's weights, of a TextGuidedFusion those of Text-DFH alone, and its constructor's arguments.

    The file is written atomically.
    """
    if isinstance(model, TextGuidedFusion):
        module, kind, config = model.harmonise, "TextDFH", model.harmonise["ir"].config
    else:
        module, kind, config = model, "FusionNetwork", model.config
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    write_atomically(path, serialise(tensors, metadata={"kind": kind, "config": json.dumps(config)}))
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
    if kind == "FusionNetwork":
        model = module = FusionNetwork(**config)
    elif network is None:
        raise FusionError(f"{path} holds Text-DFH weights: give the fusion network that they were trained for.")
    else:
        model = TextGuidedFusion(network, config["text_dim"], config["variant"])
        model.to(next(network.parameters()).device)
        module = model.harmonise
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    if shapes != {name: tensor.shape for name, tensor in tensors.items()}:
        raise FusionError(f"{path} does not fit a {kind} with {config}: it was trained with other settings.")
    module.load_state_dict(tensors)
    return model.eval()


def read(path: str | Path) -> tuple[dict, str, dict]:
    """Tensors, kind of network and constructor's arguments in a file of `save`."""
    if not Path(path).is_file():
        raise FusionError(f"{path}: expected a weight file, found none: run the notebook that trains it first.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise FusionError(f"{path} is not a readable safetensors file ({error}): train or copy it again.") from error
    if metadata.get("kind") not in KINDS:
        raise FusionError(f"{path} should hold weights of {' or '.join(KINDS)}, but holds {metadata.get('kind')!r}.")
    return tensors, metadata["kind"], json.loads(metadata["config"])
