"""The training loop, on accelerate, and what stage 1 (paper 3.2) and stage 2 (paper 3.3) do with it."""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from fusionlib import devices, models
from fusionlib.config import Profile
from fusionlib.data.pairs import Pair
from fusionlib.data.samples import DetectionSamples, FusionSamples, Samples, SteeringSamples
from fusionlib.detection import YOLOv5
from fusionlib.errors import FusionError
from fusionlib.models import FusionLoss, FusionNetwork, TextGuidedFusion
from fusionlib.models.detection_loss import DetectionLosses
from fusionlib.models.steering import SteeredLosses, encoded_instructions
from fusionlib.runs import write_json

Losses = Callable[[nn.Module, dict], tuple[Tensor, dict[str, Tensor]]]
Schedule = Callable[[int, int], float]

#: The factor on the learning rate after a step, of how many.
SCHEDULES: dict[str, Schedule] = {
    "constant": lambda step, steps: 1,
    "cosine": lambda step, steps: (1 + math.cos(math.pi * step / steps)) / 2,
}


def train_fusion_network(
    train: Sequence[Pair], validation: Sequence[Pair], folder: Path, settings: Profile
) -> FusionNetwork:
    """Stage 1: train the fusion network under L_f; resumes what was interrupted in the same folder.

    Args:
        train: pairs to learn from.
        validation: pairs that choose the best epoch.
        folder: receives best.safetensors, last.safetensors, curves.csv and TensorBoard files.
        settings: the profile.

    Returns:
        The network after the last epoch, in evaluation mode.
    """
    if not train or not validation:
        counts = f"{len(train)} and {len(validation)}"
        raise FusionError(
            f"stage 1 needs pairs to train and to validate on, but got {counts}: add a data set with a train part "
            "(data/README.md says which have one)"
        )
    set_seed(settings.seed)
    network, loss = FusionNetwork(settings.channels), FusionLoss()

    def losses(model: nn.Module, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        return loss(model(batch["ir"], batch["y"]), batch["ir"], batch["y"])

    size = {"resize": settings.fusion_resize, "crop": settings.fusion_crop, "seed": settings.seed}
    fit(
        network, losses,
        FusionSamples(train, **size, crops=settings.fusion_crops, relight=settings.fusion_relight),
        FusionSamples(validation, **size, train=False), folder, settings, settle=settings.settle,
        optimizer=adam(network, settings.fusion_lr), epochs=settings.fusion_epochs, batch=settings.fusion_batch,
    )  # fmt: skip
    return models.load(folder / "last.safetensors")


def train_text_dfh(
    network: FusionNetwork,
    detector: YOLOv5,
    train: tuple[Sequence[Pair], Sequence[Tensor]],
    validation: tuple[Sequence[Pair], Sequence[Tensor]],
    folder: Path,
    settings: Profile,
    scenes: Sequence[Pair] = (),
) -> TextGuidedFusion:
    """Stage 2: train Text-DFH in front of a frozen decoder and a frozen detector.

    The loss is that of YOLOv5 on the refined image in colour, plus fidelity * L_f of its luma; both are summed over
    the batch, so that their balance does not depend on the batch size. Where the profile has `steer_steps`, Text-DFH
    first learns to follow instructions, on crops and without the detector, in the folder's "steering".

    Args:
        network: the fusion network of stage 1; it is frozen.
        detector: a pretrained detector with a class "person"; it is frozen.
        train: labelled pairs, and the features [L,D] of each pair's answer.
        validation: the same, to choose the best epoch.
        folder: receives best.safetensors, last.safetensors, curves.csv and TensorBoard files.
        settings: the profile.
        scenes: pairs of any kind, with labels or without, that instructions are learned on.

    Returns:
        The network with Text-DFH after the last epoch, in evaluation mode.
    """
    unlabelled = [p.name for p in train[0] if p.boxes is None]
    if not train[0] or not validation[0] or unlabelled:
        raise FusionError(f"stage 2 needs labelled pairs to train and to validate on; without labels: {unlabelled[:3]}")
    set_seed(settings.seed)
    model = TextGuidedFusion(network, train[1][0].shape[1], settings.variant)
    losses = DetectionLosses(detector, settings.fidelity)
    instructions = {}
    if settings.steer or settings.steer_steps:
        losses = SteeredLosses(losses, network, settings.steer_weight)
        instructions = encoded_instructions(train[1][0].shape[1])
    if settings.steer_steps:
        if not scenes:
            raise FusionError("steer_steps asks for steps on scenes with instructions, but no scenes were given: give "
                              "pairs, with labels or without, or set steer_steps to 0")
        crops = {"resize": max(settings.detect_size), "crop": settings.steer_crop, "seed": settings.seed}
        fit(
            model, losses,
            SteeringSamples(scenes, instructions=instructions, **crops, crops=12, relight=settings.fusion_relight),
            SteeringSamples(validation[0], instructions=instructions, **crops, crops=4, train=False),
            folder / "steering", settings, optimizer=adam(model, settings.dfh_lr), epochs=0,
            steps=settings.steer_steps, batch=settings.steer_batch, settle=settings.settle,
        )  # fmt: skip
    seed = {"size": settings.detect_size, "seed": settings.seed}
    fit(
        model, losses,
        DetectionSamples(train[0], text=train[1], steer=settings.steer, instructions=instructions, **seed),
        DetectionSamples(validation[0], text=validation[1], train=False, **seed), folder, settings,
        optimizer=adam(model, settings.dfh_lr), epochs=settings.dfh_epochs, batch=settings.dfh_batch,
        settle=settings.settle,
    )  # fmt: skip
    return models.load(folder / "last.safetensors", network)


def adam(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """The optimiser of both stages (paper 4.2), for all that is not frozen."""
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=learning_rate)


def fit(
    model: nn.Module,
    losses: Losses,
    train: Samples,
    validation: Samples,
    folder: Path,
    settings: Profile,
    *,
    optimizer: torch.optim.Optimizer,
    epochs: int,
    batch: int,
    steps: int | None = None,
    schedule: Schedule | None = None,
    clip: float | None = None,
    settle: float = 0.0,
    save: Callable[[nn.Module, Path], object] = models.save,
) -> None:
    """Train, validate after each epoch, keep best and last weights, resume where it stopped.

    Args:
        model: what `losses` is given, on any number of devices.
        losses: (model, batch) -> (total, parts to record).
        train: samples to learn from; each epoch sees all of them in another order.
        validation: samples that choose the best epoch.
        folder: receives best.safetensors, last.safetensors, curves.csv, TensorBoard files and the state to resume from.
        settings: the profile, for seed, precision, workers and schedule.
        optimizer: over the parameters to train.
        epochs: passes over `train`.
        batch: samples in a batch on each device.
        steps: steps of the optimiser to take, instead of `epochs`; they may end amid an epoch, which is then cut.
        schedule: of the learning rate, instead of the profile's.
        clip: norm that gradients are cut to.
        settle: share of the epochs, at the end, in which the model trains in evaluation mode: BatchNorm normalises by
            its running statistics, as it will later. Statistics of single batches hide how bright an image is.
        save: writes the weights of `model` to a path.

    Raises:
        FusionError: unknown schedule, or a loss that is not finite.
    """
    accelerator = devices.accelerator(
        settings.amp, log_with="tensorboard", project_dir=folder,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=settings.seed),
    )  # fmt: skip
    options = {"batch_size": batch, "num_workers": settings.workers, "collate_fn": train.collate}
    loader, check = DataLoader(train, shuffle=True, **options), DataLoader(validation, **options)
    planned = steps * accelerator.num_processes if steps else epochs * len(loader)  # as the scheduler counts them
    factor = schedule or SCHEDULES.get(settings.schedule)
    if factor is None:
        raise FusionError(f"schedule must be one of {', '.join(SCHEDULES)}, but is {settings.schedule!r}")
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step, planned))
    model, optimizer, loader, check, scheduler = accelerator.prepare(model, optimizer, loader, check, scheduler)
    epochs = math.ceil(steps / len(loader)) if steps else epochs
    accelerator.init_trackers("tensorboard")
    start, rows = resume(accelerator, folder)
    progress = tqdm(range(start, epochs), initial=start, total=epochs, desc="epochs", leave=False,
                    disable=not accelerator.is_main_process)  # fmt: skip
    for epoch in progress:
        began, train.epoch = time.perf_counter(), epoch
        loader.set_epoch(epoch)
        left = steps - epoch * len(loader) if steps else len(loader)
        batches = loader if left >= len(loader) else islice(loader, left)
        model.train(epoch < round((1 - settle) * epochs))
        row = {"epoch": epoch + 1, **run_epoch(accelerator, model, losses, batches, optimizer, scheduler, clip)}
        model.eval()
        row |= {f"validation {k}": v for k, v in run_epoch(accelerator, model, losses, check).items()}
        row["seconds"] = time.perf_counter() - began
        rows.append(row)
        accelerator.log({k: v for k, v in row.items() if k != "epoch"}, step=epoch + 1)
        progress.set_postfix(loss=f"{row['total']:.4f}", validation=f"{row['validation total']:.4f}")
        if accelerator.is_main_process:
            save(accelerator.unwrap_model(model), folder / "last.safetensors")
            if row["validation total"] <= min(r["validation total"] for r in rows):
                save(accelerator.unwrap_model(model), folder / "best.safetensors")
            pd.DataFrame(rows).to_csv(folder / "curves.csv", index=False, float_format="%.6g")
        checkpoint(accelerator, folder, rows)
    accelerator.end_training()


