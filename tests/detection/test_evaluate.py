import math

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from fusionlib.detection import YOLOv5, average_precision, detect
from fusionlib.errors import FusionError

NAMES = ("mAP@.5", "mAP@.75", "mAP@.5:.95")


def reference(predictions, truths, overlap):
    """COCO's definition, written plainly: greedy matching by score, precision envelope at 101 recalls."""
    rows = []
    for found, boxes in zip(predictions, truths):
        taken = set()
        for row in found[found[:, 4].argsort(descending=True, stable=True)]:
            best, at = overlap, None
            for j, value in enumerate(box_iou(row[None, :4], boxes)[0].tolist() if len(boxes) else []):
                if j not in taken and value >= best:
                    best, at = value, j
            taken.add(at)
            rows.append((row[4].item(), at is not None))
    rows.sort(key=lambda row: -row[0])
    hits = np.cumsum([hit for _, hit in rows])
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    recall = hits / sum(map(len, truths))
    at = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return np.mean([precision[i] if i < len(precision) else 0 for i in at])


def test_by_hand():
    truths = [torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40]]), torch.tensor([[5.0, 5, 25, 45]])]
    predictions = [
        # right; nothing there; overlap of 20 * 16 / 20 * 20 = .8
        torch.tensor([[0, 0, 10, 10, 0.9, 0], [50, 50, 60, 60, 0.8, 0], [20, 20, 40, 36, 0.7, 0]]),
        torch.zeros(0, 6),
    ]
    # Two of three people found, the second after one false alarm: precision 1 up to recall 1/3 (34 of 101 recalls), 2/3
    # up to recall 2/3 (33 more). Above an overlap of .8, at .85, .9 and .95, only the first remains.
    loose, tight = (34 + 33 * 2 / 3) / 101, 34 / 101
    result = average_precision(predictions, truths)
    assert [result[name] for name in NAMES] == pytest.approx([loose, loose, (7 * loose + 3 * tight) / 10])
    assert (result["images"], result["boxes"]) == (2, 3)


def test_random_boxes_agree_with_the_definition(capsys):
    generator = torch.Generator().manual_seed(3)
    truths, predictions = [], []
    for count in (4, 0, 7, 1, 9):
        corner = torch.rand(count, 2, generator=generator) * 200
        boxes = torch.cat((corner, corner + 10 + 60 * torch.rand(count, 2, generator=generator)), 1)
        false = torch.rand(3, 4, generator=generator) * 50 + torch.tensor([0, 0, 60, 60])
        moved = torch.cat((boxes + torch.randn(count, 4, generator=generator) * 4, false))
        scores = torch.rand(len(moved), 1, generator=generator)
        truths.append(boxes)
        predictions.append(torch.cat((moved, scores, torch.zeros_like(scores)), 1))
    result = average_precision(predictions, truths)
    values = [reference(predictions, truths, t) for t in np.linspace(0.5, 0.95, 10)]
    assert 0.1 < np.mean(values) < 0.9
    assert [result[name] for name in NAMES] == pytest.approx([values[0], values[5], np.mean(values)], abs=1e-9)
    assert capsys.readouterr().out == ""


def test_only_one_class_counts():
    truths = [torch.tensor([[0.0, 0, 10, 10]])]
    predictions = [torch.tensor([[30, 30, 40, 40, 0.9, 1], [0, 0, 10, 10, 0.5, 0]])]
    assert average_precision(predictions, truths)["mAP@.5:.95"] == pytest.approx(1)
    assert average_precision(predictions, truths, class_index=1)["mAP@.5"] == 0


def test_nothing_found_and_nothing_there():
    box, found = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[0, 0, 10, 10, 0.9, 0]])
    empty, none = torch.zeros(0, 4), torch.zeros(0, 6)
    assert [average_precision([none], [box])[name] for name in NAMES] == [0, 0, 0]
    for predictions in ([none], [found]):
        result = average_precision(predictions, [empty])
        assert all(math.isnan(result[name]) for name in NAMES) and result["boxes"] == 0
    assert average_precision([], [])["images"] == 0
    # A detection on an image without people is a false alarm: precision 1/2 at the only recall.
    strong = torch.tensor([[0, 0, 10, 10, 0.95, 0]])
    assert average_precision([found, strong], [box, empty])["mAP@.5"] == pytest.approx(0.5)


def test_lists_of_different_length():
    with pytest.raises(FusionError, match="1 for 2 images"):
        average_precision([torch.zeros(0, 6)], [torch.zeros(0, 4)] * 2)


def test_detect_maps_classes_by_name():
    model = YOLOv5(3, width=0.125, names=["Car", "People", "bus"]).eval()
    images = [torch.rand(3, 64, 64), torch.rand(3, 70, 50)]
    found = detect(model, images, classes=("person", "car"), conf=0)
    for image, boxes in zip(images, found):
        all_classes = model.predict(image[None], conf=0, classes=[1, 0])[0]
        assert torch.equal(boxes[:, :5], all_classes[:, :5])
        assert torch.equal(boxes[:, 5], 1 - all_classes[:, 5])
        assert boxes[:, 5].unique().tolist() == [0, 1]
    with pytest.raises(FusionError, match="knows Car, People, bus, not bicycle"):
        detect(model, images, classes=("bicycle",))
