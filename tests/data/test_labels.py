"""Where labels and the names of their classes are found, and which of them belong to which pair."""

import json

import numpy as np
import pytest

from fusionlib.data import pair_folders, read, read_labels, write_image
from fusionlib.data.check import run_check
from fusionlib.data.datasets import ignored, people
from fusionlib.utils.errors import FusionError

SIZE = (40, 60)
BOX = [6, 4, 18, 36]  # of all labels here
YOLO = "{} .2 .5 .2 .8\n"
UNLISTED = "no list of their names (classes.txt, data.yaml, obj.names) is beside it or above: 0 counts as a person"


def data_set(folder, *names, parts=("",), ir="ir", visible="vi"):
    for part in parts:
        for number, side in enumerate((ir, visible)):
            for name in names:
                image = np.random.default_rng([number, len(part), *map(ord, name)]).integers(0, 256, SIZE, np.uint8)
                write_image(folder / part / side / f"{name}.png", image)
    return folder


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def coco(*names):
    return {"images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
            "annotations": [{"id": number, "image_id": number, "category_id": 1, "bbox": [6, 4, 12, 32]}
                            for number, _ in enumerate(names)],
            "categories": [{"id": 1, "name": "person"}]}  # fmt: skip


def labelme(label="person", points=((6, 36), (18, 4)), kind="rectangle", **fields):
    return {"shapes": [{"label": label, "points": points, "shape_type": kind}], **fields}


def boxes_of(report):
    return [None if pair.boxes is None else people(pair).tolist() for pair in report.pairs]


@pytest.mark.parametrize("place", ["labels", ".", "labels/deep"])
@pytest.mark.parametrize(("name", "content"), [
    ("classes.txt", "car\nperson\n"), ("obj.names", "car\nperson\n"), ("_darknet.labels", "car\nperson\n"),
    ("data.yaml", "train: x\nnc: 2\nnames: [car, person]\n"), ("walk.yml", "names:\n  0: car\n  1: person\n"),
])
def test_class_names_beside_the_labels_and_above_them(tmp_path, place, name, content):
    folder = data_set(tmp_path / "walk", "deep/1", "deep/2")
    for number in (1, 2):
        write(folder / f"labels/deep/{number}.txt", YOLO.format(1))
    write(folder / place / name, content)
    write(tmp_path / "classes.txt", "bus\nbus\n")  # farther away
    write(folder / "notes.yaml", "lamps: 3\n")
    report = read(tmp_path)
    assert not report.problems and boxes_of(report) == [[pytest.approx(BOX)]] * 2
    given = pair_folders(folder / "ir", folder / "vi", folder / "labels")
    assert boxes_of(given) == boxes_of(report) and [pair.classes for pair in given.pairs] == [("person",)] * 2


def test_class_names_that_change_are_read_again_and_damaged_ones_named(tmp_path):
    folder = data_set(tmp_path / "walk", "1")
    write(folder / "labels/1.txt", YOLO.format(0))
    assert len(people(read(folder).pairs[0])) == 1  # without a list, 0 is a person
    write(folder / "data.yaml", "names: [car]")
    assert read(folder).pairs[0].classes == ("car",)
    write(folder / "data.yaml", "names: [car")
    report = read(folder)
    assert report.pairs[0].boxes is None
    assert f"its classes cannot be read from {folder / 'data.yaml'}" in report.problems[0].message


@pytest.mark.parametrize(("where", "file_name"), [
    ("thermal_annotations.json", "ir/{}.png"), ("ir/coco.json", "data/{}.png"), ("labels/all.json", "{}.jpg"),
    ("vi/x.json", "C:\\sets\\walk\\vi\\{}.png"), ("annotations/deep/instances.json", "/home/x/walk/{}.png"),
])
def test_coco_files_wherever_they_lie(tmp_path, where, file_name):
    folder = data_set(tmp_path / "walk", "1", "2")
    write(folder / where, coco(file_name.format("1"), file_name.format("2")))
    write(folder / "scenes.json", {"drawing": 1})  # something else, and no concern
    report = read(folder)
    assert boxes_of(report) == [[BOX], [BOX]] and not report.problems and not report.notes


def test_coco_files_of_parts_that_share_names(tmp_path):
    folder = data_set(tmp_path / "FLIR", "1", ir="images_thermal_train/data", visible="images_rgb_train/data")
    data_set(folder, "1", ir="images_thermal_val/data", visible="images_rgb_val/data")
    write(folder / "images_thermal_train/coco.json", coco("data/1.png"))
    content = coco("data/1.png")
    content["annotations"] = []
    write(folder / "images_thermal_val/coco.json", content)
    report = read(tmp_path)
    assert [(p.label, len(p.boxes)) for p in report.pairs] == [("FLIR/train/1", 1), ("FLIR/val/1", 0)]


