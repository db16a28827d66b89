"""COCO's json as labels, against pycocotools, and what can be wrong with it."""

import contextlib
import io
import json
from collections import Counter

import numpy as np
import pytest
from pycocotools.coco import COCO

from fusionlib.data import read, write_image
from fusionlib.data.datasets import ignored, people

SIZE = (40, 60)


def data_set(folder, *names, parts=("",)):
    for part in parts:
        for number, side in enumerate(("ir", "vi")):
            for name in names:
                image = np.random.default_rng([number, len(part), *map(ord, name)]).integers(0, 256, SIZE, np.uint8)
                write_image(folder / part / side / f"{name}.png", image)
    return folder


def coco(*images, size=SIZE, categories=("car", "person")):
    """The content of a file, from (name, [(category, x, y, width, height, iscrowd), ...]) of each image."""
    content = {"images": [{"id": 10 + i, "file_name": name, "height": size[0], "width": size[1]}
                          for i, (name, _) in enumerate(images)],
               "categories": [{"id": 3 + i, "name": name} for i, name in enumerate(categories)], "annotations": []}
    for i, (_, boxes) in enumerate(images):
        for category, *box, iscrowd in boxes:
            content["annotations"].append({"id": len(content["annotations"]), "image_id": 10 + i, "bbox": box,
                                           "category_id": 3 + categories.index(category), "iscrowd": iscrowd})
    return content


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize("file", ["labels/_annotations.coco.json", "annotations/instances_all.json", "labels/x.json"])
def test_boxes_are_those_of_pycocotools(tmp_path, file):
    folder, random = data_set(tmp_path / "walk", *"abcd"), np.random.default_rng(0)

    def boxes(count):
        return [(("car", "person")[random.integers(2)], *(random.integers(0, 20, 4) + 0.5).tolist(),
                 int(random.random() < 0.3)) for _ in range(count)]

    write(folder / file, coco(("a.png", boxes(9)), ("deep/b.jpg", boxes(12)), ("c.png", []), ("other.png", boxes(1))))
    report = read(folder)
    assert not report.problems
    assert report.notes == [f"1 of 4 images in the json files of {(folder / file).parent} belong to no pair, the first "
                            "is other"]
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCO(folder / file)
    for pair, index in zip(report.pairs, (10, 11, 12)):
        rows = [row for row in theirs.loadAnns(theirs.getAnnIds([index])) if row["category_id"] == 4]
        for found, crowd in ((people(pair), 0), (ignored(pair), 1)):
            wanted = [[x, y, x + w, y + h] for x, y, w, h in (r["bbox"] for r in rows if r["iscrowd"] == crowd)]
            assert found.tolist() == wanted
        cars = [row for row in theirs.loadAnns(theirs.getAnnIds([index], [3])) if not row["iscrowd"]]
        assert Counter(pair.classes)["car"] == len(cars)
    assert len(people(report.pairs[1])) > 1 < len(ignored(report.pairs[1]))
    assert len(report.pairs[2].boxes) == 0 and report.pairs[3].boxes is None  # listed without boxes; not listed


def test_each_part_has_its_own_file(tmp_path):
    folder = data_set(tmp_path / "walk", "a", parts=("train", "test"))
    for part, count in (("train", 1), ("test", 2)):
        write(folder / "annotations" / f"instances_{part}.json", coco(("a.png", [("person", 0, 0, 9, 9, 0)] * count)))
    report = read(folder)
    assert [(pair.split, len(people(pair))) for pair in report.pairs] == [("train", 1), ("test", 2)]
    assert not report.problems


def test_a_file_of_its_own_comes_first(tmp_path):
    folder = data_set(tmp_path / "walk", "a", "b")
    write(folder / "labels" / "all.json", coco(("a.png", [("person", 0, 0, 9, 9, 0)]), ("b.png", [])))
    write(folder / "labels" / "b.txt", "0 .5 .5 .5 .5\n")
    assert [people(pair).tolist() for pair in read(folder).pairs] == [[[0, 0, 9, 9]], [[15, 10, 45, 30]]]


