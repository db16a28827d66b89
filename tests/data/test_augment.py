"""Joint augmentation: the box still bounds the same pixels of both pictures."""

import math

import numpy as np
import pytest
import torch

from fusionlib.data.augment import augment
from fusionlib.utils.errors import FusionError

BOX = torch.tensor([[40.0, 30.0, 70.0, 100.0]])


def picture(height=160, width=200, box=BOX):
    ir = torch.zeros(1, height, width)
    x1, y1, x2, y2 = box[0].int().tolist()
    ir[:, y1:y2, x1:x2] = 1
    return ir, ir.expand(3, -1, -1) * torch.tensor([1.0, 0.9, 0.8]).view(3, 1, 1)


def bounds(image, threshold=0.5):
    """xyxy around the bright pixels of [C,H,W]; None where there are none."""
    ys, xs = torch.nonzero(image[0] > threshold, as_tuple=True)
    return [xs.min().item(), ys.min().item(), xs.max().item() + 1, ys.max().item() + 1] if len(xs) else None


@pytest.mark.parametrize("size", [(160, 200), (100, 300)])
def test_flips_quarter_turns_and_crops_are_exact(size):
    seen = set()
    for seed in range(80):
        ir, visible, boxes = augment(*picture(*size), BOX, seed, crop=90, min_visible=0)
        assert ir.shape == (1, 90, 90) and visible.shape == (3, 90, 90) and boxes.dtype == torch.float32
        expected = bounds(ir)
        assert expected == bounds(visible)
        assert boxes.tolist() == ([] if expected is None else [expected])
        seen.add(tuple(expected or ()))
    assert len(seen) > 15


def test_all_eight_symmetries_come_equally_often():
    image = torch.arange(4.0).view(1, 2, 2)
    counts = {}
    for seed in range(800):
        ir, visible, _ = augment(image, image.expand(3, 2, 2), None, seed, crop=None)
        assert torch.equal(visible, ir.expand(3, 2, 2))
        counts[tuple(ir.flatten().tolist())] = counts.get(tuple(ir.flatten().tolist()), 0) + 1
    assert len(counts) == 8 and min(counts.values()) > 65 and max(counts.values()) < 135


def test_boxes_hold_what_is_turned_by_any_angle():
    whole = 0
    for seed in range(40):
        ir, visible, boxes = augment(*picture(), BOX, seed, crop=100, rotate=25, min_visible=0)
        found = bounds(ir)
        assert found == bounds(visible)
        if found is None:
            continue
        slack = np.subtract(found, boxes[0].tolist()) * [1, 1, -1, -1]
        assert slack.min() > -0.6, "bright pixels outside of the box"
        if min(found[:2]) > 0 and max(found[2:]) < 100:  # whole: the box is tight as well
            assert slack.max() < 1.5
            whole += 1
    assert whole >= 5


def test_angles_are_spread_and_leave_no_empty_corners():
    ones = torch.ones(1, 120, 160)
    sizes = set()
    for seed in range(40):
        ir, visible, _ = augment(ones, ones.expand(3, -1, -1), None, seed, crop=None, rotate=40)
        torch.testing.assert_close(ir, torch.ones_like(ir))
        torch.testing.assert_close(visible, torch.ones_like(visible))
        assert ir.shape[1] / ir.shape[2] == pytest.approx(120 / 160, abs=0.02)
        sizes.add(ir.shape[1])
    assert len(sizes) > 20 and max(sizes) > 110 and min(sizes) < 85


def test_rotation_agrees_with_the_angle():
    """A point 50 pixels right of the centre, turned by the same angle as the picture."""
    ir = torch.zeros(1, 201, 201)
    ir[0, 98:103, 148:153] = 1
    box = torch.tensor([[148.0, 98.0, 153.0, 103.0]])
    for seed in range(10):
        out, _, boxes = augment(ir, ir.expand(3, -1, -1), box, seed, crop=None, rotate=30, flip=False)
        x, y = (boxes[0, :2] + boxes[0, 2:]) / 2 - out.shape[-1] / 2
        assert math.hypot(x, y) == pytest.approx(50, abs=0.8)
        ys, xs = torch.nonzero(out[0] > 0.5, as_tuple=True)
        assert xs.float().mean() + 0.5 - out.shape[-1] / 2 == pytest.approx(x.item(), abs=0.8)
        assert ys.float().mean() + 0.5 - out.shape[-2] / 2 == pytest.approx(y.item(), abs=0.8)


