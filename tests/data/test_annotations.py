"""Labels: what is dropped is no picture without people, regions to ignore, and what class indices mean."""


import numpy as np
import pytest

from fusionlib.data import coco, read, write_image
from fusionlib.data.annotations import read_labels
from fusionlib.data.datasets import ignored, people

SIZE = (40, 60)
UNLABELLED = "is left, so its pair counts as unlabelled"


def voc(*objects):
    """From (name, x1, y1, x2, y2, difficult)."""
    return "<annotation>" + "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>" for name, x1, y1, x2, y2, difficult in objects
    ) + "</annotation>"  # fmt: skip


def labels(folder, name, text, dataset=""):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return read_labels(folder / name, SIZE, dataset)


@pytest.mark.parametrize(("name", "text", "words"), [
    ("unknown.txt", "7 .5 .5 .1 .1\n", "unknown class '7'"),
    ("unknown.xml", voc(("dragon", 1, 2, 30, 40, 0)), "unknown class 'dragon'"),
    ("reversed.xml", voc(("person", 30, 40, 1, 2, 0)), "has no area (x1, y1, x2, y2 = 30, 40, 1, 2)"),
    ("pixels.txt", "0 30 20 10 20\n", "fractions of the image, found '0 30 20 10 20', which seem to be pixels"),
    ("wide.txt", "0 3 2 40 90\n", "which seem to be pixels"),  # as fractions, it would cover the image
    ("fractions.xml", voc(("person", 0.1, 0.1, 0.3, 0.4, 0)), "which seem to be fractions"),
    ("outside.xml", voc(("person", 70, 1, 80, 9, 0)), "lies outside its 60x40 image"),
    ("damaged.txt", "person here\n", "expected five numbers"),
])  # fmt: skip
def test_where_all_boxes_were_dropped_the_picture_is_unlabelled(tmp_path, name, text, words):
    boxes, classes, problems = labels(tmp_path, name, text)
    assert boxes is None and classes is None
    assert words in problems[0].message and problems[-1].message == f"no box {UNLABELLED}; correct it"
    assert {problem.path for problem in problems} == {tmp_path / name}


@pytest.mark.parametrize(("text", "kept"), [
    (voc(("car", 1, 2, 30, 30, 0), ("person", 30, 40, 1, 2, 0)), None),  # the person is somewhere
    ("0 .5 .5 .1 .1\n0 30 20 10 20\n", ("person",)),
    (voc(("car", 1, 2, 30, 30, 0), ("dragon", 1, 2, 30, 40, 0)), ("car",)),
    (voc(("car", 1, 2, 30, 30, 0), ("person on bike", 1, 2, 30, 40, 0)), None),  # a person under another name
    (voc(("car", 1, 2, 30, 30, 0), ("3", 1, 2, 30, 40, 0)), None),  # a number that nothing names
    (voc(("car", 1, 2, 30, 30, 0), ("Human", 1, 2, 30, 40, 0)), ("car", "person")),
    (voc(("ignore", 1, 2, 30, 30, 0), ("person", 30, 40, 1, 2, 0)), ("ignore",)),
    (voc(("car", 1, 2, 30, 30, 0)), ("car",)), (voc(), ()), ("\n", ()), ("% bbGt version=3\n", ()),
])  # fmt: skip
def test_where_some_are_left_no_person_is_forgotten(tmp_path, text, kept):
    _, classes, problems = labels(tmp_path, "a.xml" if text.startswith("<") else "a.txt", text)
    assert classes == kept
    assert [p.message for p in problems if UNLABELLED in p.message] == (
        [] if kept is not None else [f"no box of a person {UNLABELLED}; correct it"])


@pytest.mark.parametrize("name", ["person?", "cyclist", "Rider", "person-fa", "ignore_region", "Ignore Regions",
                                  "person_group", "dont_care", "Person_sitting", "crowd"])  # fmt: skip
def test_people_who_are_not_counted_are_regions_to_ignore(tmp_path, name):
    boxes, classes, problems = labels(tmp_path, "a.xml", voc((name, 1, 2, 30, 40, 0)))
    assert boxes.tolist() == [[1, 2, 30, 40]] and classes == ("ignore",) and not problems


def test_people_are_persons_in_m3fd_and_a_group_in_kaist(tmp_path):
    one, both = voc(("People", 1, 2, 30, 40, 0)), voc(("people", 1, 2, 30, 40, 0), ("person", 5, 5, 9, 9, 0))
    assert labels(tmp_path, "a.xml", one)[1] == labels(tmp_path, "a.xml", one, "M3FD")[1] == ("person",)
    for dataset in ("KAIST", "my-kaist-pairs", "CVC-14"):
        assert labels(tmp_path, "a.xml", one, dataset)[1] == ("ignore",)
    assert labels(tmp_path, "a.xml", both)[1] == ("ignore", "person")
    (tmp_path / "classes.txt").write_text("person\npeople\n")
    assert labels(tmp_path, "a.txt", "1 .5 .5 .1 .1\n")[1] == ("ignore",)
    content = {"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": i, "name": n} for i, n in
               enumerate(("person", "people", "__ignore__"))], "annotations": [
        {"id": i, "image_id": 1, "category_id": kind, "bbox": [0, 0, 9, 9], **more}
        for i, (kind, more) in enumerate([(0, {}), (1, {}), (2, {}), (0, {"ignore": 1}), (0, {"ignore": 0})])]}
    entry = coco.read_entries(content)["a"]
    assert coco.read_entry(tmp_path / "all.json", entry, SIZE)[1] == ("person", "ignore", "ignore", "ignore", "person")