def run_epoch(
    accelerator: Accelerator, model: nn.Module, losses: Losses, loader: Iterable[dict],
    optimizer=None, scheduler=None, clip: float | None = None,
) -> dict[str, float]:  # fmt: skip
    """One pass over the data, with an optimiser a training one; mean of the losses per image."""
    sums, images = {}, 0
    for batch in loader:
        with torch.set_grad_enabled(optimizer is not None), accelerator.autocast():
            total, parts = losses(model, batch)
        if not torch.isfinite(total):
            raise FusionError(f"the loss became {total.item()}: lower the learning rate, or set amp to no")
        if optimizer is not None:
            accelerator.backward(total)
            if clip:
                accelerator.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        count = len(batch["ir"])
        images += count
        for name, value in {"total": total.detach(), **parts}.items():
            sums[name] = sums.get(name, 0) + value * count
    values = accelerator.reduce(torch.stack([*sums.values(), torch.as_tensor(float(images)).to(total)]), "sum")
    return {name: (value / values[-1]).item() for name, value in zip(sums, values[:-1])}


def checkpoint(accelerator: Accelerator, folder: Path, rows: list[dict]) -> None:
    """Save the full state of training; a kill at any moment leaves the previous state usable."""
    state = folder / "checkpoint" / f"epoch-{len(rows):04d}"
    accelerator.save_state(str(state))
    if accelerator.is_main_process:
        write_json(folder / "checkpoint.json", {"state": state.name, "rows": rows})
        for other in state.parent.iterdir():
            if other != state:
                shutil.rmtree(other)
    accelerator.wait_for_everyone()


def resume(accelerator: Accelerator, folder: Path) -> tuple[int, list[dict]]:
    """Continue from the last complete state in the folder: (first epoch to do, rows of the curves so far)."""
    record = folder / "checkpoint.json"
    if not record.is_file():
        return 0, []
    done = json.loads(record.read_text())
    accelerator.load_state(str(folder / "checkpoint" / done["state"]))
    accelerator.print(f"resumed after epoch {len(done['rows'])}")
    return len(done["rows"]), done["rows"]
