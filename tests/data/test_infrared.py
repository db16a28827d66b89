"""Infrared images of every kind become gray levels in which hot is bright, and what was done is said."""

import cv2
import numpy as np
import pytest
from PIL import Image

from fusionlib.data import load, read
from fusionlib.data.common_range import of_files, of_images
from fusionlib.data.image_io import read_image, write_image
from fusionlib.data.image_types import to_infrared
from fusionlib.data.infrared import BLACK_HOT, DEFAULT, FULL, LUMA, SWAPPED, Reading, of_pair, span_remark, to_plane
from fusionlib.data.polarity import is_black_hot
from fusionlib.data.synthetic.scene import render
from fusionlib.utils.errors import FusionError

RNG = np.random.default_rng(0)
HEAT = RNG.random((40, 50))  # 0..1
GRAY = (255 * HEAT).astype(np.uint8)
COLOUR = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)


def scaled(values, low, high):
    return ((np.asarray(values, float) - low) / (high - low)).clip(0, 1)


@pytest.mark.parametrize("image", [
    GRAY, np.dstack([GRAY] * 3), GRAY.astype(np.uint16) * 257, GRAY / np.float32(255), GRAY / 255,
], ids=["8 bit", "three channels", "16 bit", "float32", "float64"])  # fmt: skip
def test_gray_levels_are_as_they_are(image):
    plane, remarks = to_plane(image, "x")
    assert plane.dtype == np.float32 and not remarks
    np.testing.assert_allclose(plane, GRAY / 255, atol=1e-7)
    if image.dtype == np.uint8:
        np.testing.assert_array_equal(plane, GRAY / np.float32(255))


@pytest.mark.parametrize("values", [
    (7000 + 2000 * HEAT).astype(np.uint16), (29000 + 2000 * HEAT).astype(np.uint16), (16383 * HEAT).astype(np.uint16),
    (-500 + 3000 * HEAT).astype(np.int16), (300000 + 9000 * HEAT).astype(np.int32),
    (290 + 20 * HEAT).astype(np.float32), -5 + 30 * HEAT,
], ids=["counts", "centikelvin", "14 bit", "centicelsius", "32 bit", "kelvin", "celsius"])  # fmt: skip
def test_radiometric_values_become_their_percentiles(values):
    plane, [(kind, sentence)] = to_plane(values, "x")
    low, high = np.percentile(values, (0.5, 99.5))
    np.testing.assert_allclose(plane, scaled(values, low, high), atol=1e-5)
    assert kind == "range" and f"{low:.6g} and {high:.6g} (0.5 and 99.5 %) become black and white" in sentence
    assert sentence.startswith(f"radiometric values from {values.min():.6g} to {values.max():.6g}: ")


def test_the_span_decides_and_not_the_maximum():
    for low, high, radiometric in ((0, 19000, True), (46000, 65535, True), (0, 21000, False), (1000, 65535, False)):
        _, remarks = to_plane((low + (high - low) * HEAT).astype(np.uint16), "x")
        assert bool(remarks) == radiometric, (low, high)
    values = (7000 + 2000 * HEAT).astype(np.uint16)
    values[:8] = 0  # a border without a measurement
    plane, _ = to_plane(values, "x")
    assert plane[:8].max() == 0 and plane[8:].mean() > 0.45
    flat, remarks = to_plane(np.full((4, 4), 7000, np.uint16), "x")
    assert flat == pytest.approx(7000 / 65535) and not remarks