def test_boxes_that_cannot_be_used_are_named(tmp_path):
    folder = data_set(tmp_path / "walk", "a")
    content = coco(("a.png", [("person", 0, 0, 9, 9, 0), ("person", 5, 5, 0, 9, 0), ("tree", 0, 0, 9, 9, 0),
                              ("tree", 0, 0, 9, 9, 1), ("person", 1, 1, 2, 2, 0), ("person", 1, 1, 2, 2, 0)]),
                   categories=("person", "tree"))
    del content["annotations"][4]["bbox"]
    content["annotations"][5]["bbox"][1] = float("nan")
    write(folder / "labels" / "all.json", content)
    report = read(folder)
    assert report.pairs[0].boxes.tolist() == [[0, 0, 9, 9]]
    messages = [problem.message for problem in report.problems]
    assert [message[:22] for message in messages] == [f"annotation {i} of a.png " for i in (4, 5, 1, 2, 3)]
    for message, words in zip(messages, ("no bbox of four", "no bbox of four", "no area", "'tree'", "'tree'")):
        assert words in message
    assert {problem.path for problem in report.problems} == {folder / "labels" / "all.json"}


def test_the_stated_size_is_the_images(tmp_path):
    folder = data_set(tmp_path / "walk", "a")
    write(folder / "labels" / "all.json", coco(("a.png", [("person", 0, 0, 9, 9, 0)]), size=(80, 120)))
    report = read(folder)
    assert report.pairs[0].boxes is None
    assert "a.png cannot be used" in report.problems[0].message
    assert "made for 120x80 pixels, its image has 60x40" in report.problems[0].message
    content = coco(("a.png", [("person", 0, 0, 9, 9, 0)]))
    del content["images"][0]["width"]
    write(folder / "labels" / "all.json", content)
    assert len(people(read(folder).pairs[0])) == 1  # none stated


def changed(kind, **fields):
    content = coco(("a.png", [("person", 0, 0, 9, 9, 0)]), ("b.png", []))
    content[kind][-1] |= fields
    return content


@pytest.mark.parametrize("content,message", [
    ("{", "cannot be used"),
    ({"images": [], "annotations": 3, "categories": []}, "its annotations are no list"),
    ({"images": ["a.png"], "annotations": [], "categories": []}, "number 1 of its images is not as COCO has it: a.png"),
    ({"images": [{"id": 1}], "annotations": [], "categories": []}, "number 1 of its images has no 'file_name'"),
    (changed("annotations", image_id=99), "number 1 of its annotations names id 99, which nothing has"),
    (changed("annotations", category_id=99), "number 1 of its annotations names id 99"),
    (changed("images", file_name="images/a.jpg"), "number 2 of its images repeats the name a"),
    (changed("images", file_name=7), "number 2 of its images is not as COCO has it"),
    (changed("images", id=10), "number 2 of its images repeats the name b or the id 10"),
    (changed("categories", id=[]), "number 2 of its categories is not as COCO has it"),
])
def test_a_file_that_cannot_be_used_is_no_label(tmp_path, content, message):
    folder = data_set(tmp_path / "walk", "a", parts=("train", "test"))
    write(folder / "labels" / "all.json", content)
    report = read(folder)
    assert [pair.boxes for pair in report.pairs] == [None, None]
    (problem,) = report.problems  # once for both parts
    assert problem.path == folder / "labels" / "all.json" and message in problem.message


def test_files_that_are_something_else_are_noted(tmp_path):
    folder = data_set(tmp_path / "walk", "a")
    for name in ("a", "b", "c", "d"):
        write(folder / "labels" / f"{name}.json", {"lamps": []})
    write(folder / "labels" / "e.json", coco(("z.png", [])))
    write(folder / "labels" / "f.json", coco(("z.png", [])))
    report = read(folder)
    assert report.pairs[0].boxes is None
    assert not report.problems and report.notes == [
        f"1 images in {folder / 'labels/f.json'} are not used, since others come before them: z.png in "
        f"{folder / 'labels/e.json'}",
        f"4 json files in {folder / 'labels'} are skipped, since they are neither COCO's, with images, annotations and "
        "categories, nor labelme's: a.json, b.json, c.json, ...",
        f"1 of 1 images in the json files of {folder / 'labels'} belong to no pair, the first is z"]
