"""Two processes in one run: each gets the results that it would get alone, bit for bit, and nothing twice."""

import multiprocessing
import os
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import pandas as pd
import pytest

from fusionlib.data.image_io import write_image
from fusionlib.experiments import stages
from fusionlib.experiments.run import open_run
from fusionlib.training import trainer
from fusionlib.utils.files import read_json

STAGE = "02_fusion_network"
SETTINGS = {"threads": 1, "fusion_resize": 48, "fusion_crop": 32, "fusion_batch": 2, "crops_per_image": 1,
            "validation": 2}  # fmt: skip
WAIT = 60  # seconds at most
FORKS = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for i in range(10):
        write_image(folder / "toy" / "ir" / f"{i}.png", random.integers(256, size=(32, 48), dtype=np.uint8))
        write_image(folder / "toy" / "vi" / f"{i}.png", random.integers(256, size=(32, 48, 3), dtype=np.uint8))
    FORKS.set_forkserver_preload(["fusionlib.experiments.stages", "tensorboard.summary"])
    return folder


def begin(data, out, epochs):
    run = open_run("quick", str(data), str(out), **SETTINGS, fusion_epochs=epochs)
    stages.data(run)
    return run


def sweep(data, out, epochs, answer, in_training=lambda: None):
    """What notebook 02 does: trains, then fuses, and answers with where that is and what was printed."""
    resume, printed, trained = trainer.resume, StringIO(), []

    def resumed(*arguments):
        in_training()
        trained.append(resume(*arguments))
        return trained[-1]

    trainer.resume = resumed
    with redirect_stdout(printed):
        run = begin(data, out, epochs)
        stage = stages.fusion_network(run)
        images = stages.fused_images(stage, run.parts.test)
        again = run.finished(STAGE)
    assert again.folder == stage.folder and len(images) == len(run.parts.test)
    answer.put((epochs, stage.folder, len(trained), printed.getvalue()))


def start(*arguments):
    process = FORKS.Process(target=sweep, args=arguments)
    process.start()
    return process


def results(folder):
    """All that a stage has computed, but for times."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}
    files |= {name: (folder / name).read_bytes() for name in ("last.safetensors", "best.safetensors")}
    mark, record = (read_json(folder / name)["fingerprint"] for name in ("fingerprint.json", "provenance.json"))
    assert mark == record and len(files) > 3
    return files | {"fingerprint": mark, "curves": pd.read_csv(folder / "curves.csv").drop(columns="seconds").to_csv()}


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """{epochs: what a process gets that has the run for itself}."""
    made, answer = {}, FORKS.SimpleQueue()
    for epochs in (2, 3):
        process = start(data, tmp_path_factory.mktemp("alone"), epochs, answer)
        process.join(2 * WAIT)
        assert process.exitcode == 0
        made[epochs] = results(answer.get()[1])
    return made


def test_other_settings_at_the_same_time_get_a_folder_of_their_own(data, tmp_path, alone):
    answer, both = FORKS.SimpleQueue(), FORKS.Barrier(2, timeout=WAIT)
    processes = [start(data, tmp_path, epochs, answer, both.wait) for epochs in (2, 3)]
    for process in processes:
        process.join(2 * WAIT)
        assert process.exitcode == 0
    answers = [answer.get() for _ in processes]
    for epochs, folder, trainings, _ in answers:
        assert results(folder) == alone[epochs] and trainings == 1
    folders = {epochs: folder for epochs, folder, *_ in answers}
    (own,) = (folder for folder in folders.values() if "@" in folder.name)
    assert set(folders.values()) == {tmp_path / STAGE, own}
    said = "".join(printed for *_, printed in answers)
    assert f"another process uses these results of other settings; the new ones go to {own.name}" in said

    (first,) = (epochs for epochs, folder in folders.items() if folder != own)
    later = begin(data, tmp_path, first)
    with redirect_stdout(StringIO()) as printed:
        assert later.finished(STAGE).folder == own  # its process was second
    assert f"those in {own.name} are used, which were asked for last" in printed.getvalue()
    assert later.finished(STAGE, alone[first]["fingerprint"]).folder == tmp_path / STAGE
    for epochs in (5 - first, first):  # both processes have ended, so that results can be moved
        stage = stages.fusion_network(begin(data, tmp_path, epochs))
        assert stage.folder == tmp_path / STAGE and results(stage.folder) == alone[epochs]
        del stage


@pytest.mark.parametrize("killed", [False, True])
def test_the_same_settings_at_the_same_time_are_computed_once(data, tmp_path, alone, killed):
    answer, training, may_go_on = FORKS.SimpleQueue(), FORKS.Event(), FORKS.Event()

    first = start(data, tmp_path, 3, answer, _Signal(training, may_go_on))
    assert training.wait(WAIT)
    second = start(data, tmp_path, 3, answer)
    second.join(5)  # it waits
    assert second.is_alive() and answer.empty()
    first.kill() if killed else may_go_on.set()
    for process in (first, second):
        process.join(2 * WAIT)
    assert second.exitcode == 0 and (killed or first.exitcode == 0)
    answers = sorted((answer.get() for _ in range(2 - killed)), key=lambda each: each[2])
    assert [trainings for _, _, trainings, _ in answers] == ([1] if killed else [0, 1])
    assert "another process computes these results, which is waited for" in answers[0][3]
    assert {folder for _, folder, *_ in answers} == {tmp_path / STAGE}
    assert results(tmp_path / STAGE) == alone[3]


class _Signal:
    """Tells that a training has begun, and waits until it may go on."""

    def __init__(self, begun, may_go_on):
        self.begun, self.may_go_on = begun, may_go_on

    def __call__(self):
        self.begun.set()
        self.may_go_on.wait(WAIT)