def test_difficult_people_are_regions_to_ignore_as_in_voc(tmp_path):
    text = voc(("person", 1, 2, 30, 40, 1), ("car", 1, 2, 30, 40, 1), ("person", 5, 5, 9, 9, 0))
    assert labels(tmp_path, "a.xml", text)[1] == ("ignore", "car", "person")


def test_kaists_xml_has_corner_and_size(tmp_path):
    rows = "".join(f"<object><name>{name}</name><bndbox><x>1</x><y>2</y><w>10</w><h>20</h></bndbox></object>"
                   for name in ("person", "people"))
    boxes, classes, problems = labels(tmp_path, "a.xml", f"<annotation>{rows}</annotation>", "kaist-cvpr15")
    assert boxes.tolist() == [[1, 2, 11, 22]] * 2 and classes == ("person", "ignore") and not problems


def test_text_of_caltech_and_kaist(tmp_path):
    boxes, classes, problems = labels(tmp_path, "I00019.txt", (
        "% bbGt version=3\nperson 1 2 10 20 0 0 0 0 0 0 0\nperson? 20 2 10 20 0 0 0 0 0 0 0\n"
        "people 30 2 10 20 0 0 0 0 0 0 0\ncyclist 40 2 10 20 2 40 2 5 5 0 0\nperson 45 2 10 20 0 0 0 0 0 1 0\n"
        "person 1 x 10 20 0 0 0 0 0 0 0\n"))  # fmt: skip
    assert boxes.tolist() == [[x, 2, x + 10, 22] for x in (1, 20, 30, 40, 45)]
    assert classes == ("person", *["ignore"] * 4)
    assert [p.message[:22] for p in problems] == ["line 7 is left out: exp"[:22]]
    assert labels(tmp_path, "a.txt", "% bbGt version=3\nperson 70 2 10 20 0 0 0 0 0 0 0\n")[0] is None


@pytest.mark.parametrize("where", ["labels", "."])
@pytest.mark.parametrize(("name", "text"), [
    ("classes.txt", "car\nperson\n"), ("obj.names", "car\nperson\n"), ("data.yaml", "names: [car, person]\nnc: 2\n"),
    ("data.yaml", "names:\n  0: car\n  1: person\n"), ("flir.yml", "path: .\nnames: {0: car, 1: person}\n"),
])  # fmt: skip
def test_class_indices_mean_what_a_list_says(tmp_path, where, name, text):
    (tmp_path / "labels").mkdir()
    (tmp_path / where / name).write_text(text)
    (tmp_path / "labels" / "about.yaml").write_text("author: nobody\n")
    assert labels(tmp_path / "labels", "a.txt", "0 .5 .5 .1 .1\n1 .5 .5 .2 .2\n")[1] == ("car", "person")
    assert labels(tmp_path / "labels", "b.txt", "0 .5 .5 .1 .1\n")[1] == ("car",)  # nobody is there
    (tmp_path / where / name).write_text(text.replace("person", "tree").replace("car", "person"))
    assert labels(tmp_path / "labels", "a.txt", "0 .5 .5 .1 .1\n")[1] == ("person",)  # not from a cache


def test_a_list_around_the_parts_and_one_that_is_damaged(tmp_path):
    (tmp_path / "data.yaml").write_text("names: [car, person]\n")
    for folder in ("labels/train", "train/labels"):
        labels(tmp_path / folder, "a.txt", "1 .5 .5 .2 .2\n")
        assert read_labels(tmp_path / folder / "a.txt", SIZE, top=tmp_path)[1] == ("person",)
    assert labels(tmp_path / "other" / "set" / "labels", "a.txt", "0 .5 .5 .2 .2\n")[1] == ("person",)  # not its own
    assert labels(tmp_path / "labels", "a.txt", "2 .5 .5 .2 .2\n")[0] is None
    (tmp_path / "data.yaml").write_text("names: [car, {person\n")
    _, classes, [problem] = labels(tmp_path / "labels", "a.txt", "0 .5 .5 .2 .2\n")
    assert classes is None and f"its classes cannot be read from {tmp_path / 'data.yaml'}" in problem.message


def test_none_of_it_reaches_training_as_a_picture_without_people(tmp_path):
    texts = {"dropped": "0 30 20 10 20\n", "nobody": "", "ignored": "0 .5 .5 .5 .5\n", "person": "1 .5 .5 .5 .5\n"}
    for name, text in texts.items():
        for number, side in enumerate(("ir", "vi")):
            image = np.random.default_rng([number, *map(ord, name)]).integers(0, 256, SIZE, np.uint8)
            write_image(tmp_path / "walk" / side / f"{name}.png", image)
        labels(tmp_path / "walk" / "labels", f"{name}.txt", text)
    (tmp_path / "walk" / "data.yaml").write_text("names: [cyclist, person]\n")
    pairs = {pair.name: pair for pair in read(tmp_path).pairs}
    assert pairs["dropped"].boxes is None
    counts = {name: (len(people(pairs[name])), len(ignored(pairs[name]))) for name in ("nobody", "ignored", "person")}
    assert counts == {"nobody": (0, 0), "ignored": (0, 1), "person": (1, 0)}
