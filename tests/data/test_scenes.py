"""Scenes: from tables, from numbers, in splits and manifests; and files that two data sets share."""

from collections import Counter

import numpy as np
import pytest

from fusionlib.config import profile
from fusionlib.data import Pair, choose, pair_folders, read, read_manifest, scenes, write_image, write_manifest
from fusionlib.data.check import check, describe
from fusionlib.data.datasets import ignored, people
from fusionlib.data.scenes import by_number
from fusionlib.data.splits import parts


def data_set(folder, *names, labels=()):
    """Pairs of images that differ in all names and folders; `labels` are the lines of each file."""
    for name in names:
        for number, side in enumerate(("ir", "vi")):
            seed = [ord(c) for c in folder.name + name]
            write_image(folder / side / f"{name}.png", np.random.default_rng([number, *seed]).integers(
                0, 256, (30, 40), dtype=np.uint8))
    for name, line in dict(labels).items():
        (folder / "labels").mkdir(exist_ok=True)
        (folder / "labels" / f"{name}.txt").write_text(line)


def scene_of(report):
    return {pair.label: pair.scene for pair in report.pairs}


@pytest.mark.parametrize("file", ["scenes.tsv", "manifest.tsv"])
def test_a_table_in_the_folder_or_around_it(tmp_path, file):
    data_set(tmp_path / "walk", "a", "b", "c")
    data_set(tmp_path / "ride", "a")
    table = "\ufeffname\tweather\tscene\tfolder\na.png\tfine \"day\tpark\twalk\nb\t\tlake\twalk\na\train\troad\tride\n"
    (tmp_path / file).write_text(table)
    report = read(tmp_path)
    expected = {"ride/a": "road", "walk/a": "park", "walk/b": "lake", "walk/c": ""}
    assert scene_of(report) == expected and not report.problems
    assert report.notes == ["1 of 3 pairs of walk have no scene in its table, the first is c"]
    assert scene_of(read(tmp_path / "walk")) == {k: v for k, v in expected.items() if "walk" in k}
    # a table of its own comes first
    (tmp_path / "walk" / file).write_text("scene\tname\nbeach\ta\nbeach\tb\nbeach\tc\n")
    assert set(scene_of(read(tmp_path / "walk")).values()) == {"beach"}
    pairs = pair_folders(tmp_path / "walk" / "ir", tmp_path / "walk" / "vi").pairs
    assert {pair.scene for pair in pairs} == {"beach"}
    assert scenes.names(read(tmp_path).pairs) == ["road", "beach", "beach", "beach"]


def test_people_without_boxes_make_the_image_a_region_to_ignore(tmp_path):
    labels = {"a": "0 .5 .5 .5 .5\n", "b": "0 .5 .5 .5 .5\n", "c": "", "e": "0 .5 .5 .5 .5\n1 .25 .5 .5 1\n"}
    data_set(tmp_path / "walk", *"abcde", labels=labels)
    (tmp_path / "walk" / "labels" / "classes.txt").write_text("person\nIgnored Regions\n")
    (tmp_path / "walk" / "scenes.tsv").write_text(
        "name\tscene\tcomplete\na\t1\tyes\nb\t1\tno\nc\t2\tNo\nd\t3\tno\ne\t3\t\n")
    a, b, c, d, e = read(tmp_path).pairs
    assert [len(people(pair)) for pair in (a, b, c, e)] == [1, 1, 0, 1]
    assert [ignored(pair).tolist() for pair in (a, b, c, e)] == [[], [[0, 0, 40, 30]], [[0, 0, 40, 30]],
                                                                [[0, 0, 20, 30]]]
    assert d.boxes is None and d.classes is None  # nobody labelled it


