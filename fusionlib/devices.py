"""The device that is there, for training loops and for inference."""

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState


def best() -> torch.device:
    """CUDA, MPS or another accelerator where there is one, otherwise the CPU."""
    there = torch.accelerator.is_available()
    return torch.accelerator.current_accelerator() if there else torch.device("cpu")


def accelerator(precision: str = "no", **options) -> Accelerator:
    """A fresh accelerator for CPU, CUDA or MPS.

    Args:
        precision: "no" for float32, "bf16" or "fp16" for mixed precision.
        options: passed on to accelerate.
    """
    # accelerate keeps the first precision of a process and refuses any other: in a notebook the next cell may want one.
    AcceleratorState._reset_state()
    return Accelerator(mixed_precision=precision, cpu=best().type == "cpu", **options)
