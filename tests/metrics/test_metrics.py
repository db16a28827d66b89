"""`evaluate`: what it accepts, how it treats colour, batches and types, what it refuses."""

import html
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import fusionlib as fl
from fusionlib import metrics
from fusionlib.data.image_io import read_image, write_image
from fusionlib.data.image_types import to_infrared
from fusionlib.metrics import evaluate
from fusionlib.metrics.conventions import CONVENTIONS, METRICS, PAPER, describe
from fusionlib.utils.errors import FusionError

DOCS = Path(__file__).resolve().parents[2] / "docs" / "images"
IMAGES = {  # 48x50, one of which is the fused image, the others its sources
    "noise": torch.randint(0, 256, (1, 3, 48, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)),
    "dark": torch.randint(0, 3, (1, 1, 48, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(2)),
    "black": torch.zeros(1, 1, 48, 50, dtype=torch.uint8),
    "gray": torch.full((1, 3, 48, 50), 90, dtype=torch.uint8),
    "white": torch.full((1, 1, 48, 50), 255, dtype=torch.uint8),
}


@pytest.fixture
def images():
    """Fused and visible [2, 3, 24, 30], infrared [2, 1, 24, 30], uint8."""
    return [torch.randint(0, 256, (2, channels, 24, 30), dtype=torch.uint8) for channels in (3, 1, 3)]


def assert_same(ours, expected, **tolerance):
    assert ours.keys() == expected.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], expected[name], msg=lambda text: f"{name}: {text}", **tolerance)  # noqa: B023


def test_the_paper_has_five_metrics_and_only_q_cv_falls():
    assert PAPER == ("Q_AB/F", "Q_CV", "SSIM", "AG", "SCD")
    assert [name for name in PAPER if not METRICS[name].higher_is_better] == ["Q_CV"]
    assert len(METRICS) == 17 and all(metric.rules.keys() == CONVENTIONS.keys() for metric in METRICS.values())


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("fused", IMAGES)
def test_values_lie_in_the_stated_ranges_or_are_nan_whatever_the_images(fused, convention):
    for ir in ("noise", "black", "gray"):
        for visible in ("dark", "white", "gray"):
            values = evaluate(IMAGES[fused], IMAGES[ir][:, :1], IMAGES[visible], METRICS, convention)
            for name, value in values.items():
                low, high = METRICS[name].rules[convention].range
                assert value.shape == (1,) and value.dtype == torch.float32
                slack = 1e-5 * max(1, abs(low)) if math.isfinite(low) else 0
                assert value.isnan() or low - slack <= value <= high * (1 + 1e-5), (name, ir, visible, value)
    # Flat images have no contrast: what divides by it is undefined, and nothing else.
    undefined = {name for name, value in values.items() if value.isnan()}
    assert undefined == {"gray": {"Q_CV", "SCD", "CC", "Q_CB"}}.get(fused, {"Q_CV", "SCD", "CC", "Q_CB"})


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_one_pixel_is_measured_or_refused_by_name(convention):
    pixel = torch.tensor([[[[200]]]], dtype=torch.uint8)
    for name, metric in METRICS.items():
        smallest = metric.rules[convention].min_size
        if smallest == 1:
            assert evaluate(pixel, pixel, pixel, [name], convention)[name].shape == (1,)
        else:
            with pytest.raises(FusionError, match=f"{name} needs images of at least {smallest} pixels a side"):
                evaluate(pixel, pixel, pixel, [name], convention)
        enough = torch.randint(0, 256, (1, 1, smallest, smallest), dtype=torch.uint8)
        assert evaluate(enough, enough, enough, [name], convention)[name].shape == (1,)


def test_gray_conventions_measure_the_rounded_gray_image(images):
    for convention, weights, rounding in (("tang", (0.2989, 0.5870, 0.1140), lambda gray: (gray + 0.5).floor()),
                                          ("cddfuse", (0.299, 0.587, 0.114), torch.round)):
        def gray(image, weights=weights, rounding=rounding):
            luma = sum(weight * plane for weight, plane in zip(weights, image.float().unbind(1)))
            return rounding(luma).to(torch.uint8)[:, None]

        fused, ir, visible = images
        ours = evaluate(fused, ir, visible, ("SD", "EN", "AG", "SCD"), convention)
        assert_same(ours, evaluate(gray(fused), ir, gray(visible), ("SD", "EN", "AG", "SCD"), convention))
        assert ours["SD"].ne(evaluate(fused, ir, visible, ["SD"])["SD"]).all()