@pytest.mark.parametrize("where", ["labels", "ir", "vi", "ir/labels", "labels/ir", "annotations-xml-new"])
@pytest.mark.parametrize("kind", ["txt", "xml", "json", "bbGt"])
def test_files_of_one_image_wherever_they_lie(tmp_path, where, kind):
    folder = data_set(tmp_path / "walk", "1", "day/2")
    xml = ("<annotation><object><name>person</name><bndbox><xmin>6</xmin><ymin>4</ymin><xmax>18</xmax><ymax>36</ymax>"
           "</bndbox></object></annotation>")
    content = {"txt": YOLO.format(0), "xml": xml, "json": labelme(), "bbGt": "% bbGt version=3\nperson 6 4 12 32\n"}
    for name in ("1", "day/2"):
        write(folder / where / f"{name}.{kind.replace('bbGt', 'txt')}", content[kind])
    report = read(tmp_path)
    assert not report.problems and [UNLISTED in note for note in report.notes] == [True] * (kind == "txt")
    assert [pair.name for pair in report.pairs] == ["1", "day/2"] and boxes_of(report) == [[pytest.approx(BOX)]] * 2


def test_labels_of_parts_and_of_all(tmp_path):
    folder = data_set(tmp_path / "walk", "1", parts=("train", "val", "test"))
    write(folder / "labels/train/1.txt", YOLO.format(0))
    write(folder / "val/labels/1.txt", "")
    write(folder / "Annotations/1.txt", YOLO.format(0) * 2)  # of whatever part has none of its own
    report = read(folder)
    assert [(pair.split, len(pair.boxes)) for pair in report.pairs] == [("train", 1), ("val", 0), ("test", 2)]


def test_labels_by_file_name_where_it_is_clear_whose_they_are(tmp_path):
    folder = data_set(tmp_path / "walk", "day/1", "day/2", "night/2")
    for name in ("1", "2"):
        write(folder / f"labels/{name}.txt", YOLO.format(0))
    report = read(folder)
    assert [pair.boxes is None for pair in report.pairs] == [False, True, True]
    assert report.notes[1:] == [f"1 of 2 label files in {folder / 'labels'} belong to no pair, the first is 2"]


def test_two_sets_of_labels_are_used_in_order_and_named(tmp_path, capsys):
    folder = data_set(tmp_path / "walk", "1", "2")
    write(folder / "labels/vi/1.txt", "")
    write(folder / "labels/ir/1.txt", YOLO.format(0))
    write(folder / "labels_old/1.txt", "")
    write(folder / "vi/2.txt", YOLO.format(0))
    report = read(folder)
    assert boxes_of(report) == [[pytest.approx(BOX)]] * 2
    assert report.notes[:2] == [
        f"1 label files in {folder / place} are not used, since others come before them: "
        f"{folder / 'labels/ir/1.txt'} before {folder / file}"
        for place, file in (("labels", "labels/vi/1.txt"), ("labels_old", "labels_old/1.txt"))]
    assert run_check(folder) == 0
    text = capsys.readouterr().out
    assert len(report.notes) == 3 and all(note in text for note in report.notes)


def test_labels_called_like_the_files_of_a_pattern(tmp_path):
    for name in ("1", "2"):
        for suffix in ("PreviewData.jpeg", "RGB.jpg"):
            write_image(tmp_path / "FLIR/JPEGImages" / f"{name}_{suffix}", np.zeros(SIZE, np.uint8))
    write(tmp_path / "FLIR/Annotations/1_PreviewData.txt", YOLO.format(0))
    write(tmp_path / "FLIR/Annotations/2.txt", "")
    places = (tmp_path / "FLIR/JPEGImages" / f"*_{suffix}" for suffix in ("PreviewData.jpeg", "RGB.jpg"))
    report = pair_folders(*places, tmp_path / "FLIR/Annotations")
    assert [(pair.label, len(pair.boxes)) for pair in report.pairs] == [("FLIR/1", 1), ("FLIR/2", 0)]


def test_places_that_overlap_are_read_once(tmp_path):
    for name in ("1_ir.png", "1_vi.png"):
        write_image(tmp_path / "all" / name, np.zeros(SIZE, np.uint8))
    write(tmp_path / "all/marks/1.txt", YOLO.format(0))
    write(tmp_path / "all/marks/more.json", coco("2.png"))
    report = pair_folders(tmp_path / "all/*_ir.png", tmp_path / "all/*_vi.png", tmp_path / "all/marks")
    assert boxes_of(report) == [[pytest.approx(BOX)]] and not report.problems
    assert report.notes[1:] == [
        f"1 of 1 images in the json files of {tmp_path / 'all/marks'} belong to no pair, the first is 2"]


