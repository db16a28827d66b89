import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import Dataset

from fusionlib.data.synthetic import SceneImages
from fusionlib.detection import YOLOv5, average_precision, detect, load_yolov5
from fusionlib.training import detector as module
from fusionlib.training import trainer
from fusionlib.training.detector import SCENE_DETECTOR, train_detector, train_scene_detector
from fusionlib.utils.errors import FusionError


class Blobs(Dataset):
    """A bright upright rectangle on noise: a person, as a warm one looks in infrared."""

    def __init__(self, count, seed=0, broken_after=None):
        rng = np.random.default_rng(seed)
        self.items, self.left = [], broken_after
        for _ in range(count):
            image = rng.random((3, 64, 96), dtype=np.float32) * 0.3
            h = rng.integers(24, 48)
            w = h // 2
            x, y = rng.integers(0, 96 - w), rng.integers(0, 64 - h)
            image[:, y:y + h, x:x + w] += 0.6
            self.items.append((torch.from_numpy(image), torch.tensor([[x, y, x + w, y + h]], dtype=torch.float32)))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        return self.items[index]


def detector():
    torch.manual_seed(1)
    return YOLOv5(1, width=0.125, names=["person"])


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return all(torch.equal(a[key], b[key]) for key in a)


def test_learns_and_writes_its_artefacts(tmp_path):
    test = Blobs(24, seed=1)
    trained = train_detector(detector(), Blobs(64), tmp_path, validation=test, epochs=10, batch_size=4, augment=False)
    assert not trained.training and trained.names == ["person"]
    found = detect(trained, [image for image, _ in test])
    result = average_precision(found, [boxes for _, boxes in test])
    assert result["mAP@.5"] > 0.8

    curves = pd.read_csv(tmp_path / "curves.csv")
    assert curves["epoch"].tolist() == list(range(1, 11)) and (curves["cls"] == 0).all()
    assert np.allclose(curves["loss"], curves["box"] + curves["obj"], rtol=1e-4)
    assert curves["box"].iloc[-1] < curves["box"].iloc[0] / 2
    assert curves["mAP@.5:.95"].max() == pytest.approx(result["mAP@.5:.95"])
    assert same(trained, load_yolov5(tmp_path / "best.safetensors"))
    assert (tmp_path / "last.safetensors").is_file()


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(tmp_path):
    settings = {"epochs": 2, "batch_size": 8}
    whole = train_detector(detector(), Blobs(16), tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        train_detector(detector(), Blobs(16, broken_after=16 + 5), tmp_path / "cut", **settings)
    assert len(pd.read_csv(tmp_path / "cut" / "curves.csv")) == 1
    resumed = train_detector(YOLOv5(1, width=0.125, names=["person"]), Blobs(16), tmp_path / "cut", **settings)
    assert same(whole, resumed)
    curves = [pd.read_csv(tmp_path / run / "curves.csv").drop(columns="seconds") for run in ("whole", "cut")]
    pd.testing.assert_frame_equal(*curves)
    # A finished run is loaded, not trained again.
    assert same(whole, train_detector(detector(), Blobs(16, broken_after=0), tmp_path / "cut", **settings))
    with pytest.raises(FusionError, match=r"other settings \(batch_size\)"):
        train_detector(detector(), Blobs(16), tmp_path / "cut", **{**settings, "batch_size": 4})
    for state in (tmp_path / "cut" / "checkpoint").glob("*/optimizer.bin"):
        state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(FusionError, match=r"cut: expected the state .* found one that is damaged .* delete checkpoint"):
        train_detector(detector(), Blobs(16), tmp_path / "cut", **settings)


def test_no_images(tmp_path):
    with pytest.raises(FusionError, match="found none"):
        train_detector(detector(), Blobs(0), tmp_path)


def test_augmentation_moves_boxes_with_the_picture():
    data = module._Images(Blobs(40), seed=0, augment=True)
    areas, flipped = [], 0
    for i in range(40):
        image, boxes = data[i]["image"], data[i]["boxes"]
        assert image.shape == (3, 64, 96) and image.min() >= 0 and image.max() <= 1
        assert type(image) is torch.Tensor and type(boxes) is torch.Tensor
        for x1, y1, x2, y2 in boxes.round().int().tolist():
            assert 0 <= x1 < x2 <= 96 and 0 <= y1 < y2 <= 64
            inside = image[:, y1 + 1:y2 - 1, x1 + 1:x2 - 1].mean()
            assert inside > image.mean() or (x2 - x1) * (y2 - y1) > 0.5 * 64 * 96
            areas.append((x2 - x1) * (y2 - y1))
            flipped += abs((x1 + x2) / 2 - data.dataset[i][1][0, 0::2].mean().item()) > 15
    assert max(areas) > 2 * min(areas) and 5 < flipped < 35


def test_regions_to_ignore_are_augmented_and_never_become_people():
    class WithRegions(Blobs):
        def __getitem__(self, index):
            image, boxes = super().__getitem__(index)
            return image, boxes, torch.cat([boxes, torch.tensor([[0.0, 0, 96, 64]])])

    plain, data = (module._Images(of(20), seed=0, augment=True) for of in (Blobs, WithRegions))
    for i in range(20):
        one, other = plain[i], data[i]
        assert torch.equal(one["image"], other["image"]) and torch.equal(one["boxes"], other["boxes"])
        assert not len(one["ignore"]) and torch.equal(other["ignore"][:-1], one["boxes"])
    batch = data.collate([plain[0], data[1]])
    assert list(map(len, batch["ignore"])) == [0, len(data[1]["ignore"])] and batch["image"].shape == (2, 3, 64, 96)
    assert len(batch["boxes"]) == len(batch["name"]) == 2


def test_regions_to_ignore_do_not_count_against_a_detector():
    class Nobody(Blobs):
        """Images whose boxes are regions to ignore, but for one image."""

        def __getitem__(self, index):
            image, boxes = super().__getitem__(index)
            return (image, boxes, torch.zeros(0, 4)) if not index else (image, torch.zeros(0, 4), boxes)

    class Finds(torch.nn.Module):
        pass

    data, plain = Nobody(6), Blobs(6)
    found = [torch.cat([plain[i][1], torch.tensor([[0.5 + 0.1 * (i > 0), 0]]).expand(len(plain[i][1]), 2)], 1)
             for i in range(6)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "detect", lambda *_, **__: found)
        model = Finds()
        model.names = ["person"]
        assert module.evaluate_detector(model, data)["mAP@.5"] == pytest.approx(1)
        assert module.evaluate_detector(model, plain)["boxes"] == sum(len(plain[i][1]) for i in range(6))
        assert module.evaluate_detector(model, [data[i][:2] for i in range(6)])["mAP@.5"] < 0.5


@pytest.mark.parametrize("steps", [3, 16, 100])
def test_one_cycle_is_that_of_torch(steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, steps, pct_start=0.1, cycle_momentum=False)
    for step in range(steps):
        assert trainer.one_cycle(step, steps) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        if step < steps - 1:
            scheduler.step()


def test_moving_average_forgets_the_start_of_a_short_run():
    average = trainer.moving_average(0.99)
    value = torch.zeros(())
    for step in range(1, 51):
        value = average(value, torch.ones(()), torch.tensor(step))
    assert value > 0.99
    assert average(torch.zeros(()), torch.ones(()), torch.tensor(10**6)).item() == pytest.approx(0.01)
    assert average(torch.tensor(3), torch.tensor(5), torch.tensor(2)) == 5


def test_scene_detector_command(tmp_path, monkeypatch):
    monkeypatch.setattr(module.fusionlib, "ROOT", tmp_path / "elsewhere")
    result = train_scene_detector(tmp_path / "weights.safetensors", scenes=4, epochs=1, size=(64, 96), bf16=False)
    assert result["images"] == 2 and result["boxes"] % 2 == 0  # one scene, in two pictures
    assert math.isnan(result["mAP@.5"]) == (result["boxes"] == 0)
    written = load_yolov5(tmp_path / "weights.safetensors")
    assert written.names == ["person"] and (tmp_path / "scene_detector" / "curves.csv").is_file()
    assert not (tmp_path / "elsewhere").exists()
    assert 0.5e6 < (tmp_path / "weights.safetensors").stat().st_size < 1.2e6


def test_another_kind_of_file_is_refused(tmp_path):
    for name, found in (("weights.pt", r"\.pt"), ("weights", "no ending")):
        with pytest.raises(FusionError, match=rf"{name}: .* ends in \.safetensors, found {found}; rename it"):
            train_scene_detector(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_scene_images_are_visible_and_infrared_in_turn():
    from fusionlib.data.synthetic import scene as scenes

    data, scene = SceneImages(2, seed=1000, size=(64, 96), first=3), scenes.render(4, seed=1000, size=(64, 96))
    (visible, boxes), (infrared, same_boxes) = data[2], data[3]
    assert len(data) == 4 and torch.equal(boxes, same_boxes) and np.array_equal(boxes, scene.boxes)
    assert torch.equal(visible, torch.from_numpy(scene.visible).permute(2, 0, 1) / 255)
    assert torch.equal(infrared, (torch.from_numpy(scene.ir) / 255).expand(3, 64, 96))


@pytest.mark.skipif(not Path(SCENE_DETECTOR).is_file(), reason="the committed detector is missing")
def test_committed_detector_finds_people_in_scenes_of_the_notebooks():
    model = load_yolov5(SCENE_DETECTOR)
    data = SceneImages(10, seed=0, size=(256, 320))
    assert model.names == ["person"] and SCENE_DETECTOR.stat().st_size < 1.2e6
    infrared = torch.utils.data.Subset(data, range(1, 20, 2))
    assert module.evaluate_detector(model, infrared)["mAP@.5"] > 0.5
