"""The device that networks run on."""

import torch

from fusionlib.utils.errors import FusionError


def best_device() -> torch.device:
    """CUDA, MPS or another accelerator where there is one, otherwise the CPU."""
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")


def device_of(name: str | None = None) -> torch.device:
    """The device of a name, such as "cuda:1", or the best one; FusionError where this machine has none of that name."""
    best = best_device()
    try:
        tensor = torch.zeros(1, device=name or best)
        tensor.cpu()  # which fails on "meta", whose tensors have no values
        return tensor.device
    except Exception as error:  # each kind of device raises its own type
        raise FusionError(f"device must be one that this machine has, such as {best}, but is {name!r}") from error
