"""Profiles, runs and stages: what is finished is found, what differs is kept aside, what is missing is named."""

import ast
import json
import os
import re
import shlex
import shutil

import nbformat
import numpy as np
import pytest
from PIL import Image

from fusionlib.commands import parser
from fusionlib.config import PROFILES, parse_settings, profile
from fusionlib.data import Pair, write_image
from fusionlib.experiments import results, stages
from fusionlib.experiments import run as runs
from fusionlib.experiments.suite import NOTEBOOKS
from fusionlib.metrics import evaluate
from fusionlib.models import FusionLoss
from fusionlib.utils.errors import FusionError
from fusionlib.visualization import miss_rates


def begin(tmp_path, **overrides):
    return runs.open_run("quick", out=str(tmp_path / "run"), **overrides)


def test_the_paper_profile_holds_the_papers_values():
    paper = PROFILES["paper"]
    assert (paper.fusion_epochs, paper.fusion_batch) == (100, 16)
    assert (paper.dfh_epochs, paper.dfh_batch) == (200, 16)
    assert paper.detection_datasets == ("LLVIP",)
    stage_1 = paper.channels, paper.fusion_block, paper.fusion_output, paper.fusion_loss, paper.fusion_init
    assert stage_1 == ((4, 8, 8), 1, "tanh", "paper", "identity")
    assert (paper.fusion_flat, paper.fusion_own_size, paper.fusion_balanced, paper.exposure_augmentation) == (0,) * 4


def test_overrides():
    assert profile("quick", fusion_epochs=3).fusion_epochs == 3
    assert profile("quick", fusion_epochs=None, detector=None, seed=0) == PROFILES["quick"]
    assert profile("quick", fidelity=0).fidelity == 0 and profile("quick", detector="").detector == ""
    assert profile("quick", channels=[4, 8, 12]).channels == (4, 8, 12)


@pytest.mark.parametrize(
    "name, overrides, message",
    [("fast", {}, "quick, small, paper"), ("quick", {"epoch": 3}, "no setting is called 'epoch'"),
     ("quick", {"fusion_lr": "high"}, "must be of type float, but is 'high'"),
     ("quick", {"fusion_epochs": 0.5}, "fusion_epochs must be a whole number, but is 0.5"),
     ("quick", {"fusion_epochs": 0}, "fusion_epochs must be at least 1 and finite, but is 0"),
     ("quick", {"medical_dfh_epochs": -3}, "medical_dfh_epochs must be at least 1 and finite, but is -3"),
     ("quick", {"fusion_lr": float("nan")}, "fusion_lr must be at least 0 and finite, but is nan"),
     ("quick", {"fusion_lr": "1e999"}, "fusion_lr must be at least 0 and finite, but is '1e999'"),
     ("quick", {"fusion_epochs": float("inf")}, "fusion_epochs must be of type int, but is inf")],
)  # fmt: skip
def test_bad_settings(name, overrides, message):
    with pytest.raises(FusionError, match=message):
        profile(name, **overrides)


def test_missing_data_root(tmp_path):
    with pytest.raises(FusionError, match="nowhere is no folder"):
        runs.open_run("small", data_root=str(tmp_path / "nowhere"))


def write_pairs(folder, *names):
    for number, side in enumerate(("cam1", "cam2")):
        for index, name in enumerate(names):
            image = np.random.default_rng([number, index]).integers(0, 256, (30, 40), np.uint8)
            write_image(folder / side / f"{name}.png", image)
            if number:
                (folder / "marks").mkdir(exist_ok=True)
                (folder / "marks" / f"{name}.txt").write_text("0 .5 .5 .5 .5\n")


