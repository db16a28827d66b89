"""The trainer, on accelerate: validates after each epoch, saves the best and the last weights, resumes."""

import json
import math
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from fusionlib.config import Profile
from fusionlib.data.datasets import PairDataset
from fusionlib.training import tracking
from fusionlib.utils import distributed
from fusionlib.utils.allocator import keep_freed_memory
from fusionlib.utils.errors import FusionError, first_line
from fusionlib.utils.files import below, write_atomically, write_json
from fusionlib.utils.locks import folder_lock

Losses = Callable[[nn.Module, dict], tuple[Tensor, dict[str, Tensor]]]
Schedule = Callable[[int, int], float]


def one_cycle(step: int, steps: int) -> float:
    """From 1/25 up to 1 in the first tenth of the steps, then down to 1/250,000, both along a cosine."""
    top = 0.1 * steps - 1
    first, last, done = (1 / 25, 1, step / top) if step < top else (1, 1 / 250_000, (step - top) / (steps - 1 - top))
    return last + (first - last) * (1 + math.cos(math.pi * done)) / 2


#: (step, number of steps) -> factor on the learning rate.
SCHEDULES: dict[str, Schedule] = {
    "constant": lambda step, steps: 1,
    "cosine": lambda step, steps: (1 + math.cos(math.pi * step / steps)) / 2,
    "one-cycle": one_cycle,
}


class Diverged(FusionError):
    """The loss is not finite."""


def soap(parameters: Sequence[Tensor], lr: float) -> torch.optim.Optimizer:
    """SOAP (Vyas et al. 2024, arXiv 2409.11321): Adam in the eigenbases of Shampoo's preconditioners."""
    from pytorch_optimizer import SOAP  # here, since it takes a second to import

    # So that a kernel of ten outputs or more is a matrix of outputs by all else; a vector cannot be merged.
    return SOAP([{"params": [p], "merge_dims": min(len(p), p[0].numel()) > 1,
                  "max_precondition_dim": max(len(p), p[0].numel())} for p in parameters],
                lr=lr, weight_decay=0, precondition_1d=True)  # fmt: skip


#: By name, as in the setting `optimizer`: (parameters, learning rate) -> optimiser. Adam is the paper's (4.2).
OPTIMIZERS = {"adam": torch.optim.Adam, "soap": soap}


def new_optimizer(model: nn.Module, name: str, learning_rate: float) -> torch.optim.Optimizer:
    """The optimiser of a name in `OPTIMIZERS`, over all parameters that are not frozen; FusionError for another."""
    if name not in OPTIMIZERS:
        raise FusionError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, but is {name!r}")
    return OPTIMIZERS[name]([p for p in model.parameters() if p.requires_grad], lr=learning_rate)


