"""What holds for any input, tried on inputs that nobody thought of."""

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as draw
from hypothesis.extra.numpy import arrays
from torch.nn.functional import avg_pool2d, pad

from fusionlib import fuse, metrics
from fusionlib.data.augment import augment, random_exposure
from fusionlib.data.color import merge_luma, split_luma
from fusionlib.data.datasets import letterbox
from fusionlib.data.image_io import as_tensor, read_image, write_image
from fusionlib.feedback import open_store
from fusionlib.feedback.store import Answer, answer_key
from fusionlib.inference.tiling import tiled

settings.register_profile("suite", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("suite")

SIDES = draw.integers(1, 40)
BYTES = draw.integers(0, 255)


@draw.composite
def images(take, channels=(1, 3), least=1, dtype=np.uint8):
    """[H,W] or [H,W,3] of any size and content; flat ones, and ones of two values, are among them."""
    height, width = take(draw.integers(least, 40)), take(draw.integers(least, 40))
    count = take(draw.sampled_from(channels))
    top = np.iinfo(dtype).max
    shape = (height, width) if count == 1 else (height, width, count)
    elements = take(draw.sampled_from([draw.integers(0, top), draw.sampled_from([0, top]), draw.just(take(BYTES))]))
    return take(arrays(dtype, shape, elements=elements))


@draw.composite
def boxes_in(take, height=40, width=60):
    """Boxes [N,4] with whole pixels as corners, each with an area."""
    rows = take(draw.lists(draw.tuples(*[draw.integers(0, n - 1) for n in (width, height, width, height)]), max_size=5))
    return np.float32([[min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1] for a, b, c, d in rows]).reshape(-1, 4)


@given(boxes_in(), draw.integers(0, 2**31), draw.sampled_from([None, 16, (24, 50), 90]), draw.booleans(),
       draw.sampled_from(["quarter", 0, 7.5]))  # fmt: skip
def test_boxes_stay_in_the_picture_and_on_their_things(boxes, seed, crop, flip, rotate):
    ir = torch.zeros(1, 40, 60)
    for x1, y1, x2, y2 in boxes.astype(int):
        ir[0, y1:y2, x1:x2] = 1
    moved, visible, kept = augment(ir, ir.expand(3, -1, -1), boxes, seed, crop, flip, rotate, min_visible=0.0)
    height, width = moved.shape[1:]
    assert visible.shape[1:] == (height, width) and len(kept) <= len(boxes)
    assert (kept[:, :2] >= 0).all() and (kept[:, 2] <= width).all() and (kept[:, 3] <= height).all()
    assert (kept[:, 2:] > kept[:, :2]).all()
    if rotate != 7.5:  # then nothing is interpolated but what is enlarged, and what is bright lies in boxes
        outside = torch.ones_like(moved)
        for x1, y1, x2, y2 in kept:
            outside[0, math.floor(y1) : math.ceil(y2), math.floor(x1) : math.ceil(x2)] = 0
        bright = moved if crop != 90 else (moved > 0.6).float()
        assert (bright * outside).sum() == 0


@given(images(), draw.integers(0, 2**31))
def test_another_exposure_keeps_the_range_and_the_order_of_grey_levels(image, seed):
    planes = as_tensor(image)
    lit = random_exposure(planes, seed)
    assert lit.shape == planes.shape and 0 <= lit.min() and lit.max() <= 1
    order = planes.flatten().argsort()
    assert (lit.flatten()[order].diff() >= -1e-6).all()


@given(draw.integers(1, 60), draw.integers(1, 60), draw.integers(1, 20), draw.integers(0, 3))
def test_tiles_give_what_the_whole_gives(height, width, side, more):
    image = torch.rand(1, 2, height, width, generator=torch.Generator().manual_seed(height * width))

    def blurred(part):  # looks 2 pixels far; zeros beyond the border count, as the border of the image alone
        return avg_pool2d(pad(part, (2, 2, 2, 2)), 5, stride=1)

    assert torch.allclose(tiled(blurred, [image], side, 2 + more), blurred(image), atol=1e-6)


@given(images(channels=(3,)))
def test_colours_come_back(image):
    planes = as_tensor(image)
    y, cbcr = split_luma(planes)
    assert torch.allclose(merge_luma(y, cbcr), planes, atol=1e-5)
    assert (y >= -1e-6).all() and (y <= 1 + 1e-6).all()


@given(images(dtype=np.uint8) | images(dtype=np.uint16), draw.sampled_from([".png", ".tif"]))
def test_pictures_come_back(tmp_path_factory, image, suffix):
    path = tmp_path_factory.mktemp("pictures") / f"x{suffix}"
    write_image(path, image)
    assert np.array_equal(read_image(path), image)


@given(images(channels=(1,)), images(channels=(3,)), SIDES, SIDES)
def test_what_is_fitted_keeps_its_aspect_ratio(ir, visible, height, width):
    visible = np.resize(visible, (*ir.shape, 3))
    fitted, scale = letterbox(torch.cat([as_tensor(ir), as_tensor(visible)]), (height, width))
    assert fitted.shape == (4, height, width)
    assert scale == min(height / ir.shape[0], width / ir.shape[1])
    assert 0 <= fitted.min() and fitted.max() <= 1


@given(images(least=16), draw.sampled_from(list(metrics.CONVENTIONS)), draw.integers(0, 2**31))
def test_metrics_keep_their_bounds_and_do_not_ask_which_source_is_which(image, convention, seed):
    random = np.random.default_rng(seed)
    fused = torch.from_numpy(np.atleast_3d(image).transpose(2, 0, 1).copy())[None]
    first, second = (torch.from_numpy(random.integers(0, 256, fused.shape, dtype=np.uint8)) for _ in range(2))
    names = [name for name in metrics.METRICS
             if metrics.METRICS[name].rules[convention].min_size <= min(fused.shape[-2:])]  # fmt: skip
    one = metrics.evaluate(fused, first, second, names, convention)
    other = metrics.evaluate(fused, second, first, names, convention)
    for name in names:
        low, high = metrics.METRICS[name].rules[convention].range
        value, swapped = one[name].item(), other[name].item()
        assert math.isnan(value) or low - 1e-4 <= value <= high + 1e-4, (name, value)
        if name != "CE":  # which measures the two differences one after the other
            assert math.isnan(value) == math.isnan(swapped), name
            assert math.isnan(value) or math.isclose(value, swapped, rel_tol=1e-3, abs_tol=1e-4), (name, value, swapped)


REPLIES = draw.tuples(draw.text(max_size=20), draw.text(max_size=60), draw.integers(1, 4))


@given(draw.lists(REPLIES, min_size=1, max_size=4))
def test_answers_come_back(tmp_path_factory, given_answers):
    store = open_store(tmp_path_factory.mktemp("store") / "answers")
    answers = [
        Answer(name, f"{index:032d}", "?", text, "rules", "m", "r", "{}", "e", 0.5, rows, "2026-01-01T00:00:00",
               torch.randn(rows, 8).half())
        for index, (name, text, rows) in enumerate(given_answers)
    ]  # fmt: skip
    store.put(answers)
    for answer in answers:
        (back,) = store.find([answer_key(vars(answer))]).values()
        assert (back.name, back.text, back.tokens) == (answer.name, answer.text, answer.tokens)
        assert torch.equal(back.features, answer.features)


@given(images(channels=(1,), least=2), draw.sampled_from([np.uint8, np.uint16]))
def test_what_is_fused_has_the_size_type_and_range_of_the_visible_image(ir, dtype):
    visible = np.random.default_rng(ir.size).integers(0, np.iinfo(dtype).max, (*ir.shape, 3)).astype(dtype)
    fused = fuse(ir, visible)
    assert fused.shape == visible.shape and fused.dtype == dtype
