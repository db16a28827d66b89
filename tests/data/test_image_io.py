import pickle

import cv2
import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from fusionlib.data.image_io import (
    LazyImages,
    Picture,
    as_tensor,
    decode_image,
    image_size,
    is_eight_bit,
    read_image,
    stated_size,
    write_image,
)
from fusionlib.data.image_types import to_image
from fusionlib.data.infrared import to_plane
from fusionlib.data.places import find_images
from fusionlib.utils.errors import FusionError


def test_images_below_a_folder_in_order_and_as_they_are(tmp_path):
    gray, colour = np.arange(12, dtype=np.uint8).reshape(3, 4), np.full((2, 5, 3), 65535, np.uint16)
    write_image(tmp_path / "b" / "2.png", gray)
    write_image(tmp_path / "a.b.PNG", colour)
    write_image(tmp_path / ".trash" / "1.png", gray)
    (tmp_path / "notes.txt").write_text("no picture")
    images = LazyImages(find_images(tmp_path).values())
    assert images.paths == [tmp_path / "a.b.PNG", tmp_path / "b" / "2.png"] and len(images) == 2
    assert images[0].shape == (3, 2, 5) and images[0].min() == 1
    assert torch.equal(images[1], torch.from_numpy(gray)[None] / 255)
    assert [image.shape[0] for image in images] == [3, 1]


def test_nothing_to_read_and_a_damaged_file(tmp_path):
    with pytest.raises(FusionError, match=r"nowhere: expected a folder of images, found nothing"):
        find_images(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(FusionError, match=r"expected images .* found 1 other files"):
        find_images(tmp_path)
    (tmp_path / "1.png").write_bytes(b"not a png")
    with pytest.raises(FusionError, match=r"1\.png"):
        LazyImages(find_images(tmp_path).values())[0]


@pytest.mark.parametrize("image", [
    np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8),
    np.random.default_rng(1).integers(0, 256, (20, 30), np.uint8),
    np.random.default_rng(2).integers(0, 256, (20, 30, 1), np.uint8),
    np.random.default_rng(3).integers(0, 65536, (20, 30, 3), np.uint16),
    np.random.default_rng(4).integers(0, 256, (20, 30, 4), np.uint8),
])  # fmt: skip
def test_a_picture_is_an_array_that_a_notebook_shows(image):
    picture = image.view(Picture)
    png = picture._repr_png_()
    np.testing.assert_array_equal(decode_image(png, "x", alpha=True).reshape(image.shape), image)
    shown, _ = DisplayFormatter().format(picture)
    assert shown["image/png"] == png and "text/plain" in shown
    for plain in (picture + 1, picture / 2, picture > 3, np.stack([picture]), pickle.loads(pickle.dumps(picture))):
        assert type(plain) is np.ndarray and plain.shape[-image.ndim :] == image.shape
    assert isinstance(picture.mean(), float) and picture.max() == image.max()
    assert type(picture.max()) is type(image.max())
    assert torch.equal(torch.from_numpy(picture), torch.from_numpy(image))
    np.testing.assert_array_equal(Image.fromarray(picture[..., 0] if image.ndim == 3 else picture).size, (30, 20))
    assert np.shares_memory(picture[5:15, 5:15], image) and picture[5:15, 5:15]._repr_png_()


@pytest.mark.parametrize("array", [
    np.zeros(5, np.uint8), np.zeros((2, 3, 2), np.uint8), np.zeros((4, 4), np.int32), np.full((4, 4), np.nan),
    np.zeros((0, 0), np.uint8), np.zeros((2, 2, 2, 3), np.uint8), np.array(3.0),
])  # fmt: skip
def test_what_is_no_image_is_not_shown(array):
    assert array.view(Picture)._repr_png_() is None


def test_floats_and_large_pictures_are_shown():
    shown = decode_image((np.full((4, 6, 3), 0.5)).view(Picture)._repr_png_(), "x")
    assert shown.shape == (4, 6, 3) and (shown == 128).all()
    assert decode_image(np.zeros((3200, 100), np.uint8).view(Picture)._repr_png_(), "x").shape == (1600, 50)


@pytest.mark.parametrize(("size", "kind", "words"), [
    ((8200, 8200), "WEBP", "at most 67,108,864 pixels, found 8200x8200"),
    ((4000, 4000), "PNG", "a byte for each 50 pixels, as a photograph has, found 4000x4000 pixels in"),
])
def test_nothing_is_decoded_before_the_header_is_looked_at(tmp_path, monkeypatch, size, kind, words):
    path = tmp_path / "a.png"
    Image.new("L", size).save(path, kind)
    monkeypatch.setattr(cv2, "imdecode", None)
    for read in (read_image, image_size, is_eight_bit, lambda path: stated_size(path.read_bytes(), path)):
        with pytest.raises(FusionError, match=f"{path}: expected .*{words}"):
            read(path)


def test_a_turned_tiff_has_the_size_of_the_upright_image(tmp_path):
    path, image = tmp_path / "a.tif", np.arange(600, dtype=np.uint8).reshape(20, 30)
    Image.fromarray(image).save(path, tiffinfo={274: 6})
    assert image_size(path) == stated_size(path.read_bytes(), path) == (30, 20)
    np.testing.assert_array_equal(read_image(path), np.rot90(image, 3))


def test_large_images_of_cameras_are_read(tmp_path):
    """Of noise, and uncompressed; a small black one is no forgery."""
    noise = np.random.default_rng(0).integers(256, size=(3000, 3000), dtype=np.uint8)
    for image, name in ((noise, "noise.png"), (noise * 0, "black.bmp"), (noise[:2000, :2000] * 0, "small.png")):
        write_image(tmp_path / name, image)
        assert image_size(tmp_path / name) == image.shape and np.array_equal(read_image(tmp_path / name), image)
    assert is_eight_bit(tmp_path / "noise.png")
    write_image(tmp_path / "deep.png", noise[:9, :9].astype(np.uint16) * 257)
    assert not is_eight_bit(tmp_path / "deep.png")


@pytest.mark.parametrize(("read", "more"), [(as_tensor, ""), (to_image, ""), (to_plane, ", or give ir_range")])
def test_floats_beyond_0_to_1_are_told_alike(read, more):
    image = np.linspace(0, 1.0005, 12, dtype=np.float32).reshape(3, 4)
    read(image, "x")  # rounded
    sentence = ("x: expected floats in 0..1, found values from {}; divide by the largest value of their type, such as "
                "255, and replace NaN")  # fmt: skip
    for wrong, values in ((image * 1.5, "0 to 1.501"), (image - 0.5, "-0.5 to 0.5005"), (image * np.nan, "nan to nan")):
        with pytest.raises(FusionError) as raised:
            read(wrong, "x")
        assert str(raised.value) == sentence.format(values) + more


def test_what_a_format_cannot_hold(tmp_path):
    with pytest.raises(FusionError, match=r"a\.webp: cannot hold 20000x4 pixels; name a \.png file"):
        write_image(tmp_path / "a.webp", np.zeros((4, 20000), np.uint8))
    assert not list(tmp_path.iterdir())
