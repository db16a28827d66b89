"""Folders: what is fused, kept, made again, left out and said."""

import functools
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import fusionlib as fl
from fusionlib.data.image_io import read_image, write_image
from fusionlib.inference import folder as folders
from fusionlib.inference import registration
from fusionlib.inference.folder import fuse_files
from fusionlib.utils.errors import FusionError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """Folders ir and vi with the pictures 1 to 3 of 19x14 pixels, in the working folder; the count of fusions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registration, "describe", lambda *_: None)
    rng = np.random.default_rng(0)
    for i in range(1, 4):
        for folder, shape in (("ir", (14, 19)), ("vi", (14, 19, 3))):
            write_image(f"{folder}/{i}.png", rng.integers(256, size=shape, dtype=np.uint8))
    made, original = [], folders.fuse_pair

    @functools.wraps(original)  # whose code pictures depend on
    def counted(*given):
        made.append(Path(given[1].name).stem)
        return original(*given)

    monkeypatch.setattr(folders, "fuse_pair", counted)
    return made


def test_every_pair_is_fused_and_nothing_else_is_written(sources, tmp_path):
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    written = fuse_files("ir", "vi", "new/fused")
    assert written == [Path(f"new/fused/{i}.png") for i in (1, 2, 3)] and sources == ["1", "2", "3"]
    for path in written:
        np.testing.assert_array_equal(read_image(path), fl.fuse(f"ir/{path.name}", f"vi/{path.name}"))
        assert cv2.imread(str(path)).shape == (14, 19, 3)  # others than us read it as well
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png") if "new" not in path.parts} == before
    assert sorted(path.name for path in Path("new/fused").iterdir()) == ["1.png", "2.png", "3.png"]


def test_what_is_done_is_kept_and_what_changed_is_made_again(text_dfh_weights, sources):
    fuse_files("ir", "vi", "out")
    first = Path("out/1.png").read_bytes()
    sources.clear()
    assert len(fuse_files("ir", "vi", "out")) == 3 and sources == []

    Path("out/2.png").unlink()  # as after an interrupt
    fuse_files("ir", "vi", "out")
    assert sources == ["2"]

    write_image("ir/3.png", 255 - read_image("ir/3.png"))
    fuse_files("ir", "vi", "out")
    assert sources == ["2", "3"]
    np.testing.assert_array_equal(read_image("out/3.png"), fl.fuse("ir/3.png", "vi/3.png"))

    sources.clear()
    Path("out/1.png").write_bytes(first[:-20])
    fuse_files("ir", "vi", "out")
    assert sources == ["1"] and Path("out/1.png").read_bytes() == first

    sources.clear()
    fuse_files("ir", "vi", "out", "brighter")
    fuse_files("ir", "vi", "out", "brighter")
    assert sources == ["1", "2", "3"] and Path("out/1.png").read_bytes() != first
    fuse_files("ir", "vi", "out")
    assert len(sources) == 6 and Path("out/1.png").read_bytes() == first


def test_other_weights_make_everything_again(sources, monkeypatch):
    fuse_files("ir", "vi", "out")
    monkeypatch.setattr(folders, "file_fingerprint", lambda path: "another")
    fuse_files("ir", "vi", "out")
    assert sources == ["1", "2", "3"] * 2


def test_gray_and_16_bits(sources):
    deep = read_image("vi/1.png")[..., 0].astype(np.uint16) * 257
    write_image("vi/1.png", deep)
    write_image("vi/2.png", read_image("vi/2.png").astype(np.uint16) * 257)
    fuse_files("ir", "vi", "out")
    shapes = {i: (image.shape, image.dtype) for i in (1, 2, 3) for image in [read_image(f"out/{i}.png")]}
    assert shapes == {1: ((14, 19), np.uint16), 2: ((14, 19, 3), np.uint16), 3: ((14, 19, 3), np.uint8)}
    np.testing.assert_array_equal(read_image("out/1.png"), fl.fuse("ir/1.png", deep))


def test_faults_are_named_and_the_rest_is_fused(sources, capfd, monkeypatch):
    write_image("vi/1.png", read_image("vi/1.png")[:9])
    Path("ir/2.png").write_bytes(b"no picture")
    write_image("vi/4.png", read_image("vi/3.png"))
    monkeypatch.setattr(registration, "describe", lambda *_: "they do not line up")
    problems = []
    assert fuse_files("ir", "vi", "out", problems=problems) == [Path("out/3.png")]
    assert [problem.partition(";")[0] for problem in problems] == [
        "vi/4.png: expected its partner infrared in ir, found none called 4",
        "vi/1.png: expected 19x14 like its infrared partner ir/1.png, found 19x9",
        "ir/2.png: expected a whole png, jpg, bmp or tiff image, found 10 bytes that are truncated, damaged or "
        "something else",
    ]
    said = capfd.readouterr().err
    assert all(problem in said for problem in problems) and "not matched: 1" in said and "not fused: 2" in said
    assert "to look at: 1\n  ir/3.png and vi/3.png: they do not line up" in said


def test_other_sizes_are_aligned_on_demand(sources, monkeypatch):
    write_image("ir/1.png", read_image("ir/1.png")[:5])
    monkeypatch.setattr(registration, "align", lambda ir, visible, method: (visible[:1], torch.eye(3)))
    assert len(fuse_files("ir", "vi", "out", align="ecc")) == 3


def test_names_of_the_visible_pictures_and_patterns(sources):
    for i in (1, 2):
        for folder in ("ir", "vi"):
            Path(f"{folder}/{i}.png").rename(f"{folder}/{i}_{folder}.png")
    Path("ir/3.png").unlink()
    assert fuse_files("ir/*_ir", "vi/*_vi.png", "out") == [Path("out/1_vi.png"), Path("out/2_vi.png")]
    assert fuse_files("ir/1_ir.png", "vi/2_vi.png", "one") == [Path("one/2_vi.png")]


def test_pictures_of_others_are_never_overwritten(sources):
    write_image("out/2.png", read_image("vi/2.png"))
    before, problems = Path("out/2.png").read_bytes(), []
    assert fuse_files("ir", "vi", "out", problems=problems) == [Path("out/1.png"), Path("out/3.png")]
    assert problems[0].startswith("out/2.png: expected an image that this command made, found another one")
    assert Path("out/2.png").read_bytes() == before


@pytest.mark.parametrize(("given", "message"), [
    (("ir", "vi", "vi"), "vi: expected a folder apart from the sources"),
    (("ir", "vi", "vi/../ir"), "expected a folder apart from the sources"),
    (("ir/1.png", "vi/1.png", "vi"), "vi: expected a folder apart from the sources"),
    (("ir", "vi/1.png", "out"), "ir: expected a file like its partner, found a folder"),
    (("ir/1.png", "nowhere", "out"), "nowhere: expected a file like its partner, found nothing"),
    (("ir", "nowhere", "out"), "nowhere: expected a folder of images, found nothing"),
    (("ir", "ir", "out"), "the same files"),
    (("empty", "vi", "out"), "No image name is in both folders: .*a star"),
    (("notes.txt", "vi/1.png", "out"), "expected two images .* or two videos .*, found other files"),
    (("ir", "vi", "notes.txt"), r"notes.txt: cannot be written \("),
    (("ir", "vi", "out", ""), "instruction must be"),
    (("ir", "short", "out"), "expected at least one image that can be fused, found none among 1, the first problem"),
])
def test_what_cannot_be_is_refused(sources, given, message):
    Path("notes.txt").write_text("no folder")
    Path("empty").mkdir()
    write_image("short/1.png", read_image("vi/1.png")[:3])
    with pytest.raises(FusionError, match=message):
        fuse_files(*given)
    assert not list(Path().rglob("out/*"))
