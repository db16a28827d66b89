"""The `rules` back end: image statistics against known values, and the advice that follows from them."""

import math

import pytest
import torch

from fusionlib.experiments.stages import MEDICAL_QUESTION
from fusionlib.feedback import QUESTION
from fusionlib.feedback.rules import Rules, advise, image_statistics


def scene(level=0.4, warm=0.9, noise=0.0, size=(240, 320)):
    """A gray road with three upright warm figures on the right, and noise."""
    image = torch.full((3, *size), level)
    for x in (230, 255, 280):
        image[:, 100:140, x : x + 12] = warm
    generator = torch.Generator().manual_seed(0)
    return (image + noise * torch.randn(1, *size, generator=generator)).clamp(0, 1)


def test_measures_of_a_known_image():
    m = image_statistics(scene())
    share = 3 * 40 * 12 / (240 * 320)
    assert m.brightness == pytest.approx(0.4 + 0.5 * share, abs=1e-4)
    assert m.contrast == pytest.approx(0.5 * math.sqrt(share * (1 - share)), abs=1e-4)
    assert m.warm_regions == 3 and m.where == "on the right"
    assert 0.3 < m.warm_contrast < 0.5
    assert m.bright_clipping == m.dark_clipping == 0


def test_noise_is_measured_in_its_own_unit():
    flat = torch.full((1, 200, 200), 0.5) + 0.03 * torch.randn(1, 200, 200, generator=torch.Generator().manual_seed(1))
    assert image_statistics(flat).noise == pytest.approx(0.03, rel=0.05)
    assert image_statistics(torch.linspace(0, 1, 200).expand(1, 200, 200)).noise == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    "image, advice",
    [
        (scene(level=0.05, warm=0.3), "increase the overall brightness strongly"),
        (scene(level=0.2), "increase the overall brightness moderately"),
        (scene(level=0.8, warm=1.0), "reduce the overall brightness"),
        (scene(noise=0.05), "reduce the noise"),
        (scene(warm=0.5), "make warm targets brighter"),
        (torch.full((3, 240, 320), 0.4), "emphasise the thermal radiation"),
        (torch.cat([torch.ones(3, 120, 320), torch.zeros(3, 120, 320)], 1), "suppress the glare"),
    ],
)
def test_advice_follows_the_measures(image, advice):
    assert advice in advise(image_statistics(image))


def test_advice_is_absent_where_its_cause_is():
    assert "noise" not in advise(image_statistics(scene())) and "brightness" not in advise(image_statistics(scene()))


def test_a_question_about_something_else_gets_advice_without_people():
    dark = scene(level=0.1, warm=0.3, noise=0.05)
    for question, about_people in ((QUESTION, True), (MEDICAL_QUESTION, False)):
        (answer,) = Rules().reply([dark], question)
        assert "overall brightness strongly" in answer.text and "reduce the noise" in answer.text
        words = ("pedestrian", "people", "warm", "lamps")
        assert any(word in answer.text for word in words) == about_people, answer.text


def test_large_images_are_measured_at_640_pixels():
    small = scene(level=0.2)
    large = small.repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert image_statistics(large).brightness == pytest.approx(image_statistics(small).brightness, abs=1e-3)
    doubled = small.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert advise(image_statistics(large)) == advise(image_statistics(doubled))


def test_one_pixel_is_measured_too():
    assert isinstance(advise(image_statistics(torch.zeros(3, 1, 1))), str)
