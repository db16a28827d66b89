"""False colours: which map, and back to gray."""

import cv2
import matplotlib
import numpy as np
import pytest

from fusionlib.data import read, read_image
from fusionlib.data.pseudocolor import MAPS, recognise, to_gray
from fusionlib.data.synthetic.scene import render

HEAT = render(3, seed=1).ir
ANCHORS = {  # ironbow as others draw it
    "six colours": [(0, 0, 0), (128, 0, 128), (255, 0, 0), (255, 165, 0), (255, 255, 0), (255, 255, 255)],
    "purple": [(0, 0, 0), (32, 0, 140), (204, 0, 119), (255, 165, 0), (255, 215, 0), (255, 255, 255)],
    "camera": [(0, 0, 24), (67, 5, 114), (136, 9, 148), (191, 20, 152), (245, 65, 2), (229, 162, 0), (255, 255, 209)],
}


def painted(table, gray):
    return np.asarray(table).round().astype(np.uint8)[gray]


def as_jpg(image, quality):
    data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


@pytest.mark.parametrize("name", MAPS)
def test_each_map_is_recognised_and_undone(name):
    image = painted(MAPS[name], HEAT)
    assert recognise(image) == name
    assert np.abs(to_gray(image, name).astype(int) - HEAT).max() <= 3  # equal colours of neighbouring levels
    for quality in (95, 70):
        damaged = as_jpg(image, quality)
        assert recognise(damaged) == name
        assert np.abs(to_gray(damaged, name).astype(int) - HEAT).mean() < 5


@pytest.mark.parametrize("name", ["jet", "inferno", "hot", "turbo"])
def test_maps_as_matplotlib_has_them(name):
    image = painted(255 * matplotlib.colormaps[name](np.arange(256))[:, :3], HEAT)
    assert recognise(image) == name
    assert np.corrcoef(to_gray(image, name).ravel(), HEAT.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("name", ANCHORS)
def test_ironbow_has_many_versions(name):
    place, levels = np.linspace(0, 255, len(ANCHORS[name])), np.arange(256)
    table = np.stack([np.interp(levels, place, channel) for channel in zip(*ANCHORS[name])], 1)
    image = painted(table, HEAT)
    assert recognise(image).startswith("ironbow")
    gray = to_gray(image, recognise(image))
    assert np.corrcoef(gray.ravel(), HEAT.ravel())[0, 1] > 0.97


def test_natural_and_gray_images_are_not_recognised():
    for index in range(6):
        assert recognise(render(index).visible) is None
    assert recognise(np.dstack([HEAT] * 3)) is None
    random = np.random.default_rng(0).integers(0, 256, (50, 50, 3)).astype(np.uint8)
    assert recognise(random) is None and recognise(np.zeros((5, 5, 3), np.uint8)) is None


def test_real_images(shared):
    thermal = read_image(shared / "misregistered/ir/DJI_20250530123037_0003.jpg")
    assert recognise(thermal) == "ironbow"
    for pair in read(shared / "data").pairs[::8]:
        visible = read_image(pair.visible)
        assert recognise(visible if visible.ndim == 3 else np.dstack([visible] * 3)) is None, pair.label
