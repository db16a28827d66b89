import math

import pytest
import torch
from torchvision.ops import box_convert, complete_box_iou_loss

from fusionlib.detection import COCO_ANCHORS, STRIDES, YOLOv5Loss, scale_hyp, to_targets
from fusionlib.utils.errors import FusionError

SIZES = ((16, 20), (8, 10), (4, 5))  # maps of a 128x160 image


def golden_maps(num_classes):
    maps = []
    for layer, (h, w) in enumerate(SIZES):
        n = 2 * 3 * h * w * (5 + num_classes)
        wave = 2 * torch.sin(0.7 * torch.arange(n, dtype=torch.float64) + layer)
        maps.append(wave.float().view(2, 3, h, w, 5 + num_classes).requires_grad_())
    return maps


def golden_targets(classes=(0, 0, 0, 0, 0)):
    targets = torch.tensor([
        [0, 0, 0.50, 0.50, 0.20, 0.40],
        [0, 0, 0.30, 0.62, 0.10, 0.15],
        [0, 0, 0.97, 0.03, 0.06, 0.06],
        [1, 0, 0.25, 0.75, 0.50, 0.50],
        [1, 0, 0.8125, 0.40625, 0.05, 0.30],
    ])
    targets[:, 1] = torch.tensor(classes)
    return targets


# Values of the official ComputeLoss (yolov5 7.0) on these inputs.
@pytest.mark.parametrize("num_classes, targets, total, box, obj, cls, gradients", [
    (1, golden_targets(), 10.179441, 0.14372209, 4.94599867, 0, (4.005102, 1.014712, 0.409540)),
    (3, golden_targets((0, 1, 2, 1, 2)), 12.815748, 0.14630215, 4.94411182, 1.31746030, (4.464442, 1.520825, 0.871572)),
    (1, torch.zeros(0, 6), 9.910888, 0, 4.95544386, 0, None),
    (3, torch.zeros(0, 6), 9.907780, 0, 4.95388985, 0, None),
])
def test_golden(num_classes, targets, total, box, obj, cls, gradients):
    maps = golden_maps(num_classes)
    value, terms = YOLOv5Loss(COCO_ANCHORS, STRIDES, num_classes)(maps, targets)
    assert value.item() == pytest.approx(total, abs=1e-5)
    assert [terms[k].item() for k in ("box", "obj", "cls")] == pytest.approx([box, obj, cls], abs=1e-6)
    assert not any(term.requires_grad for term in terms.values())
    value.backward()
    sums = [m.grad.abs().sum().item() for m in maps]
    assert min(sums) > 0
    if gradients:
        assert sums == pytest.approx(gradients, abs=1e-5)


def test_golden_matches():
    loss = YOLOv5Loss(COCO_ANCHORS, STRIDES, 1)
    matched = [loss.match(size, anchors, golden_targets())[0] for size, anchors in zip(SIZES, loss.anchors)]
    assert [len(cells[0]) for cells in matched] == [42, 35, 9]
    # The centre of the first target lies on a border between cells: its own cell comes twice.
    assert sorted(zip(*(index.tolist() for index in matched[2]))) == [
        (0, 0, 1, 2), (0, 0, 2, 2), (0, 0, 2, 2), (1, 0, 2, 1), (1, 0, 3, 0), (1, 0, 3, 1),
        (1, 1, 2, 1), (1, 1, 3, 0), (1, 1, 3, 1)]


def test_ratio_of_four_does_not_match():
    loss = YOLOv5Loss(COCO_ANCHORS, STRIDES, 1)
    size, anchors = (16, 20), loss.anchors[0]  # 10x13, 16x30, 33x23 pixels
    side = lambda w, h: torch.tensor([[0, 0, 0.53, 0.53, w / 160, h / 128]])  # noqa: E731
    assert set(loss.match(size, anchors, side(39.9, 13))[0][1].tolist()) == {0, 1, 2}
    assert set(loss.match(size, anchors, side(40.1, 13))[0][1].tolist()) == {1, 2}
    assert len(loss.match(size, anchors, side(0, 13))[0][1]) == 0


def test_perfect_prediction_costs_almost_nothing():
    loss = YOLOv5Loss(COCO_ANCHORS, STRIDES, 1)
    targets = torch.tensor([[0, 0, 0.53, 0.53, 33 / 160, 23 / 128]])
    maps = [torch.full((1, 3, h, w, 6), -12.0) for h, w in SIZES]
    for raw, anchors in zip(maps, loss.anchors):
        cells, _, anchor_wh, truth = loss.match(raw.shape[2:4], anchors, targets)
        xy, wh = torch.logit((truth[:, :2] + 0.5) / 2), torch.logit((truth[:, 2:] / anchor_wh).sqrt() / 2)
        raw[cells] = torch.cat((xy, wh, torch.full((len(truth), 2), 12.0)), 1)
    total, terms = loss(maps, targets)
    assert terms["box"] < 1e-5 and terms["obj"] < 1e-3
    assert total < 2e-3


