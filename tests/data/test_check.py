"""`data check` names every file that is not what it seems, in text and in JSON, and notebook 01 says the same."""

import json
import subprocess
import sys
from collections import Counter
from itertools import count
from pathlib import Path

import cv2
import nbformat
import numpy as np
import pytest
from PIL import Image

from fusionlib.data import load, write_image
from fusionlib.data.check import check, sentences
from fusionlib.data.datasets import people
from fusionlib.data.layouts import Report
from fusionlib.data.problems import Problem
from fusionlib.data.pseudocolor import MAPS
from fusionlib.data.synthetic.scene import render
from fusionlib.experiments import suite

SCENES = [render(index, seed=2, size=(96, 120)) for index in range(3)]


def pair(root, dataset, name, ir, visible=None, suffix="png"):
    for side, image in (("ir", ir), ("vi", SCENES[0].visible if visible is None else visible)):
        path = root / dataset / side / f"{name}.{suffix if side == 'ir' else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image if image.ndim == 2 else np.ascontiguousarray(image[..., ::-1]))


BOX = [20, 30, 44, 78]  # a person in SCENES[0], in pixels
FRACTIONS = "{} .2666667 .5625 .2 .5\n"
VOC = "<annotation>{}</annotation>"
OBJECT = ("<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
          "</object>")  # fmt: skip
TURNS = {1: None, 2: Image.FLIP_LEFT_RIGHT, 3: Image.ROTATE_180, 4: Image.FLIP_TOP_BOTTOM, 5: Image.TRANSPOSE,
         6: Image.ROTATE_90, 7: Image.TRANSVERSE, 8: Image.ROTATE_270}  # fmt: skip
#: {file: kind and words of what is said of it} of `folder`; of all other files nothing is.
SAID = {
    **{f"counts/ir/{number}.png": ("range", "(0.5 and 99.5 % of all images) become black and white")
       for number in range(3)},
    "centikelvin/ir/a.png": ("range", "radiometric values from 29"),
    "fourteen/ir/a.png": ("range", "radiometric values from "),
    "kelvin/ir/a.tif": ("range", "radiometric values from 29"),
    "signed/ir/a.tif": ("range", "radiometric values from -"),
    "hot/ir/a.png": ("range", "radiometric values from 29000 to 60019: 29"),
    "missing/ir/a.tif": ("range", "of the values are NaN, which counts as the lowest value"),
    "pale/vi/a.png": ("range", "the 16-bit values span only "),
    "one-gray/ir/a.png": ("range", "of black to white alone, which is nearly one gray"),
    "jet/ir/a.png": ("colours", "in false colours (jet), which are turned back into gray"),
    "ironbow/ir/a.png": ("colours", "in false colours (ironbow), which are turned back into gray"),
    "painted/ir/a.png": ("colours", "in that of no colour map known here, so its luma is taken"),
    "swapped/ir/a.png": ("swapped", "the two seem to be swapped"),
    "black/ir/a.png": ("polarity", "warm seems to be dark here (black-hot)"),
    "signed-visible/vi/a.tif": ("unreadable", "found int16, which only infrared may have"),
    "narrow/vi/a.png": ("size", "expected 60x48 like its infrared partner"),
    "filmed/ir/1.mp4": ("format", "found a file of another kind, which is left out"),
    "filmed/vi/1.mp4": ("format", "found a file of another kind, which is left out"),
    "marks/labels/class.txt": ("class", "is of the unknown class '7' and left out"),
    "marks/labels/reversed.xml": ("label", "object 1 has no area (x1, y1, x2, y2 = 44, 78, 20, 30) and is left out"),
    "marks/labels/pixels.txt": ("label", "found '0 32 54 24 48', which seem to be pixels"),
    "marks/labels/fractions.xml": ("label", "which seem to be fractions"),
    "marks/labels/forgotten.xml": ("class", "is of the unknown class 'person on bike' and left out"),
}
UNLABELLED = ("class", "reversed", "pixels", "fractions", "forgotten")
UNNAMED = ("marks/labels/list.txt has class numbers, and no list of their names (classes.txt, data.yaml, obj.names) is "
           "beside it or above: 0 counts as a person, all others as unknown")  # fmt: skip