@pytest.mark.parametrize("content,scene,message", [
    (b"name,scene\na,park\n", "", "expected a header with the tab-separated columns name and scene, found name,scene"),
    (b"", "", "name and scene, found nothing"),
    (b"name\tscene\na\tpark\na\tlake\n", "park", "line 3 repeats the name a"),
    (b"name\tscene\na\n", "", "line 2, a: expected a scene"),
    (b"name\tscene\tcomplete\na\tpark\tpartly\n", "park", "found 'park' and 'partly'"),
    (b"name\tscene\n\xff\xfe\n", "", "cannot be read"),
])
def test_bad_tables_are_named(tmp_path, content, scene, message):
    data_set(tmp_path / "walk", "a", labels={"a": ""})
    (tmp_path / "walk" / "scenes.tsv").write_bytes(content)
    report = read(tmp_path)
    (problem,) = report.problems
    assert (problem.kind, problem.path.name) == ("scene", "scenes.tsv") and message in problem.message
    assert report.pairs[0].scene == scene and len(ignored(report.pairs[0])) == (b"partly" in content)


def test_a_manifest_about_something_else_is_passed_over(tmp_path):
    data_set(tmp_path / "walk", "a")
    (tmp_path / "walk" / "manifest.tsv").write_text("file\tsha256\na.png\t0\n")
    report = read(tmp_path)
    assert report.pairs[0].scene == "" and not report.problems and not report.notes


def pairs_of(dataset, *names, split=""):
    return [Pair(dataset, split, name, None, None) for name in names]


@pytest.mark.parametrize("dataset,names,expected", [
    ("LLVIP", ["010001", "010101", "010202", "190001"], ["010001", "010001", "010202", "190001"]),
    ("walk", ["x1_07", "x2_07", "x2_008", "alone"], ["x1_07", "x2_07", "x2_07", ""]),
    ("M3FD", ["00000", "00001", "00099"], ["", "", ""]),  # one scene says nothing
    ("MSRS", ["00001D", "00900D", "00002N"], ["", "", ""]),
    ("walk", ["b", "a"], ["", ""]),
    ("KAIST", ["set00/V000/I00000", "set00/V000/I09999", "set00/V001/I00000"], ["set00/V000"] * 2 + ["set00/V001"]),
    ("KAIST", ["set00_V000_I00000", "set00_V000_I09999", "set00_V001_I00000"], ["set00_V000"] * 2 + ["set00_V001"]),
    ("FLIR", ["video-5Rx-frame-000001-a", "video-5Rx-frame-000900-b", "video-7-frame-1-c"],
     ["video-5Rx"] * 2 + ["video-7"]),
    ("walk", ["seq1_001", "seq1_999", "seq2_001", "day_1"], ["seq1", "seq1", "seq2", "day_1"]),
    ("walk", ["day/001", "day/050", "day/999"], ["day/001", "day/001", "day/999"]),  # one folder says nothing
    ("RoadScene", ["FLIR_video_00248", "FLIR_video_00595"], ["FLIR_video_00248", "FLIR_video_00595"]),
])
def test_scenes_by_number(dataset, names, expected):
    assert [pair.scene for pair in by_number(pairs_of(dataset, *names))] == [
        f"{dataset}/{scene}" if scene else "" for scene in expected]
    assert [pair.scene for pair in by_number(pairs_of(dataset, *names[::-1]))] == [
        f"{dataset}/{scene}" if scene else "" for scene in expected[::-1]]


def test_numbers_count_only_where_no_scene_is_known():
    known = [Pair("walk", "", "1", None, None, scene="park")]
    both = by_number(known + pairs_of("walk", "900") + pairs_of("ride", "1", "900", split="train"))
    assert [pair.scene for pair in both] == ["park", "", "ride/1", "ride/900"]


def test_a_video_is_on_one_side(tmp_path):
    videos = [f"set{s:02d}/V{v:03d}" for s in range(2) for v in range(6)]
    for video in videos:
        data_set(tmp_path / "walk" / video, "I00000", "I00500", "I02000")
    pairs = read(tmp_path).pairs
    assert len(pairs) == 36 and {pair.dataset for pair in pairs} == {"walk"}
    found = sides(choose(pairs))
    assert set(found) == {f"walk/{video}" for video in videos} and all(len(split) == 1 for split in found.values())
    counts = Counter(split for of in found.values() for split in of)
    assert counts == {"train": 9, "test": 3}  # nearest to four fifths of the pairs
    used = parts(choose(pairs), profile("small", validation=3, detector=""))
    assert not {p.scene for p in used.fusion_train} & {p.scene for p in used.test}