def test_complete_iou_is_the_published_formula():
    # The loss takes torchvision's: here against the formula of Zheng et al. 2020, in double precision.
    boxes = torch.rand(2, 500, 4).double() * 3 + 0.05
    (x1, y1, w1, h1), (x2, y2, w2, h2) = (b.unbind(1) for b in boxes)
    overlap = lambda a, wa, b, wb: (torch.minimum(a + wa / 2, b + wb / 2)  # noqa: E731
                                    - torch.maximum(a - wa / 2, b - wb / 2))
    intersection = overlap(x1, w1, x2, w2).clamp(min=0) * overlap(y1, h1, y2, h2).clamp(min=0)
    iou = intersection / (w1 * h1 + w2 * h2 - intersection)
    hull = lambda a, wa, b, wb: (torch.maximum(a + wa / 2, b + wb / 2)  # noqa: E731
                                 - torch.minimum(a - wa / 2, b - wb / 2))
    diagonal = hull(x1, w1, x2, w2) ** 2 + hull(y1, h1, y2, h2) ** 2
    v = 4 / math.pi**2 * (torch.atan(w2 / h2) - torch.atan(w1 / h1)) ** 2
    ciou = iou - ((x1 - x2) ** 2 + (y1 - y2) ** 2) / diagonal - v * v / (v - iou + 1)
    ours = 1 - complete_box_iou_loss(*(box_convert(b.float(), "cxcywh", "xyxy") for b in boxes))
    assert (ours - ciou).abs().max() < 5e-6


def plain_objectness(loss, maps, targets, regions):
    """The objectness term cell by cell, regions in pixels of the 128x160 image."""
    total = 0
    for raw, anchors, balance in zip(maps, loss.anchors, (4.0, 1.0, 0.4)):
        cells, _, anchor_wh, truth = loss.match(raw.shape[2:4], anchors, targets)
        p = raw[cells]
        pred = torch.cat((2 * p[:, :2].sigmoid() - 0.5, (2 * p[:, 2:4].sigmoid()) ** 2 * anchor_wh), 1)
        iou = 1 - complete_box_iou_loss(box_convert(pred, "cxcywh", "xyxy"), box_convert(truth, "cxcywh", "xyxy"))
        wanted = {cell: value.item() for cell, value in zip(zip(*(i.tolist() for i in cells)), iou.clamp(min=0))}
        batch, count, height, width, _ = raw.shape
        costs = []
        for cell in torch.cartesian_prod(*map(torch.arange, (batch, count, height, width))).tolist():
            x, y = (cell[3] + 0.5) * 160 / width, (cell[2] + 0.5) * 128 / height
            inside = any(x1 <= x <= x2 and y1 <= y <= y2 for x1, y1, x2, y2 in regions[cell[0]].tolist())
            value, share = raw[tuple(cell)][4].item(), wanted.get(tuple(cell), 0)
            cost = math.log1p(math.exp(value)) - share * value
            costs.append(0 if inside and tuple(cell) not in wanted else cost)
        total += balance * sum(costs) / len(costs)
    return total


@pytest.mark.parametrize("regions", [
    [torch.zeros(0, 4), torch.tensor([[17.0, 0, 90, 77], [80, 60, 160, 128]])],
    [torch.tensor([[0.0, 0, 160, 128]]), torch.tensor([[3.0, 3, 3.5, 3.5]])],  # all of an image; no centre of a cell
    [torch.tensor([[0.0, 0, 160, 128]])] * 2,
])
def test_nothing_is_wrong_in_regions_to_ignore(regions):
    maps, targets = golden_maps(1), golden_targets()
    loss = YOLOv5Loss(COCO_ANCHORS, STRIDES, 1)
    total, terms = loss(maps, targets, to_targets(regions, (128, 160)))
    _, plain_terms = loss(golden_maps(1), targets)
    assert terms["obj"].item() == pytest.approx(plain_objectness(loss, maps, targets, regions), rel=1e-5)
    assert terms["box"] == plain_terms["box"] and terms["obj"] < plain_terms["obj"]
    total.backward()
    matched = torch.zeros_like(maps[0][..., 0], dtype=torch.bool)
    matched[loss.match(SIZES[0], loss.anchors[0], targets)[0]] = True
    if len(regions[0]):  # all of the first image
        assert not maps[0].grad[0][~matched[0]].any() and (maps[0].grad[0][matched[0]][:, 4] != 0).all()
    assert maps[0].grad[1][~matched[1]][:, 4].any() == (len(regions[1]) and regions[1][0, 2] < 160)