def test_two_folders_are_the_data_of_a_run(tmp_path, monkeypatch):
    write_pairs(tmp_path / "sets" / "walk", "1", "2", "3", "4", "5")
    monkeypatch.chdir(tmp_path / "sets")
    places = "walk/cam1", "walk/cam2/*.png", "walk/marks"
    report = stages.data(begin(tmp_path), *places)
    assert [pair.label for pair in report.pairs] == [f"walk/{i}" for i in range(1, 6)]
    monkeypatch.chdir(tmp_path)
    later = begin(tmp_path)  # as another notebook opens the run: it needs no folder
    assert later.root == tmp_path / "sets" / "walk" and not later.is_default
    assert runs.reopen(tmp_path / "run").data_root == later.root
    later.stage("02_x").finish()
    assert json.loads((tmp_path / "run/02_x/provenance.json").read_text())["data_root"] == str(later.root)
    used = [pair for of in later.split.values() for pair in of]
    assert sorted(pair.name for pair in used) == list("12345") and all(len(pair.boxes) == 1 for pair in used)
    assert not (later.data_root / "Scenes").exists()
    assert not runs.fingerprint_pairs(used, later.root) == runs.fingerprint_pairs(used[:1], later.root)

    before = later.finished("01_data").fingerprint  # moved, and told so
    shutil.move(tmp_path / "sets", tmp_path / "moved")
    with pytest.raises(FusionError, match=r"cam1.*\.png: named in .* but missing"):
        _ = begin(tmp_path).split
    assert len(runs.reopen(tmp_path / "run", tmp_path / "moved" / "walk").split["train"]) == 4
    stages.data(begin(tmp_path), *(f"moved/{place}" for place in places))
    assert begin(tmp_path).finished("01_data").fingerprint == before and len(begin(tmp_path).split["train"]) == 4

    with pytest.raises(FusionError, match="both ir and visible, found ir="):
        stages.data(begin(tmp_path), "moved/walk/cam1")


def test_the_folder_of_a_run_may_be_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run = runs.open_run("quick", out="~/run")
    assert run.folder == tmp_path / "run" and run.folder.is_dir()
    (tmp_path / "own.pt").touch()
    assert run.weights("~/own.pt") == tmp_path / "own.pt"


def test_a_finished_stage_is_found_and_a_changed_one_is_kept_aside(tmp_path):
    run = begin(tmp_path)
    first = run.stage("02_x", epochs=1)
    assert not first.finished
    (first.folder / "weights").write_text("one")
    first.finish(loss=0.5)
    assert run.stage("02_x", epochs=1).finished
    assert run.finished("02_x").provenance["facts"] == {"loss": 0.5}

    other = run.stage("02_x", epochs=2)
    assert not other.finished and not (other.folder / "weights").exists()
    (other.folder / "weights").write_text("two")
    other.finish()

    back = run.stage("02_x", epochs=1)
    assert back.finished and (back.folder / "weights").read_text() == "one"
    assert (run.stage("02_x", epochs=2).folder / "weights").read_text() == "two"


def test_an_unfinished_stage_keeps_what_it_has(tmp_path):
    run = begin(tmp_path)
    (run.stage("02_x", epochs=1).folder / "checkpoint").write_text("half")
    again = run.stage("02_x", epochs=1)
    assert not again.finished and (again.folder / "checkpoint").read_text() == "half"


def test_fingerprint_depends_on_seed_inputs_and_code(tmp_path):
    run, reseeded = begin(tmp_path), begin(tmp_path, seed=1)
    stages = [run.stage("x", FusionLoss, a=1), run.stage("x", FusionLoss, a=2), reseeded.stage("x", FusionLoss, a=1),
              run.stage("x", evaluate, a=1), run.stage("x", a=1)]  # fmt: skip
    assert len({stage.fingerprint for stage in stages}) == 5
    assert run.stage("x", FusionLoss, a=1).fingerprint == stages[0].fingerprint


def test_a_stage_that_is_not_there_names_its_notebook(tmp_path):
    with pytest.raises(FusionError, match=r"run notebook 02_fusion_network .*--profile quick --only 02"):
        begin(tmp_path).finished("02_fusion_network")


def test_provenance_says_what_it_was_made_with(tmp_path):
    stage = begin(tmp_path).stage("01_x")
    stage.finish()
    record = json.loads((stage.folder / "provenance.json").read_text())
    assert record["profile"]["name"] == "quick" and record["inputs"]["seed"] == 0
    assert record["versions"]["torch"] and record["versions"]["fusionlib"]


