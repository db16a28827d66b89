"""Misaligned pairs are found and mended: embedded scenes and real pairs under known maps."""

import cv2
import numpy as np
import pytest
import torch

from fusionlib.data import load, read
from fusionlib.data.synthetic import scene as scenes
from fusionlib.inference import edge_matching as edges
from fusionlib.inference import registration
from fusionlib.inference.registration import Misalignment, align, coverage, describe, misalignment
from fusionlib.utils.errors import FusionError

SIZE = (240, 320)


@pytest.fixture(scope="module")
def scene():
    """A scene drawn larger than `SIZE`, so that a moved cut-out has no made-up border."""
    drawn = scenes.render(2, size=(300, 400))
    return drawn.ir / np.float32(255), drawn.visible / np.float32(255)


def moved(pair, angle=0.0, scale=1.0, dx=0.0, dy=0.0, size=SIZE):
    """The middle of a pair, its infrared image turned anticlockwise, scaled and shifted, and what undoes it."""
    ir, visible = pair
    height, width = ir.shape
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    map_ = np.vstack([cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, scale), [0, 0, 1]])
    map_[:2, 2] += dx, dy
    ir = cv2.warpPerspective(ir, map_, (width, height), borderMode=cv2.BORDER_REPLICATE)
    cut = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], float)
    inside = slice(top, top + size[0]), slice(left, left + size[1])
    return (torch.tensor(ir[inside])[None], torch.tensor(visible[inside]).permute(2, 0, 1),
            cut @ np.linalg.inv(map_) @ np.linalg.inv(cut))  # fmt: skip


def error(matrix, truth, size):
    """Mean distance in pixels between where two matrices take the places of a 5x5 grid."""
    grid = np.array([[x, y, 1] for x in np.linspace(0, size[1] - 1, 5) for y in np.linspace(0, size[0] - 1, 5)]).T
    difference = np.asarray(matrix) @ grid - truth @ grid
    return np.hypot(*difference[:2]).mean()


# ---- misalignment


@pytest.mark.parametrize("index", range(5))
def test_registered_scenes_give_no_alarm(index):
    drawn = scenes.render(index, seed=3)
    ir, visible = torch.tensor(drawn.ir / np.float32(255))[None], torch.tensor(drawn.visible / np.float32(255))
    assert describe(ir, visible.permute(2, 0, 1)) is None


@pytest.mark.parametrize(("dx", "dy"), [(16, 0), (-12, 9), (0, -24), (40, 3)])
def test_shifts_are_found(scene, dx, dy):
    ir, visible, _ = moved(scene, dx=dx, dy=dy)
    found = misalignment(ir, visible)
    assert found.gross and abs(found.dx - dx) <= 3 and abs(found.dy - dy) <= 3
    assert found.angle == 0 and abs(found.scale - 1) < 0.03


def test_turns_and_scales_are_found(scene):
    turned = misalignment(*moved(scene, angle=5)[:2])
    assert turned.gross and abs(turned.angle + 5) <= 1.3 and np.hypot(turned.dx, turned.dy) <= 4
    scaled = misalignment(*moved(scene, scale=1.1)[:2])
    assert scaled.gross and abs(scaled.scale - 1.1) <= 0.03 and scaled.angle == 0


def test_the_verdict_does_not_depend_on_which_side_of_an_edge_is_brighter(scene):
    ir, visible, _ = moved(scene, dx=16)
    found, negative = misalignment(ir, visible), misalignment(1 - ir, visible)
    assert negative.gross and negative.margin == pytest.approx(found.margin, rel=1e-3)
    assert (negative.dx, negative.dy) == pytest.approx((found.dx, found.dy))


def test_flat_and_tiny_images_count_as_registered(scene):
    _, visible, _ = moved(scene)
    flat = torch.full((1, *SIZE), 0.3)
    assert describe(flat, visible) is None and describe(flat, flat.expand(3, -1, -1)) is None
    assert misalignment(torch.rand(1, 20, 64), torch.rand(3, 20, 64)) == Misalignment()


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Misalignment(24.2, 2.6, gross=True), "seems shifted by about 24 px to the right and 3 px down; give align="),
        (Misalignment(-3.0, -0.4, gross=True), "seems shifted by about 3 px to the left; give"),
        (Misalignment(0.0, -9.0, angle=-5.0, gross=True), "9 px up, turned by about 5 degrees anticlockwise; give"),
        (Misalignment(angle=2.5, scale=1.1, gross=True), "turned by about 2 degrees clockwise, about 10% too large;"),
        (Misalignment(scale=0.9, gross=True), "infrared seems about 10% too small;"),
    ],
)
def test_the_sentence(monkeypatch, found, words):
    monkeypatch.setattr(registration, "misalignment", lambda ir, visible, thorough: found)
    assert words in describe(None, None)


def verdicts(pair, moves):
    """Of a pair moved in several ways: whether it is described as misaligned, and whether it is found to be so."""
    pairs = [moved(pair, **move, size=tuple(int(0.8 * n) for n in pair[0].shape))[:2] for move in moves]
    return [(bool(describe(*each)), misalignment(*each).gross) for each in pairs]


MOVES = [{}, dict(dx=4), dict(dx=12), dict(dy=-25), dict(angle=3), dict(angle=-7, dx=8), dict(scale=1.1, dy=5)]


def test_small_images_are_enough_to_see_that_a_pair_lines_up(scene, monkeypatch):
    expected = verdicts(scene, MOVES)
    assert all(described == found for described, found in expected) and {each[1] for each in expected} == {True, False}
    monkeypatch.setattr(edges.Comparison, "search", lambda *_: pytest.fail("it is in no doubt"))
    assert describe(*moved(scene)[:2]) is None


