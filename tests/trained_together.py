"""Both trainings for 20 steps and more, in one process or in several:

    accelerate launch trained_together.py FOLDER
"""

import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from test_kills import SETTINGS, pairs_in
from torch import nn
from torch.nn.functional import mse_loss

from fusionlib import models
from fusionlib.data.datasets import FusionDataset
from fusionlib.detection import YOLOv5
from fusionlib.inference.folder import fuse_files
from fusionlib.metrics.evaluation import evaluate_folder
from fusionlib.models import FusionLoss, FusionNetwork
from fusionlib.training import fusion, text_dfh, trainer
from fusionlib.utils import distributed
from fusionlib.utils.distributed import SharedBatchNorm
from fusionlib.utils.errors import FusionError


def train(folder):
    """Stage 1, stage 2 and instructions, twenty steps each, on images with different numbers of people."""
    settings = replace(SETTINGS, fusion_lr=1e-4, dfh_epochs=10, dfh_lr=1e-4, instruction_steps=20, instruction_lr=1e-4)
    with distributed.process().main_process_first():
        pairs = pairs_in(folder.parent)
    boxes = [[10 + 12 * i, 20, 22 + 12 * i, 50] for i in range(5)]
    pairs = [replace(p, boxes=np.float32(boxes[: 2 * i + 1]), classes=("person",) * len(boxes[: 2 * i + 1]))
             for i, p in enumerate(pairs)]  # fmt: skip
    fusion.train_fusion_network(pairs[:4], pairs[4:], folder / "stage 1", settings)
    torch.manual_seed(3)
    texts = [torch.randn(3 + i, 384) for i in range(5)]
    detector = YOLOv5(1, depth=0.33, width=0.125, names=["person"])
    network = FusionNetwork(settings.channels).eval()
    both = (pairs[:4], texts[:4]), (pairs[4:], texts[4:])
    text_dfh.train_text_dfh(network, detector, *both, folder / "stage 2", settings, pairs)


def normalise(folder):
    """BatchNorm of a process's part of a batch: its result, the gradient that reaches its input, and its statistics."""
    process = distributed.process()
    torch.manual_seed(0)
    features, wanted = (3 + 2 * torch.randn(4, 5, 6, 7) for _ in range(2))
    layer = nn.BatchNorm2d(5)
    with torch.no_grad():
        layer.weight.uniform_(0.5, 2)
        layer.bias.normal_()
    distributed.share_statistics(layer)
    assert isinstance(layer, SharedBatchNorm)
    own = slice(*(4 // process.num_processes * (process.process_index + i) for i in (0, 1)))
    part = features[own].requires_grad_()
    out = layer(part)
    mse_loss(out, wanted[own]).backward()
    torch.save([out, part.grad, layer.weight.grad, *layer.buffers()], folder / f"norm-{process.process_index}.pt")


def files(folder):
    """Fuse and measure five pairs; the table that each process gets."""
    ir, visible, out = folder.parent, folder.parent / "v*", folder / "fused"
    with distributed.process().main_process_first():
        pairs_in(folder.parent)
    made = fuse_files(ir, visible, out)
    frame = evaluate_folder(out / "v*", ir, visible).assign(file=[path.name for path in made])
    frame.to_csv(folder / f"metrics-{distributed.process().process_index}.csv")


def stumble(folder, times):
    """Stage 1 with a loss that is NaN at the third step, in the last process alone; it may step back so many times."""
    process, calls, loss = distributed.process(), iter(range(1000)), FusionLoss()
    last = process.process_index == process.num_processes - 1

    def losses(model, batch):
        total, parts = loss(model(batch["ir"], batch["y"]), batch["ir"], batch["y"])
        return total * (float("nan") if next(calls) == 3 and last else 1), parts  # two steps, one validation

    pairs = pairs_in(folder.parent)
    torch.manual_seed(0)
    network = FusionNetwork(SETTINGS.channels)
    samples = FusionDataset(pairs[:4], 96, 32), FusionDataset(pairs[4:], 96, 32, train=False)
    settings = replace(SETTINGS, nan_retries=times, schedule="constant")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            trainer.fit(network, losses, *samples, folder / f"back {times}", settings,
                        optimizer=trainer.new_optimizer(network, "adam", 1e-3), save=models.save, epochs=3, batch=2)
            said = [str(warning.message) for warning in told if "begins again" in str(warning.message)]
        except FusionError as error:
            said = [str(error)]
    (folder / f"back {times}-{process.process_index}.txt").write_text("\n".join(said))


def odd(folder):
    """A batch of three."""
    pairs, process = pairs_in(folder.parent), distributed.process()
    try:
        fusion.train_fusion_network(pairs[:4], pairs[4:], folder / "odd", replace(SETTINGS, fusion_batch=3))
    except FusionError as error:
        (folder / f"odd-{process.process_index}.txt").write_text(str(error))


if __name__ == "__main__":
    torch.set_num_threads(1)
    normalise(Path(sys.argv[1]))
    files(Path(sys.argv[1]))
    train(Path(sys.argv[1]))
    stumble(Path(sys.argv[1]), 1)
    stumble(Path(sys.argv[1]), 0)
    odd(Path(sys.argv[1]))