def fit(
    model: nn.Module, losses: Losses, train: PairDataset, validation: PairDataset | None, folder: Path,
    settings: Profile, *, optimizer: torch.optim.Optimizer, save: Callable[[nn.Module, Path], object],
    epochs: int, batch: int, steps: int | None = None,
    schedule: Schedule | None = None, clip: float | None = None, freeze_bn_fraction: float = 0.0,
    reduction: Literal["mean", "sum"] = "mean", ema_decay: float | None = None,
    score: Callable[[nn.Module], dict[str, float]] | None = None, show: tracking.Show | None = None,
) -> None:  # fmt: skip
    """Train, evaluate after each epoch, save the best and the last weights, resume where it stopped.

    Args:
        model, losses: (model, batch) -> (total, terms to record); a batch holds the "name" of each image.
        train: samples to learn from, in another order in each epoch.
        validation: samples whose loss chooses the best epoch; None: no best epoch, unless by `score`.
        folder: receives best.safetensors, last.safetensors, curves.csv, TensorBoard's files and the state to resume
            from.
        settings: the profile: seed, amp, workers, schedule, gradient_accumulation_steps, nan_retries, trackers.
        optimizer: over the parameters to train.
        save: writes the weights of `model` to a path.
        epochs: passes over `train`.
        batch: batch size, shared equally by the processes of `accelerate launch`; an incomplete last batch is filled
            from the first one.
        steps: optimiser steps instead of `epochs`; the last epoch may be partial.
        schedule: of the learning rate, instead of the profile's.
        clip: maximum gradient norm.
        freeze_bn_fraction: final share of the epochs in which BatchNorm normalises by its running statistics, as in
            inference; statistics of single batches hide how bright an image is.
        reduction: whether the total of `losses` is a mean or a sum over images; either way the gradient is that of the
            whole batch, however it is split over processes and accumulation steps.
        ema_decay: of a moving average of the weights (`moving_average`), which is then evaluated and saved.
        score: evaluates the model after each epoch; its first value, higher is better, chooses the best epoch instead
            of the loss of `validation`.
        show: the fused luma [B,1,H,W] of a batch, by which trackers get images of some validation pairs.

    Raises:
        FusionError: unknown schedule or tracker, a batch that the processes cannot share, a loss that is not finite, a
            state that cannot be written or read, or another process that trains in the folder.
    """
    keep_freed_memory()
    accelerator = distributed.make_accelerator(
        settings.amp, log_with=tracking.check(settings.trackers) or None, project_dir=folder,
        dataloader_config=DataLoaderConfiguration(
            use_seedable_sampler=True, data_seed=settings.seed, split_batches=True),
    )  # fmt: skip
    if batch % (processes := accelerator.num_processes):
        raise FusionError(f"{processes} processes cannot share a batch of {batch} equally: set the batch to a multiple "
                          "of their number")
    if (factor := schedule or SCHEDULES.get(settings.schedule)) is None:
        raise FusionError(f"schedule must be one of {', '.join(SCHEDULES)}, but is {settings.schedule!r}")
    distributed.share_statistics(model)
    load = partial(DataLoader, batch_size=batch, num_workers=settings.workers, collate_fn=train.collate)
    loader, check = load(train, shuffle=True), validation and load(validation)
    planned = steps or epochs * len(loader)
    epochs = math.ceil(planned / len(loader))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step, planned))
    kept = model
    if ema_decay is not None:
        average = AveragedModel(model, avg_fn=moving_average(ema_decay), use_buffers=True)
        accelerator.prepare_model(average, evaluation_mode=True)  # which makes it a part of the state
        optimizer.register_step_post_hook(lambda *_: average.update_parameters(model))
        kept = average.module.eval()
    network, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
    learn = partial(run_epoch, accelerator, network, losses, optimizer=optimizer, scheduler=scheduler, clip=clip,
                    gradient_accumulation_steps=settings.gradient_accumulation_steps, reduction=reduction)  # fmt: skip
    with folder_lock(folder) if accelerator.is_main_process else nullcontext():
        accelerator.init_trackers(tracking.PROJECT)
        rows, retries = resume(accelerator, folder), settings.nan_retries
        if retries and not rows:
            checkpoint(accelerator, folder, rows)  # what the first epoch goes back to
        progress = tqdm(initial=len(rows), total=epochs, desc="epochs", leave=False,
                        disable=not accelerator.is_main_process)  # fmt: skip
        while (epoch := len(rows)) < epochs:
            began, train.epoch = time.perf_counter(), epoch
            loader.set_epoch(epoch)
            network.train(epoch < round((1 - freeze_bn_fraction) * epochs))
            try:
                row = {"epoch": epoch + 1} | learn(islice(loader, planned - epoch * len(loader)))
                network.eval()
                tested = run_epoch(accelerator, kept, losses, check) if check else {}
            except Diverged as error:
                if retries == 0:
                    raise
                retries -= 1
                if accelerator.is_main_process:
                    warnings.warn(f"{error}. Epoch {epoch + 1} begins again, at half the learning rate", stacklevel=2)
                go_back(accelerator, folder, optimizer, scheduler)
                continue
            measures = (score(kept) if score else {}) | {f"validation {name}": value for name, value in tested.items()}
            rows.append(row | measures | {"seconds": time.perf_counter() - began})
            chooser = list(measures)[:1]  # of the best epoch: a score, a loss, or nothing
            ranks = [-each[name] if score else each[name] for each in rows for name in chooser]
            progress.update()
            progress.set_postfix({name: f"{rows[-1][name]:.4f}" for name in ("total", *chooser)})
            best = bool(ranks) and not any(rank < ranks[-1] for rank in ranks)
            draw = None
            if show and validation and accelerator.is_main_process and tracking.is_shown(epoch + 1, epochs):
                draw = partial(tracking.log_images, accelerator, kept, show, validation, epoch + 1)
            save_epoch(accelerator, folder, rows, partial(save, kept), best, draw)
        progress.close()
        for tracker in accelerator.trackers:  # `end_training` would end the group of processes, too
            tracker.finish()


