"""The accelerator, and helpers for distributed runs that reproduce the single-process result.

Lists of images are dealt out and the results gathered. In training, each process sees an equal part of a batch, and the
gradients are averaged. That is the gradient of the whole batch as far as a loss is a mean over images; what else
depends on the batch is put right here.
"""

import datetime
from collections.abc import Sequence

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from torch import Tensor, distributed, nn

from fusionlib.utils.devices import best_device


def process() -> PartialState:
    """This process among those of `accelerate launch`; from now on the best device is its own."""
    return PartialState(cpu=best_device().type == "cpu")  # else accelerate does not share work among CPUs


def share(items: Sequence) -> Sequence:
    """This process's part of a list: every so many-th item."""
    state = process()
    return items[state.process_index :: state.num_processes]


def gather(value) -> list:
    """What each process has, in every process; the slowest may take hours longer than usual time-outs."""
    state = process()
    if state.num_processes == 1:
        return [value]
    group = distributed.new_group(backend="gloo", timeout=datetime.timedelta(days=30))
    everyone = [None] * state.num_processes
    distributed.all_gather_object(everyone, value, group=group)
    distributed.destroy_process_group(group)
    return everyone


def _processes() -> int:
    """Number of processes that share a batch: all in training, one where no gradients are computed."""
    shared = torch.is_grad_enabled() and distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if shared else 1


def weight_of(count: int, device: torch.device) -> float | Tensor:
    """Weight of this process's mean over `count` items, so that the mean over processes is that over all items."""
    if (processes := _processes()) == 1:
        return 1.0
    total = torch.tensor(float(count), device=device)
    distributed.all_reduce(total)
    return count * processes / total.clamp_min(1)


def is_finite(loss: Tensor) -> bool:
    """Whether a loss is finite in all processes that share the batch, so that they continue or stop together."""
    finite = torch.isfinite(loss.detach()).float()
    if _processes() > 1:
        distributed.all_reduce(finite, distributed.ReduceOp.MIN)
    return bool(finite)


class _Sum(torch.autograd.Function):
    """Differentiable sum over all processes."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradient)


class SharedBatchNorm(nn.BatchNorm2d):
    """BatchNorm2d with statistics over all processes; unlike torch's SyncBatchNorm it works on CPUs."""

    def forward(self, features: Tensor) -> Tensor:
        """[B,C,H,W] -> [B,C,H,W]; all processes must have the same size."""
        shared = _processes()
        if shared == 1 or not self.training:
            return super().forward(features)
        mean = _Sum.apply(features.mean((0, 2, 3))) / shared
        centred = features - mean[:, None, None]
        variance = _Sum.apply(centred.square().mean((0, 2, 3))) / shared
        with torch.no_grad():
            count = shared * features.numel() / features.shape[1]
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale[:, None, None] + self.bias[:, None, None]


def share_statistics(model: nn.Module) -> None:
    """Turn every BatchNorm2d of a model into a `SharedBatchNorm`, in place; weights stay."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm


def make_accelerator(precision: str = "no", **options) -> Accelerator:
    """A fresh accelerator for CPU, CUDA or MPS.

    Args:
        precision: "no" for float32, "bf16" or "fp16" for mixed precision.
        options: passed on to accelerate.
    """
    # accelerate keeps the first precision of a process and refuses any other: in a notebook the next cell may want one.
    AcceleratorState._reset_state()
    return Accelerator(mixed_precision=precision, cpu=best_device().type == "cpu", **options)
