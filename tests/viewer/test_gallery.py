"""Galleries of runs, of folders and of two images, and the inputs they refuse."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import fusionlib as fl
from fusionlib import metrics
from fusionlib.data import manifests
from fusionlib.data.datasets import people
from fusionlib.experiments.run import reopen
from fusionlib.utils.errors import FusionError
from fusionlib.viewer.gallery import file_name, from_comparison, from_folder
from fusionlib.viewer.requests import RequestHandler
from fusionlib.viewer.run_gallery import from_run
from fusionlib.viewer.session import Networks


def write(path, level=0.5, size=(8, 10)):
    fl.data.write_image(path, torch.full((1, *size), level))


def test_a_run_shows_the_results_of_its_notebooks(run):
    gallery = from_run(reopen(run.folder))
    assert gallery.panes == ["infrared", "visible", "fused", "refined", "mean"] and gallery.notes == []
    assert [entry.group for entry in gallery.entries] == ["Scenes test"] * 6 + ["Scenes train"] * 2
    entry, trained = gallery.entries[1], gallery.entries[-1]
    pair = fl.data.read_manifest(run.folder / "01_data" / "manifest.json", run.data_root)["test"][1]
    assert entry.name == pair.label and entry.images["infrared"] == pair.ir
    np.testing.assert_array_equal(entry.truth, people(pair).numpy())
    assert list(trained.images) == ["infrared", "visible"] and trained.answer is None
    assert entry.answer.text == run.answers([pair])[0].text and entry.answer.text.startswith("The image is")
    images = fl.inference.network.read_fused(run.folder / "methods" / "mean" / "fused", [pair])[0], *fl.data.load(pair)
    measured = metrics.evaluate(*(image[None] for image in images))
    assert entry.metrics["mean"] == pytest.approx({name: value.item() for name, value in measured.items()}, rel=1e-4)


def test_a_run_lists_missing_results_and_their_notebooks(run, tmp_path):
    shutil.copytree(run.folder / "01_data", tmp_path / "a" / "01_data")
    gallery = from_run(reopen(tmp_path / "a", run.data_root))
    assert gallery.panes == ["infrared", "visible"]
    assert [note.rpartition("notebook ")[2] for note in gallery.notes] == [f"0{n}." for n in (2, 3, 4, 5)]


def test_the_data_sets_of_a_run_may_have_moved(run, tmp_path):
    shutil.copytree(run.folder / "01_data", tmp_path / "a" / "01_data")
    record = json.loads((tmp_path / "a" / "01_data" / "provenance.json").read_text())
    assert reopen(tmp_path / "a").data_root == run.data_root  # as recorded
    record["data_root"] = str(tmp_path / "gone")
    (tmp_path / "a" / "01_data" / "provenance.json").write_text(json.dumps(record))
    with pytest.raises(FusionError, match=r"missing; .* data_root="):
        fl.browse(tmp_path / "a")
    assert len(fl.browse(tmp_path / "a", run.data_root).gallery["entries"]) == 8
    with pytest.raises(FusionError, match=r"the data root .*nowhere is no folder"):
        fl.browse(tmp_path / "a", tmp_path / "nowhere")


def test_results_with_another_fingerprint_are_ignored(run):
    aside = run.folder / "methods" / "mean@0123456789ab"
    shutil.copytree(run.folder / "methods" / "mean", aside)
    assert not any("@" in pane for pane in from_run(reopen(run.folder)).panes)
    shutil.rmtree(aside)


def test_folders_that_share_names_are_panes(tmp_path):
    for pane, names in {"vi": "ab", "fused": "ac", "ir": "ab"}.items():
        for name in names:
            write(tmp_path / pane / f"{name}.png")
    gallery = from_folder(tmp_path)
    assert gallery.panes == ["infrared", "visible", "fused"] and gallery.sources == ("infrared", "visible")
    assert not any(entry.makes_fused for entry in gallery.entries)
    name = tmp_path.name
    assert {entry.name: sorted(entry.images) for entry in gallery.entries} == {
        f"{name}/a": ["fused", "infrared", "visible"], f"{name}/b": ["infrared", "visible"], f"{name}/c": ["fused"]}
    handler = RequestHandler(gallery, Networks())
    assert [image.shape for image in handler.sources(0)] == [(1, 8, 10), (3, 8, 10)]
    with pytest.raises(FusionError, match="expected an infrared and a visible image"):
        handler.sources(2)


def test_pairs_of_data_sets_are_entries_with_their_labels(tmp_path):
    for number, part in enumerate(("train", "test")):
        for side in ("ir", "vi", "fused"):
            write(tmp_path / "sets" / "MSRS" / part / side / "1.png", number / 3)
    (tmp_path / "sets" / "MSRS" / "labels" / "train").mkdir(parents=True)
    (tmp_path / "sets" / "MSRS" / "labels" / "train" / "1.txt").write_text("0 .5 .5 .5 .5\n1 .5 .5 .5 .5\n")
    write(tmp_path / "sets" / "MSRS" / "test" / "ir" / "2.png")
    write(tmp_path / "sets" / "notes" / "a.png")
    gallery = from_folder(tmp_path / "sets")
    panes = ["infrared", "visible", "fused"]
    assert gallery.panes == [*panes, "image"] and gallery.sources == ("infrared", "visible")
    assert [(entry.name, entry.group, list(entry.images)) for entry in gallery.entries] == [
        ("MSRS/train/1", "MSRS train", panes), ("MSRS/test/1", "MSRS test", panes),
        ("MSRS/test/2", "MSRS test", ["infrared"]), ("notes/a", "notes", ["image"])]
    np.testing.assert_array_equal(gallery.entries[0].truth, [[2.5, 2, 7.5, 6]])
    assert gallery.entries[1].truth is None
    assert any("2.png: expected its partner visible" in note for note in gallery.notes)
    assert any("unknown class '1'" in note for note in gallery.notes)


def test_other_folders_are_one_pane_and_groups(tmp_path):
    for name in ("day/a", "night/b", "c"):
        write(tmp_path / f"{name}.png")
    gallery = from_folder(tmp_path)
    assert gallery.panes == ["image"] and gallery.sources is None
    found = {(entry.group, entry.name) for entry in gallery.entries}
    assert found == {("day", "day/a"), ("night", "night/b"), ("", "c")}


def test_a_missing_folder_and_one_without_images_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    for path, found in ((tmp_path, "1 other files"), (tmp_path / "no", "nothing"), (tmp_path / "notes.txt", "a file")):
        with pytest.raises(FusionError, match=found):
            fl.browse(path)


def test_two_images_of_any_kind_are_compared(tmp_path):
    write(tmp_path / "one" / "x.png")
    write(tmp_path / "two" / "x.png")
    assert from_comparison(tmp_path / "one" / "x.png", tmp_path / "two" / "x.png").panes == ["one", "two"]
    assert from_comparison(tmp_path / "one" / "x.png", f"{tmp_path}/one/../two/x.png").panes == ["one", "two"]
    array, pil, tensor = np.zeros((8, 10), np.uint8), Image.new("RGB", (10, 8)), torch.zeros(3, 8, 10)
    for a, b in ((array, pil), (pil, tensor), (tensor, array)):
        viewer = fl.compare(a, b)
        assert viewer.gallery["panes"] == ["a", "b"] and viewer._handler.pixels(0, "b").shape[:2] == (8, 10)
    assert from_comparison(tmp_path / "one" / "x.png", array).panes == ["x.png", "b"]


def test_two_folders_are_matched_by_name(tmp_path):
    for pane, names in {"ours": "ab", "theirs": "bc"}.items():
        for name in names:
            write(tmp_path / pane / f"{name}.png")
    gallery = from_comparison(tmp_path / "ours", str(tmp_path / "theirs"))
    assert [entry.name for entry in gallery.entries] == ["b"] and gallery.panes == ["ours", "theirs"]
    assert len(gallery.notes) == 2 and "a.png: expected its partner" in gallery.notes[0]
    with pytest.raises(FusionError, match=r"is a folder, .*but .*a\.png is not: give two folders or two images"):
        from_comparison(tmp_path / "ours", tmp_path / "ours" / "a.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FusionError, match="No image name is in both folders"):
        from_comparison(tmp_path / "ours", tmp_path / "empty")


def test_entry_names_become_file_names():
    assert file_name("LLVIP/test/190001") == "LLVIP_test_190001"
    assert file_name('a "b" <c>/../d') == "a_b_c_.._d" and file_name("///") == "view"


@pytest.fixture
def copy(run, tmp_path):
    """A copy of a run, and a function that changes a JSON file in it."""
    shutil.copytree(run.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("scenes"))

    def change(name, change):
        path = tmp_path / "copy" / name
        content = json.loads(path.read_text())
        change(content)
        if "train" in content:
            content["fingerprint"] = manifests._fingerprint(content)
        path.write_text(json.dumps(content))

    return tmp_path / "copy", change


MANIFEST, RECORD = "01_data/manifest.json", "04_text_dfh/provenance.json"


@pytest.mark.parametrize("entry", [
    {"ir": "/etc/passwd.png"}, {"visible": "../../../../etc/x.png"}, {"name": "../../../../escaped"}, {"dataset": None},
    {"boxes": [[float("nan")] * 4], "classes": ["person"]}, {"boxes": [[0, 0, 1e300, 1]], "classes": ["person"]},
], ids=str)  # fmt: skip
def test_a_manifest_of_somebody_else_is_not_shown(copy, entry):
    folder, change = copy
    change(MANIFEST, lambda content: content["test"][0].update(entry))
    with pytest.raises(FusionError, match=r"manifest\.json: ") as error:
        fl.browse(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [5, None, [1], "x", {"seed": "many"}], ids=str)
def test_a_record_of_somebody_else(copy, value):
    """One that is no record of a finished notebook is as good as none; settings that are none are refused."""
    folder, change = copy
    change(RECORD, lambda record: record.update(profile=value))
    if isinstance(value, dict):
        with pytest.raises(FusionError, match="expected valid settings of a run"):
            fl.browse(folder)
    else:
        assert len(fl.browse(folder).gallery["entries"]) == 8


@pytest.mark.parametrize("content", ["5", "null", "[]", '"x"', "[" * 100_000, '{"Scenes/test/000004": 5}', "\xe9"],
                         ids=lambda content: content[:10])  # fmt: skip
def test_answers_that_are_damaged_are_a_note(copy, content):
    folder, _ = copy
    (folder / "03_mllm_feedback" / "assigned.json").write_bytes(content.encode("latin-1"))
    viewer = fl.browse(folder)
    assert [note[:31] for note in viewer.gallery["notes"]] == ["The answers could not be read: "]
    assert len(viewer.gallery["entries"]) == 8


@pytest.mark.parametrize("values", [5, None, [1], "x", {"SSIM": None}, {"SSIM": "x"}], ids=str)
def test_metrics_that_are_damaged_are_measured_again(copy, run, values):
    folder, change = copy
    label = from_run(reopen(run.folder)).entries[0].name
    change(f"methods/mean/results/{label}.json", lambda record: record["metrics"]["vifb"].update(values=values))
    gallery = from_run(reopen(folder))
    assert "mean" not in gallery.entries[0].metrics and "mean" in gallery.entries[1].metrics
    reply, _ = RequestHandler(gallery, Networks()).measure(0, "mean")
    assert set(reply["values"]) == set(metrics.conventions.PAPER)


def test_features_of_another_width_are_a_sentence(copy, run):
    folder, _ = copy
    opened = reopen(folder)
    handler = RequestHandler(from_run(opened), Networks(opened))
    answer = handler.gallery.entries[1].answer
    handler.gallery.entries[1].answer = replace(answer, kept=torch.zeros(answer.tokens, 7))
    with pytest.raises(FusionError, match="have 7 numbers per token, and this run's Text-DFH was trained on 384"):
        list(handler.attend({"entry": 1, "word": [0, 3]}))


def test_a_pattern_is_a_gallery_too(tmp_path, monkeypatch):
    for name in ("ir/1.png", "vi/1.png", "ours/1_fused.png", "ours/2_fused.png"):
        write(tmp_path / "walk" / name)
    monkeypatch.chdir(tmp_path)
    viewer = fl.browse("walk/ours/*_fused.png")
    assert [entry["name"] for entry in viewer.gallery["entries"]] == ["1_fused", "2_fused"]
    assert len(fl.browse("*/ours").gallery["entries"]) == 2
    with pytest.raises(FusionError, match=r"nowhere/\*: expected a folder of images"):
        fl.browse("nowhere/*")