def test_a_table_names_frames_of_videos_by_file_or_by_path(tmp_path):
    for video in ("day", "night"):
        data_set(tmp_path / "walk", f"{video}/1")
    (tmp_path / "walk" / "scenes.tsv").write_text("name\tscene\nday/1.png\tpark\nnight/1\tlake\n")
    assert scene_of(read(tmp_path)) == {"walk/day/1": "park", "walk/night/1": "lake"}
    (tmp_path / "walk" / "scenes.tsv").write_text("name\tscene\n1.png\tpark\n")
    assert scene_of(read(tmp_path)) == {"walk/day/1": "park", "walk/night/1": "park"}


def own(dataset, sizes):
    return [Pair(dataset, "", f"{scene}{i}", None, None, scene=scene) for scene, size in sizes.items()
            for i in range(size)]


def sides(chosen):
    found = {}
    for split, pairs in chosen.items():
        for pair in pairs:
            found.setdefault(pair.scene, set()).add(split)
    return found


def test_own_pairs_are_divided_by_scene():
    draw = np.random.default_rng(0)
    shares = []
    for number in range(30):
        sizes = {f"s{i}": int(draw.integers(1, 9)) for i in range(int(draw.integers(2, 30)))}
        pairs = own(f"walk{number}", sizes)
        chosen = choose(pairs)
        assert Counter(map(id, chosen["train"] + chosen["test"])) == Counter(map(id, pairs))
        assert all(len(split) == 1 for split in sides(chosen).values()) and chosen["train"] and chosen["test"]
        if len(sizes) > 9:
            shares.append(len(chosen["train"]) / len(pairs))
        assert {s: [p.label for p in of] for s, of in choose(pairs[::-1]).items()} == {
            s: [p.label for p in of] for s, of in chosen.items()}
    assert len(shares) > 10 and 0.7 < min(shares) and max(shares) < 0.9
    assert np.mean(shares) == pytest.approx(0.8, abs=0.03)


def test_one_scene_is_divided_by_pairs_and_two_are_not():
    chosen = choose(own("walk", {"a": 10}))
    unknown = choose([Pair("walk", "", f"a{i}", None, None) for i in range(10)])
    assert [p.name for p in chosen["train"]] == [p.name for p in unknown["train"]] and len(chosen["train"]) == 8
    chosen = choose(own("walk", {"a": 30, "b": 1}))
    assert sorted(map(len, chosen.values())) == [1, 30]


def test_a_scene_is_on_one_side_in_all_data_sets():
    official = [Pair("MSRS", "train", "1", None, None, scene="a"), Pair("MSRS", "test", "2", None, None, scene="b")]
    mine = own("walk", {"a": 3, "b": 9, "c": 1}) + own("ride", {"a": 4}) + own("drive", {"b": 2, "c": 1})
    found = sides(choose(official + mine))
    assert found["a"] == {"train"} and found["b"] == {"test"} and len(found["c"]) == 1
    # the names of a rule, in a data set of another name
    again = [Pair("RoadScene_labelled", "", name, None, None, scene=scene) for name, scene in (
        ("FLIR_00211", "x"), ("FLIR_09999", "x"), ("FLIR_09998", "y"))]
    assert sides(choose(again)) == {"x": {"train"}, "y": {"test"}}


def test_the_manifest_carries_scenes_and_regions(tmp_path):
    data_set(tmp_path / "walk", "a", "b", labels={"a": "0 .5 .5 .5 .5\n"})
    (tmp_path / "walk" / "scenes.tsv").write_text("name\tscene\tcomplete\na\tpark\tno\nb\tlake\tyes\n")
    split = choose(read(tmp_path).pairs)
    write_manifest(tmp_path / "m.json", split, tmp_path)
    again = {p.name: p for of in read_manifest(tmp_path / "m.json", tmp_path).values() for p in of}
    assert (again["a"].scene, again["b"].scene) == ("park", "lake") and again["b"].boxes is None
    assert ignored(again["a"]).tolist() == [[0, 0, 40, 30]] and len(people(again["a"])) == 1


