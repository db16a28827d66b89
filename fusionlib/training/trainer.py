"""The training loop, on accelerate: validates after each epoch, keeps the best and the last weights, resumes."""

import json
import math
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from fusionlib.config import Profile
from fusionlib.data.datasets import PairDataset
from fusionlib.models import weights
from fusionlib.utils import distributed
from fusionlib.utils.errors import FusionError, first_line
from fusionlib.utils.files import folder_lock, write_atomically, write_json

Losses = Callable[[nn.Module, dict], tuple[Tensor, dict[str, Tensor]]]
Schedule = Callable[[int, int], float]

#: The factor on the learning rate after a step, of how many.
SCHEDULES: dict[str, Schedule] = {
    "constant": lambda step, steps: 1,
    "cosine": lambda step, steps: (1 + math.cos(math.pi * step / steps)) / 2,
}


class Diverged(FusionError):
    """The loss is not finite any more."""


def adam(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """The optimiser of both stages (paper 4.2), for all that is not frozen."""
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=learning_rate)


def fit(
    model: nn.Module,
    losses: Losses,
    train: PairDataset,
    validation: PairDataset,
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
    save: Callable[[nn.Module, Path], object] = weights.save,
) -> None:
    """Train, validate after each epoch, keep best and last weights, resume where it stopped.

    Args:
        model: what `losses` is given, on any number of devices.
        losses: (model, batch) -> (total, parts to record).
        train: samples to learn from; each epoch sees all of them in another order.
        validation: samples that choose the best epoch.
        folder: receives best.safetensors, last.safetensors, curves.csv, TensorBoard files and the state to resume from.
        settings: the profile, for seed, precision, workers, schedule, the parts of a batch (`accumulate`), and how
            often an epoch may begin again after a loss that is not finite (`step_back`).
        optimizer: over the parameters to train.
        epochs: passes over `train`.
        batch: samples in a batch; the processes of `accelerate launch` share it equally, and what is missing in the
            last batch of an epoch is taken from its first.
        steps: steps of the optimiser to take, instead of `epochs`; they may end amid an epoch, which is then cut.
        schedule: of the learning rate, instead of the profile's.
        clip: norm that gradients are cut to.
        settle: share of the epochs, at the end, in which the model trains in evaluation mode: BatchNorm normalises by
            its running statistics, as it will later. Statistics of single batches hide how bright an image is.
        save: writes the weights of `model` to a path.

    Raises:
        FusionError: unknown schedule, a batch that the processes cannot share, a loss that is not finite, a state that
            cannot be written or read, or another process that trains in the folder.
    """
    accelerator = distributed.make_accelerator(
        settings.amp, log_with="tensorboard", project_dir=folder,
        dataloader_config=DataLoaderConfiguration(
            use_seedable_sampler=True, data_seed=settings.seed, split_batches=True),
    )  # fmt: skip
    processes = accelerator.num_processes
    if batch % processes:
        raise FusionError(f"{processes} processes cannot share a batch of {batch} equally: set the batch to a multiple "
                          "of their number")
    distributed.share_statistics(model)
    options = {"batch_size": batch, "num_workers": settings.workers, "collate_fn": train.collate}
    loader, check = DataLoader(train, shuffle=True, **options), DataLoader(validation, **options)
    planned = steps or epochs * len(loader)
    factor = schedule or SCHEDULES.get(settings.schedule)
    if factor is None:
        raise FusionError(f"schedule must be one of {', '.join(SCHEDULES)}, but is {settings.schedule!r}")
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step, planned))
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
    plain = accelerator.unwrap_model(model, keep_torch_compile=False)
    epochs = math.ceil(steps / len(loader)) if steps else epochs
    with folder_lock(folder) if accelerator.is_main_process else nullcontext():
        accelerator.init_trackers("tensorboard")
        rows = resume(accelerator, folder)
        if (back := settings.step_back) and not rows:
            checkpoint(accelerator, folder, rows)  # what the first epoch goes back to
        progress = tqdm(initial=len(rows), total=epochs, desc="epochs", leave=False,
                        disable=not accelerator.is_main_process)  # fmt: skip
        while (epoch := len(rows)) < epochs:
            began, train.epoch = time.perf_counter(), epoch
            loader.set_epoch(epoch)
            left = steps - epoch * len(loader) if steps else len(loader)
            batches = loader if left >= len(loader) else islice(loader, left)
            model.train(epoch < round((1 - settle) * epochs))
            try:
                taught = run_epoch(accelerator, model, losses, batches, optimizer, scheduler, clip, settings.accumulate)
                row = {"epoch": epoch + 1, **taught}
                model.eval()
                row |= {f"validation {k}": v for k, v in run_epoch(accelerator, model, losses, check).items()}
            except Diverged as error:
                if back == 0:
                    raise
                back -= 1
                if accelerator.is_main_process:
                    warnings.warn(f"{error}. Epoch {epoch + 1} begins again, at half the learning rate", stacklevel=2)
                optimizer.zero_grad()
                resume(accelerator, folder)
                halve(scheduler)
                continue
            row["seconds"] = time.perf_counter() - began
            rows.append(row)
            progress.update()
            progress.set_postfix(loss=f"{row['total']:.4f}", validation=f"{row['validation total']:.4f}")
            try:
                accelerator.log({k: v for k, v in row.items() if k != "epoch"}, step=epoch + 1)
                keep(accelerator, folder, rows, lambda path: save(plain, path))
            except (OSError, RuntimeError) as error:  # torch's own writers raise RuntimeError
                raise FusionError(f"{folder}: epoch {epoch + 1} could not be kept ({first_line(error)}): make "
                                  f"room, or mend the folder, and run again; it goes on after epoch {epoch}") from error
        progress.close()
        for tracker in accelerator.trackers:  # `end_training` would end the group of processes, too
            tracker.finish()


