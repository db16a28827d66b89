"""Damages of a pair are found by measurement, each at full strength and none in a clean pair, and put into words."""

import time
from dataclasses import astuple, fields

import cv2
import numpy as np
import pytest
import torch

from fusionlib.data.degradation import KINDS, degrade
from fusionlib.data.image_io import as_tensor, read_image, write_image
from fusionlib.data.synthetic.scene import render
from fusionlib.feedback import damage_analysis
from fusionlib.feedback.damage_analysis import Measurements, detect, detect_in, measure
from fusionlib.utils.errors import FusionError

#: All but overexposure, which cannot be told from bright scenes, and is not looked for.
FOUND = [(name, modality) for name, modality in KINDS if name != "overexposure"]
SCENES, DAY = 6, 3


@pytest.fixture(scope="module")
def pairs():
    """Embedded scenes by day and night, of a sequence that the classifiers were not fitted to."""
    scenes = [render(index, seed=5) for index in range(SCENES)]
    scenes.sort(key=lambda scene: scene.night)
    assert sum(not scene.night for scene in scenes) == DAY
    return [(torch.from_numpy(scene.ir)[None] / 255, torch.from_numpy(scene.visible).permute(2, 0, 1) / 255)
            for scene in scenes]  # fmt: skip


def damaged(pair, name, modality, level, seed=0):
    return degrade(*pair, [(name, modality, level)], seed)[modality == "visible"]


def test_clean_pairs_have_no_damage(pairs):
    found = [detect(*pair) for pair in pairs]
    assert found == [[]] * SCENES


def test_the_only_false_alarms_in_embedded_scenes_are_of_nights():
    alarms = []
    for index in range(SCENES, 26):
        scene = render(index, seed=5)
        alarms += [(*found, scene.night) for found in detect(as_tensor(scene.ir), as_tensor(scene.visible))]
    assert len(alarms) <= 2 and all(night for *_, night in alarms), alarms


@pytest.mark.parametrize(("name", "modality"), FOUND)
def test_each_damage_at_full_strength_is_found_and_little_else(pairs, name, modality):
    found = [dict(detect_in(damaged(pair, name, modality, 1, seed), modality))
             for seed, pair in enumerate(pairs)]  # fmt: skip
    assert sum(name in damages for damages in found) >= len(found) - (2 if name == "low light" else 1), found
    assert sum(len(set(damages) - {name}) for damages in found) <= 2, found


@pytest.mark.parametrize(("name", "modality"), FOUND)
def test_the_estimated_level_grows_with_the_level(pairs, name, modality):
    levels = [np.mean([dict(detect_in(damaged(pair, name, modality, level, 1), modality)).get(name, 0.0)
                       for pair in pairs]) for level in (0.2, 0.6, 1)]  # fmt: skip
    assert levels[0] <= levels[1] < levels[2] and levels[0] < 0.4, levels
    assert levels[2] > (0.4 if name == "low light" else 0.6), levels


@pytest.mark.parametrize(("name", "modality", "field", "sign"), [
    ("haze", "visible", "veil", 1), ("haze", "visible", "local_contrast", -1), ("rain", "visible", "narrow", 1),
    ("low contrast", "ir", "range", -1), ("defocus blur", "visible", "sharpness", -1),
    ("overexposure", "visible", "white", 1), ("low light", "visible", "bright", -1),
    ("stripe noise", "ir", "stripes", 1), ("gaussian noise", "ir", "noise", 1), ("jpeg", "visible", "blocks", 1),
])  # fmt: skip
def test_the_measurement_meant_for_a_damage_follows_it(pairs, name, modality, field, sign):
    for pair in pairs[:3]:
        values = [sign * getattr(measure(damaged(pair, name, modality, level), modality), field)
                  for level in (0, 0.35, 0.7, 1)]  # fmt: skip
        assert values == sorted(values) and values[0] < values[-1], values


def test_noise_and_stripes_are_measured_in_their_own_units():
    random = np.random.default_rng(0)
    flat = torch.full((1, 256, 320), 0.5)
    noisy = (flat + 0.04 * torch.from_numpy(random.standard_normal((1, 256, 320), np.float32))).clamp(0, 1)
    striped = (flat + 0.03 * torch.from_numpy(random.standard_normal((1, 256, 1), np.float32))).clamp(0, 1)
    assert np.exp(measure(noisy, "ir").noise) == pytest.approx(0.04, rel=0.15)  # the quietest tenth is a little below
    # The deviation of a row from the mean of two others has 1.5 times the variance.
    assert np.exp(measure(striped, "ir").stripes) == pytest.approx(0.03 * 1.5**0.5, rel=0.15)
    assert measure(striped.transpose(1, 2), "ir").stripes == pytest.approx(measure(striped, "ir").stripes)
    assert measure(flat, "ir").stripes == pytest.approx(np.log(0.0003), abs=0.01)


