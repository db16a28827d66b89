"""Trackers: chosen by name, with images of validation pairs; what is trained does not depend on them."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate.utils import LoggerType
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fusionlib import models
from fusionlib.config import profile
from fusionlib.data.datasets import FusionDataset
from fusionlib.data.image_io import to_uint8
from fusionlib.training import fusion, text_dfh, tracking
from fusionlib.utils.errors import FusionError
from tests.training.test_stages import OURS, pairs, parts  # noqa: F401

SETTINGS = replace(OURS, fusion_epochs=2, dfh_epochs=1, threads=1)
NAME = "infrared, visible, fused"


def events_of(folder):
    events = EventAccumulator(str(folder / tracking.PROJECT), size_guidance={"images": 0})
    events.Reload()
    return events


def image_of(event):
    return np.array(Image.open(io.BytesIO(event.encoded_image_string)))


def test_tensorboard_gets_curves_and_validation_pairs(pairs, tmp_path):  # noqa: F811
    fusion.train_fusion_network(pairs[:4], pairs[4:], tmp_path, SETTINGS)
    events = events_of(tmp_path)
    assert {"total", "validation total", "seconds"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("total")] == [1, 2]
    assert events.Tags()["images"] == [NAME] and [event.step for event in events.Images(NAME)] == [1, 2]
    network = models.load(tmp_path / "last.safetensors")
    samples = FusionDataset(pairs[4:], SETTINGS.fusion_resize, SETTINGS.fusion_crop, SETTINGS.seed, train=False,
                            own_size=SETTINGS.fusion_own_size)  # fmt: skip
    shown = image_of(events.Images(NAME)[-1])
    assert shown.shape == (64, 96, 3)  # two validation pairs
    for number in range(2):
        sample = samples[number]
        with torch.no_grad():
            fused = network(sample["ir"][None], sample["y"][None])[0]
        expected = to_uint8(torch.cat([sample["ir"], sample["y"], fused], dim=2))
        assert np.abs(shown[32 * number : 32 * (number + 1)].astype(int) - expected).max() <= 1


def test_stage_2_shows_the_refined_pairs(pairs, parts, tmp_path):  # noqa: F811
    network, detector, texts = parts
    train, validation = (pairs[:3], texts[:3]), (pairs[3:5], texts[3:5])
    text_dfh.train_text_dfh(network, detector, train, validation, tmp_path, SETTINGS)
    events = events_of(tmp_path)
    assert image_of(events.Images(NAME)[0]).shape == (2 * 64, 3 * 96, 3)


def test_no_tracker_and_the_same_weights(pairs, tmp_path):  # noqa: F811
    for name, trackers in (("with", ("tensorboard",)), ("without", ())):
        fusion.train_fusion_network(pairs[:4], pairs[4:], tmp_path / name, replace(SETTINGS, trackers=trackers))
    assert (tmp_path / "with" / tracking.PROJECT).is_dir() and not (tmp_path / "without" / tracking.PROJECT).exists()
    ours, theirs = (load_file(tmp_path / name / "last.safetensors") for name in ("with", "without"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_another_tracker_of_accelerate(pairs, tmp_path, monkeypatch):  # noqa: F811
    """One without images, and one that takes them as an array [1,H,W,3]."""
    from accelerate import tracking as theirs

    class Noted:
        main_process_only, requires_logging_directory, taken = True, False, []

        def __init__(self, run_name, **_):
            assert run_name == tracking.PROJECT

        def start(self):
            pass

        def log(self, values, step=None, **_):
            self.taken.append((self.name, step, sorted(values)))

        def finish(self):
            self.taken.append((self.name, "finished"))

    class Plain(Noted):
        name = "mlflow"

    class Pictures(Noted):
        name = "wandb"

        def log_images(self, values, step=None):
            self.taken.append((self.name, step, {key: image.shape for key, image in values.items()}))

    kinds = {"mlflow": Plain, "wandb": Pictures}
    for module in (theirs, tracking):
        monkeypatch.setattr(module, "get_available_trackers", lambda: [*map(LoggerType, kinds)])
    monkeypatch.setattr("accelerate.accelerator.LOGGER_TYPE_TO_CLASS", kinds)
    monkeypatch.setattr(theirs, "LOGGER_TYPE_TO_CLASS", kinds)
    settings = profile("quick", trackers="mlflow,wandb", **{name: getattr(SETTINGS, name) for name in (
        "fusion_crop", "fusion_batch", "fusion_epochs", "threads")})  # fmt: skip
    fusion.train_fusion_network(pairs[:4], pairs[4:], tmp_path, settings)
    assert [entry[:2] for entry in Noted.taken] == [
        ("wandb", 1), ("mlflow", 1), ("wandb", 1), ("wandb", 2), ("mlflow", 2), ("wandb", 2), ("mlflow", "finished"),
        ("wandb", "finished")]  # fmt: skip
    assert Noted.taken[0][2] == {NAME: (1, 64, 96, 3)} and "validation total" in Noted.taken[1][2]


@pytest.mark.parametrize(("names", "message"), [
    (["tensorbord"], r"trackers must be of .*tensorboard.*, but is 'tensorbord'"),
    (["tensorboard", "wandb"], "the tracker wandb is not installed: install its package"),
    (["all"], "but is 'all'"),
])
def test_trackers_that_are_not_there(names, message, monkeypatch, pairs, tmp_path):  # noqa: F811
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: ["tensorboard"])
    with pytest.raises(FusionError, match=message):
        fusion.train_fusion_network(pairs[:4], pairs[4:], tmp_path, replace(SETTINGS, trackers=tuple(names)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("epochs", "shown"), [
    (1, [1]), (3, [1, 2, 3]), (20, [*range(2, 21, 2)]), (101, [*range(11, 100, 11), 101]),
])  # fmt: skip
def test_images_are_shown_about_ten_times(epochs, shown):
    assert [epoch for epoch in range(1, epochs + 1) if tracking.is_shown(epoch, epochs)] == shown