def test_a_table_of_how_to_read_the_numbers():
    table = describe(("SSIM", "Q_CV"), "tang")
    assert table.index.tolist() == ["SSIM", "Q_CV"]
    assert table.loc["SSIM", ["better", "range", "convention", "reference"]].tolist() == [
        "higher", "-1..1", "tang", "Wang et al. 2004"]
    assert table.loc["Q_CV", ["better", "range"]].tolist() == ["lower", "0..∞"]
    assert "borrowed" in table.loc["Q_CV", "definition"] and "borrowed" not in table.loc["SSIM", "definition"]
    assert "borrowed" not in "".join(describe(PAPER[:4]).definition)
    whole = describe(METRICS)
    shown = repr(whole), html.unescape(whole._repr_html_()), repr(whole["definition"])
    for definition in whole["definition"]:  # pandas would cut at 50 characters
        assert all(definition in text for text in shown)
    assert max(map(len, whole["definition"])) > 50 == pd.get_option("display.max_colwidth")
    with pytest.raises(FusionError, match="Unknown metric 'SIM'"):
        describe(("SIM",))


def test_psnr_of_equal_images_is_infinite():
    image = IMAGES["noise"]
    for convention in CONVENTIONS:
        assert evaluate(image, image, image, ["PSNR"], convention)["PSNR"].item() == math.inf


def test_a_mean_of_the_sources_beats_noise_in_the_stated_direction(triple):
    _, ir, visible = (torch.from_numpy(image)[None, None] for image in triple)
    mean = ((ir.float() + visible.float()) / 2).round().to(torch.uint8)
    names = ("Q_AB/F", "Q_CV", "SSIM", "SCD")  # not AG, which noise raises
    noise = evaluate(torch.randint(0, 256, ir.shape, dtype=torch.uint8), ir, visible, names)
    for name, value in evaluate(mean, ir, visible, names).items():
        assert (value > noise[name]) == METRICS[name].higher_is_better, name


@pytest.mark.parametrize("cached", [metrics.CACHED, 1])
def test_a_batch_is_its_images_one_by_one(images, cached, monkeypatch):
    monkeypatch.setattr(metrics, "CACHED", cached)  # all at once, and each on its own
    one_by_one = [evaluate(*(image[i:i + 1] for image in images)) for i in range(2)]
    assert_same(evaluate(*images), {name: torch.cat([one[name] for one in one_by_one]) for name in PAPER})


def test_colour_is_the_mean_over_channels_with_infrared_replicated(images):
    fused, ir, visible = images
    channels = [evaluate(fused[:, [c]], ir, visible[:, [c]]) for c in range(3)]
    expected = {name: sum(values[name] for values in channels) / 3 for name in PAPER}
    assert_same(evaluate(fused, ir, visible), expected)
    assert_same(evaluate(fused, ir.expand(-1, 3, -1, -1), visible), expected)


def test_a_gray_fused_image_is_compared_with_each_channel(images):
    fused, ir, visible = images[0][:, :1], images[1], images[2]
    assert_same(evaluate(fused, ir, visible), evaluate(fused.expand(-1, 3, -1, -1), ir, visible))


def test_float_images_are_read_as_8_bit_files(images):
    shift = 0.4 / 255  # less than half a gray value
    floats = [(image / 255 + shift * (2 * torch.rand(image.shape) - 1)).clamp(0, 1) for image in images]
    assert_same(evaluate(*floats), evaluate(*images), rtol=0, atol=0)
    assert_same(evaluate(images[0], floats[1].double(), floats[2]), evaluate(*images), rtol=0, atol=0)


def test_only_the_named_metrics_are_computed(images):
    small = [image[..., :9, :9] for image in images]  # too small for SSIM, which is not asked for
    assert list(evaluate(*small, names=("SCD", "AG"))) == ["SCD", "AG"]


@pytest.mark.skipif(not torch.accelerator.is_available(), reason="no GPU here")
def test_a_gpu_gives_the_same(images):
    device = torch.accelerator.current_accelerator()
    ours = evaluate(*(image.to(device) for image in images))
    assert all(value.device.type == device.type for value in ours.values())
    assert_same({name: value.cpu() for name, value in ours.items()}, evaluate(*images), rtol=1e-4, atol=1e-5)


def test_black_and_flat_images_give_nan_only_where_the_definition_is_0_by_0():
    black = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    undefined = {name for name, value in evaluate(black, black, black).items() if value.isnan()}
    assert undefined == {"Q_AB/F", "Q_CV", "SCD"}
    flat = black + 80
    undefined = {name for name, value in evaluate(flat, flat, flat).items() if value.isnan()}
    assert undefined == {"Q_CV", "SCD"}


