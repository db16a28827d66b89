"""Profiles, runs and stages: what is finished is found, what differs is kept aside, what is missing is named."""

import json

import pytest

from fusionlib.config import PROFILES, profile
from fusionlib.experiments import run as runs
from fusionlib.metrics import evaluate
from fusionlib.models import FusionLoss
from fusionlib.utils.errors import FusionError


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
     ("quick", {"fusion_lr": "high"}, "must be of type float, but is 'high'")],
)  # fmt: skip
def test_bad_settings(name, overrides, message):
    with pytest.raises(FusionError, match=message):
        profile(name, **overrides)


def test_missing_data_root(tmp_path):
    with pytest.raises(FusionError, match="nowhere is no folder"):
        runs.open_run("small", data_root=str(tmp_path / "nowhere"))


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
    with pytest.raises(FusionError, match=r"yolov5x\.pt are missing: put the file into one of"):
        run.weights("yolov5x.pt")
