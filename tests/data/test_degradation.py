"""Damages of a pair: each does to the light what it says, from a seed, and to the named image alone."""

import math
from collections import Counter
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from kornia.color import rgb_to_linear_rgb

from fusionlib.data.degradation import DEGRADATIONS, degrade, draw
from fusionlib.data.synthetic.scene import render
from fusionlib.utils.errors import FusionError

EVERY = [(name, modality) for name, kind in DEGRADATIONS.items() for modality in kind.modalities]


@pytest.fixture(scope="module")
def street():
    scene = next(scene for scene in (render(index, size=(128, 160)) for index in range(20)) if not scene.night)
    return torch.from_numpy(scene.ir)[None] / 255, torch.from_numpy(scene.visible).permute(2, 0, 1) / 255


def flat(level=0.5, size=(64, 80)):
    return torch.full((1, *size), level), torch.full((3, *size), level)


def one(pair, name, modality, level, seed=0, **options):
    """The image that has one damage."""
    return degrade(*pair, [(name, modality, level)], seed, **options)[modality == "visible"]


def test_the_damages_of_each_modality_in_the_order_of_the_light():
    assert Counter(modality for _, modality in EVERY) == {"visible": 9, "ir": 5}
    stages = ["scene", "optics", "sensor", "codec"]
    places = [stages.index(kind.stage) for kind in DEGRADATIONS.values()]
    assert places == sorted(places) and set(places) == {0, 1, 2, 3}


@pytest.mark.parametrize(("name", "modality"), EVERY)
def test_what_holds_for_every_damage(street, name, modality):
    before = [image.clone() for image in street]
    clean, other = street[modality == "visible"], street[modality == "ir"]
    state = torch.random.get_rng_state()
    assert torch.equal(one(street, name, modality, 0), clean)

    distances = [0.0]
    for level in (0.25, 0.5, 0.75, 1):
        pair = degrade(*street, [(name, modality, level)], 4)
        image = pair[modality == "visible"]
        assert torch.equal(pair[modality == "ir"], other)
        assert image.shape == clean.shape and image.dtype == torch.float32
        assert image.min() >= 0 and image.max() <= 1
        distances.append((image - clean).square().mean().sqrt().item())
    assert all(b > 1.03 * a for a, b in pairwise(distances)), distances
    assert distances[-1] > 0.02
    # Level 1 still shows the scene.
    assert np.corrcoef(clean.flatten().numpy(), image.flatten().numpy())[0, 1] > 0.4

    again = one(street, name, modality, 1, 4)
    assert torch.equal(again, image)
    fixed = name in ("low contrast", "defocus blur", "overexposure", "jpeg")
    assert torch.equal(one(street, name, modality, 1, 5), image) == fixed
    assert all(torch.equal(a, b) for a, b in zip(street, before))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("size", [(8, 8), (9, 31), (57, 8), (33, 41)])
def test_tiny_and_odd_sizes(size):
    pair = torch.rand(1, *size), torch.rand(3, *size)
    for name, modality in EVERY:
        for level in (0.01, 1):
            image = one(pair, name, modality, level)
            assert image.shape == pair[modality == "visible"].shape and 0 <= image.min() <= image.max() <= 1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_black_and_white_images_stay_in_range(value):
    for name, modality in EVERY:
        image = one(flat(value), name, modality, 1)
        assert image.isfinite().all() and 0 <= image.min() <= image.max() <= 1, name


def test_the_order_given_does_not_matter(street):
    damages = [("jpeg", "visible", 0.6), ("haze", "visible", 0.4), ("gaussian noise", "ir", 0.5),
               ("motion blur", "visible", 0.3), ("stripe noise", "ir", 0.5), ("gaussian noise", "visible", 0.3)]
    expected = degrade(*street, damages, 1)
    assert all(torch.equal(a, b) for a, b in zip(degrade(*street, damages[::-1], 1), expected))


