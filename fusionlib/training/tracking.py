"""Trackers of a training, chosen by name through accelerate: curves, and images of validation pairs."""

import math
from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType, send_to_device
from torch import Tensor, nn
from torch.utils.data import default_collate

from fusionlib.data.color import split_luma
from fusionlib.data.datasets import PairDataset
from fusionlib.data.image_io import to_uint8
from fusionlib.utils.errors import FusionError

PROJECT = "fusionlib"  # of a tracker with projects; of TensorBoard, the folder in that of the training
PAIRS, TIMES = 4, 10  # validation pairs that are shown, and how often in a training
Show = Callable[[nn.Module, dict], Tensor]


def check(names: Sequence[str]) -> list[str]:
    """The names of trackers, for accelerate; FusionError for one that it does not know, or whose package is missing."""
    known = [str(each.value) for each in LoggerType if each is not LoggerType.ALL]
    installed = {str(LoggerType(each).value) for each in get_available_trackers()}
    for name in names:
        if name not in known:
            raise FusionError(f"trackers must be of {', '.join(known)}, but is {name!r}")
        if name not in installed:
            raise FusionError(f"the tracker {name} is not installed: install its package, or set trackers to others")
    return list(names)


def is_shown(epoch: int, epochs: int) -> bool:
    """Whether images are logged after this epoch, counted from 1: the last one, and some before it."""
    return epoch == epochs or epoch % math.ceil(epochs / TIMES) == 0


@torch.no_grad()
def log_images(accelerator: Accelerator, model: nn.Module, show: Show, validation: PairDataset, epoch: int) -> None:
    """Log infrared, visible luma and fused image, side by side, of the first validation pairs, below each other.

    Trackers that take no images are passed over. `show` returns the fused luma [B,1,H,W] in 0..1 of a batch.
    """
    takers = [tracker for tracker in accelerator.trackers if hasattr(tracker, "log_images")]
    if not takers:
        return
    samples = [validation[index] for index in range(min(PAIRS, len(validation)))]
    batch = send_to_device((validation.collate or default_collate)(samples), accelerator.device)
    y = split_luma(batch["visible"])[0]
    rows = torch.cat([batch["ir"], y, show(model, batch).float()], dim=3)
    image = to_uint8(rows.flatten(0, 2)[None].expand(3, -1, -1))[None]  # [1,B*H,3*W,3]
    for tracker in takers:
        options = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
        tracker.log_images({"infrared, visible, fused": image}, step=epoch, **options)