# ---- align


@pytest.mark.parametrize("method", ["features", "ecc"])
@pytest.mark.parametrize(
    "change", [dict(dx=14, dy=-6), dict(angle=-4, dx=5), dict(scale=1.08, angle=3, dx=-10, dy=4), {}]
)
def test_scenes_are_aligned(scene, method, change):
    ir, visible, truth = moved(scene, **change)
    aligned, matrix = align(ir, visible, method)
    assert aligned.shape == ir.shape and aligned.dtype == torch.float32 and matrix.shape == (3, 3)
    assert error(matrix, truth, SIZE) < {"features": 0.6, "ecc": 1.5}[method]
    assert describe(aligned, visible) is None
    registered = moved(scene)[0]
    inside = (slice(None), slice(40, -40), slice(50, -50))
    assert (aligned - registered)[inside].abs().mean() < 0.05


@pytest.mark.parametrize("method", ["features", "ecc"])
def test_infrared_of_another_size_and_proportion(scene, method):
    ir, visible, _ = moved(scene)
    small = torch.tensor(cv2.resize(ir[0].numpy(), (160, 120), interpolation=cv2.INTER_AREA))[None, :, 10:-10]
    aligned, matrix = align(small, visible, method)
    assert aligned.shape == ir.shape
    assert error(matrix, np.array([[2, 0, 20.5], [0, 2, 0.5], [0, 0, 1]]), (120, 140)) < 2
    # Beyond the frame of the infrared image, its border goes on.
    assert (aligned[0, :, :10] - aligned[0, :, 10:11]).abs().max() < 0.02


def test_a_narrower_view_covers_a_part(scene):
    ir, visible, _ = moved(scene)
    part = ir[:, 40:200, 60:260].contiguous()
    _, matrix = align(part, visible)
    inside = coverage(matrix, part.shape[1:], visible.shape[1:])
    assert inside.shape == (1, *SIZE) and inside.dtype == torch.bool
    wanted = torch.zeros(1, *SIZE, dtype=torch.bool)
    wanted[:, 40:200, 60:260] = True
    assert (inside != wanted).float().mean() < 0.02
    assert coverage(torch.eye(3), SIZE, SIZE).all()
    hole = torch.ones(1, *SIZE, dtype=torch.bool)
    hole[:, :9] = False
    assert torch.equal(coverage(torch.eye(3), SIZE, SIZE, hole), hole)


def test_the_same_every_time_whatever_the_state_of_the_generators(scene):
    ir, visible, _ = moved(scene, angle=3, dx=10)
    results = []
    for seed in (1, 2):
        cv2.setRNGSeed(seed)
        results.append((misalignment(ir, visible), *(align(ir, visible, method)[1] for method in ("features", "ecc"))))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(a, b) for a, b in zip(results[0][1:], results[1][1:]))


@pytest.mark.parametrize("method", ["features", "ecc"])
def test_what_has_nothing_in_common_is_refused(scene, method):
    _, visible, _ = moved(scene)
    for ir in (torch.full((1, *SIZE), 0.5), torch.rand(1, *SIZE, generator=torch.Generator().manual_seed(0))):
        with pytest.raises(FusionError, match=rf"\[1, 240, 320\].*could not be aligned by '{method}'.*register them"):
            align(ir, visible, method)


def test_bad_input_is_named():
    ir, visible = torch.rand(1, 64, 64), torch.rand(3, 64, 64)
    with pytest.raises(FusionError, match="align to be one of features, ecc, found 'sift'"):
        align(ir, visible, "sift")
    with pytest.raises(FusionError, match=r"at least 32 pixels a side to align, found \[1, 64, 20\]"):
        align(ir[..., :20], visible)
    for function in (align, misalignment, describe):
        with pytest.raises(FusionError, match=r"float infrared image \[1,H,W\].*found torch.float32 \[3, 64, 64\]"):
            function(visible, visible)
        with pytest.raises(FusionError, match=r"float visible image \[3,H,W\].*found torch.uint8"):
            function(ir, (visible * 255).to(torch.uint8))
        with pytest.raises(FusionError, match="visible image, found NaN"):
            function(ir, visible / 0 * 0)
    with pytest.raises(FusionError, match="Expected infrared of 64x64 pixels like the visible image, found 32x64"):
        misalignment(ir[..., :32], visible)


# ---- real pairs, of which some are themselves a few pixels off: 1.2 % of the width is asked for

NAMES = ["LLVIP/train/010001", "MSRS/test/00012N", "RoadScene/FLIR_00006", "TNO/30"]


@pytest.fixture(scope="module", params=NAMES)
def real(shared, request):
    dataset = request.param.split("/")[0]
    ir, visible = load(next(p for p in read(shared / "data", [dataset]).pairs if p.label == request.param))
    return ir[0].numpy(), visible.permute(1, 2, 0).numpy()


def test_real_pairs(real):
    size = tuple(int(0.8 * n) for n in real[0].shape)
    ir, visible, _ = moved(real, size=size)
    assert describe(ir, visible) is None
    dx = round(0.05 * size[1])
    found = misalignment(*moved(real, dx=dx, size=size)[:2])
    assert found.gross and np.hypot(found.dx - dx, found.dy) < 0.02 * size[1]
    assert all(described == found for described, found in verdicts(real, MOVES))
    ir, visible, truth = moved(real, angle=4, scale=1.08, dx=dx, size=size)
    _, matrix = align(ir, visible, "features")
    assert error(matrix, truth, size) < 0.012 * size[1]