def test_damages_follow_the_light(street):
    """Noise is not blurred and does not lose contrast; a pair of damages is one after the other."""
    both = degrade(*street, [("gaussian noise", "ir", 0.2), ("low contrast", "ir", 0.5), ("motion blur", "ir", 0.5)], 2)
    steps = street
    for damage in (("low contrast", "ir", 0.5), ("motion blur", "ir", 0.5), ("gaussian noise", "ir", 0.2)):
        steps = degrade(*steps, [damage], 2)
    assert torch.equal(both[0], steps[0])
    jpeg_last = degrade(*street, [("jpeg", "visible", 1), ("low light", "visible", 0.4)], 2)[1]
    assert torch.equal(jpeg_last, one((street[0], one(street, "low light", "visible", 0.4, 2)), "jpeg", "visible", 1))


def test_haze_is_the_scattering_model():
    """t from the contrast between two patches, whatever the air's light is; then that light, the same everywhere."""
    depth = torch.linspace(0, 2, 80).expand(64, 80).contiguous()
    visible = torch.full((3, 64, 80), 0.7)
    visible[:, ::2] = 0.3
    level = 0.6
    clean, hazy = (rgb_to_linear_rgb(image).double() for image in (
        visible, one((visible[:1], visible), "haze", "visible", level, depth=depth)))  # fmt: skip
    t = torch.exp(-2.5 * level * depth[0].double())
    found = (hazy[:, 1] - hazy[:, 0]) / (clean[:, 1] - clean[:, 0])
    torch.testing.assert_close(found, t.expand(3, -1), atol=2e-5, rtol=0)
    air = (hazy - clean * t)[..., 20:] / (1 - t[20:])
    assert (air.amax((1, 2)) - air.amin((1, 2))).max() < 1e-4
    # As bright as the pale half of the scene, nearly gray.
    torch.testing.assert_close(air.mean((1, 2)), clean[:, 1, 0], atol=0, rtol=0.06)
    torch.testing.assert_close(hazy[..., 0], clean[..., 0], atol=1e-5, rtol=0)  # at the camera there is no haze


def test_without_a_depth_haze_is_thick_at_the_top_and_uneven():
    visible = torch.full((3, 90, 120), 0.1)
    visible[:, :, ::10] = 0.9  # gives the air its light
    for seed in range(8):
        hazy = one((visible[:1], visible), "haze", "visible", 0.7, seed)[1, :, 5::10]
        rows = hazy.mean(1)
        assert rows[:30].mean() > rows[30:60].mean() > rows[60:].mean() > 0.1
        assert (hazy.std(1) / (rows - 0.1)).max() > 0.03, "no variation from left to right"


def test_a_depth_may_have_a_channel_and_counts_for_the_weather_only(street):
    depth = torch.rand(128, 160)
    for name in ("haze", "rain", "snow"):
        assert torch.equal(one(street, name, "visible", 0.5, depth=depth),
                           one(street, name, "visible", 0.5, depth=depth[None]))  # fmt: skip
        assert not torch.equal(one(street, name, "visible", 0.5, depth=depth), one(street, name, "visible", 0.5))
    assert torch.equal(one(street, "low light", "visible", 0.5, depth=depth), one(street, "low light", "visible", 0.5))


def test_rain_is_streaks_of_one_angle_that_is_steep():
    """The main direction of the gradients, by the structure tensor, and how much of them has it."""
    angles = []
    for seed in range(6):
        visible = torch.full((3, 200, 200), 0.1)
        visible[:, :, ::15] = 0.8  # gives the drops their light
        rain = one((visible[:1], visible), "rain", "visible", 0.6, seed, depth=torch.zeros(200, 200))
        patches = [rain[1, :, x + 2 : x + 14].numpy() for x in range(0, 195, 15)]  # between the stripes
        gx, gy = (np.concatenate([g[2:-2, 2:-2].ravel() for g in part]) for part in zip(*(
            (cv2.Sobel(p, -1, 1, 0), cv2.Sobel(p, -1, 0, 1)) for p in patches)))  # fmt: skip
        values, vectors = np.linalg.eigh([[gx @ gx, gx @ gy], [gx @ gy, gy @ gy]])
        assert values[1] > 6 * values[0], "noise rather than streaks"
        angles.append(math.degrees(math.atan2(vectors[1, 1], vectors[0, 1])) % 180)
    assert all(min(angle, 180 - angle) < 30 for angle in angles)
    assert len({round(angle) for angle in angles}) > 3


