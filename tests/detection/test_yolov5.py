from pathlib import Path

import pytest
import torch
import ultralytics
from PIL import Image
from torch import nn
from torchvision.ops import box_iou
from torchvision.transforms.v2.functional import pil_to_tensor

from fusionlib.detection import COCO_ANCHORS, STRIDES, YOLOv5, YOLOv5Loss, freeze, load_yolov5
from fusionlib.utils.errors import FusionError


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return YOLOv5(2, width=0.125).eval()


@pytest.fixture(scope="module")
def official(shared):
    return load_yolov5(shared / "weights" / "yolov5n.pt")


def test_maps_and_parameters(tiny):
    # The parameters that the official release counts for 80 classes (1.9 M and 7.2 M in its table).
    assert sum(p.numel() for p in YOLOv5(80, 0.33, 0.25).parameters()) == 1_872_157
    assert sum(p.numel() for p in YOLOv5(80, 0.33, 0.5).parameters()) == 7_235_389
    assert {(m.eps, m.momentum) for m in tiny.modules() if isinstance(m, nn.BatchNorm2d)} == {(1e-3, 0.03)}
    for mode in (True, False):
        maps = tiny.train(mode)(torch.rand(2, 3, 64, 96))
        assert [tuple(m.shape) for m in maps] == [(2, 3, 8, 12, 7), (2, 3, 4, 6, 7), (2, 3, 2, 3, 7)]
    assert torch.equal(tiny.anchors, torch.tensor(COCO_ANCHORS).float())
    assert tiny.names == ["class 0", "class 1"]


def test_objectness_starts_at_its_prior():
    maps = YOLOv5(1, width=0.125).eval()(torch.rand(1, 3, 64, 64))
    for raw, stride in zip(maps, STRIDES):
        assert raw[..., 4].sigmoid().mean().item() == pytest.approx(8 / (640 / stride) ** 2, rel=0.2)