def test_no_secret_of_the_environment_is_kept(tmp_path, monkeypatch):
    secrets = {"OPENAI_API_KEY": "sk-of-the-user", "HF_TOKEN": "hf_of-the-user", "ANY_PASSWORD": "swordfish"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    stage = begin(tmp_path, backend="server", backend_options="url=http://localhost:8000/v1").stage("01_x")
    stage.finish()
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"localhost:8000" in kept and not any(value.encode() in kept for value in secrets.values())


def test_weights_are_looked_for_beside_the_data(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "yolov5n.pt").touch()
    run = runs.open_run("small", data_root=str(tmp_path / "data"), out=str(tmp_path / "run"))
    assert run.weights("yolov5n.pt") == tmp_path / "weights" / "yolov5n.pt"
    assert run.weights(str(tmp_path / "weights" / "yolov5n.pt")).is_file()
    with pytest.raises(FusionError, match=r"yolov5x\.pt are missing: put the file into one of .*yolov5/releases"):
        run.weights("yolov5x.pt")
    with pytest.raises(FusionError, match=r"own\.onnx are missing: put the file into one of .*, or give its path$"):
        run.weights("own.onnx")


def test_hints_repeat_the_options_that_were_given(tmp_path, monkeypatch):
    """Typed, the command continues the same run: of the same folder, data root and settings."""
    monkeypatch.setattr("fusionlib.ROOT", tmp_path)
    assert runs.open_run("quick").command("02") == "python -m fusionlib run --profile quick --only 02"
    (tmp_path / "my data").mkdir()
    run = runs.open_run("quick", str(tmp_path / "my data"), str(tmp_path / "run"), channels=[16, 16, 32], seed=3,
                        methods="mean,laplacian", fidelity=0.5, train_peers=[], held_out_detector="a b.onnx")
    with pytest.raises(FusionError, match="with the same settings first") as raised:
        run.finished("02_fusion_network")
    command = re.search(r"\(python -m (fusionlib .*)\)$", str(raised.value))[1]
    given = parser.parse(shlex.split(command)[1:])
    assert given.command == "run" and given.only == "02"
    again = runs.open_run(given.profile, given.data_root, given.out, **parse_settings(given.set))
    assert (again.profile, again.folder, again.data_root) == (run.profile, run.folder, run.data_root)


DAMAGED = {
    "empty": b"", "zeros": bytes(100), "latin-1": b'{"fingerprint": "\xe9"}', "deep": b"[" * 100_000, "a number": b"5",
    "null": b"null", "a list": b"[]", "no fields": b"{}", "digits": b'{"date": ' + b"9" * 5000 + b"}",
}  # fmt: skip
FIELDS = {"profile": [5, None, [1], "x"], "data_root": [5, None, {}], "inputs": [None, 5], "date": [5],
          "fingerprint": [5, None, "", "../../x"]}  # fmt: skip


@pytest.fixture
def finished(tmp_path):
    """The folder of a run with one finished stage."""
    run = begin(tmp_path)
    run.stage("01_data").finish()
    return run.folder


def one_sentence(function, *arguments):
    with pytest.raises(FusionError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_record(finished, tmp_path, content):
    path = finished / "01_data" / "provenance.json"
    path.write_bytes(content)
    assert "provenance.json: expected the record of notebook 01" in one_sentence(runs.reopen, finished)
    assert "run notebook 01_data again" in one_sentence(begin(tmp_path).finished, "01_data")
    assert not begin(tmp_path).stage("01_data").finished  # it would be computed again


@pytest.mark.parametrize(("key", "value"), [(key, each) for key, values in FIELDS.items() for each in values], ids=str)
def test_a_record_of_somebody_else(finished, key, value):
    path = finished / "01_data" / "provenance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    assert f"data.{key} must" in one_sentence(runs.reopen, finished)


@pytest.mark.parametrize("setting", [
    {"channels": 5}, {"seed": "many"}, {"fidelity": -1}, {"threads": 1.5}, {"methods": 5}], ids=str)  # fmt: skip
def test_settings_of_somebody_else(finished, setting):
    path = finished / "01_data" / "provenance.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"profile": record["profile"] | setting}))
    assert f"{finished}: expected valid settings of a run, but" in one_sentence(runs.reopen, finished)


@pytest.mark.parametrize("root", ["", "gone", "a\0", "a" * 9000, "~nobody"])
def test_a_recorded_data_root_that_is_none(finished, root):
    path = finished / "01_data" / "provenance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data_root": root}))
    assert runs.reopen(finished).data_root.is_relative_to(finished)  # the scenes of the profile