def run_epoch(
    accelerator: Accelerator, model: nn.Module, losses: Losses, loader: Iterable[dict],
    optimizer=None, scheduler=None, clip: float | None = None, accumulate: int = 1,
) -> dict[str, float]:  # fmt: skip
    """One pass over the data, with an optimiser a training one; mean of the losses per image.

    Raises:
        Diverged: a loss that is not finite; it names the images, and nothing was learned from them.
    """
    sums, images = {}, 0
    for batch in loader:
        batch = send_to_device(batch, accelerator.device)  # the validation's, which every process does alike
        pieces = in_parts(batch, accumulate) if optimizer is not None else [batch]
        for number, piece in enumerate(pieces, 1):
            count, share = len(piece["ir"]), len(piece["ir"]) / len(batch["ir"])
            apart = nullcontext() if number == len(pieces) else accelerator.no_sync(model)
            with apart, distributed.part_of(share):
                with torch.set_grad_enabled(optimizer is not None), accelerator.autocast():
                    total, parts = losses(model, piece)
                    if not distributed.is_finite(total):
                        raise diverged(total.item(), piece["name"])
                if optimizer is not None:
                    accelerator.backward(total * share)
            images += count
            for name, value in {"total": total.detach(), **parts}.items():
                sums[name] = sums.get(name, 0) + value * count
        if optimizer is not None:
            if clip:
                accelerator.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    values = accelerator.reduce(torch.stack([*sums.values(), torch.as_tensor(float(images)).to(total)]), "sum")
    return {name: (value / values[-1]).item() for name, value in zip(sums, values[:-1])}


def diverged(loss: float, images: Sequence[str]) -> Diverged:
    """What every process raises when the loss of one, on images with these names, is not finite."""
    lost = [each for each in distributed.gather((loss, images)) if not math.isfinite(each[0])]
    where = ", ".join(dict.fromkeys(name for _, names in lost for name in names))
    return Diverged(f"the loss became {lost[0][0]} at {where}: lower the learning rate, or set amp to no; what the "
                    "epochs before have learned is kept")


def in_parts(batch: dict, count: int) -> list[dict]:
    """A batch as so many smaller ones, or as many as it has samples."""
    samples = len(batch["ir"])
    size = math.ceil(samples / count)
    return [{name: values[at : at + size] for name, values in batch.items()} for at in range(0, samples, size)]


def halve(scheduler) -> None:
    """Half the learning rate from now on; states that are kept say so, too."""
    scheduler = scheduler.scheduler  # accelerate wraps it
    scheduler.base_lrs = [rate / 2 for rate in scheduler.base_lrs]
    for group in scheduler.optimizer.param_groups:
        group["lr"] /= 2


def keep(accelerator: Accelerator, folder: Path, rows: list[dict], save: Callable[[Path], object]) -> None:
    """Write what an epoch has given: weights, curves, and the state to resume from."""
    if accelerator.is_main_process:
        save(folder / "last.safetensors")
        if rows[-1]["validation total"] <= min(r["validation total"] for r in rows):
            save(folder / "best.safetensors")
        write_atomically(folder / "curves.csv", pd.DataFrame(rows).to_csv(index=False, float_format="%.6g").encode())
    checkpoint(accelerator, folder, rows)


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


def resume(accelerator: Accelerator, folder: Path) -> list[dict]:
    """Continue from the last complete state in the folder: rows of the curves so far, one for each epoch done.

    Raises:
        FusionError: the state is damaged, or that of another network; nothing is overwritten.
    """
    record = folder / "checkpoint.json"
    if not record.is_file():
        return []
    try:
        done = json.loads(record.read_text())
        accelerator.load_state(str(folder / "checkpoint" / done["state"]))
    except Exception as error:  # each file of the state has a reader of its own, with exceptions of its own
        raise FusionError(f"{folder}: expected the state of this training to go on from, found one that is damaged or "
                          f"another network's ({first_line(error)}): choose another folder, or delete "
                          f"{record.name} in it to begin anew") from error
    accelerator.print(f"resumed after epoch {len(done['rows'])}")
    return done["rows"]