@pytest.mark.parametrize("crop", [320, (200, 150), (100, 400)])
def test_small_pictures_are_enlarged_to_the_crop(crop):
    height, width = (crop, crop) if isinstance(crop, int) else crop
    for seed in range(10):
        ir, visible, boxes = augment(*picture(), BOX, seed, crop=crop, rotate=0, min_visible=0)
        assert ir.shape == (1, height, width) and visible.shape == (3, height, width)
        if len(boxes):
            assert np.abs(np.subtract(boxes[0].tolist(), bounds(ir))).max() <= 1


def test_min_visible_decides_which_boxes_stay():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 100.0], [90.0, 0.0, 100.0, 100.0]])
    ir = torch.zeros(1, 100, 100)
    for seed in range(40):
        columns = {}
        for part in (0.0, 0.3, 0.7):
            _, _, left = augment(ir, ir.expand(3, -1, -1), boxes, seed, (100, 94), False, 0, part)
            columns[part] = sorted((left[:, 2] - left[:, 0]).tolist())
        assert sum(columns[0.0]) == 14  # 6 of 100 columns are gone, all from the two boxes
        assert columns[0.3] == [n for n in columns[0.0] if n >= 3]
        assert columns[0.7] == [n for n in columns[0.0] if n >= 7]


def test_further_columns_ride_along():
    boxes = np.array([[0, 0, 40, 40, 7], [80, 80, 100, 100, 3]], np.float32)
    ir = torch.zeros(1, 100, 100)
    classes = {tuple(augment(ir, ir.expand(3, -1, -1), boxes, seed, crop=60)[2][:, 4].tolist()) for seed in range(40)}
    assert {(7.0,), (3.0,)} <= classes <= {(7.0,), (3.0,), (7.0, 3.0), ()}


def test_without_labels_and_without_boxes():
    assert augment(*picture(), None, 0, crop=90)[2] is None
    assert augment(*picture(), torch.zeros(0, 4), 0, crop=90, rotate=10)[2].shape == (0, 4)


def test_it_depends_on_the_seed_alone_and_leaves_its_input():
    ir, visible = picture()
    before, state = ir.clone(), torch.random.get_rng_state()
    first = augment(ir, visible, BOX, 5, crop=128, rotate=10)
    torch.rand(3)
    second = augment(ir, visible, BOX, 5, crop=128, rotate=10)
    assert all(torch.equal(a, b) for a, b in zip(first, second))
    assert torch.equal(ir, before) and BOX.tolist() == [[40, 30, 70, 100]]
    torch.random.set_rng_state(state)
    expected = torch.rand(1)
    torch.random.set_rng_state(state)
    augment(ir, visible, BOX, 5)
    assert torch.equal(torch.rand(1), expected)


def test_bad_input_is_named():
    ir, visible = picture()
    with pytest.raises(FusionError, match=r"infrared \[1, 160, 200\] and visible \[3, 159, 200\]"):
        augment(ir, visible[:, 1:], None, 0)
    with pytest.raises(FusionError, match="rotate='quarter'"):
        augment(ir, visible, None, 0, rotate="half")


def test_crops_fall_anywhere():
    rows, columns = torch.meshgrid(torch.arange(100.0), torch.arange(100.0), indexing="ij")
    corners = []
    for seed in range(300):
        ir, visible, _ = augment(rows[None], columns.expand(3, -1, -1), None, seed, 91, flip=False, rotate=0)
        corners.append([ir[0, 0, 0].item(), visible[0, 0, 0].item()])
    counts = np.histogram2d(*np.transpose(corners), bins=(2, 2), range=((0, 10), (0, 10)))[0]
    assert np.unique(corners, axis=0).min() == 0 and np.max(corners) == 9 and counts.min() > 50