def test_snow_has_flakes_of_several_sizes():
    visible = torch.full((3, 256, 320), 0.4)
    snow = one((visible[:1], visible), "snow", "visible", 0.3, depth=torch.zeros(256, 320))[1].numpy()
    count, _, stats, _ = cv2.connectedComponentsWithStats((snow > 0.44).astype(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA]
    assert 150 < count < 800 and np.quantile(areas, 0.1) <= 6 and np.quantile(areas, 0.98) > 25
    assert snow.min() > 0.4 - 1e-4, "flakes are brighter than what is behind"


def test_low_light_has_the_noise_that_it_states():
    """Variance a x + b at the linear value x, seen in linear light where the tone curve is not clipped."""
    level, stated = 0.5, []
    visible = torch.full((3, 200, 200), 0.5)
    visible[:, 100:] = 0.9
    linear = rgb_to_linear_rgb(one((visible[:1], visible), "low light", "visible", level))
    for half, value in ((linear[:, :100], 0.5), (linear[:, 100:], 0.9)):
        x = half.mean().item()
        stated.append(x / rgb_to_linear_rgb(torch.full((3, 1, 1), value))[0].item())
        assert half.std().item() == pytest.approx(level * math.sqrt(0.0015 * x + 0.003**2), rel=0.03)
    assert stated[0] == pytest.approx(stated[1], rel=0.01)  # one gain for both
    assert stated[0] == pytest.approx(1 / 4, rel=0.01)


def test_overexposure_clips_and_spreads_around_lights():
    visible = torch.full((3, 120, 160), 0.2)
    visible[:, 55:65, 75:85] = 1
    image = one((visible[:1], visible), "overexposure", "visible", 0.5)[1]
    assert image[55:65, 75:85].min() > 0.9999
    beside, farther, corner = image[60, 89].item(), image[60, 105].item(), image[2, 2].item()
    assert beside > farther + 0.05 > corner + 0.05 and corner > 0.2
    dark = one(flat(0.2), "overexposure", "visible", 0.5)  # without lights, a gain and nothing else
    x = rgb_to_linear_rgb(torch.full((3, 1, 1), 0.2))[0].item()
    torch.testing.assert_close(rgb_to_linear_rgb(dark), torch.full_like(dark, x * 8**0.5), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["defocus blur", "motion blur"])
@pytest.mark.parametrize("modality", ["ir", "visible"])
def test_blurs_leave_flat_images(name, modality):
    for value in (0.02, 0.6, 1.0):
        image = one(flat(value), name, modality, 0.8)
        torch.testing.assert_close(image, torch.full_like(image, value), atol=2e-5, rtol=0)


def test_defocus_makes_an_even_disc_of_a_point():
    ir = torch.zeros(1, 201, 201)
    ir[0, 100, 100] = 1
    disc = one((ir, ir.expand(3, -1, -1)), "defocus blur", "ir", 1)[0].double()
    radius = 0.5 + 0.02 * 201
    y, x = torch.meshgrid(torch.arange(201) - 100, torch.arange(201) - 100, indexing="ij")
    distance = torch.hypot(x.double(), y.double())
    assert disc.sum() == pytest.approx(1, abs=1e-5)
    inside = disc[distance < radius - 0.6]
    assert inside.max() - inside.min() < 1e-6 and disc[distance > radius + 0.6].max() < 1e-6
    assert inside.mean() == pytest.approx(1 / (math.pi * radius**2), rel=0.03)
    torch.testing.assert_close(disc, disc.T, atol=1e-6, rtol=0)


def test_a_bright_point_keeps_its_light_when_blurred():
    """In the visible image light adds up in linear light: a lamp's disc stays bright, as on a photograph."""
    visible = torch.zeros(3, 100, 100)
    visible[:, 48:53, 48:53] = 1
    for name in ("defocus blur", "motion blur"):
        linear = rgb_to_linear_rgb(one((visible[:1], visible), name, "visible", 1))
        assert linear[0].sum() == pytest.approx(25, rel=1e-3)


def test_motion_is_a_line_and_the_same_shake_in_both_images():
    image = torch.zeros(3, 201, 201)
    image[:, 100, 100] = 1
    directions = set()
    for seed in range(6):
        ir, visible = degrade(image[:1], image, [("motion blur", m, 1) for m in ("ir", "visible")], seed)
        torch.testing.assert_close(rgb_to_linear_rgb(visible)[:1], ir, atol=1e-5, rtol=0)
        y, x = torch.nonzero(ir[0] > 1e-4, as_tuple=True)
        weight = ir[0, y, x].double()
        values, vectors = np.linalg.eigh(np.cov(np.stack([x.numpy(), y.numpy()]), aweights=weight.numpy(), ddof=0))
        assert math.sqrt(12 * values[1]) == pytest.approx(0.07 * 201, abs=2) and values[0] < 0.4
        directions.add(round(math.degrees(math.atan2(vectors[1, 1], vectors[0, 1])) % 180))
    assert len(directions) > 3


def test_low_contrast_keeps_the_mean(street):
    ir = street[0]
    image = one(street, "low contrast", "ir", 0.5)
    assert image.mean().item() == pytest.approx(ir.mean().item(), abs=1e-5)
    assert (image.std() / ir.std()).item() == pytest.approx(0.6, abs=1e-4)


@pytest.mark.parametrize("modality", ["ir", "visible"])
def test_gaussian_noise_has_the_stated_standard_deviation(modality):
    noise = one(flat(size=(200, 200)), "gaussian noise", modality, 0.5) - 0.5
    assert noise.std().item() == pytest.approx(0.06, rel=0.02) and abs(noise.mean().item()) < 0.002
    neighbours = np.corrcoef(noise[0, :, 1:].flatten().numpy(), noise[0, :, :-1].flatten().numpy())[0, 1]
    assert abs(neighbours) < 0.03


def test_noise_of_the_two_sensors_is_independent():
    pair = degrade(*flat(size=(200, 200)), [("gaussian noise", m, 0.5) for m in ("ir", "visible")], 3)
    channels = torch.cat(pair).flatten(1).numpy()
    assert np.abs(np.corrcoef(channels) - np.eye(4)).max() < 0.03


def test_stripes_are_constant_along_columns_or_rows():
    turned = 0
    for seed in range(40):
        stripes = one(flat(size=(150, 300)), "stripe noise", "ir", 1, seed)[0] - 0.5
        along = min((0, 1), key=lambda axis: stripes.std(axis).mean().item())
        assert (stripes.amax(along) - stripes.amin(along)).max() == 0
        assert stripes.select(along, 0).std().item() == pytest.approx(0.07, rel=0.25)
        turned += along
    assert 3 <= turned <= 20


@pytest.mark.parametrize(("level", "quality"), [(1, 10), (0.5, 30), (0.25, 52)])
def test_jpeg_is_the_codec_of_opencv(street, level, quality):
    pixels = np.ascontiguousarray((street[1].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)[..., ::-1])
    expected = cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    found = (one(street, "jpeg", "visible", level) * 255).round().to(torch.uint8)
    assert np.array_equal(found.permute(1, 2, 0).numpy()[..., ::-1], expected)


def test_draws():
    draws = [draw(seed) for seed in range(3000)]
    assert draws[7] == draw(7) and len({tuple(drawn) for drawn in draws}) == 3000
    sizes = Counter(map(len, draws))
    assert set(sizes) == {1, 2} and 1400 < sizes[1] < 1600
    chosen = Counter((name, modality) for drawn in draws for name, modality, _ in drawn)
    assert set(chosen) == set(EVERY) and min(chosen.values()) > 0.75 * max(chosen.values())
    levels = [level for drawn in draws for *_, level in drawn]
    assert 0.25 <= min(levels) < 0.26 and 0.99 < max(levels) <= 1 and all(type(level) is float for level in levels)
    for seed in range(300):
        for count in (1, 2, 13):
            drawn = draw(seed, count)
            kinds = {(name, modality) for name, modality, _ in drawn}
            assert len(kinds) == len(drawn) == count
            assert not {("low light", "visible"), ("overexposure", "visible")} <= kinds
    degrade(*flat(), draw(0, 13), 0)


def test_no_damage_gives_the_same_tensors(street):
    assert all(a is b for a, b in zip(degrade(*street, [], 0), street))


@pytest.mark.parametrize(("damages", "message"), [
    ([("fog", "visible", 0.5)], "a damage out of haze, rain, .*, jpeg, found 'fog'"),
    ([("haze", "ir", 0.5)], "haze of visible, found 'ir'"),
    ([("motion blur", "thermal", 0.5)], "motion blur of ir or visible, found 'thermal'"),
    ([("haze", "visible", 1.5)], r"a level of haze in 0\.\.1, found 1\.5"),
    ([("haze", "visible", -0.1)], r"found -0\.1"),
    ([("haze", "visible", math.nan)], "found nan"),
    ([("haze", "visible", "much")], r"damages \(name, modality, level\), found \('haze', 'visible', 'much'\)"),
    ([("haze", "visible")], "found .'haze', 'visible'."),
    (("haze", "visible", 0.5), "found 'haze'"),
    ([(["haze"], "visible", 0.5)], "damages"),
    ([("haze", "visible", 0.5), ("haze", "visible", 0.2)], "each damage once, found haze of visible twice"),
])  # fmt: skip
def test_bad_damages_are_named(damages, message):
    with pytest.raises(FusionError, match=message) as caught:
        degrade(*flat(), damages, 0)
    assert "\n" not in str(caught.value) and "; " in str(caught.value)


def test_bad_images_depths_seeds_and_counts_are_named():
    ir, visible = flat()
    for images, message in (
        ((visible, visible), r"infrared image as float32 tensor \[1,H,W\], found torch.float32 \[3, 64, 80\]"),
        ((ir, ir), r"visible image as float32 tensor \[3,H,W\]"),
        ((ir[0], visible), r"found torch.float32 \[64, 80\]"),
        ((ir.double(), visible), "found torch.float64"),
        ((ir.numpy(), visible), "found ndarray"),
        ((ir, visible[:, 1:]), r"one size, found infrared \[1, 64, 80\] and visible \[3, 63, 80\]; register"),
        ((ir[:, :7], visible[:, :7]), "at least 8x8 pixels, found 7x80"),
        ((ir, visible * 255), r"visible values in 0\.\.1, found 127.5 to 127.5"),
        ((ir - 1, visible), r"infrared values in 0\.\.1"),
        ((ir * math.nan, visible), "found nan to nan"),
    ):
        with pytest.raises(FusionError, match=message):
            degrade(*images, [], 0)
    for depth, message in ((torch.zeros(64, 79), r"tensor \[64, 80\], found \[64, 79\]"), (3.0, "found float"),
                           (torch.full((64, 80), math.inf), "finite"), (-torch.ones(64, 80), "finite")):
        with pytest.raises(FusionError, match=message):
            degrade(ir, visible, [], 0, depth)
    for seed in (-1, 0.5, "a", None):
        with pytest.raises(FusionError, match="the seed to be a whole number from 0 on"):
            degrade(ir, visible, [], seed)
        with pytest.raises(FusionError, match="the seed"):
            draw(seed)
    for count in (0, 14, 1.0):
        with pytest.raises(FusionError, match="the count to be a whole number from 1 to 13"):
            draw(0, count)
    assert draw(np.int64(3)) == draw(3)
