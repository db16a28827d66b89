"""Official layouts, own folders, labels, and the report on what is wrong with them."""

import json

import numpy as np
import pytest

from fusionlib.data import find, pair_folders, read, read_labels, write_image
from fusionlib.data.check import check, describe, run_check, table
from fusionlib.data.splits import choose
from fusionlib.utils.errors import FusionError

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def pictures(folder, *names, shape=(40, 60)):
    for name in names:
        write_image(folder / name, IMAGE[: shape[0], : shape[1]])


def voc(path, *objects, size=(40, 60)):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = f"<size><width>{size[1]}</width><height>{size[0]}</height></size>"
    path.write_text(f"<annotation>{shape}{''.join(OBJECT.format(*item) for item in objects)}</annotation>")
    return path


def yolo(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def llvip(folder):
    for split, names in {"train": ["1.jpg", "2.jpg"], "test": ["3.jpg"]}.items():
        pictures(folder / "infrared" / split, *names)
        pictures(folder / "visible" / split, *names)
    voc(folder / "Annotations" / "1.xml", ("person", 1, 2, 30, 40))
    voc(folder / "Annotations" / "3.xml")


def keys(report):
    return [(pair.dataset, pair.split, pair.name) for pair in report.pairs]


def test_llvip(tmp_path):
    llvip(tmp_path / "LLVIP" / "LLVIP")  # as its archive unpacks
    report = read(tmp_path)
    assert keys(report) == [("LLVIP", "train", "1"), ("LLVIP", "train", "2"), ("LLVIP", "test", "3")]
    one, two, three = report.pairs
    np.testing.assert_array_equal(one.boxes, [[1, 2, 30, 40]])
    assert one.boxes.dtype == np.float32 and one.classes == ("person",)
    assert two.boxes is None and two.classes is None  # no labels
    assert three.boxes.shape == (0, 4) and three.classes == ()  # labels that say: nobody
    assert not report.problems and not report.notes
    assert one.visible == tmp_path / "LLVIP" / "LLVIP" / "visible" / "train" / "1.jpg"


def test_msrs(tmp_path):
    for split, name in {"train": "00001D", "test": "00002N"}.items():
        pictures(tmp_path / "MSRS-main" / split / "ir", f"{name}.png")
        pictures(tmp_path / "MSRS-main" / split / "vi", f"{name}.png")
    yolo(tmp_path / "MSRS-main/detection/labels/00002N.txt", "0 0.5 0.5 0.5 0.25\n\n2 0.1 0.1 0.2 0.2\n1 .5 .5 .1 .1\n")
    report = read(tmp_path)
    assert keys(report) == [("MSRS", "train", "00001D"), ("MSRS", "test", "00002N")]
    np.testing.assert_allclose(report.pairs[1].boxes, [[15, 15, 45, 25], [0, 0, 12, 8]], atol=1e-5)
    assert report.pairs[1].classes == ("person", "car")
    assert [problem.kind for problem in report.problems] == ["class"]
    assert "00002N.txt: line 4 is of the unknown class '1'" in str(report.problems[0])


def test_m3fd(tmp_path):
    for folder, ir, visible, height in [("M3FD_Fusion", "Ir", "Vis", 40), ("M3FD_Detection", "ir", "vis", 30)]:
        pictures(tmp_path / folder / ir, "00000.png", shape=(height, 60))
        pictures(tmp_path / folder / visible, "00000.png", shape=(height, 60))
    boxes = [(name, 0, 0, 9, 9) for name in ("People", "Car", "Bus", "Motorcycle", "Lamp", "Truck")]
    voc(tmp_path / "M3FD_Detection" / "Annotation" / "00000.xml", *boxes, size=(30, 60))
    report = read(tmp_path)
    assert keys(report) == [("M3FD_Detection", "", "00000"), ("M3FD", "", "00000")]
    assert report.pairs[0].classes == ("person", "car", "bus", "motorcycle", "lamp", "truck")
    assert report.pairs[1].boxes is None and not report.problems


def test_roadscene_is_known_by_its_folders(tmp_path):
    pictures(tmp_path / "download" / "cropinfrared", "FLIR_1.jpg")
    pictures(tmp_path / "download" / "crop_LR_visible", "FLIR_1.jpg")
    assert list(find(tmp_path)) == ["RoadScene"] == list(find(tmp_path / "download"))


@pytest.mark.parametrize("ir,visible", [
    ("ir", "vi"), ("IR", "Vis"), ("infrared", "visible"), ("thermal", "rgb"), ("thermal_8_bit", "RGB_images"),
    ("ThermalImages", "color"), ("FIR", "Visible"), ("walk_tir", "walk-vis"),
])
def test_own_folders(tmp_path, ir, visible):
    pictures(tmp_path / "walk" / ir, "a.png", "b.tiff")
    pictures(tmp_path / "walk" / visible, "a.jpg", "b.bmp")
    yolo(tmp_path / "walk" / "labels" / "classes.txt", "car\npedestrian\n")
    yolo(tmp_path / "walk" / "labels" / "a.txt", "1 0.5 0.5 1 1\n")
    report = read(tmp_path / "walk")
    assert keys(report) == keys(read(tmp_path)) == [("walk", "", "a"), ("walk", "", "b")]
    assert report.pairs[0].classes == ("person",) and report.pairs[0].boxes.tolist() == [[0, 0, 60, 40]]


def test_two_folders_with_a_word_that_cannot_be_told_apart_are_none(tmp_path):
    pictures(tmp_path / "walk" / "rgb", "1.png")
    for folder in ("ir_left", "ir_right", "fused_ir"):
        pictures(tmp_path / "walk" / folder, "1.png")
    assert find(tmp_path) == {}
    with pytest.raises(FusionError, match=r"two folders of any names can be given as ir= and visible="):
        read(tmp_path)
    pictures(tmp_path / "walk" / "ir", "1.png")  # its very name comes first
    report = read(tmp_path)
    assert [pair.ir.parent.name for pair in report.pairs] == ["ir"]
    assert report.notes == [
        f"1 images in {tmp_path / 'walk' / folder} are not used: it is no infrared or visible folder with a partner"
        for folder in ("fused_ir", "ir_left", "ir_right")]
    pictures(tmp_path / "RGB-T_sets" / "walk" / "ir", "2.png")  # a word in the name of what holds data sets
    pictures(tmp_path / "RGB-T_sets" / "walk" / "vi", "2.png")
    pictures(tmp_path / "thermal_sets" / "ir", "2.png")
    pictures(tmp_path / "thermal_sets" / "vi", "2.png")
    assert list(find(tmp_path)) == ["walk", "thermal_sets", f"{tmp_path.name}/walk"]


def test_data_sets_of_one_name_and_far_below(tmp_path):
    for folder in ("a/x/walk", "b/x/walk", "c/x/walk", "d/e/f/g/h/ride"):
        pictures(tmp_path / folder / "ir", f"{folder[0]}.png")
        pictures(tmp_path / folder / "vi", f"{folder[0]}.png", shape=(40, 60))
    pictures(tmp_path / "runs" / "quick" / "scenes" / "ir", "1.png")  # results of the suite
    pictures(tmp_path / "runs" / "quick" / "scenes" / "vi", "1.png")
    assert list(find(tmp_path)) == ["walk", "x/walk", "c/x/walk", "ride"]
    (tmp_path / "d" / "LLVIP").symlink_to(tmp_path / "a/x/walk")  # the name of a link counts, if it is a known one
    (tmp_path / "d" / "LLVIP2").symlink_to(tmp_path / "d/e")
    assert list(find(tmp_path)) == ["walk", "x/walk", "c/x/walk", "LLVIP", "ride", "h/ride"]
    (tmp_path / "d" / "up").symlink_to(tmp_path)
    assert list(find(tmp_path)) == ["walk", "x/walk", "c/x/walk", "LLVIP", "ride", "h/ride"]


def test_sequences_and_containers_belong_to_the_data_set_around_them(tmp_path):
    folders = "walk/images/seq1", "walk/images/seq2", "ride/12", "drive/data/train", "drive/data/test"
    for number, folder in enumerate(folders):
        pictures(tmp_path / folder / "ir", "1.png", shape=(40 - number, 60))
        pictures(tmp_path / folder / "vi", "1.png", shape=(40 - number, 60))
    assert [pair.label for pair in read(tmp_path).pairs] == [
        "drive/train/1", "drive/test/1", "ride/12/1", "walk/seq1/1", "walk/seq2/1"]
    pictures(tmp_path / "ride" / "12" / "ir" / "images", "1.png")
    pictures(tmp_path / "ride" / "12" / "vi" / "images", "1.png")
    report = read(tmp_path / "ride")
    assert keys(report) == [("ride", "", "12/1")] and [p.kind for p in report.problems] == ["duplicate"] * 2


def test_any_two_folders(tmp_path):
    pictures(tmp_path / "cam1", "a.png")
    pictures(tmp_path / "cam2", "a.png")
    voc(tmp_path / "marks" / "a.xml", ("person", 0, 0, 5, 5))
    assert find(tmp_path) == {}
    pair = pair_folders(tmp_path / "cam1", tmp_path / "cam2", tmp_path / "marks", dataset="mine").pairs[0]
    assert (pair.dataset, pair.split, pair.name, len(pair.boxes)) == ("mine", "", "a", 1)
    with pytest.raises(FusionError, match="cam3: expected a folder"):
        pair_folders(tmp_path / "cam1", tmp_path / "cam3")


def test_two_folders_on_two_drives_are_told(tmp_path, monkeypatch):
    def of_windows(paths):
        raise ValueError("Paths don't have the same drive")

    for folder in ("cam1", "cam2"):
        pictures(tmp_path / folder, "a.png")
    monkeypatch.setattr("fusionlib.data.layouts.os.path.commonpath", of_windows)
    both = f"{tmp_path / 'cam1'} and {tmp_path / 'cam2'}"
    with pytest.raises(FusionError, match=f"^{both}: expected folders on one drive, found several drives; copy them"):
        pair_folders(tmp_path / "cam1", tmp_path / "cam2")


def test_two_folders_or_a_data_root(tmp_path, capsys):
    pictures(tmp_path / "cam1", "a.png")
    pictures(tmp_path / "cam2", "a.png")
    voc(tmp_path / "marks" / "a.xml", ("person", 0, 0, 5, 5))
    given = {"ir": tmp_path / "cam1", "visible": f"{tmp_path}/cam2/*.png"}
    assert len(read(**given, labels=tmp_path / "marks").pairs[0].boxes) == 1 and read(**given).pairs[0].boxes is None
    assert run_check(**given, labels=tmp_path / "marks") == 0
    assert f"{tmp_path}: usable pairs: 1, problems: 0" in capsys.readouterr().out
    for wrong in ({}, {"ir": "cam1"}, {"labels": "marks"}, {"root": tmp_path, **given}):
        with pytest.raises(FusionError, match="expected either a folder with data sets or both ir and visible"):
            read(**wrong)


def test_names_choose_data_sets(tmp_path):
    for folder in ("a/Scenes", "b/Scenes", "LLVIP"):
        llvip(tmp_path / folder)
    assert list(find(tmp_path)) == ["LLVIP", "Scenes", "b/Scenes"]
    assert {pair.dataset for pair in read(tmp_path, ["Scenes"]).pairs} == {"Scenes"}
    with pytest.raises(FusionError, match="expected the data set MSRS, found LLVIP, Scenes, b/Scenes"):
        read(tmp_path, ["MSRS"])


def test_medical_data_is_passed_over(tmp_path):
    llvip(tmp_path / "LLVIP")
    pictures(tmp_path / "Harvard" / "CT-MRI" / "CT", "1.png")
    pictures(tmp_path / "Harvard" / "CT-MRI" / "MRI", "1.png")
    report = read(tmp_path)
    assert {pair.dataset for pair in report.pairs} == {"LLVIP"} and not report.problems
    assert report.notes == [
        "Harvard is skipped: it does not hold one infrared and one visible folder, such as ir and vi"]
    with pytest.raises(FusionError, match="expected data sets with folders"):
        read(tmp_path / "Harvard")


def test_every_problem_names_its_file_and_the_rest_goes_on(tmp_path, capsys):
    ir, visible = tmp_path / "own" / "ir", tmp_path / "own" / "vi"
    pictures(ir, *(f"{name}.png" for name in ("good", "alone", "double", "small", "cut", "text")))
    pictures(visible, *(f"{name}.png" for name in ("good", "lonely", "double", "cut")))
    pictures(visible, "double.jpg")
    pictures(visible, "small.png", shape=(39, 60))
    (visible / "cut.png").write_bytes((visible / "cut.png").read_bytes()[:-30])
    (visible / "text.png").write_text("words")
    yolo(tmp_path / "own" / "labels" / "good.txt", "7 .5 .5 .1 .1\n0 1.5 .5 .1 .1\n0 .5 .5 .1 .1\n")
    report = check(tmp_path, progress=False)
    found = {(str(p.path.relative_to(tmp_path / "own")), p.kind) for p in report.problems}
    assert found == {("ir/alone.png", "partner"), ("vi/lonely.png", "partner"), ("vi/double.png", "duplicate"),
                     ("vi/small.png", "size"), ("vi/cut.png", "unreadable"), ("vi/text.png", "unreadable"),
                     ("labels/good.txt", "class"), ("labels/good.txt", "label")}
    assert [pair.name for pair in report.pairs] == ["double", "good"]
    assert len(report.pairs[1].boxes) == 1

    assert run_check(tmp_path, tmp_path / "out" / "report.json") == 3
    text = capsys.readouterr().out
    assert "own/vi/small.png: expected 60x40 like its infrared partner own/ir/small.png, found 60x39" in text
    assert "usable pairs: 2, problems: 8" in text and "own train: 1 pairs" in text and "own test: 1 pairs" in text
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert len(written["problems"]) == 8 and written["table"][0]["pairs"] == 2


def test_nothing_usable_is_one_sentence_and_a_failure(tmp_path, capsys):
    pictures(tmp_path / "ir", "a.png")
    (tmp_path / "vi").mkdir()
    with pytest.raises(FusionError, match=r"no usable pair is left.*a.png: expected its partner visible in .*vi"):
        read(tmp_path)
    assert run_check(tmp_path) == 1 and "no usable pair is left" in capsys.readouterr().err
    assert run_check(tmp_path / "nowhere") == 1 and "found nothing" in capsys.readouterr().err
    (tmp_path / "ir" / "a.png").unlink()
    with pytest.raises(FusionError, match="found none"):
        read(tmp_path)


def test_the_table_tells_formats(tmp_path):
    pictures(tmp_path / "ir", "a.png", "b.png")
    write_image(tmp_path / "vi" / "a.png", np.stack([IMAGE, IMAGE, 255 - IMAGE], -1))
    write_image(tmp_path / "vi" / "b.png", IMAGE.astype(np.uint16) * 257)
    row = table(check(tmp_path, progress=False)).iloc[0]
    assert row["width x height"] == "60x40" and row["infrared"] == "8 bit gray"
    assert row["visible"] == "8 bit colour (1), 16 bit gray (1)"


def test_a_long_list_of_problems_is_cut(tmp_path):
    pictures(tmp_path / "ir", *(f"{i}.png" for i in range(31)))
    pictures(tmp_path / "vi", "0.png")
    text = describe(check(tmp_path, progress=False))
    assert "partner: 30" in text and "... and 10 more" in text and text.count("expected its partner") == 20


def test_a_file_with_many_problems_hides_no_other_one(tmp_path):
    for name in "abc":
        pictures(tmp_path / "ir", f"{name}.png")
        pictures(tmp_path / "vi", f"{name}.png")
        yolo(tmp_path / "labels" / f"{name}.txt", "0 30 20 10 20\n" * 30)
    text = describe(check(tmp_path, progress=False))
    for name in "abc":
        assert text.count(f"labels/{name}.txt: line ") == 5
        assert f"labels/{name}.txt: no box is left, so its pair counts as unlabelled" in text
    assert "label: 93" in text and "... and 75 more" in text


@pytest.mark.parametrize("box,kept,words", [
    ((-0.9, 0, 60.9, 40), (0, 0, 60, 40), None),  # within a pixel: clipped in silence
    ((-5, 1, 30, 39), (0, 1, 30, 39), "sticks out"),
    ((60, 1, 70, 39), None, "outside"),
    ((-9, -9, -1, 9), None, "outside"),
    ((9, 9, 9, 20), None, "no area"),
    ((20, 9, 9, 20), None, "no area"),
])
def test_boxes_at_the_edge(tmp_path, box, kept, words):
    path = voc(tmp_path / "a.xml", ("person", *box))
    boxes, classes, problems = read_labels(path, (40, 60))
    if kept:
        assert boxes.tolist() == [list(kept)] and classes == ("person",)
    else:
        assert boxes is None and "no box is left, so its pair counts as unlabelled" in problems.pop().message
    assert [p.kind for p in problems] == (["label"] if words else [])
    assert words is None or (words in problems[0].message and problems[0].path == path)


@pytest.mark.parametrize("content,words", [
    ("<annotation><object>", "no element found"),
    ("<html></html>", "expected VOC's <annotation>, found <html>"),
    ('<!DOCTYPE a [<!ENTITY b "boo">]><annotation>&b;</annotation>', "entities"),
    ("<annotation><size><width>30</width><height>20</height></size></annotation>", "made for 30x20 pixels"),
])
def test_a_voc_file_that_cannot_be_used_is_no_label(tmp_path, content, words):
    (tmp_path / "a.xml").write_text(content)
    boxes, classes, problems = read_labels(tmp_path / "a.xml", (40, 60))
    assert boxes is None and classes is None and words in problems[0].message


def test_damage_in_yolo_files(tmp_path):
    path = yolo(tmp_path / "a.txt", "0 .5 .5 .5 .5\n0 .5 .5\n0 .5 .5 nan .5\n")
    boxes, _, problems = read_labels(path, (40, 60))
    assert len(boxes) == 1 and [p.message[:6] for p in problems] == ["line 2", "line 3"]
    assert read_labels(yolo(path, "garbage\n"), (40, 60))[0] is None  # damage alone does not say: nobody
    assert read_labels(yolo(path, ""), (40, 60))[0].shape == (0, 4)
    path.write_bytes(b"\xff\xfe\x00")
    assert read_labels(path, (40, 60))[0] is None


def test_a_box_without_numbers_is_left_out(tmp_path):
    path = voc(tmp_path / "a.xml", ("person", "x", 0, 5, 5), ("Pedestrian", 0, 0, 5, 5))
    boxes, classes, problems = read_labels(path, (40, 60))
    assert boxes.tolist() == [[0, 0, 5, 5]] and classes == ("person",) and "object 1" in problems[0].message


def test_real_data_sets(shared):
    report = read(shared / "data")
    counts = table(check(shared / "data", ["LLVIP", "MSRS"], progress=False)).set_index(["data set", "part"])
    assert counts["pairs"].to_dict() == {("LLVIP", "train"): 38, ("LLVIP", "test"): 34, ("MSRS", "train"): 11,
                                         ("MSRS", "test"): 7}
    assert counts["labelled"].tolist() == [36, 6, 0, 3]
    assert counts["boxes"].tolist() == ["154 person", "24 person", "-", "9 person, 1 car"]
    assert set(counts["infrared"]) == {"8 bit gray"} and set(counts["visible"]) == {"8 bit colour"}
    assert {pair.dataset for pair in report.pairs} == {"LLVIP", "M3FD", "MSRS", "RoadScene", "TNO"}
    assert len(report.pairs) == 264 and not report.problems


@pytest.mark.parametrize(("folder", "part"), [
    ("train_set", "train"), ("trainset", "train"), ("val2017", "val"), ("Test-Images", "test"), ("trainval", "train"),
    ("eval", "test"), ("test1", ""), ("trains", ""), ("latest", ""),
])  # fmt: skip
def test_parts_by_what_their_folders_are_called(tmp_path, folder, part):
    for side in ("ir", "vi"):
        pictures(tmp_path / "above" / folder / side, "1.png")
        pictures(tmp_path / "below" / side / folder, "1.png", shape=(30, 60))
    below, = (pair for pair in read(tmp_path).pairs if pair.ir.parent.name == folder)
    assert (below.dataset, below.split, below.name) == ("below", part, "1" if part else f"{folder}/1")
    above, = (pair for pair in read(tmp_path).pairs if pair.ir.parent.name == "ir")
    assert (above.dataset, above.split) == (("above", part) if part else (folder, ""))


def test_folders_that_differ_in_their_numbers_are_sequences(tmp_path):
    names = ("walk_01", "walk_02", "walk_10")
    for number, name in enumerate(names):
        for side in ("ir", "vi"):
            pictures(tmp_path / "mine" / name / side, *(f"{i}.png" for i in range(3)), shape=(30 + number, 60))
    for root in (tmp_path, tmp_path / "mine"):
        report = read(root)
        assert {pair.label: pair.scene for pair in report.pairs} == {
            f"mine/{name}/{i}": f"mine/{name}" for name in names for i in range(3)}
        split = choose(report.pairs)
        assert {pair.scene for pair in split["train"]}.isdisjoint(pair.scene for pair in split["test"])
    pictures(tmp_path / "mine" / "ride" / "ir", "1.png")  # two kinds of names: data sets
    pictures(tmp_path / "mine" / "ride" / "vi", "1.png")
    assert list(find(tmp_path)) == ["ride", *names]


def test_videos_in_folders_of_any_name(tmp_path):
    videos = "afterrain", "baby", "call"
    for number, video in enumerate(videos):
        for side, name in (("infrared", "{}i.jpg"), ("visible", "{}v.jpg")):
            pictures(tmp_path / "RGBT234" / video / side, *map(name.format, (1, 2)), shape=(30 + number, 60))
    pictures(tmp_path / "LasHeR" / "boy" / "infrared", "i001.jpg", shape=(20, 60))
    pictures(tmp_path / "LasHeR" / "boy" / "visible", "v001.jpg", shape=(20, 60))
    llvip(tmp_path / "KAIST and others" / "LLVIP")  # no video
    report = read(tmp_path)
    assert [pair.label for pair in report.pairs] == [
        "LLVIP/train/1", "LLVIP/train/2", "LLVIP/test/3", "LasHeR/boy/001",
        *(f"RGBT234/{video}/{i}" for video in videos for i in (1, 2))]
    split = choose([pair for pair in report.pairs if pair.dataset == "RGBT234"])
    assert {pair.scene for pair in split["train"]}.isdisjoint(pair.scene for pair in split["test"])


def test_flir_with_several_thermal_folders(tmp_path):
    folder = tmp_path / "FLIR_ADAS_1_3" / "train"
    for number, name in enumerate(("thermal_8_bit", "RGB", "thermal_16_bit", "Annotated_thermal_8_bit")):
        pictures(folder / name, "FLIR_1.jpeg", shape=(40, 60 if number < 2 else 50))
    (folder / "thermal_annotations.json").write_text(json.dumps({
        "images": [{"id": 1, "file_name": "thermal_8_bit/FLIR_1.jpeg"}], "categories": [{"id": 1, "name": "person"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}]}))
    report = read(tmp_path)
    assert keys(report) == [("FLIR_ADAS_1_3", "train", "FLIR_1")] and report.pairs[0].boxes.tolist() == [[1, 2, 4, 6]]
    assert report.pairs[0].ir.parent.name == "thermal_8_bit" and not report.problems
    assert [note.split(" are not used")[0] for note in report.notes] == [
        f"1 images in {folder / name}" for name in ("Annotated_thermal_8_bit", "thermal_16_bit")]


def test_words_in_names_of_files(tmp_path):
    for name in ("1", "2"):
        pictures(tmp_path / "walk" / "IRimages", f"{name}_ir.png")
        pictures(tmp_path / "walk" / "EO", f"VIS-{name}.png")
        yolo(tmp_path / "walk" / "labels" / f"{name}_ir.txt", "")
    report = read(tmp_path)
    assert keys(report) == [("walk", "", "1"), ("walk", "", "2")] and not report.problems
    assert all(len(pair.boxes) == 0 for pair in report.pairs)


def test_where_no_names_agree_a_star_is_offered(tmp_path):
    pictures(tmp_path / "RGBT" / "infrared", "1x.png", "2x.png")
    pictures(tmp_path / "RGBT" / "visible", "1y.png", "2y.png")
    report = check(tmp_path, progress=False)
    assert not report.pairs and len(report.problems) == 4
    star = tmp_path / "RGBT" / "infrared" / "*_infrared"
    assert report.notes[0].startswith("RGBT: No image name is in both folders: ") and report.notes[0].endswith(
        f"infrared has 1x.png, 2x.png, {tmp_path}/RGBT/visible has 1y.png, 2y.png; give the files equal names, or mark "
        f"the name with a star as in {star}")
    given = pair_folders(tmp_path / "RGBT/infrared/*x", tmp_path / "RGBT/visible/*y")
    assert [pair.name for pair in given.pairs] == ["1", "2"]


def test_a_json_beside_the_data_sets_is_named(tmp_path):
    llvip(tmp_path / "LLVIP")
    (tmp_path / "all.json").write_text("{}")
    assert read(tmp_path).notes == [
        f"all.json in {tmp_path} are not read: labels lie in the folder of their data set, or are given as labels="]


def test_places_relative_to_the_working_folder(tmp_path, monkeypatch):
    pictures(tmp_path / "cam1", "a.png")
    pictures(tmp_path / "cam2", "a.png")
    monkeypatch.chdir(tmp_path / "cam1")
    report = pair_folders("../cam1", "../cam2/*.png")
    assert report.root == tmp_path and report.pairs[0].ir == tmp_path / "cam1" / "a.png"


def test_swapped_names_are_said(tmp_path, capsys):
    for folder in ("rgb_left", "ThermalLeft"):
        pictures(tmp_path / folder, "a.png")
    swapped = {"ir": tmp_path / "rgb_left", "visible": tmp_path / "ThermalLeft"}
    note = (f"{tmp_path / 'rgb_left'} and {tmp_path / 'ThermalLeft'}: by their names, infrared and visible are "
            "swapped; exchange the two if they are")  # fmt: skip
    assert check(**swapped, progress=False).notes[0] == note
    assert not check(ir=swapped["visible"], visible=swapped["ir"], progress=False).notes