def test_blocks_lie_on_the_grid_that_starts_in_the_corner():
    random = np.random.default_rng(0)
    values = cv2.GaussianBlur(random.random((256, 320), np.float32), (0, 0), 2)
    blocky = values + 0.04 * np.kron(random.random((32, 40)), np.ones((8, 8)))
    plain, grid, shifted = (measure(torch.from_numpy(image.astype(np.float32))[None].clamp(0, 1), "visible").blocks
                            for image in (values, blocky, np.roll(blocky, 4, (0, 1))))  # fmt: skip
    assert abs(plain) < 0.1 and abs(shifted) < 0.1 and grid > 1


def test_a_motion_is_told_from_a_defocus_by_its_direction(pairs):
    for pair in pairs[:3]:
        for level in (0.4, 1):
            moved, soft = (measure(damaged(pair, f"{kind} blur", "ir", level), "ir").direction
                           for kind in ("motion", "defocus"))  # fmt: skip
            assert moved > 2 * soft


def test_two_damages_in_two_images_are_both_found(pairs):
    damages = [("jpeg", "visible", 1.0), ("stripe noise", "ir", 0.6)]
    found = detect(*degrade(*pairs[0], damages, 2))
    assert [(name, modality) for name, modality, _ in found] == [damage[:2] for damage in damages]


def test_the_classifiers_are_of_the_damages_that_there_are():
    inputs = len(fields(Measurements)) + 1
    for modality, classifier in damage_analysis._classifiers().items():
        known = [name for name, of in FOUND if of == modality]
        assert classifier["damages"] == known and classifier["hidden"].shape[1] == inputs
        presence, level = damage_analysis.score(classifier, np.ones((5, inputs)))
        assert presence.shape == level.shape == (5, len(known))


def test_what_is_measured_is_what_a_file_holds(pairs, tmp_path):
    """So a damaged tensor and the same image written and read again get the same answer."""
    image = damaged(pairs[0], "low light", "visible", 1)
    write_image(tmp_path / "image.png", image)
    assert measure(as_tensor(read_image(tmp_path / "image.png")), "visible") == measure(image, "visible")
    assert measure(image.double(), "visible") == measure(image, "visible")


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (32, 200), (700, 90), (1024, 1280)])
def test_every_size_gives_finite_numbers(size):
    for image in (torch.rand(3, *size), torch.zeros(3, *size), torch.ones(1, *size)):
        for modality in ("ir", "visible"):
            assert np.isfinite(astuple(measure(image, modality))).all()
    detect(torch.zeros(1, *size), torch.ones(3, *size))


@pytest.mark.parametrize(("image", "modality", "message"), [
    (torch.rand(3, 64, 64), "infrared", r"expected the modality \"ir\" or \"visible\", found 'infrared'"),
    (torch.rand(2, 64, 64), "ir", r"the infrared image as float tensor .*, found torch.float32 \[2, 64, 64\]"),
    (torch.rand(1, 3, 64, 64), "visible", r"found torch.float32 \[1, 3, 64, 64\]"),
    (torch.zeros(3, 64, 64, dtype=torch.uint8), "visible", r"found torch.uint8"),
    (np.zeros((3, 64, 64)), "visible", "the visible image as float tensor .*, found ndarray"),
    (torch.rand(3, 31, 64), "visible", r"at least 32x32 pixels, found torch.float32 \[3, 31, 64\]"),
    (2 * torch.ones(3, 64, 64), "visible", "in 0..1 .*, found values from 2 to 2"),
    (torch.full((1, 64, 64), float("nan")), "ir", "found values from nan to nan"),
])  # fmt: skip
def test_bad_images_are_refused(image, modality, message):
    with pytest.raises(FusionError, match=message):
        measure(image, modality)


def test_a_pair_takes_little_time():
    pair = torch.rand(1, 480, 640), torch.rand(3, 480, 640)
    detect(*pair)
    taken = []
    for _ in range(5):
        start = time.process_time()
        detect(*pair)
        taken.append(time.process_time() - start)
    assert min(taken) < 0.15  # 0.04 s on the machine of the first measurement
