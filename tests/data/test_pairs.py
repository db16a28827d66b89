"""Pictures in and out, the pair as tensors, and colour."""

import numpy as np
import pytest
import torch
from PIL import Image

from fusionlib.data import (
    Pair,
    load,
    merge_luma,
    read,
    read_image,
    read_manifest,
    split_luma,
    write_image,
    write_manifest,
)
from fusionlib.data.common_range import with_ranges
from fusionlib.data.image_io import image_size
from fusionlib.utils.errors import FusionError

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (12, 17), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (12, 17, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (12, 17), dtype=np.uint16)


def pair_of(folder, ir, visible, boxes=None):
    for name, image in (("ir.png", ir), ("vi.png", visible)):
        write_image(folder / name, image)
    return Pair("own", "", "ir", folder / "ir.png", folder / "vi.png", boxes, boxes and ("person",) * len(boxes))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".TIFF"])
@pytest.mark.parametrize("image", [GRAY, COLOUR], ids=["gray", "colour"])
def test_pillow_and_we_agree_on_lossless_formats(tmp_path, suffix, image):
    Image.fromarray(image).save(tmp_path / f"theirs{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"theirs{suffix}"), image)
    write_image(tmp_path / f"ours{suffix}", image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / f"ours{suffix}")), image)


def test_jpg_is_read_in_rgb_order(tmp_path):
    Image.fromarray(np.full((16, 16, 3), (200, 100, 20), np.uint8)).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - [200, 100, 20]).max() <= 3


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bit(tmp_path, suffix):
    Image.fromarray(DEEP).save(tmp_path / f"gray{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"gray{suffix}"), DEEP)
    deep_colour = np.stack([DEEP, DEEP // 2, DEEP // 3], -1)
    write_image(tmp_path / f"colour{suffix}", deep_colour)
    np.testing.assert_array_equal(read_image(tmp_path / f"colour{suffix}"), deep_colour)


def test_alpha_is_dropped_and_palettes_are_expanded(tmp_path):
    Image.fromarray(COLOUR).convert("RGBA").save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), COLOUR)
    alpha = np.dstack([COLOUR, GRAY])
    Image.fromarray(alpha).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), COLOUR)
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png", alpha=True), alpha)
    palette = Image.fromarray(COLOUR).convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), np.asarray(palette.convert("RGB")))


# What is seen upright of a stored image by EXIF orientation: mirrored, turned, both.
UPRIGHT = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
           5: lambda a: np.fliplr(np.rot90(a, 3)), 6: lambda a: np.rot90(a, 3),
           7: lambda a: np.fliplr(np.rot90(a)), 8: np.rot90}  # fmt: skip


def oriented(path, image, orientation):
    """Write an image with an EXIF orientation."""
    exif = Image.Exif()
    exif[274] = orientation
    tag = {"tiffinfo": {274: orientation}} if path.suffix in (".tif", ".tiff") else {"exif": exif}
    Image.fromarray(image).save(path, **tag, **({"quality": 95} if path.suffix == ".jpg" else {}))
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_every_orientation_is_applied_in_every_format(tmp_path, suffix, orientation):
    stored = np.kron(RNG.integers(0, 256, (3, 4, 3)).astype(np.uint8), np.ones((8, 8, 1), np.uint8))
    path = oriented(tmp_path / f"a{suffix}", stored, orientation)
    found, wanted = read_image(path), UPRIGHT[orientation](stored)
    assert found.shape == wanted.shape and image_size(path) == wanted.shape[:2]
    assert np.abs(found.astype(int) - wanted).mean() < (12 if suffix in (".jpg", ".webp") else 1e-9)


def test_orientation_of_16_bit_and_of_floats(tmp_path):
    for orientation, upright in UPRIGHT.items():
        for image in (DEEP, DEEP.astype(np.float32)):
            path = oriented(tmp_path / "a.tif", image, orientation)
            np.testing.assert_array_equal(read_image(path), upright(image))
        path = oriented(tmp_path / "a.png", DEEP, orientation)
        np.testing.assert_array_equal(read_image(path), upright(DEEP))


