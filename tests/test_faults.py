"""Faults, really injected into a training: a clear sentence, the last good state is kept, and it goes on from there."""

import itertools
import multiprocessing
import os
import resource
import shutil
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from fusionlib.config import PROFILES
from fusionlib.data import Pair, write_image
from fusionlib.data.datasets import DetectionDataset, FusionDataset
from fusionlib.models import MultiscaleFusionLoss
from fusionlib.training import fusion, tracking, trainer
from fusionlib.utils.errors import FusionError

SETTINGS = replace(PROFILES["quick"], threads=1, fusion_resize=48, fusion_crop=32, fusion_batch=2, fusion_epochs=3)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder, random, made = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0), []
    for i in range(5):
        write_image(folder / f"{i}.png", random.integers(0, 255, (32, 48), dtype=np.uint8))
        write_image(folder / f"v{i}.png", random.integers(0, 255, (32, 48, 3), dtype=np.uint8))
        boxes = np.float32([[4, 4, 20, 28]]), ("person",)
        made.append(Pair("Toy", "train", str(i), folder / f"{i}.png", folder / f"v{i}.png", *boxes))
    return made


@pytest.fixture(scope="module")
def whole(pairs, tmp_path_factory):
    """The weights of an undisturbed training."""
    return train(pairs, tmp_path_factory.mktemp("whole"))


@pytest.fixture
def interrupted(pairs, tmp_path, monkeypatch):
    """A folder in which one epoch of three is done."""
    checkpoint = trainer.checkpoint

    def stop(*arguments):
        checkpoint(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer, "checkpoint", stop)
        train(pairs, tmp_path / "run")
    return tmp_path / "run"


def train(pairs, folder, **changes):
    fusion.train_fusion_network(pairs[:4], pairs[4:], folder, replace(SETTINGS, **changes))
    return load_file(folder / "last.safetensors")


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def contents(folder):
    """What the folder holds, but for the log of TensorBoard and the lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and tracking.PROJECT not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if not path.name.startswith(".")}


def with_a_full_disk(pairs, folder, answer):
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))  # the system refuses more, as it does on a full disk
    try:
        train(pairs, folder)
    except FusionError as error:
        answer.put(str(error))


def test_a_full_disk(pairs, interrupted, whole):
    before = contents(interrupted)
    forks = multiprocessing.get_context("fork")
    answer = forks.Queue()
    process = forks.Process(target=with_a_full_disk, args=(pairs, interrupted, answer))
    process.start()
    sentence = answer.get(timeout=120)
    process.join()
    assert "epoch 2 could not be saved" in sentence and "resumes after epoch 1" in sentence and "\n" not in sentence
    assert contents(interrupted) == before
    assert same(train(pairs, interrupted), whole)


@pytest.mark.parametrize("kept", [0, 0.5])
def test_a_state_that_is_cut_short(pairs, interrupted, whole, kept, tmp_path):
    """Each file of it: refused, or, like the random numbers that no training here draws, of no consequence."""
    refused = []
    for name, data in contents(interrupted).items():
        folder = tmp_path / f"without-{len(refused)}" / name.replace("/", "-")
        shutil.copytree(interrupted, folder)
        (folder / name).write_bytes(data[: int(kept * len(data))])
        before = contents(folder)
        try:
            assert same(train(pairs, folder), whole)
        except FusionError as error:
            refused.append(name)
            assert "damaged or another network's" in str(error) and "delete checkpoint.json" in str(error)
            assert str(folder) in str(error) and "\n" not in str(error) and contents(folder) == before
    names = {"checkpoint.json", "model.safetensors", "optimizer.bin", "scheduler.bin"}
    assert names <= {name.rpartition("/")[2] for name in refused}


def test_the_state_of_another_network(pairs, interrupted, whole):
    before = contents(interrupted)
    with pytest.raises(FusionError, match="another network's"):
        train(pairs, interrupted, channels=(16, 32, 36))
    assert contents(interrupted) == before
    assert same(train(pairs, interrupted), whole)


def test_two_in_one_folder(pairs, interrupted, whole):
    before = contents(interrupted)
    with FileLock(interrupted / ".lock"), pytest.raises(FusionError, match="another process works in this folder"):
        train(pairs, interrupted)
    assert contents(interrupted) == before
    assert same(train(pairs, interrupted), whole)


def test_a_clock_that_goes_backwards(pairs, interrupted, whole, monkeypatch):
    clock = itertools.count(2_000_000_000, -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    assert same(train(pairs, interrupted), whole)
    assert next(clock) < 2_000_000_000 - 3600  # it was looked at
    curves = pd.read_csv(interrupted / "curves.csv")
    assert list(curves["epoch"]) == [1, 2, 3] and (curves["seconds"] > 0).all()


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only(pairs, interrupted):
    interrupted.chmod(0o500)
    with pytest.raises((FusionError, PermissionError), match=str(interrupted)):
        train(pairs, interrupted)
    interrupted.chmod(0o700)


def test_a_loss_that_is_no_number_names_the_images_and_keeps_what_was_learned(pairs, interrupted, whole, monkeypatch):
    before = contents(interrupted)
    loss = MultiscaleFusionLoss.forward

    def broken(self, fused, ir, y):
        total, parts = loss(self, fused, ir, y)
        return total * float("nan"), parts

    with monkeypatch.context() as patch, pytest.raises(FusionError, match=r"nan at Toy/train/\d, Toy/train/\d: lower"):
        patch.setattr(MultiscaleFusionLoss, "forward", broken)
        train(pairs, interrupted)
    assert contents(interrupted) == before
    assert same(train(pairs, interrupted), whole)


@pytest.mark.parametrize("make", [
    lambda pairs: FusionDataset(pairs, 48, 32), lambda pairs: DetectionDataset(pairs, (32, 48), [torch.ones(2, 8)] * 5),
])
def test_a_picture_that_is_gone_is_named_and_another_takes_its_place(pairs, tmp_path, make):
    copies = []
    for pair in pairs:
        files = [shutil.copy(path, tmp_path / path.name) for path in (pair.ir, pair.visible)]
        copies.append(replace(pair, ir=files[0], visible=files[1]))
    copies[1].visible.unlink()
    copies[4].ir.write_bytes(b"no picture")
    samples = make(copies)
    for index, name, file in ((1, "2", "v1.png"), (4, "0", "4.png")):
        with pytest.warns(UserWarning, match=rf"{file}: .*Another pair replaces it"):
            assert samples[index]["name"] == f"Toy/train/{name}"
    for copy in copies:
        copy.ir.unlink()
    with pytest.warns(UserWarning), pytest.raises(FusionError, match="none of 5 pairs can be read"):
        make(copies)[0]