def test_class_numbers_without_names_are_said_and_lists_around_the_data_set_count(tmp_path):
    folder = data_set(tmp_path / "walk", "1", "2")
    for name in ("1", "2"):
        write(folder / f"labels/{name}.txt", YOLO.format(0))
    places = folder / "ir", folder / "vi", folder / "labels"
    for report in (read(tmp_path), read(folder), pair_folders(*places)):
        (note,) = report.notes
        assert note.startswith(f"{folder / 'labels/1.txt'} has class numbers") and UNLISTED in note
        assert boxes_of(report) == [[pytest.approx(BOX)]] * 2
    write(tmp_path / "ride.yaml", "names: [bus]\n")  # of another data set
    assert read(tmp_path).pairs[0].classes == ("person",)
    for name, content in (("walk.yaml", "names: [lamp]\n"), ("obj.names", "car\n")):
        write(tmp_path / name, content)
        for report in (read(tmp_path), pair_folders(*places)):
            assert [pair.classes for pair in report.pairs] == [(content.split("[")[-1].strip("]\n"),)] * 2
            assert not report.notes


def test_labels_of_a_kind_that_is_not_read_are_named(tmp_path):
    folder = data_set(tmp_path / "walk", "1")
    write(folder / "annotations/set00/V000.vbb", "x")
    assert read(folder).notes == [
        f"1 files in {folder / 'annotations'} are not read, since labels are xml, txt or json: V000.vbb"]


def test_one_json_file_can_be_given(tmp_path):
    folder = data_set(tmp_path / "walk", "1", ir="cam1", visible="cam2")
    write(folder / "all.json", coco("1.png"))
    assert boxes_of(pair_folders(folder / "cam1", folder / "cam2", folder / "all.json")) == [[BOX]]
    write(folder / "all.json", "{")
    report = pair_folders(folder / "cam1", folder / "cam2", folder / "all.json")
    assert report.pairs[0].boxes is None and "all.json: cannot be used" in str(report.problems[0])
    with pytest.raises(FusionError, match=r"no\.json: expected a folder of labels or a json file of COCO, found"):
        pair_folders(folder / "cam1", folder / "cam2", folder / "no.json")


@pytest.mark.parametrize(("content", "expected", "words"), [
    (labelme(imageHeight=40, imageWidth=60), [BOX], None),
    (labelme(points=((6, 4), (18, 20), (10, 36)), kind="polygon"), [BOX], None),
    (labelme(points=((20, 20), (20, 25)), kind="circle"), [[15, 15, 25, 25]], None),
    ({"shapes": []}, [], None),
    (labelme(points=((6, 4), (18, "x"))), None, "shape 1 has no label and points of two numbers"),
    (labelme(points=((6, 4),), kind="circle"), None, "shape 1 has no label and points of two numbers"),
    (labelme(imageHeight=80, imageWidth=60), None, "made for 60x80 pixels, its image has 60x40"),
    ({"lamps": []}, None, "expected labelme's list of shapes"),
])
def test_labelme(tmp_path, content, expected, words):
    write(tmp_path / "1.json", content)
    boxes, _, problems = read_labels(tmp_path / "1.json", SIZE)
    assert (None if boxes is None else boxes.tolist()) == expected
    assert (words in problems[0].message) if words else not problems


def test_bbgt_of_kaist(tmp_path):
    write(tmp_path / "1.txt", "% bbGt version=3\nperson 6 4 12 32 0 0 0 0 0 0 0\nperson? 1 1 5 5 0 0 0 0 0 0 0\n"
                              "people 2 2 5 5 0 0 0 0 0 0 0\nperson 3 3 5 5 0 0 0 0 0 1 0\nperson 4 4 x\n")
    boxes, classes, problems = read_labels(tmp_path / "1.txt", SIZE)
    assert classes == ("person", "ignore", "ignore", "ignore") and boxes[0].tolist() == BOX
    assert boxes[1:].tolist() == [[1, 1, 6, 6], [2, 2, 7, 7], [3, 3, 8, 8]]
    assert [problem.message for problem in problems] == [
        "line 6 is left out: expected 'class x y w h ...' in pixels, found 'person 4 4 x'"]


def test_kaist(tmp_path):
    for video in ("set00/V000", "set00/V001", "set06/V000"):
        data_set(tmp_path / "kaist/images" / video, "I00000", "I00020", ir="lwir", visible="visible")
        for name in ("I00000", "I00020"):
            write(tmp_path / "kaist/annotations" / video / f"{name}.txt", "% bbGt version=3\nperson 6 4 12 32\n")
        write(tmp_path / "kaist/annotations" / video / "I00020.txt", "% bbGt version=3\n")  # nobody
    report = read(tmp_path)
    assert [pair.label for pair in report.pairs][:3] == [
        "kaist/set00/V000/I00000", "kaist/set00/V000/I00020", "kaist/set00/V001/I00000"]
    assert [len(pair.boxes) for pair in report.pairs] == [1, 0] * 3 and not report.problems and not report.notes
    assert [pair.scene for pair in report.pairs][::2] == [f"kaist/{v}" for v in ("set00/V000", "set00/V001",
                                                                                 "set06/V000")]
    assert not len(ignored(report.pairs[0]))
