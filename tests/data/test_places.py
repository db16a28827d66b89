"""The rules of names and files: depth, links, stars, kinds of files; the same for every command that reads folders."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from fusionlib.__main__ import main
from fusionlib.data import pair_folders, places, read
from fusionlib.data.check import run_check
from fusionlib.data.image_io import read_image, write_image
from fusionlib.data.matching import match_names, pair_up
from fusionlib.experiments import stages
from fusionlib.experiments.run import open_run
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import IMAGE_SUFFIXES, WRITTEN
from fusionlib.viewer.gallery import from_folder

NAMES = ("a1", "a2", "b900")


def pictures(folder, *names, suffix=".png"):
    """Images that all differ."""
    for name in names:
        noise = np.random.default_rng([*map(ord, str(folder / name))]).integers(0, 256, (30, 40), np.uint8)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        data = cv2.imencode(suffix if suffix in WRITTEN else ".png", noise)[1].tobytes()
        (folder / f"{name}{suffix}").write_bytes(data)


def pairs(ir, visible, *names, suffixes=(".png", ".png")):
    pictures(ir, *names, suffix=suffixes[0])
    pictures(visible, *names, suffix=suffixes[1])


def plain(root, other):
    pairs(root / "walk/ir", root / "walk/vi", *NAMES)


def deep(root, other):
    pairs(root / "walk/ir/day", root / "walk/vi/day", *NAMES)
    pairs(root / "walk/ir/night/late", root / "walk/vi/night/late", *NAMES)


def webp(root, other):
    pairs(root / "walk/ir", root / "walk/vi", *NAMES, suffixes=(".png", ".webp"))


def linked_set(root, other):
    plain(other, root)
    root.mkdir()
    (root / "walk").symlink_to(other / "walk")


def linked_root(root, other):
    plain(other, root)
    root.symlink_to(other)


def linked_sides(root, other):
    pairs(other / "cam1", other / "cam2", *NAMES)
    (root / "walk").mkdir(parents=True)
    (root / "walk/ir").symlink_to(other / "cam1")
    (root / "walk/vi").symlink_to(other / "cam2")


def linked_folders(root, other):
    pairs(other / "cam1", other / "cam2", *NAMES)
    for side, camera in (("ir", "cam1"), ("vi", "cam2")):
        (root / "walk" / side).mkdir(parents=True)
        (root / "walk" / side / "day").symlink_to(other / camera)
        (root / "walk" / side / "again").symlink_to(root / "walk" / side)  # to where it lies


def linked_files(root, other):
    pairs(other / "cam1", other / "cam2", *NAMES)
    for side, camera in (("ir", "cam1"), ("vi", "cam2")):
        (root / "walk" / side).mkdir(parents=True)
        for name in NAMES:
            (root / "walk" / side / f"{name}.png").symlink_to(other / camera / f"{name}.png")


@pytest.mark.parametrize(("layout", "prefixes"), [
    (plain, [""]), (deep, ["day/", "night/late/"]), (webp, [""]), (linked_root, [""]), (linked_set, [""]),
    (linked_sides, [""]), (linked_folders, ["day/"]), (linked_files, [""]),
])  # fmt: skip
def test_what_one_command_reads_all_read(tmp_path, capsys, monkeypatch, layout, prefixes):
    root, out = tmp_path / "root", tmp_path / "out"
    layout(root, tmp_path / "other")
    names = sorted(prefix + name for prefix in prefixes for name in NAMES)
    assert [pair.name for pair in read(root).pairs] == names
    assert run_check(root) == 0 and f"usable pairs: {len(names)}, problems: 0" in capsys.readouterr().out
    report = stages.data(open_run("small", root, out))  # as notebook 01
    assert [pair.name for pair in report.pairs] == names and not report.problems
    split = open_run("small", root, out).split  # from the manifest
    assert sorted(pair.name for of in split.values() for pair in of) == names
    assert [pair.name for pair in pair_folders(root / "walk/ir", root / "walk/vi").pairs] == names
    assert list(match_names({"infrared": root / "walk/ir", "visible": root / "walk/vi"})[0]) == names  # fuse, metrics
    assert [entry.name for entry in from_folder(root).entries] == [f"walk/{name}" for name in names]  # browse
    command = ["ask", "--images", str(root), "--store", str(tmp_path / "store"), "--backend", "fixed"]
    assert main(command) == 0 and f"{2 * len(names)} images" in capsys.readouterr().out


@pytest.mark.parametrize(("parts", "name"), [
    (("1.png",), "1"), (("day", "a.b.png"), "day/a.b"), (("images", "train", "1.png"), "train/1"),
    (("day", "Validation", "data", "1.png"), "val/day/1"), (("labels", "train.txt"), "train"),
    (("train", "test", "1.png"), "train/test/1"),
])  # fmt: skip
def test_names(parts, name):
    assert places.name_of(parts) == name
    assert places.part_of(name)[0] == (name.split("/")[0] if name.startswith(("train/", "val/")) else "")


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    for name in (".1", ".trash/2", "3/.4", "5"):
        pictures(tmp_path, name)
    assert [name for name, _ in places.files(tmp_path)] == ["5"]


def test_a_link_to_nothing_is_named_and_one_to_itself_harms_nobody(tmp_path):
    pairs(tmp_path / "ir", tmp_path / "vi", "1")
    for side in ("ir", "vi"):
        (tmp_path / side / "2.png").symlink_to(tmp_path / "gone.png")
        (tmp_path / side / "loop").symlink_to(tmp_path / side / "loop")
    report = read(tmp_path)
    assert [pair.name for pair in report.pairs] == ["1"]
    assert [(p.kind, p.path.name) for p in report.problems] == [("unreadable", "2.png")] * 2


def test_the_home_folder_and_the_working_folder(tmp_path, monkeypatch):
    pairs(tmp_path / "home/walk/ir", tmp_path / "home/walk/vi", "1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "home/walk")
    for ir, visible in (("~/walk/ir", "~/walk/vi"), ("ir", "vi"), ("~/walk/i*", "~/walk/v*"), ("i*", "v*")):
        assert len(pair_folders(ir, visible).pairs) == 1
    assert len(read("~/walk").pairs) == len(read(".").pairs) == 1 and places.find_images("~/walk").keys() == {
        "ir/1", "vi/1"}
    assert main(["data", "check", "~/walk", "--json", "~/report.json"]) == 0
    assert (tmp_path / "home" / "report.json").is_file()


def test_stars_in_files_and_folders(tmp_path):
    for name in ("FLIR_0001", "FLIR_0002"):
        pictures(tmp_path / "all", f"{name}_PreviewData", suffix=".jpeg")
        pictures(tmp_path / "all", f"{name}_RGB", suffix=".jpg")
    pictures(tmp_path / "all", "FLIR_0003_RGB", suffix=".png")  # of another suffix than the pattern
    report = pair_folders(tmp_path / "all/*_PreviewData.jpeg", tmp_path / "all/*_RGB.jpg")
    assert [pair.label for pair in report.pairs] == ["all/FLIR_0001", "all/FLIR_0002"] and not report.problems

    for video in ("set00/V000", "set00/V001", "set01/V000"):
        pairs(tmp_path / "KAIST" / video / "lwir", tmp_path / "KAIST" / video / "visible", "I0", suffixes=(".jpg",) * 2)
    found, problems = match_names({"infrared": f"{tmp_path}/KAIST/set*/V*/lwir", "visible":
                                   f"{tmp_path}/KAIST/set*/V*/visible/*.jpg"})
    assert list(found) == ["00/000/I0", "00/001/I0", "01/000/I0"] and not problems
    parts = [pair.split for pair in pair_folders(_part(tmp_path, "thermal"), _part(tmp_path, "rgb")).pairs]
    assert parts == ["train", "val"]  # a star can stand for the part


def _part(folder, side):
    for part in ("train", "val"):
        pictures(folder / f"images_{side}_{part}" / "data", f"1{part}")
    return folder / f"images_{side}_*" / "data"


def test_file_names_alone_match_where_no_path_does(tmp_path):
    pairs(tmp_path / "ir/one", tmp_path / "vi/two", "1", "2")
    pictures(tmp_path / "fused/LLVIP/test", "2", "1")
    found, problems = match_names({role: tmp_path / role for role in ("fused", "ir", "vi")})
    assert list(found) == ["1", "2"] and not problems
    pictures(tmp_path / "ir/three", "1")  # which 1 is meant?
    found, problems = match_names({role: tmp_path / role for role in ("fused", "ir", "vi")})
    assert list(found) == ["2"] and len(problems) == 1


def test_file_names_keep_the_part_of_the_data_set(tmp_path):
    for part in ("train", "test"):
        pairs(tmp_path / "walk/ir" / part / "one", tmp_path / "walk/vi" / part / "two", part[:2], "x")
    assert [(pair.split, pair.name) for pair in read(tmp_path).pairs] == [
        ("train", "tr"), ("train", "x"), ("test", "te"), ("test", "x")]


def test_a_place_in_another_one_has_its_images_alone(tmp_path):
    pairs(tmp_path / "ir", tmp_path / "ir/vi", "1", "2")
    pictures(tmp_path / "ir/out", "1")
    found, problems = match_names({"infrared": tmp_path / "ir", "visible": tmp_path / "ir/vi"}, tmp_path / "ir/out")
    assert list(found) == ["1", "2"] and not problems
    assert found["1"]["infrared"] == tmp_path / "ir/1.png" and found["1"]["visible"] == tmp_path / "ir/vi/1.png"


@pytest.mark.parametrize("suffix", [".webp", ".ppm", ".jfif", ".JPG", ".gif", ".avif"])
def test_other_kinds_of_images_are_found(tmp_path, suffix):
    pairs(tmp_path / "ir", tmp_path / "vi", "1", suffixes=(".png", suffix))
    assert suffix.lower() in IMAGE_SUFFIXES and len(read(tmp_path).pairs) == 1
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    if suffix == ".webp":
        write_image(tmp_path / "vi/1.webp", image)
        np.testing.assert_array_equal(read_image(tmp_path / "vi/1.webp"), image)  # without loss


def test_a_file_of_a_kind_that_is_not_read_is_named(tmp_path, capsys):
    pairs(tmp_path / "ir", tmp_path / "vi", "1", "2")
    (tmp_path / "vi/2.png").rename(tmp_path / "vi/2.heic")
    (tmp_path / "vi/notes.txt").touch()
    problems = []
    assert list(pair_up({"infrared": tmp_path / "ir", "visible": tmp_path / "vi"}, problems)) == ["1"]
    assert [(problem.kind, problem.path.name) for problem in problems] == [("format", "2.heic"), ("partner", "2.png")]
    assert str(problems[1]) == (f"{tmp_path}/ir/2.png: expected its partner visible in {tmp_path}/vi, found "
                                f"{tmp_path}/vi/2.heic, which is not read; convert it")
    assert run_check(tmp_path) == 3
    said = capsys.readouterr().out
    assert "vi/2.heic: expected an image (png, jpg, bmp, tiff, webp or the like), found a file of another kind" in said
    command = ["--ir", str(tmp_path / "ir"), "--visible", str(tmp_path / "vi")]
    assert main(["metrics", "--fused", str(tmp_path / "ir"), *command]) == 1  # the same files
    assert "2.heic" not in capsys.readouterr().out


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    pairs(tmp_path / "ir", tmp_path / "vi", "1")

    def refused(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(places.os, "scandir", refused)
    with pytest.raises(FusionError, match=r"ir: expected a folder that can be listed, .*\(Permission denied\)"):
        places.files(tmp_path / "ir")


def test_masks_among_labels_are_no_images(tmp_path):
    pairs(tmp_path / "ir", tmp_path / "vi", "1")
    pictures(tmp_path / "ir/labels", "1")
    report = read(tmp_path)
    assert len(report.pairs) == 1 and not report.problems and report.pairs[0].ir == tmp_path / "ir/1.png"


def test_images_called_alike_are_both_asked_about(tmp_path):
    pictures(tmp_path, "day/1")
    pictures(tmp_path, "day/1", suffix=".jpg")
    assert list(places.find_images(tmp_path)) == ["day/1.jpg", "day/1.png"]
    assert list(places.find_images(tmp_path / "day/*.jpg")) == ["1"]
    assert isinstance(places.find_images(tmp_path)["day/1.png"], Path)


def test_accents_in_names_may_be_one_character_or_two(tmp_path):
    pictures(tmp_path / "walk" / "ir", "caf\u00e9")
    pictures(tmp_path / "walk" / "vi", "cafe\u0301")
    report = read(tmp_path)
    assert [pair.name for pair in report.pairs] == ["caf\u00e9"] and not report.problems