def test_a_range_is_in_the_units_of_the_file():
    for image in (GRAY, (290 + 20 * HEAT).astype(np.float32), (7000 + 2000 * HEAT).astype(np.uint16)):
        low, high = np.percentile(image, 20), np.percentile(image, 90)
        plane, remarks = to_plane(image, "x", Reading((low, high)))
        np.testing.assert_allclose(plane, scaled(image, low, high), atol=1e-5)
        inverted, _ = to_plane(image, "x", Reading([low, high], invert=True))
        np.testing.assert_array_equal(inverted, 1 - plane)
        assert not remarks
    luma = COLOUR @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(to_plane(COLOUR, "x", Reading((50, 150)))[0], scaled(luma, 50, 150), atol=1e-5)
    plane, [(_, sentence)] = to_plane(GRAY // 4 + 100, "x", Reading("auto"))
    assert plane.min() == 0 and plane.max() == 1 and sentence.startswith("values from 100 to 163: ")
    _, [(_, sentence)] = to_plane((7000 + 2000 * HEAT).astype(np.uint16), "x", Reading((27315, 31315)))
    assert sentence.startswith("100% of the values are outside of 27315 to 31315")


@pytest.mark.parametrize("limits", ["automatic", (1,), (1, 2, 3), (2, 1), (1, 1), (0, np.inf), (np.nan, 1), 5, "1,2",
                                    ("a", "b"), {}])  # fmt: skip
def test_what_is_no_range_is_refused(limits):
    with pytest.raises(FusionError, match=r'ir_range must be "auto" or two numbers, .*, but is '):
        Reading(limits)


@pytest.mark.parametrize("values", [HEAT - 1, HEAT * 2 - 1, np.where(HEAT > 0.5, np.nan, HEAT),
                                    np.where(HEAT > 0.5, np.inf, 3)])  # fmt: skip
def test_floats_that_can_be_neither_are_refused(values):
    with pytest.raises(FusionError, match=r"^camera: expected floats in 0\.\.1, found values from .* give ir_range"):
        to_plane(values, "camera")
    if np.isfinite(values).all():
        assert to_plane(values, "camera", Reading((-1, 1)))[0].min() >= 0


@pytest.mark.parametrize("values", [0.44 + 0.03 * HEAT, np.uint8(100) + GRAY // 32])  # centikelvin / 65535, and 8 bit
def test_what_is_nearly_one_gray_is_said(values):
    plane, [(_, sentence)] = to_plane(values, "x")
    np.testing.assert_allclose(plane, values / (255 if values.dtype == np.uint8 else 1), atol=1e-7)
    assert 'of black to white alone, which is nearly one gray; ir_range="auto"' in sentence


def test_a_few_hot_values_and_marks_do_not_hide_people():
    values = (29000 + 2000 * HEAT).astype(np.uint16)
    wanted = scaled(values, *np.percentile(values, (0.5, 99.5)))
    fire = values.copy()
    fire[0, :6] = np.arange(40000, 64000, 4000)
    marked = values.copy()
    marked[:4] = 65535
    celsius = (HEAT * 20).astype(np.float32)
    celsius[:4] = -9999
    for image, rows in ((fire, 1), (marked, 4)):
        for reading in (DEFAULT, of_images(DEFAULT, [image, values])):
            plane, [(kind, _)] = to_plane(image, "x", reading)
            assert kind == "range" and np.abs(plane[rows:] - wanted[rows:]).max() < 0.02
    plane, _ = to_plane(celsius, "x")
    assert np.abs(plane[4:] - HEAT[4:]).max() < 0.02 and plane[:4].max() == 0
    gray = (65535 * HEAT).astype(np.uint16)
    gray[:4] = 65535
    np.testing.assert_array_equal(to_plane(gray, "x")[0], gray / np.float32(65535))


def test_nan_in_radiometric_values_is_said_and_counts_as_the_lowest():
    values = (290 + 20 * HEAT).astype(np.float32)
    values[:4] = np.nan
    plane, [(_, first), (_, second)] = to_plane(values, "x")
    assert first == "10.0% of the values are NaN, which counts as the lowest value" and "radiometric" in second
    assert plane[:4].max() == 0 and np.abs(plane[4:] - HEAT[4:]).max() < 0.02
    inside = to_infrared(values, "x").inside
    np.testing.assert_array_equal(inside[0], np.isfinite(values))
    with pytest.raises(FusionError, match="found values from nan to nan"):
        to_plane(np.full((4, 4), np.nan, np.float32), "x")


# ---- several images


def test_several_images_have_one_range(tmp_path):
    images = [(start + 1000 * HEAT).astype(np.uint16) for start in (7000, 7500, 8500)]
    low, high = np.percentile(images, (0.5, 99.5))
    assert of_images(DEFAULT, images).common == pytest.approx((low, high))
    for number, image in enumerate(images):
        write_image(tmp_path / f"{number}.png", image)
    (tmp_path / "3.png").write_bytes(b"no image")
    write_image(tmp_path / "4.png", GRAY)
    reading = of_files(DEFAULT, sorted(tmp_path.iterdir()))
    assert reading.common == pytest.approx((low, high))
    plane, [(_, sentence)] = to_plane(images[0], "x", reading)
    np.testing.assert_allclose(plane, scaled(images[0], low, high), atol=1e-5)
    assert f"{low:.6g} and {high:.6g} (0.5 and 99.5 % of all images) become black and white" in sentence
    np.testing.assert_array_equal(to_plane(GRAY, "x", reading)[0], GRAY / np.float32(255))  # 8 bit stay


@pytest.mark.parametrize("kind", [np.float64, np.int8, np.int16, np.float32])
def test_one_range_whatever_pillow_can_read(tmp_path, kind):
    for number, start in enumerate((-100, 0)):
        cv2.imwrite(str(tmp_path / f"{number}.tif"), (start + 100 * HEAT).astype(kind))
    paths = sorted(tmp_path.iterdir())
    wanted = np.percentile([read_image(path) for path in paths], (0.5, 99.5))
    assert of_files(DEFAULT, paths).common == pytest.approx(tuple(wanted), abs=1e-4)


def test_a_camera_that_uses_16_bit_is_not_stretched_where_it_is_dark():
    dark, bright = (8000 * HEAT).astype(np.uint16), (60000 * HEAT).astype(np.uint16)
    assert to_plane(dark, "x")[1] and of_images(DEFAULT, [dark, bright]).common == FULL
    plane, remarks = to_plane(dark, "x", of_images(DEFAULT, [dark, bright]))
    np.testing.assert_array_equal(plane, dark / np.float32(65535))
    assert not remarks


def test_8_bit_have_a_common_range_on_demand_alone(tmp_path):
    for number, start in enumerate((0, 100)):
        write_image(tmp_path / f"{number}.png", GRAY // 2 + np.uint8(start))
    paths = sorted(tmp_path.iterdir())
    assert of_files(DEFAULT, paths).common is None
    wanted = np.percentile([GRAY // 2, GRAY // 2 + 100], (0.5, 99.5))
    assert of_files(Reading("auto"), paths).common == pytest.approx(tuple(wanted))
    assert of_files(Reading((1, 2)), paths) == Reading((1, 2))


# ---- colours, black-hot, swapped


def test_colours():
    false = cv2.applyColorMap(GRAY, cv2.COLORMAP_JET)[..., ::-1]
    plane, remarks = to_plane(false, "x")
    assert np.abs(plane - GRAY / 255).max() < 0.02
    assert remarks == [("colours", "in false colours (jet), which are turned back into gray")]
    assert np.abs(to_plane(false.astype(np.uint16) * 257, "x")[0] - GRAY / 255).max() < 0.02
    plane, remarks = to_plane(COLOUR, "x")
    np.testing.assert_allclose(plane, COLOUR @ [0.299, 0.587, 0.114] / 255, atol=1e-6)
    assert remarks == [("colours", LUMA)]
    tinted = np.dstack([GRAY, GRAY, np.minimum(GRAY, 250) + np.uint8(3)])  # as a codec leaves gray
    assert to_plane(tinted, "x")[1] == []


def test_swapped_images_are_said():
    _, remarks = to_plane(COLOUR, "x")
    for visible in (GRAY, np.dstack([GRAY] * 3), cv2.applyColorMap(GRAY, cv2.COLORMAP_HOT)[..., ::-1]):
        assert of_pair(GRAY / np.float32(255), remarks, lambda visible=visible: visible) == [("swapped", SWAPPED)]
    assert of_pair(GRAY / np.float32(255), remarks, lambda: COLOUR) == remarks


def street(seed=0):
    """A cold sky, warmer ground, and warm people."""
    image = np.random.default_rng(seed).normal(90, 6, (120, 160))
    image[:40] -= 60
    image[60:90, 40:48] = image[62:95, 120:130] = 230
    return (image.clip(0, 255) / 255).astype(np.float32)


def test_black_hot_is_said():
    assert not is_black_hot(street()) and is_black_hot(1 - street())
    night = street()
    night[:40] += 60 / 255  # no sky: people alone
    assert not is_black_hot(night) and is_black_hot(1 - night)
    assert of_pair(1 - street(), [], None) == [("polarity", BLACK_HOT)] and of_pair(street(), [], None) == []
    for none in (np.zeros((50, 50), np.float32), np.full((3, 200), 0.5, np.float32), np.eye(20, dtype=np.float32)):
        assert not is_black_hot(none)
    flagged = sum(is_black_hot(render(index).ir / np.float32(255)) for index in range(12))
    negatives = sum(is_black_hot(1 - render(index).ir / np.float32(255)) for index in range(12))
    assert flagged <= 1 and negatives >= 4


def test_dark_visible_images_of_16_bit():
    assert span_remark((0.1, 0.2)).startswith("the 16-bit values span only 6554 of 65535")
    assert span_remark((0.1, 0.5)) is None and span_remark((0.1, 0.1)) is None


def test_no_real_pair_is_touched(shared):
    """Infrared of the development data is what its file says, without a remark."""
    for pair in read(shared / "data").pairs[::6]:
        ir, _ = load(pair)
        with Image.open(pair.ir) as image:
            stored = np.asarray(image.convert("RGB"))
        assert (ir[0].numpy() == stored[..., 0] / np.float32(255)).mean() > 0.95 and pair.ir_range is None
        assert of_pair(ir[0].numpy(), to_plane(stored, pair.ir)[1], None) == []
