"""Pictures in and out, the pair as tensors, and colour."""

import numpy as np
import pytest
import torch
from PIL import Image

from fusionlib.data import Pair, load, merge_luma, read, read_image, split_luma, write_image
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
    palette = Image.fromarray(COLOUR).convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), np.asarray(palette.convert("RGB")))


def test_exif_orientation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # turn by 90 degrees to show
    Image.fromarray(GRAY).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == image_size(tmp_path / "a.jpg") == GRAY.shape


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
    Image.fromarray(GRAY.astype(np.float32)).save(tmp_path / "float.tiff")
    for name, words in {"gone.png": "No such file", "empty.png": "empty file", "text.png": "13 bytes",
                        "float.tiff": "float32", "": "found a folder"}.items():
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


def test_load_scales_by_the_type_alone(tmp_path):
    ir, visible = load(pair_of(tmp_path, DEEP // 4, COLOUR))  # 14 of 16 bits stay a quarter of the range
    assert ir.shape == (1, 12, 17) and visible.shape == (3, 12, 17) and ir.dtype == visible.dtype == torch.float32
    np.testing.assert_allclose(ir[0], (DEEP // 4) / 65535, atol=1e-7)
    np.testing.assert_allclose(visible.permute(1, 2, 0), COLOUR / 255, atol=1e-7)


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
    with pytest.raises(FusionError, match="found 12x17; undo the EXIF orientation"):
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