def run_epoch(
    accelerator: Accelerator, model: nn.Module, losses: Losses, loader: Iterable[dict], optimizer=None, scheduler=None,
    clip: float | None = None, gradient_accumulation_steps: int = 1, reduction: Literal["mean", "sum"] = "mean",
) -> dict[str, float]:  # fmt: skip
    """One pass over the data, which trains where there is an optimiser; mean of the losses per image.

    Raises:
        Diverged: a loss that is not finite; it names the images, from which nothing was learned.
    """
    sums, images, learns = {}, 0, optimizer is not None
    for batch in loader:
        batch = send_to_device(batch, accelerator.device)  # that of the validation, which every process repeats
        pieces = split_batch(batch, gradient_accumulation_steps)
        for number, piece in enumerate(pieces, 1):
            count, share = len(piece["name"]), len(piece["name"]) / len(batch["name"])
            with nullcontext() if number == len(pieces) else accelerator.no_sync(model):
                with torch.set_grad_enabled(learns), accelerator.autocast():
                    total, parts = losses(model, piece)
                    if not distributed.is_finite(total):
                        raise diverged(total.item(), piece["name"])
                if learns:
                    if reduction == "sum":  # an estimate of the whole batch's
                        total = total * (accelerator.num_processes / share)
                    accelerator.backward(total * share)
            images += count
            for name, value in {"total": total.detach(), **parts}.items():
                sums[name] = sums.get(name, 0) + value * count
        if learns:
            if clip:
                accelerator.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    values = accelerator.reduce(torch.stack([*sums.values(), torch.as_tensor(float(images)).to(total)]), "sum")
    return {name: (value / values[-1]).item() for name, value in zip(sums, values[:-1])}


def diverged(loss: float, images: Sequence[str]) -> Diverged:
    """The error that every process raises when the loss of one is not finite."""
    lost = [each for each in distributed.gather((loss, images)) if not math.isfinite(each[0])]
    where = ", ".join(dict.fromkeys(name for _, names in lost for name in names))
    return Diverged(f"the loss became {lost[0][0]} at {where}: lower the learning rate, or set amp to no; the "
                    "epochs before it are saved")


def split_batch(batch: dict, count: int) -> list[dict]:
    """Split a batch into at most `count` smaller ones of equal size."""
    samples = len(batch["name"])
    size = math.ceil(samples / count)
    return [{name: values[at : at + size] for name, values in batch.items()} for at in range(0, samples, size)]


def moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Exponential moving average whose memory grows with the number of steps, so that a short run forgets its start."""

    def average(old: Tensor, new: Tensor, steps: Tensor) -> Tensor:
        if not old.is_floating_point():
            return new
        return old.lerp(new, 1 - min(decay, (1 + int(steps)) / (10 + int(steps))))

    return average


def go_back(accelerator: Accelerator, folder: Path, optimizer, scheduler) -> None:
    """Restore the last complete state and halve the learning rate; later states record it."""
    optimizer.zero_grad()
    resume(accelerator, folder)
    scheduler = scheduler.scheduler  # accelerate wraps it
    scheduler.base_lrs = [rate / 2 for rate in scheduler.base_lrs]
    for group in scheduler.optimizer.param_groups:
        group["lr"] /= 2


def save_epoch(
    accelerator: Accelerator, folder: Path, rows: list[dict], save: Callable[[Path], object], best: bool,
    draw: Callable[[], None] | None = None,
) -> None:  # fmt: skip
    """Write weights, curves and the state to resume from, and log; FusionError where they cannot be written."""
    epoch, row = len(rows), rows[-1]
    try:
        if draw:
            draw()
        accelerator.log({name: value for name, value in row.items() if name != "epoch"}, step=epoch)
        if accelerator.is_main_process:
            save(folder / "last.safetensors")
            if best:
                save(folder / "best.safetensors")
            curves = pd.DataFrame(rows).to_csv(index=False, float_format="%.6g")
            write_atomically(folder / "curves.csv", curves.encode())
        checkpoint(accelerator, folder, rows)
    except (OSError, RuntimeError) as error:  # torch's own writers raise RuntimeError
        raise FusionError(f"{folder}: epoch {epoch} could not be saved ({first_line(error)}): make room, or mend "
                          f"the folder, and run again; it resumes after epoch {epoch - 1}") from error


def checkpoint(accelerator: Accelerator, folder: Path, rows: list[dict]) -> None:
    """Save the full state of training; killed at any moment, the previous state stays usable."""
    state = folder / "checkpoint" / f"epoch-{len(rows):04d}"
    accelerator.save_state(str(state))
    if accelerator.is_main_process:
        write_json(folder / "checkpoint.json", {"state": state.name, "rows": rows})
        for other in state.parent.iterdir():
            if other != state:
                shutil.rmtree(other)
    accelerator.wait_for_everyone()


def resume(accelerator: Accelerator, folder: Path) -> list[dict]:
    """Load the last complete state in the folder; the rows of the curves so far, one per epoch.

    Raises:
        FusionError: the state is damaged, or that of another network; nothing is overwritten.
    """
    record = folder / "checkpoint.json"
    if not record.is_file():
        return []
    try:
        done = json.loads(record.read_text())
        accelerator.load_state(str(below(folder / "checkpoint", done["state"])))
    except Exception as error:  # each file of the state has a reader of its own, with exceptions of its own
        raise FusionError(f"{folder}: expected the state of this training to resume from, found one that is damaged or "
                          f"another network's ({first_line(error)}): choose another folder, or delete "
                          f"{record.name} in it to begin anew") from error
    accelerator.print(f"resumed after epoch {len(done['rows'])}")
    return done["rows"]