def test_single_images_of_all_types_that_fuse_takes_and_returns(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fused, ir, visible = (image[:1] for image in images)
    expected = evaluate(fused, ir, visible)
    arrays = fused[0].permute(1, 2, 0).numpy(), ir[0, 0].numpy(), visible[0].permute(1, 2, 0).numpy()
    for name, array in zip(("fused", "ir", "visible"), arrays):
        write_image(f"{name}.png", array)
    alpha = np.dstack([arrays[0], np.full(arrays[0].shape[:2], 9, np.uint8)])
    for given in (
        arrays, ("fused.png", Path("ir.png"), "visible.png"), tuple(map(Image.fromarray, arrays)),
        (fused[0], ir[0], visible[0]), (fused[0] / 255, ir[0, 0], arrays[2]), (alpha, ir, visible[0]),
        (arrays[0].astype(np.uint16) * 257, arrays[1] / np.float32(255), visible),
    ):  # fmt: skip
        assert_same(evaluate(*given), expected)


def test_what_fuse_returns_is_measured(tmp_path):
    ir, visible = (DOCS / f"{name}.png" for name in ("infrared", "visible"))
    fused = fl.fuse(ir, visible)
    values = evaluate(fused, ir, visible)
    planes = [torch.from_numpy(read_image(path)).reshape(256, 320, -1).permute(2, 0, 1)[None] for path in (ir, visible)]
    assert_same(values, evaluate(torch.from_numpy(np.asarray(fused)).permute(2, 0, 1)[None], *planes))
    assert values["SSIM"].shape == (1,)


def test_radiometric_infrared_is_read_as_fuse_reads_it_and_said(images):
    fused, ir, visible = images[0][0], images[1][0, 0].numpy().astype(np.uint16) * 8 + 7000, images[2][0]
    with pytest.warns(UserWarning, match="infrared: radiometric values from 70.*become black and white") as caught:
        values = evaluate(fused, ir, visible)
    assert caught[0].filename == __file__
    plane = to_infrared(ir, "ir").plane
    assert_same(values, evaluate(fused[None], plane[None], visible[None]))


@pytest.mark.parametrize(("change", "message"), [
    (lambda f, i, v: dict(convention="matlab"), "convention 'matlab': choose one of vifb, tang, cddfuse"),
    (lambda f, i, v: dict(names=("VIFF",)), "Unknown metric 'VIFF': choose from Q_AB/F, Q_CV"),
    (lambda f, i, v: dict(visible=torch.cat((v, v[:, :1]), 1)), "are 2x4x24x30: use .* to drop an alpha"),
    (lambda f, i, v: dict(fused=f[0]), "infrared images are 2x1x24x30 and the fused ones 1x3x24x30"),
    (lambda f, i, v: dict(fused=f.numpy()), r"fused: expected an array \[H,W\] or .*, found \[2, 3, 24, 30\]"),
    (lambda f, i, v: dict(fused=[f]), "fused: expected a path, an array, a PIL image or a tensor, found list"),
    (lambda f, i, v: dict(ir="nowhere.png"), "nowhere.png: cannot be read"),
    (lambda f, i, v: dict(ir=v[:, :2]), "infrared images must be .* but are 2x2x24x30"),
    (lambda f, i, v: dict(visible=v[:0]), "visible images must be .* but are 0x3x24x30"),
    (lambda f, i, v: dict(ir=i[..., :20]), "infrared images are 2x1x24x20 and the fused ones 2x3x24x30"),
    (lambda f, i, v: dict(visible=v[:1]), "visible images are 1x3x24x30 and the fused ones 2x3x24x30"),
    (lambda f, i, v: dict(fused=f.float()), "fused images are float, so their values must lie in 0..1"),
    (lambda f, i, v: dict(visible=v / 255 - 0.5), "visible images are float, so their values must lie in 0..1"),
    (lambda f, i, v: dict(ir=i / 255 * torch.nan), "infrared images contain NaN"),
    (lambda f, i, v: dict(ir=i.int()), "infrared images must be uint8, or float 0..1, but are torch.int32: divide by"),
    (lambda f, i, v: dict(visible=v.to(torch.uint16)), "but are torch.uint16: divide by .* 65535 for 16 bit"),
    (lambda f, i, v: dict(fused=f[..., :10], ir=i[..., :10], visible=v[..., :10]),
     "SSIM needs images of at least 11 pixels a side, but these are 2x3x24x10"),
])
def test_bad_input_is_told_in_one_sentence(images, change, message):
    arguments = dict(zip(("fused", "ir", "visible"), images))
    with pytest.raises(FusionError, match=message):
        evaluate(**(arguments | change(*images)))
