"""Two processes of `accelerate launch` train as one does on the same batches."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from test_kills import SETTINGS

from fusionlib import models
from fusionlib.inference import network as inference
from fusionlib.models import FusionNetwork
from tests.launched import launched

SCRIPT = Path(__file__).with_name("trained_together.py")


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Folders of the same trainings by one process and by two."""
    if torch.backends.mps.is_available():
        pytest.skip("accelerate starts no processes that share one MPS")
    folder = tmp_path_factory.mktemp("together")
    for processes, name in ((1, "one"), (2, "two")):
        (folder / name).mkdir()
        launched(processes, SCRIPT, folder / name)
    return folder


def test_statistics_of_a_batch_are_those_of_all_processes(together):
    whole = torch.load(together / "one" / "norm-0.pt")
    parts = [torch.load(together / "two" / f"norm-{i}.pt") for i in (0, 1)]
    shared = [torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]) / 2, (parts[0][2] + parts[1][2]) / 2]
    for got, wanted in zip(shared + parts[0][3:], whole):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stage", ["stage 1", "stage 2", "stage 2/instructions"])
def test_two_processes_see_the_same_losses(together, stage):
    one, two = (pd.read_csv(together / each / stage / "curves.csv").drop(columns="seconds") for each in ("one", "two"))
    pd.testing.assert_frame_equal(one, two, rtol=1e-5, atol=1e-5)


def test_two_processes_train_stage_1_as_one(together):
    one, two = (load_file(together / each / "stage 1" / "last.safetensors") for each in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-5)


def test_two_processes_train_stage_2_as_one(together):
    """The images to 1e-5; weights less, as Adam enlarges rounding where a gradient is nearly nothing.

    One process whose first weights are changed by one part in 10 million ends 1.7e-4 away from itself.
    """
    network = FusionNetwork(SETTINGS.channels).eval()
    files = [together / each / "stage 2" / "last.safetensors" for each in ("one", "two")]
    torch.testing.assert_close(*map(load_file, reversed(files)), rtol=1e-4, atol=5e-4)
    torch.manual_seed(0)
    ir, visible, text = torch.rand(1, 64, 96), torch.rand(3, 64, 96), torch.randn(7, 384)
    one, two = (inference.fuse(models.load(file, network), ir, visible, text) for file in files)
    torch.testing.assert_close(two, one, rtol=0, atol=1e-5)
    moved = (one - inference.fuse(network, ir, visible)).abs().max()
    assert moved > 1e-4, moved  # it did learn something


def test_files_are_fused_and_measured_once_each(together):
    one, first, second = (pd.read_csv(together / each) for each in
                          ("one/metrics-0.csv", "two/metrics-0.csv", "two/metrics-1.csv"))  # fmt: skip
    assert list(one.file) == [f"v{i}.png" for i in range(5)]
    pd.testing.assert_frame_equal(first, second)
    pd.testing.assert_frame_equal(first, one.assign(dataset=first.dataset), rtol=1e-6)
    for picture in one.file:
        assert (together / "two/fused" / picture).read_bytes() == (together / "one/fused" / picture).read_bytes()


def test_all_processes_retry_when_the_loss_of_one_is_not_finite(together):
    one, two = (pd.read_csv(together / f"{each}/back 1/curves.csv").drop(columns="seconds") for each in ("one", "two"))
    assert list(two.epoch) == [1, 2, 3]
    pd.testing.assert_frame_equal(one, two, rtol=1e-5, atol=1e-5)
    assert "Epoch 2 begins again" in (together / "two" / "back 1-0.txt").read_text()
    assert (together / "two" / "back 1-1.txt").read_text() == ""  # one of them tells it


def test_all_processes_stop_when_the_loss_of_one_is_lost(together):
    first, second = ((together / "two" / f"back 0-{process}.txt").read_text() for process in (0, 1))
    assert first == second and "the loss became nan at Toy" in first, first
    batch, part = ((together / each).read_text().partition("at ")[2].partition(":")[0].split(", ")
                   for each in ("one/back 0-0.txt", "two/back 0-0.txt"))  # fmt: skip
    assert part == batch[1:]  # the images of the process that lost it


def test_a_batch_that_cannot_be_shared(together):
    said = (together / "two" / "odd-0.txt").read_text()
    assert "2 processes cannot share a batch of 3 equally" in said