def test_an_orientation_that_is_none_is_passed_over(tmp_path):
    for orientation in (0, 9, 65535):
        path = oriented(tmp_path / "a.png", COLOUR, orientation)
        np.testing.assert_array_equal(read_image(path), COLOUR)
        assert image_size(path) == COLOUR.shape[:2]
    path = oriented(tmp_path / "a.jpg", COLOUR, 6)
    path.write_bytes(path.read_bytes().replace(b"Exif\0\0MM", b"Exif\0\0XX"))  # damaged block
    assert read_image(path).shape == COLOUR.shape


def test_both_images_of_a_pair_are_upright(tmp_path):
    ir, visible = oriented(tmp_path / "ir.png", GRAY, 8), oriented(tmp_path / "vi.tif", COLOUR, 6)
    tensors = load(Pair("Toy", "", "x", ir, visible))
    np.testing.assert_array_equal(tensors[0][0], UPRIGHT[8](GRAY) / np.float32(255))
    np.testing.assert_array_equal(tensors[1].permute(1, 2, 0), UPRIGHT[6](COLOUR) / np.float32(255))


def test_paths_that_are_not_ascii(tmp_path):
    write_image(tmp_path / "红外 façade" / "夜.png", GRAY)
    np.testing.assert_array_equal(read_image(tmp_path / "红外 façade" / "夜.png"), GRAY)
    assert not list(tmp_path.rglob(".*")), "an unfinished file is left"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff"])
@pytest.mark.parametrize("lost", [1, 2, 40, 0.5])
def test_truncated_files_are_refused(tmp_path, suffix, lost):
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: -lost if isinstance(lost, int) else int(lost * len(data))])
    with pytest.raises(FusionError, match=f"cut{suffix}: expected a whole .* copy it again"):
        read_image(path)


def test_bad_files_are_named(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture")
    for name, words in {"gone.png": "No such file", "empty.png": "empty file", "text.png": "13 bytes",
                        "": "found a folder"}.items():
        with pytest.raises(FusionError, match=words) as raised:
            read_image(tmp_path / name)
        assert str(raised.value).startswith(str(tmp_path / name))


def test_tensors_are_written_rounded_and_clipped(tmp_path):
    write_image(tmp_path / "a.png", torch.tensor([[[-0.5, 0.4 / 255, 0.6 / 255, 0.5, 1.0, 7.0]]]))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), [[0, 0, 1, 128, 255, 255]])
    write_image(tmp_path / "b.png", torch.tensor([1.0, 0.4, 0.2]).view(3, 1, 1))
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), [[[255, 102, 51]]])


def test_what_cannot_be_written_is_refused(tmp_path):
    for name, image, words in [("a.jpg", DEEP, "16-bit"), ("a.gif", GRAY, "8-bit"), ("a.png", GRAY / 255, "float64"),
                               ("a.png", torch.zeros(2, 4, 4), r"\[4, 4, 2\]"), ("a.png", GRAY[0], r"\[17\]"),
                               ("a.png", torch.zeros(1, 1, 4, 4), r"\[1, 1, 4, 4\]")]:
        with pytest.raises(FusionError, match=words):
            write_image(tmp_path / name, image)
    assert not list(tmp_path.iterdir())


def test_load_scales_by_the_type_and_infrared_that_hardly_uses_it_by_its_range(tmp_path):
    ir, visible = load(pair_of(tmp_path, DEEP, COLOUR))
    assert ir.shape == (1, 12, 17) and visible.shape == (3, 12, 17) and ir.dtype == visible.dtype == torch.float32
    np.testing.assert_array_equal(ir[0], DEEP / np.float32(65535))
    np.testing.assert_allclose(visible.permute(1, 2, 0), COLOUR / 255, atol=1e-7)
    raw, deep = DEEP // 4, np.stack([DEEP // 4] * 3, -1)  # 14 of 16 bits
    ir, visible = load(pair_of(tmp_path, raw, deep))
    low, high = np.percentile(raw, (0.5, 99.5))
    np.testing.assert_allclose(ir[0], ((raw - low) / (high - low)).clip(0, 1), atol=1e-6)
    np.testing.assert_allclose(visible[0], raw / 65535, atol=1e-7)  # never stretched