def test_a_reopened_run_has_the_settings_of_its_record(tmp_path):
    run = begin(tmp_path, channels=[4, 8, 12], fidelity=1, held_out_detector="x.onnx")
    run.stage("01_data").finish()
    assert runs.reopen(run.folder).profile == run.profile


@pytest.mark.parametrize("mark", ["../../../escaped", "x/y", "", "a\0", 5, None, [1], {"a": 1}], ids=repr)
def test_a_mark_of_somebody_else_moves_nothing_out_of_the_run(finished, tmp_path, mark):
    (finished / "01_data" / "fingerprint.json").write_text(json.dumps({"fingerprint": mark}))
    stage = begin(tmp_path).stage("01_data", another=1)
    assert stage.folder == finished / "01_data" and not stage.finished
    assert {path.name for path in finished.iterdir()} == {"01_data", ".fusionlib"}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.timeout(60)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_record_that_is_a_pipe(finished, tmp_path):
    path = finished / "01_data" / "provenance.json"
    path.unlink()
    os.mkfifo(path)
    assert "found a device, pipe or socket" in one_sentence(runs.reopen, finished)
    assert not begin(tmp_path).stage("01_data").finished


RECORDS = [b"", b"5", b"[]", b"null", b"{}", b"\xff", b"[" * 100_000, b'{"sources": "", "seconds": "x", "metrics": {}}',
           b'{"sources": "", "seconds": 1, "metrics": 5}', b'{"sources": "", "seconds": 1, "metrics": {"vifb": null}}',
           b'{"sources": "", "seconds": 1, "metrics": {"vifb": {"values": []}}}',
           b'{"sources": "", "seconds": 1, "metrics": {"vifb": {"values": {"AG": null}}}}']  # fmt: skip


@pytest.mark.parametrize("content", RECORDS, ids=lambda content: str(content)[:70])
def test_a_damaged_record_of_an_image_is_none(tmp_path, content):
    path = tmp_path / "results" / "a" / "b.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert results.read_record(tmp_path, "a/b") is None


@pytest.mark.parametrize("value", ["NaN", "Infinity", "9" * 400])
def test_a_record_of_an_image_may_hold_any_number(tmp_path, value):
    (tmp_path / "results").mkdir()
    text = f'{{"sources": "", "seconds": 1, "metrics": {{"vifb": {{"values": {{"AG": {value}}}}}}}}}'
    (tmp_path / "results" / "a.json").write_text(text)
    assert isinstance(results.read_record(tmp_path, "a")["metrics"]["vifb"]["values"]["AG"], float)


def test_a_figure_says_what_it_is_about(tmp_path):
    run, pairs = begin(tmp_path), [Pair(name, "test", "a", None, None) for name in ("LLVIP", "TNO")]
    assert run.about(pairs, " with 3 people") == "LLVIP, TNO, profile quick, n = 2 image pairs with 3 people"
    assert run.about(pairs[:1]) == "LLVIP, profile quick, n = 1 image pair"
    chart = miss_rates({"ours": ([0, 1], [1, 0])}, "ours")
    assert run.show(chart, "plain") is chart and run.show(chart, "told", pairs) is chart
    assert [text.get_text() for text in chart.texts] == [run.about(pairs)]
    heights = [Image.open(run.figures / f"{name}.png").height for name in ("plain", "told")]
    assert heights[1] > heights[0]


def test_every_figure_of_the_notebooks_says_what_it_is_about():
    """Tables say it in their captions; the diagram of the method is about no data."""
    calls = []
    for path in sorted(NOTEBOOKS.glob("[01]*.ipynb")):
        code = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
        calls += [each for source in code for each in ast.walk(ast.parse(source)) if isinstance(each, ast.Call)
                  and ast.unparse(each.func) == "run.show"]  # fmt: skip
    untold = [ast.unparse(call.args[1]).strip("'") for call in calls if len(call.args) < 3]
    assert len(calls) > 25 and [name for name in untold if "_table" not in name] == ["04_method"]
