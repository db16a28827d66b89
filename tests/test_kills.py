"""kill -9 at random moments of each training: what comes out is bit for bit what an undisturbed one gives."""

import multiprocessing
import os
import random
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from safetensors.torch import load_file

from fusionlib.config import OUR_FUSION, PROFILES
from fusionlib.data import Pair, write_image
from fusionlib.detection import YOLOv5
from fusionlib.models import FusionNetwork
from fusionlib.training import fusion, text_dfh
from fusionlib.training.detector import train_detector

PAPERS = replace(PROFILES["quick"], **PROFILES["paper"].part(*OUR_FUSION))  # stage 1, whose BatchNorm learns
SETTINGS = replace(
    PAPERS, threads=1, fusion_resize=96, fusion_crop=32, fusion_batch=2, fusion_epochs=10,
    freeze_bn_fraction=0.5, detect_size=(64, 96), dfh_batch=2, dfh_epochs=6, instruction_steps=6, instruction_crop=32,
    instruction_batch=4,
)  # fmt: skip
KILLS = 5  # of each training, then it is left alone
FORKS = multiprocessing.get_context("forkserver")  # from a process that has imported everything, and has no threads


def pairs_in(folder):
    pairs = []
    for i in range(5):
        random_bytes = np.random.default_rng(i)
        ir, visible = (random_bytes.integers(0, 120, shape, dtype=np.uint8) for shape in ((64, 96), (64, 96, 3)))
        x = 10 + 12 * i
        ir[20:50, x : x + 12] += 130
        files = folder / f"{i}.png", folder / f"v{i}.png"
        if not files[1].is_file():
            write_image(files[0], ir)
            write_image(files[1], visible)
        pairs.append(Pair("Toy", "train", str(i), *files, np.float32([[x, 20, x + 12, 50]]), ("person",)))
    return pairs


def stage_1(data, folder):
    pairs = pairs_in(data)
    fusion.train_fusion_network(pairs[:4], pairs[4:], folder, SETTINGS)


def stage_2(data, folder):
    """With steps on instructions afterwards, so that a kill may come in either."""
    pairs = pairs_in(data)
    torch.manual_seed(3)
    texts = [torch.randn(3 + i, 384) for i in range(5)]
    detector = YOLOv5(1, depth=0.33, width=0.125, names=["person"])
    network = FusionNetwork(SETTINGS.channels).eval()
    text_dfh.train_text_dfh(network, detector, (pairs[:3], texts[:3]), (pairs[3:], texts[3:]), folder, SETTINGS, pairs)


def detector(data, folder):
    pairs = [(torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(i)), torch.tensor([[20.0, 10, 40, 50]]))
             for i in range(12)]  # fmt: skip
    torch.manual_seed(1)
    network = YOLOv5(1, width=0.125, names=["person"])
    train_detector(network, pairs, folder, validation=pairs[:4], epochs=8, batch_size=4)


def progress(folder):
    """Epochs that are done, of all trainings in a folder."""
    return sum(file.read_text().count("\n") - 1 for file in folder.rglob("curves.csv"))


def run(train, data, folder):
    torch.set_num_threads(1)
    train(data, folder)


@pytest.mark.parametrize("train", [stage_1, stage_2, detector])
@pytest.mark.timeout(600)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked here")
def test_killed_again_and_again_the_weights_are_those_of_an_undisturbed_training(train, tmp_path):
    FORKS.set_forkserver_preload(["fusionlib.training.text_dfh", "fusionlib.training.detector", "tensorboard.summary"])
    pairs_in(tmp_path)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir(), cut.mkdir()

    def start(folder):
        process = FORKS.Process(target=run, args=(train, tmp_path, folder))
        process.start()
        return process

    undisturbed = start(whole)
    undisturbed.join()
    assert undisturbed.exitcode == 0
    draw, killed = random.Random(4), []
    while len(killed) < KILLS:
        before, process = progress(cut), start(cut)
        while process.is_alive() and progress(cut) == before:
            time.sleep(0.005)
        process.join(draw.uniform(0, 0.3))  # at any moment of what follows, a checkpoint among them
        if process.exitcode is not None:
            assert process.exitcode == 0
            break  # it was done before we came
        process.kill()
        process.join()
        killed.append(progress(cut))
    last = start(cut)
    last.join()
    assert last.exitcode == 0 and len(killed) >= 2
    assert_same_training(cut, whole)
    print(f"{train.__name__}: killed after epochs {killed} of {progress(whole)}")


def assert_same_training(one, other):
    """Weights and curves in two folders are bit for bit the same."""
    for file in ("last.safetensors", "best.safetensors"):
        ours, theirs = load_file(one / file), load_file(other / file)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    curves = [pd.read_csv(folder / "curves.csv").drop(columns="seconds", errors="ignore") for folder in (one, other)]
    pd.testing.assert_frame_equal(*curves)


@pytest.mark.skipif(os.name != "posix", reason="processes are killed as POSIX systems do")
def test_a_killed_suite_goes_on_where_it_stopped(tmp_path):
    """First the batch alone is killed, whose notebook is left an orphan, then all processes of it."""

    def start(folder):
        command = [sys.executable, "-m", "fusionlib", "run", "--only", "01,02", "--set", "fusion_epochs=8",
                   "scenes_train=10", "scenes_test=4", "validation=2", "threads=1"]
        return psutil.Popen([*command, "--out", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    undisturbed = start(whole)
    assert undisturbed.wait() == 0, undisturbed.stdout.read().decode()
    draw, killed = random.Random(5), []
    for of_all in (False, True):
        before, batch = progress(cut), start(cut)
        while progress(cut) <= before:
            assert batch.poll() is None, batch.stdout.read().decode()
            time.sleep(0.05)
        time.sleep(draw.uniform(0, 1))
        for process in [*(batch.children(recursive=True) if of_all else ()), batch]:
            process.kill()
        batch.wait()
        killed.append(progress(cut))
    last = start(cut)
    said = last.communicate()[0].decode()
    assert last.returncode == 0, said
    assert killed[-1] < progress(whole) == progress(cut)
    stages = [folder / "02_fusion_network" for folder in (cut, whole)]
    assert_same_training(*stages)
    fused = [{path.name: path.read_bytes() for path in stage.rglob("fused/**/*.png")} for stage in stages]
    assert fused[0] == fused[1] and fused[0]
    print(f"the suite: killed after epochs {killed} of {progress(whole)}")