def turned(path, image, orientation):
    """Write an image in one of the eight orientations of EXIF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif, stored = Image.Exif(), Image.fromarray(image)
    exif[0x0112] = orientation
    stored = stored if orientation == 1 else stored.transpose(TURNS[orientation])
    stored.save(path, exif=exif)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with all kinds of pictures and labels that are not what they seem at first sight."""
    root = tmp_path_factory.mktemp("no_silence") / "data"
    heat, wide = SCENES[0].ir, SCENES[0].ir.astype(np.uint16)
    for number, scene in enumerate(SCENES):
        pair(root, "counts", str(number), 7000 + 8 * scene.ir.astype(np.uint16), scene.visible)
    pair(root, "centikelvin", "a", 29000 + 8 * wide)
    pair(root, "fourteen", "a", 64 * wide)
    pair(root, "sixteen", "a", 257 * wide)
    pair(root, "kelvin", "a", (290 + heat / np.float32(12)).astype(np.float32), suffix="tif")
    pair(root, "signed", "a", (20 * wide.astype(np.int16) - 3000), suffix="tif")
    fire = 29000 + 8 * wide
    fire[:4, :5] = 60000 + np.arange(20).reshape(4, 5)
    fire[5, 5] = 29000
    pair(root, "hot", "a", fire)
    lost = (290 + heat / np.float32(12)).astype(np.float32)
    lost[:4] = np.nan
    pair(root, "missing", "a", lost, suffix="tif")
    pair(root, "one-gray", "a", 100 + heat // 16)
    pair(root, "jet", "a", cv2.applyColorMap(heat, cv2.COLORMAP_JET)[..., ::-1])
    pair(root, "ironbow", "a", MAPS["ironbow"][heat].round().astype(np.uint8))
    pair(root, "painted", "a", np.dstack([heat, 255 - heat, heat // 2]))
    pair(root, "swapped", "a", SCENES[0].visible, heat)
    sky = np.full((96, 120), 250, np.uint8)
    sky[40:] = 60 + heat[40:] // 4
    pair(root, "black", "a", sky)
    pair(root, "pale", "a", heat, 30000 + SCENES[0].visible.astype(np.uint16))
    for dataset, visible in (("floats", SCENES[0].visible / np.float32(255)), ("signed-visible", np.int16(heat))):
        pair(root, dataset, "a", heat, SCENES[0].visible)
        (root / dataset / "vi" / "a.png").unlink()
        cv2.imwrite(str(root / dataset / "vi" / "a.tif"), visible[..., ::-1] if visible.ndim == 3 else visible)
    for orientation in TURNS:
        turned(root / "turned" / "ir" / f"{orientation}.png", heat, orientation)
        turned(root / "turned" / "vi" / f"{orientation}.png", SCENES[0].visible, orientation)
        write(root / "turned" / "labels" / f"{orientation}.xml", VOC.format(OBJECT.format("person", *BOX)))
    pair(root, "narrow", "a", heat[:48, :60])
    for side in ("ir", "vi"):
        write(root / "filmed" / side / "1.mp4", "a video")

    marks = {"class.txt": FRACTIONS.format(7), "reversed.xml": VOC.format(OBJECT.format("person", 44, 78, 20, 30)),
             "pixels.txt": "0 32 54 24 48\n", "fractions.xml": VOC.format(OBJECT.format("person", .1, .2, .3, .4)),
             "forgotten.xml": VOC.format(OBJECT.format("person on bike", *BOX) + OBJECT.format("car", *BOX)),
             "list.txt": FRACTIONS.format(0), "nobody.txt": ""}  # fmt: skip
    ignored = {name: VOC.format(OBJECT.format(name, *BOX)) for name in ("person?", "cyclist", "ignore")}
    shifts = count(2, 3)  # as files that two data sets share are used once
    for dataset, labels in (("marks", marks), ("ignored", {f"{ord(n[0])}.xml": text for n, text in ignored.items()}),
                            ("listed", {"a.txt": FRACTIONS.format(0)})):  # fmt: skip
        for name, text in labels.items():
            pair(root, dataset, name.partition(".")[0], np.roll(heat, next(shifts), 1))
            write(root / dataset / "labels" / name, text)
    write(root / "listed" / "data.yaml", "names: [car, person]\n")
    pair(root, "kaist/set00/V000", "I1", np.roll(heat, next(shifts), 1))
    rows = "".join(f"{name} 20 30 24 48 0 0 0 0 0 {ignore} 0\n" for name, ignore in (
        ("person", 0), ("people", 0), ("person?", 0), ("cyclist", 0), ("person", 1)))
    write(root / "kaist" / "annotations" / "set00" / "V000" / "I1.txt", f"% bbGt version=3\n{rows}")
    return root


def test_every_file_is_named_with_what_is_done_with_it(folder, tmp_path, capsys):
    command = [sys.executable, "-m", "fusionlib", "data", "check", str(folder), "--json", str(tmp_path / "report.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 3, done.stderr
    written = json.loads((tmp_path / "report.json").read_text())
    said = {}
    for item in written["problems"] + written["remarks"]:
        said.setdefault(item["file"].removeprefix(f"{folder}/"), []).append((item["kind"], item["message"]))
    assert said.keys() == SAID.keys()
    for file, (kind, words) in SAID.items():
        assert any(kind == found and words in message for found, message in said[file]), (file, said[file])
        for _, message in said[file]:  # in the text too
            assert f"\n  {file}: {message}\n".replace(f"{folder}/", "") in done.stdout
    for name in UNLABELLED:
        assert any("so its pair counts as unlabelled" in message for file, messages in said.items()
                   if file.startswith(f"marks/labels/{name}.") for _, message in messages)  # fmt: skip
    assert written["notes"] == [f"{folder}/{UNNAMED}"] and f"note: {folder}/{UNNAMED}\n" in done.stdout
    counts = [said[f"counts/ir/{number}.png"][0][1].partition(": ")[2] for number in range(3)]
    assert len(set(counts)) == 1  # one range for the folder

    # notebook 01, by its own cells
    cells = nbformat.read(suite.NOTEBOOKS / "01_data.ipynb", as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    last = next(number for number, source in enumerate(code) if "check.sentences(report)" in source)
    settings = {"profile": "small", "data_root": str(folder), "out": str(tmp_path / "run")}
    for _ in range(2):  # computed, and loaded
        variables = {}
        exec(code[0], variables)
        variables |= settings
        for source in code[1 : last + 1]:
            capsys.readouterr()
            exec(source, variables)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) > len(SAID) and lines[:-1] == done.stdout.splitlines()[-len(lines[:-1]) :]


def test_what_is_said_is_what_is_done(folder):
    pairs = {}
    for each in check(folder, progress=False).pairs:
        pairs.setdefault(each.dataset, {})[each.name] = each
    heat = SCENES[0].ir / np.float32(255)
    for dataset, closeness in (("counts", 0.99), ("centikelvin", 0.99), ("fourteen", 0.99), ("kelvin", 0.98),
                               ("signed", 0.99), ("jet", 0.999), ("ironbow", 0.999), ("sixteen", 0.99999)):
        plane = load(next(iter(pairs[dataset].values())))[0].numpy()
        assert np.corrcoef(plane.ravel(), heat.ravel())[0, 1] > closeness, dataset
        assert plane.min() == 0 and plane.max() > 0.9
    hot, lost = (load(pairs[name]["a"])[0][0].numpy() for name in ("hot", "missing"))
    assert np.corrcoef(hot[6:].ravel(), heat[6:].ravel())[0, 1] > 0.99 and hot[6:].max() > 0.9 and lost[:4].max() == 0
    for each in pairs["turned"].values():
        ir, visible = load(each)
        np.testing.assert_array_equal(ir[0], heat)
        np.testing.assert_array_equal(visible.permute(1, 2, 0), SCENES[0].visible / np.float32(255))
        assert each.boxes.tolist() == [BOX]
    assert len(pairs["turned"]) == 8
    np.testing.assert_allclose(load(pairs["floats"]["a"])[1], load(pairs["turned"]["1"])[1], atol=1e-7)
    marks = pairs["marks"]
    assert {name for name, each in marks.items() if each.boxes is None} == set(UNLABELLED)
    assert len(people(marks["list"])) == 1 and marks["nobody"].boxes.shape == (0, 4)
    assert {each.classes for each in pairs["ignored"].values()} == {("ignore",)}
    assert pairs["listed"]["a"].classes == ("car",)
    assert Counter(pairs["kaist"]["set00/V000/I1"].classes) == {"person": 1, "ignore": 4}


def test_paths_keep_their_slashes_where_two_places_have_no_folder_in_common():
    problems = [Problem(Path("/mnt/a/ir/1.png"), "partner", "is alone in /mnt/a/ir")]
    assert sentences(Report(Path("/"), problems=problems))[-1] == "  /mnt/a/ir/1.png: is alone in /mnt/a/ir"
    assert sentences(Report(Path("/mnt/a"), problems=problems))[-1] == "  ir/1.png: is alone in ir"


def test_ordinary_pictures_have_no_remark(tmp_path):
    for number, scene in enumerate(SCENES):
        for side, image in (("ir", scene.ir), ("vi", scene.visible)):
            write_image(tmp_path / "walk" / side / f"{number}.png", image)
    report = check(tmp_path, progress=False)
    assert len(report.pairs) == 3 and not report.remarks and sentences(report) == []


def test_one_of_many_that_seems_to_be_black_hot_is_chance(tmp_path):
    bright_sky = np.full((96, 120), 250, np.uint8)
    bright_sky[40:] = 60
    for name, images in (("one", [SCENES[0].ir, SCENES[1].ir, bright_sky]), ("all", [bright_sky] * 3)):
        for number, image in enumerate(images):
            pair(tmp_path, name, str(number), image + np.uint8(number))
    remarks = check(tmp_path, progress=False).remarks
    assert [(str(r.path.relative_to(tmp_path)), r.kind) for r in remarks] == [
        (f"all/ir/{number}.png", "polarity") for number in range(3)]
