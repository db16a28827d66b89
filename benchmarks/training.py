"""Steps of both trainings through the suite's loop, against a bare PyTorch loop over batches that lie in memory."""

import shutil
import tempfile
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from benchmarks.timing import Case
from fusionlib.config import PROFILES
from fusionlib.data import layouts
from fusionlib.data.datasets import DetectionDataset, FusionDataset
from fusionlib.data.synthetic import scene
from fusionlib.detection import load_yolov5
from fusionlib.inference import pair
from fusionlib.models import TextGuidedFusion, fusion_loss
from fusionlib.training import trainer
from fusionlib.training.fusion import new_network
from fusionlib.training.objectives import DetectionObjective
from fusionlib.utils import distributed

PAIRS, WORDS = 32, (40, 384)
QUICK = PROFILES["quick"]
COMPILED = {"backend": "inductor"}  # what torch.compile is told

_folders = []  # temporary ones, which are removed at the end of the process that made them


def inputs() -> dict:
    """The folder of embedded scenes, written as pictures."""
    _folders.append(tempfile.TemporaryDirectory())
    folder = Path(_folders[-1].name) / "Scenes"
    scene.write(folder, PAIRS, 0)
    return {"folder": str(folder)}


def cases(arrays: dict) -> list[Case]:
    """An epoch of stage 1 and some steps of stage 2, of the profile quick; the bare loop first."""
    pairs = layouts.read(arrays["folder"]).pairs
    crops = FusionDataset(pairs, QUICK.fusion_resize, QUICK.fusion_crop)
    whole = DetectionDataset(pairs[: 2 * QUICK.dfh_batch], QUICK.detect_size, [torch.zeros(WORDS)] * PAIRS)
    network = new_network(QUICK).to(memory_format=torch.channels_last)  # as `train_fusion_network` has it
    loss = fusion_loss(QUICK.fusion_loss)
    detector = load_yolov5(pair.WEIGHTS / QUICK.detector, "cpu")

    def fusion_losses(model, batch):
        return loss(model(batch["ir"], batch["y"]), batch["ir"], batch["y"])

    return [
        *_ways(f"stage 1, {PAIRS // QUICK.fusion_batch} steps of {QUICK.fusion_batch} crops of {QUICK.fusion_crop}x"
               f"{QUICK.fusion_crop}", network, fusion_losses, crops, QUICK.fusion_batch),
        *_ways(f"stage 2, 2 steps of {QUICK.dfh_batch} images of {QUICK.detect_size[1]}x{QUICK.detect_size[0]}",
               TextGuidedFusion(new_network(QUICK), WORDS[1]),
               DetectionObjective(detector, QUICK.fidelity, loss), whole,
               QUICK.dfh_batch),
    ]  # fmt: skip


def _ways(task, model, losses, samples, batch):
    accelerator = distributed.make_accelerator("no")
    loader = accelerator.prepare(DataLoader(samples, batch, shuffle=True, collate_fn=samples.collate))
    batches = list(loader)
    optimizer = trainer.new_optimizer(model, "adam", 1e-6)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)

    def bare(network=model, precision=torch.float32):
        for each in batches:
            with torch.autocast("cpu", precision, enabled=precision != torch.float32):
                total, _ = losses(network, each)
            total.backward()
            optimizer.step()
            optimizer.zero_grad()

    ours = partial(trainer.run_epoch, accelerator, model, losses, optimizer=optimizer, scheduler=scheduler)
    ways = {"bare loop": bare, "the suite's loop, the same batches": lambda: ours(batches),
            "the suite's loop, pictures loaded and augmented": lambda: ours(loader),
            "pictures loaded and augmented, nothing learned": lambda: list(loader),
            "bare loop in bfloat16": partial(bare, precision=torch.bfloat16)}  # fmt: skip
    if any(map(shutil.which, ("g++", "clang++"))):  # which torch.compile needs
        ways["bare loop, compiled by torch"] = partial(bare, torch.compile(model, **COMPILED))
    return [Case(task, way, run) for way, run in ways.items()]
