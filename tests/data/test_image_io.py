import numpy as np
import pytest
import torch

from fusionlib.data.image_io import LazyImages, find_images, write_image
from fusionlib.utils.errors import FusionError


def test_images_below_a_folder_in_order_and_as_they_are(tmp_path):
    gray, colour = np.arange(12, dtype=np.uint8).reshape(3, 4), np.full((2, 5, 3), 65535, np.uint16)
    write_image(tmp_path / "b" / "2.png", gray)
    write_image(tmp_path / "a.b.PNG", colour)
    write_image(tmp_path / ".trash" / "1.png", gray)
    (tmp_path / "notes.txt").write_text("no picture")
    images = LazyImages(find_images(tmp_path))
    assert images.paths == [tmp_path / "a.b.PNG", tmp_path / "b" / "2.png"] and len(images) == 2
    assert images[0].shape == (3, 2, 5) and images[0].min() == 1
    assert torch.equal(images[1], torch.from_numpy(gray)[None] / 255)
    assert [image.shape[0] for image in images] == [3, 1]


def test_nothing_to_read_and_a_damaged_file(tmp_path):
    with pytest.raises(FusionError, match=r"nowhere: expected images .* found no folder"):
        find_images(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(FusionError, match=r"expected images .* found 1 other files"):
        find_images(tmp_path)
    (tmp_path / "1.png").write_bytes(b"not a png")
    with pytest.raises(FusionError, match=r"1\.png"):
        LazyImages(find_images(tmp_path))[0]
