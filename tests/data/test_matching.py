"""Which files belong together: suffixes, stars, names of data sets, and what is refused."""

import numpy as np
import pytest
import torch

from fusionlib.data.image_io import write_image
from fusionlib.data.matching import load_fused, match
from fusionlib.utils.errors import FusionError

PICTURE = np.arange(48, dtype=np.uint8).reshape(6, 8)


def write(folder, *names):
    for name in names:
        write_image(folder / name, PICTURE)
    return folder


def names_of(pairs):
    return [(path.name, pair.name, pair.ir.name, pair.visible.name) for path, pair in pairs.items()]


def test_names_agree_up_to_the_suffix(tmp_path):
    folders = [write(tmp_path / "MSRS/test" / kind, *names) for kind, names in
               (("ours", ("2.png", "1.JPG", "1.x.png")), ("ir", ("1.x.bmp", "1.png", "2.tiff")),
                ("vi", ("1.png", "2.jpeg", "1.x.png")))]
    pairs, problems = match(*map(str, folders))
    assert names_of(pairs) == [("1.JPG", "1", "1.png", "1.png"), ("1.x.png", "1.x", "1.x.bmp", "1.x.png"),
                               ("2.png", "2", "2.tiff", "2.jpeg")]
    assert {(pair.dataset, pair.split) for pair in pairs.values()} == {("MSRS", "")} and not problems


def test_a_star_says_what_the_name_is(tmp_path):
    folder = write(tmp_path / "all", "IR1.png", "VIS1.png", "1_a.b_[x].png", "IR22.png", "VIS22.png", "22_a.b_[x].png",
                   "22_a.b_[x].bmp", "3_other.png", "_a.b_[x].png")
    pairs, problems = match(folder / "*_a.b_[x].PNG", folder / "IR*", folder / "VIS*.png")
    assert names_of(pairs) == [("1_a.b_[x].png", "1", "IR1.png", "VIS1.png"),
                               ("22_a.b_[x].png", "22", "IR22.png", "VIS22.png")]
    assert {pair.dataset for pair in pairs.values()} == {"all"}
    assert problems == []
    problems = match(folder / "*_a.b_[x]", folder / "IR*", folder / "VIS*.png")[1]
    assert problems == [f"{folder / '22_a.b_[x].png'}: expected one file of this name, also found 22_a.b_[x].bmp, "
                        "which is used; remove one"]


def test_the_data_set_is_named_after_the_folder_around(tmp_path):
    for ir, name in (("LLVIP/infrared/test", "LLVIP"), ("M3FD/Ir", "M3FD"), ("Own/gray/files", "gray")):
        folders = [write(tmp_path / name / kind, "1.png") for kind in ("fused", ir, "vi")]
        assert next(iter(match(*folders)[0].values())).dataset == name


@pytest.mark.parametrize(("fused", "ir", "message"), [
    ("nowhere", "ir", r"nowhere: expected a folder of images, found nothing; check the path"),
    ("ir/1.png", "ir", r"1.png: expected a folder of images, found a file"),
    ("*_*_x", "ir", r"\*_\*_x has no image, .*ir has 1.png, 2.png"),
    ("no*/ir", "ir", r"no\*/ir has no image"),
    ("no/*_ir", "ir", r"no/\*_ir: expected a folder of images, found nothing"),
    ("ir", "ir", r"ir: the fused and the infrared images are the same files; give each its own folder"),
    ("ours", "../pictures/ours/../vi", r"vi: the infrared and the visible images are the same files"),
    ("other", "ir", r"other has 1_x.png, 2_x.png and 1 more, .*ir has 1.png, 2.png, .*with a star .*other/\*_fused"),
    ("texts", "ir", r"texts has no image, but 1 other files such as 1.txt, .*; give folders of images, or two images"),
])
def test_folders_that_do_not_fit(tmp_path, fused, ir, message):
    root = tmp_path / "pictures"
    for kind in ("ours", "ir", "vi"):
        write(root / kind, "1.png", "2.png")
    write(root / "other", "1_x.png", "2_x.png", "3_x.png")
    (root / "texts" / "deep").mkdir(parents=True)
    (root / "texts" / "deep" / "1.txt").touch()
    with pytest.raises(FusionError, match=message):
        match(root / fused, root / ir, root / "vi")


def test_a_fused_picture_keeps_its_channels_and_bits(tmp_path):
    folders = [write(tmp_path / kind, "1.png") for kind in ("fused", "ir", "vi")]
    (path, pair), = match(*folders)[0].items()
    torch.testing.assert_close(load_fused(path, pair), torch.from_numpy(PICTURE)[None] / 255)
    colour = np.stack([PICTURE, PICTURE[::-1], PICTURE[:, ::-1]], -1).astype(np.uint16) * 1000
    write_image(path, colour)
    torch.testing.assert_close(load_fused(path, pair), torch.from_numpy(colour / np.float32(65535)).permute(2, 0, 1))
    write_image(path, PICTURE.T)
    with pytest.raises(FusionError, match=r"fused.1.png: expected 8x6 like its infrared source .*1.png, found 6x8"):
        load_fused(path, pair)


def test_words_for_a_side_are_no_part_of_a_name_where_no_names_agree(tmp_path):
    names = (("1_fused.png", "2_fused.png"), ("IR_1.png", "IR_2.png", "ir.png"), ("1 rgb.jpg", "2-visible.png"))
    folders = [write(tmp_path / kind, *files) for kind, files in zip(("f", "a", "b"), names)]
    pairs, problems = match(folders[0] / "*_fused", *folders[1:])
    assert names_of(pairs) == [("1_fused.png", "1", "IR_1.png", "1 rgb.jpg"),
                               ("2_fused.png", "2", "IR_2.png", "2-visible.png")] and not problems