def test_decode_by_hand(tiny):
    maps = [torch.zeros(1, 3, 64 // s, 96 // s, 7) for s in STRIDES]
    maps[1][0, 2, 1, 3] = torch.tensor([1.0, -2, 0.5, -0.5, 3, 0, 0])  # stride 16, anchor 59x119, row 1, column 3
    decoded = tiny.decode(maps)[0]
    # All zero: centre of the cell, size of the anchor.
    assert decoded[0].tolist() == pytest.approx([4, 4, 10, 13, 0.5, 0.5, 0.5])
    row = decoded[3 * 8 * 12 + 2 * 4 * 6 + 1 * 6 + 3]
    s = lambda t: 1 / (1 + torch.tensor(-t).exp().item())  # noqa: E731
    xy = [(2 * s(1.0) - 0.5 + 3) * 16, (2 * s(-2.0) - 0.5 + 1) * 16]
    wh = [59 * (2 * s(0.5)) ** 2, 119 * (2 * s(-0.5)) ** 2]
    assert row[:5].tolist() == pytest.approx([*xy, *wh, s(3.0)], rel=1e-6)


def test_predict_suppresses_pads_and_clips(tiny, monkeypatch):
    seen = []

    def planted(images):
        """Two overlapping boxes of class 1 at the right border, the stronger one also class 0; all else empty."""
        seen.append(images)
        maps = [torch.full((1, 3, 64 // s, 96 // s, 7), -20.0) for s in STRIDES]
        maps[0][0, 1, 3, 10] = torch.tensor([0.0, 0, 0, 0, 3, 2, 4])
        maps[0][0, 1, 3, 9] = torch.tensor([3.0, 0, 0, 0, 2, -9, 4])
        return maps

    monkeypatch.setattr(tiny, "forward", planted)
    boxes = tiny.predict(torch.zeros(1, 3, 50, 90), conf=0.05, iou=0.45)[0]
    assert seen[0].shape == (1, 3, 64, 96)
    assert seen[0][..., 50:, :].unique().item() == pytest.approx(114 / 255)
    assert seen[0][..., :50, :90].abs().max() == 0
    s = lambda t: 1 / (1 + torch.tensor(-t).exp().item())  # noqa: E731
    assert boxes[:, 5].tolist() == [1, 0]
    assert boxes[:, 4].tolist() == pytest.approx([s(3.0) * s(4.0), s(3.0) * s(2.0)])
    assert boxes[0, :4].tolist() == pytest.approx([84 - 8, 28 - 15, 90, 28 + 15])  # clipped at 90
    assert tiny.predict(torch.zeros(1, 3, 50, 90), conf=0.05, iou=0.45, classes=[0])[0][:, 5].tolist() == [0]
    assert len(tiny.predict(torch.zeros(1, 3, 50, 90), conf=0.05, iou=0.95)[0]) == 3
    assert len(tiny.predict(torch.zeros(1, 3, 50, 90), conf=0.05, iou=0.95, max_det=1)[0]) == 1
    assert tiny.predict(torch.zeros(1, 3, 50, 90), conf=0.999)[0].shape == (0, 6)


def test_one_class_scores_by_objectness_alone():
    model = YOLOv5(1, width=0.125).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for conv in model.model[-1].m:
            conv.bias.view(3, 6)[:, 5] = -50  # never trained, so it must not count
        best = max(m[..., 4].max() for m in model(image)).sigmoid()
    assert model.predict(image, conf=0)[0][0, 4].item() == pytest.approx(best.item())


def test_predict_leaves_the_mode_and_the_statistics_alone():
    model = YOLOv5(1, width=0.125).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.predict(torch.rand(1, 3, 64, 64))
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("images, message", [
    (torch.rand(1, 3, 100, 90), r"100x90: pad by 28 rows at the bottom and 6 columns"),
    (torch.rand(1, 1, 64, 64), r"\[B, 3, H, W\].*\[1, 1, 64, 64\]"),
    (torch.rand(3, 64, 64), r"\[3, 64, 64\]"),
    (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), r"uint8"),
])
def test_bad_images(tiny, images, message):
    with pytest.raises(FusionError, match=message):
        tiny(images)


def test_wrong_number_of_names():
    with pytest.raises(FusionError, match="2 classes needs 2 names, not 1"):
        YOLOv5(2, names=["person"])


def test_frozen_detector_passes_the_gradient_and_does_not_change():
    detector = freeze(YOLOv5(1, width=0.125))
    parent = nn.ModuleDict({"detector": detector, "fusion": nn.Conv2d(3, 3, 1)}).train()
    before = {k: v.clone() for k, v in detector.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in parent.parameters() if p.requires_grad], lr=0.1)
    loss = YOLOv5Loss(detector.anchors, detector.strides, 1)
    image = torch.rand(2, 3, 64, 96, requires_grad=True)
    old = parent["fusion"].weight.clone()
    for _ in range(2):
        loss(detector(parent["fusion"](image)), torch.tensor([[0, 0, 0.5, 0.5, 0.2, 0.6]]))[0].backward()
        optimizer.step()
    assert parent["fusion"].training and not any(m.training for m in detector.modules())
    assert image.grad.abs().sum() > 0 and not torch.equal(parent["fusion"].weight, old)
    assert all(p.grad is None for p in detector.parameters())
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())


def test_official_yolov5n_finds_the_people_at_the_bus(official):
    picture = Image.open(Path(ultralytics.__file__).parent / "assets" / "bus.jpg").convert("RGB")  # 810x1080
    image = pil_to_tensor(picture.resize((480, 640), Image.Resampling.BILINEAR)).float()[None] / 255
    found = official.predict(image, conf=0.25, iou=0.45)[0]
    assert sorted(official.names[int(c)] for c in found[:, 5]) == ["bus"] + ["person"] * 4
    # Where a viewer sees them in the full picture.
    seen = [[50, 400, 245, 905], [222, 408, 345, 862], [668, 395, 810, 881], [0, 552, 68, 875]]
    people = found[found[:, 5] == 0, :4]
    assert (box_iou(torch.tensor(seen) * 640 / 1080, people).amax(1) > 0.6).all()
