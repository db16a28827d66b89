"""Galleries of runs, of folders and of two images, and the inputs they refuse."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import fusionlib as fl
from fusionlib import metrics
from fusionlib.data.datasets import people
from fusionlib.experiments.run import reopen
from fusionlib.utils.errors import FusionError
from fusionlib.viewer.gallery import file_name, from_comparison, from_folder
from fusionlib.viewer.requests import RequestHandler
from fusionlib.viewer.run_gallery import from_run
from fusionlib.viewer.session import Networks

pytestmark = pytest.mark.usefixtures("one_thread")


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
    assert gallery.panes == ["ir", "vi", "fused"] and gallery.sources == ("ir", "vi")
    assert {entry.name: sorted(entry.images) for entry in gallery.entries} == {
        "a": ["fused", "ir", "vi"], "b": ["ir", "vi"], "c": ["fused"]}  # fmt: skip
    handler = RequestHandler(gallery, Networks())
    assert [image.shape for image in handler.sources(0)] == [(1, 8, 10), (3, 8, 10)]
    with pytest.raises(FusionError, match="expected an infrared and a visible image"):
        handler.sources(2)


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