def test_no_regions_to_ignore_change_nothing():
    loss = YOLOv5Loss(COCO_ANCHORS, STRIDES, 1)
    for targets in (golden_targets(), torch.zeros(0, 6)):
        plain = loss(golden_maps(1), targets)
        assert loss(golden_maps(1), targets, torch.zeros(0, 6)) == plain
        nowhere = to_targets([torch.tensor([[3.0, 3, 3.5, 3.5]]), torch.zeros(0, 4)], (128, 160))
        assert loss(golden_maps(1), targets, nowhere)[0].item() == pytest.approx(plain[0].item(), rel=1e-6)


def test_an_object_of_another_class_without_a_target_costs_nothing():
    """If the detector is sure, if targets cannot be of that class, and if none is matched there."""
    maps, targets = golden_maps(3), golden_targets()
    targets[:, 1] = 0
    loss = YOLOv5Loss(COCO_ANCHORS, STRIDES, 3)
    cells = loss.match(SIZES[0], loss.anchors[0], targets)[0]
    with torch.no_grad():
        maps[0][0, 0, 1, 1] = torch.tensor([0.0, 0, 0, 0, 5, -5, 5, -5])  # sure of class 1
        maps[0][0, 0, 1, 3] = torch.tensor([0.0, 0, 0, 0, -2, -5, 5, -5])  # unsure
        maps[0][tuple(each[0] for each in cells)] = torch.tensor([0.0, 0, 0, 0, 5, -5, 5, -5])  # where a person is
    gradients = {}
    for labelled in (None, [0], [0, 1], [0, 1, 2]):
        for each in maps:
            each.grad = None
        total, _ = YOLOv5Loss(COCO_ANCHORS, STRIDES, 3, labelled=labelled)(maps, targets)
        total.backward()
        gradients[str(labelled)] = maps[0].grad[..., 4].clone()
    plain, masked = gradients["None"], gradients["[0]"]
    assert plain[0, 0, 1, 1] > 0 and masked[0, 0, 1, 1] == 0
    assert torch.equal(plain == 0, gradients["[0, 1, 2]"] == 0) and gradients["[0, 1]"][0, 0, 1, 1] > 0
    kept = torch.ones_like(plain, dtype=torch.bool)
    shown = maps[0][..., 4].sigmoid() * maps[0][..., 5:].sigmoid().amax(-1) >= 0.25
    kept[shown & (maps[0][..., 5:].argmax(-1) > 0)] = False
    kept[cells] = True
    assert torch.equal(masked != 0, kept & (plain != 0)) and not kept.all() and kept[0, 0, 1, 3]


def test_half_precision_maps_are_computed_in_float32():
    maps = [m.detach().bfloat16() for m in golden_maps(1)]
    loss = YOLOv5Loss(COCO_ANCHORS, STRIDES, 1)
    with torch.autocast("cpu", torch.bfloat16):
        total, _ = loss(maps, golden_targets())
    assert total.dtype == torch.float32
    assert total.item() == loss([m.float() for m in maps], golden_targets())[0].item()


def test_gains():
    maps, targets = golden_maps(3), golden_targets()
    _, plain = YOLOv5Loss(COCO_ANCHORS, STRIDES, 3)(maps, targets)
    _, scaled = YOLOv5Loss(COCO_ANCHORS, STRIDES, 3, scale_hyp(3, 320))(maps, targets)
    assert scaled["box"] == plain["box"]
    assert scaled["obj"].item() == pytest.approx(plain["obj"].item() / 4)
    assert scaled["cls"].item() == pytest.approx(plain["cls"].item() * 3 / 80)
    assert scale_hyp(1, 640) == {"box": 0.05, "obj": 1.0, "cls": 0.00625, "anchor_t": 4.0}


def test_to_targets():
    boxes = [torch.tensor([[10.0, 20, 30, 60]]), torch.zeros(0, 4), torch.tensor([[0, 0, 200, 100], [50, 0, 100, 50]])]
    targets = to_targets(boxes, (100, 200), [[2], [], [0, 1]])
    assert targets.tolist() == [pytest.approx(row) for row in (
        [0, 2, 0.1, 0.4, 0.1, 0.4], [2, 0, 0.5, 0.5, 1, 1], [2, 1, 0.375, 0.25, 0.25, 0.5])]
    assert to_targets(boxes, (100, 200))[:, 1].tolist() == [0, 0, 0]
    assert to_targets([], (100, 200)).shape == to_targets([torch.zeros(0, 4)], (100, 200)).shape == (0, 6)


@pytest.mark.parametrize("targets, message", [
    (torch.zeros(2, 5), r"targets \[n, 6\].*\[2, 5\]"),
    (torch.tensor([[0, 1, 0.5, 0.5, 0.1, 0.1]]), r"class indices up to 0, found \[1\]"),
])
def test_bad_targets(targets, message):
    with pytest.raises(FusionError, match=message):
        YOLOv5Loss(COCO_ANCHORS, STRIDES, 1)(golden_maps(1), targets)