def copy(source, target, names):
    for side in ("ir", "vi"):
        (target / side).mkdir(parents=True, exist_ok=True)
        for old, new in names.items():
            (target / side / f"{new}.png").write_bytes((source / side / f"{old}.png").read_bytes())


def test_files_that_two_data_sets_share_are_used_once(tmp_path):
    data_set(tmp_path / "RoadScene", "FLIR_1", "FLIR_2", "FLIR_3", labels={"FLIR_3": ""})
    copied = tmp_path / "A_labelled"  # before the official one in the order of paths
    copy(tmp_path / "RoadScene", copied, {"FLIR_1": "R1", "FLIR_3": "R3"})
    data_set(copied, "own", labels={"R1": "0 .5 .5 .5 .5\n", "R3": "0 .5 .5 .5 .5\n"})
    (copied / "scenes.tsv").write_text("name\tscene\nR1\tpark\nR3\tlake\nown\tlake\n")
    report = read(tmp_path)
    assert scene_of(report) == {"A_labelled/own": "lake", "RoadScene/FLIR_1": "park", "RoadScene/FLIR_2": "",
                                "RoadScene/FLIR_3": "lake"}
    boxes = {pair.name: pair.boxes for pair in report.pairs}
    assert boxes["FLIR_1"].tolist() == [[10, 7.5, 30, 22.5]] and boxes["FLIR_2"] is None and len(boxes["FLIR_3"]) == 0
    assert report.notes[1:] == ["2 pairs of A_labelled are left out, since RoadScene has the same files, which get "
                                "boxes and scenes from them where they have none: R1, R3"]
    text = describe(check(tmp_path, progress=False))
    assert report.notes[0] in text and "\nscenes: 1 of A_labelled, 2 of RoadScene\n" in text
    # one file of two does not make a copy
    write_image(copied / "vi" / "R1.png", np.zeros((30, 40), np.uint8))
    assert "A_labelled/R1" in scene_of(read(tmp_path))


def test_the_labelled_collection(shared, tmp_path):
    if not (shared / "labelled" / "manifest.tsv").is_file():
        pytest.skip("the labelled collection is not here")
    report = read(shared / "labelled")
    assert len(report.pairs) == 101 and not report.problems and not report.notes
    assert sum(len(people(pair)) for pair in report.pairs) == 461 and len({p.scene for p in report.pairs}) == 78
    lines = [line.split("\t") for line in (shared / "labelled" / "manifest.tsv").read_text().splitlines()]
    incomplete = {row[0] for row in lines if row[lines[0].index("complete")] == "no"}
    assert {pair.name for pair in report.pairs if len(ignored(pair))} == incomplete and incomplete
    chosen = choose(report.pairs)
    assert all(len(split) == 1 for split in sides(chosen).values())
    assert {p.dataset for p in chosen["train"]} == {p.dataset for p in chosen["test"]} == {
        f"{name}_labelled" for name in ("M3SVD", "MSRS", "RoadScene", "VTUAV")}
    # beside the data sets that it takes frames from
    for folder in [*(shared / "data").iterdir(), *(shared / "labelled").iterdir()]:
        if folder.suffix != ".md":
            (tmp_path / folder.name).symlink_to(folder)
    both = choose(read(tmp_path).pairs)
    assert Counter(p.dataset for of in both.values() for p in of if p.boxes is not None)["RoadScene"] == 68
    assert [s for s, split in sides(both).items() if s and "/" not in s and len(split) > 1] == []
    alone = choose(read(shared / "data").pairs)
    assert [p.label for p in alone["test"]] == [p.label for p in both["test"] if "_labelled" not in p.dataset]