def test_a_data_set_has_one_range(tmp_path):
    pairs = []
    for number, start in enumerate((7000, 8000)):
        paths = [tmp_path / f"{side}{number}.png" for side in ("ir", "vi")]
        write_image(paths[0], (start + np.arange(1200).reshape(30, 40)).astype(np.uint16))
        write_image(paths[1], np.zeros((30, 40, 3), np.uint8))
        pairs.append(Pair("walk", "", str(number), *paths))
    ranged = with_ranges(pairs)
    low, high = np.percentile(np.concatenate([np.arange(1200) + start for start in (7000, 8000)]), (0.5, 99.5))
    assert [pair.ir_range for pair in ranged] == [(low, high)] * 2
    for pair, start in zip(ranged, (7000, 8000)):
        assert load(pair)[0][0, 15, 20] == pytest.approx((start + 620 - low) / (high - low), abs=1e-5)
    manifest = tmp_path / "manifest.json"
    write_manifest(manifest, {"train": ranged, "test": []}, tmp_path)
    assert [pair.ir_range for pair in read_manifest(manifest, tmp_path)["train"]] == [(low, high)] * 2
    for pair in pairs:  # 8 bit
        write_image(pair.ir, np.arange(1200, dtype=np.uint8).reshape(30, 40))
    assert with_ranges(pairs) == pairs


def test_load_makes_one_infrared_and_three_visible_channels(tmp_path):
    ir, visible = load(pair_of(tmp_path, np.stack([GRAY] * 3, -1), GRAY))
    np.testing.assert_array_equal(ir[0], GRAY.astype(np.float32) / 255)
    for channel in visible:
        np.testing.assert_array_equal(channel, GRAY.astype(np.float32) / 255)
    ir, _ = load(pair_of(tmp_path, COLOUR, GRAY))
    np.testing.assert_allclose(ir[0], COLOUR @ [0.299, 0.587, 0.114] / 255, atol=1e-6)


def test_pictures_of_two_sizes_are_named(tmp_path):
    with pytest.raises(FusionError, match=r"vi.png: expected 17x12 like .*ir.png, found 17x11; register"):
        load(pair_of(tmp_path, GRAY, COLOUR[1:]))
    with pytest.raises(FusionError, match="found 12x17; turn one of them by a quarter"):
        load(pair_of(tmp_path, GRAY, COLOUR.transpose(1, 0, 2)))


def test_luma_and_chroma():
    rgb = torch.rand(2, 3, 32, 32)
    y, cbcr = split_luma(rgb)
    assert y.shape == (2, 1, 32, 32) and cbcr.shape == (2, 2, 32, 32)
    torch.testing.assert_close(y[:, 0], 0.299 * rgb[:, 0] + 0.587 * rgb[:, 1] + 0.114 * rgb[:, 2])
    torch.testing.assert_close(merge_luma(y, cbcr), rgb, atol=1e-6, rtol=0)
    for i, image in enumerate(rgb):
        assert all(map(torch.equal, split_luma(image), (y[i], cbcr[i])))
        assert torch.equal(merge_luma(y[i], cbcr[i]), merge_luma(y, cbcr)[i])
    brighter = merge_luma(y + 0.7, cbcr)
    assert brighter.max() == 1 and brighter.min() >= 0
    gray = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(merge_luma(gray, torch.full((1, 2, 8, 8), 0.5)), gray.expand(1, 3, 8, 8))


def test_real_pairs(shared):
    pairs = {pair.name: pair for pair in read(shared / "data", ["LLVIP", "MSRS", "TNO"]).pairs}
    for pair in (pairs[name] for name in ("010038", "00009N", "05")):
        ir, visible = load(pair)
        with Image.open(pair.visible) as image:
            np.testing.assert_allclose(visible.permute(1, 2, 0), np.asarray(image) / 255, atol=0.02)
            assert ir.shape == (1, image.height, image.width)
        assert 0 <= ir.min() < ir.max() <= 1
