"""Compared methods: whose weights they have, what is kept of them, what is made again, and what tables say in words."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fusionlib import feedback, models, peers, visualization
from fusionlib.data.image_io import read_image
from fusionlib.data.pairs import Pair, load
from fusionlib.data.splits import Parts
from fusionlib.experiments import (
    OURS,
    OURS_STAGE_1,
    ablation,
    find_methods,
    fuse_method,
    measure_method,
    reading,
)
from fusionlib.experiments import results as kept
from fusionlib.experiments import run as runs
from fusionlib.inference import network as inference
from fusionlib.metrics import evaluation
from fusionlib.peers.recipes import RECIPES
from fusionlib.peers.sources import SOURCES
from fusionlib.training import trainer
from fusionlib.training.fusion import new_network
from fusionlib.utils import files
from fusionlib.utils.errors import FusionError


@pytest.fixture
def pairs(tmp_path):
    """Three pairs of 40x32, two of TNO and one of MSRS, below tmp_path/data."""
    draw, found = np.random.default_rng(0), []
    for dataset, name in (("TNO", "a"), ("TNO", "b"), ("MSRS", "c")):
        paths = [tmp_path / "data" / dataset / kind / f"{name}.png" for kind in ("ir", "vi")]
        for path, shape in zip(paths, ((32, 40), (32, 40, 3))):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, shape, dtype=np.uint8)).save(path)
        found.append(Pair(dataset, "test", name, *paths))
    return found


@pytest.fixture
def run(parts, tmp_path):
    return with_parts(runs.open_run("small", str(tmp_path / "data"), str(tmp_path / "run"), threads=1), parts)


def with_parts(run, parts):
    """A run for which notebook 01 has chosen these pairs."""
    vars(run)["parts"] = parts
    return run


@pytest.fixture
def parts(pairs):
    return Parts("TNO", pairs[:2], pairs[2:], [], [], pairs, [], [])


@pytest.fixture
def calls(monkeypatch):
    """What was fused (by which network) and measured, in order."""
    found = []
    raw, evaluate = peers.Peer.raw, kept.metrics.evaluate
    monkeypatch.setattr(peers.Peer, "raw", lambda self, *a: found.append(type(self).__name__) or raw(self, *a))
    monkeypatch.setattr(kept.metrics, "evaluate", lambda *a: found.append("metrics") or evaluate(*a))
    return found


def repaint(path):
    Image.fromarray(255 - read_image(path)).save(path)


def test_images_and_metrics_are_those_of_the_library(run, parts, pairs):
    (method,) = find_methods(run, ["MEAN"])
    assert (method.name, method.origin, method.folder) == ("mean", "needs none", run.folder / "methods" / "mean")
    assert fuse_method(method, pairs) == {}
    fused = inference.read_fused(method.folder / "fused", pairs)
    for image, pair in zip(fused, pairs):
        assert torch.equal(image, (peers.build("mean").fuse(*load(pair)) * 255).round() / 255)
    frame = measure_method(method, pairs, "tang", ("AG", "SCD"))
    pd.testing.assert_frame_equal(frame, evaluation.evaluate_pairs(iter(fused), pairs, ("AG", "SCD"), "tang"))
    assert frame.attrs["convention"] == "tang" and 0 < frame.attrs["seconds"] < 1


def test_the_scenes_of_the_pairs_come_with_the_metrics(run, pairs):
    (method,) = find_methods(run, ["mean"])
    known = [replace(pair, scene=scene) for pair, scene in zip(pairs, ("street", "street", ""))]
    fuse_method(method, known)
    frame = measure_method(method, known, names=("AG",))
    assert frame.attrs["scenes"] == {"TNO/a": "street", "TNO/b": "street"}
    assert evaluation.scenes_of(frame).tolist() == ["street", "street", "MSRS/c"]
    assert ablation.Outcome([method] * 2, {}, [frame, frame]).mean_scores.attrs == {
        "convention": "vifb", "scenes": frame.attrs["scenes"]}  # fmt: skip


def test_another_method_another_image_or_metric_costs_only_itself(run, parts, pairs, calls):
    (mean,) = find_methods(run, ["mean"])
    fuse_method(mean, pairs[:2])
    measure_method(mean, pairs[:2])
    assert calls == ["Mean"] * 2 + ["metrics"] * 2
    calls.clear()
    for method in find_methods(run, ["mean", "maximum"]):
        fuse_method(method, pairs)
        assert len(measure_method(method, pairs)) == 3
    assert calls == ["Mean", "metrics"] + ["Maximum"] * 3 + ["metrics"] * 3
    calls.clear()
    assert list(measure_method(mean, pairs, names=("EN", "AG"))) == ["EN", "AG"]  # AG is known already
    measure_method(mean, pairs, "tang", ("AG",))
    assert calls == ["metrics"] * 6
    known = json.loads((mean.folder / "results/TNO/test/a.json").read_text())["metrics"]
    assert list(known["vifb"]["values"]) == [*kept.metrics.PAPER, "EN"] and list(known["tang"]["values"]) == ["AG"]


def test_what_changed_is_made_again(run, parts, pairs, calls, monkeypatch):
    (method,) = find_methods(run, ["mean"])
    fuse_method(method, pairs)
    before = measure_method(method, pairs)
    calls.clear()
    repaint(pairs[1].visible)
    left = measure_method(method, pairs)  # its image is of other sources
    assert [name for _, name in left.index] == ["a", "c"] and calls == []
    fuse_method(method, pairs)
    after = measure_method(method, pairs)
    assert calls == ["Mean", "metrics"]
    changed = (after != before).any(axis=1)
    assert list(changed) == [False, True, False]

    monkeypatch.setattr(kept, "code_of", lambda *entries: "another state of the metrics")
    measure_method(method, pairs)
    assert calls == ["Mean"] + ["metrics"] * 4


def test_an_interrupted_call_goes_on(run, parts, pairs, calls, monkeypatch):
    (method,) = find_methods(run, ["mean"])
    write, written = kept.write_image, []

    def killed(path, image):
        write(path, image)
        written.append(path.name)
        if len(written) == 2:
            raise KeyboardInterrupt  # the image is there, but nothing says what it was made of

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(kept, "write_image", killed)
        fuse_method(method, pairs)
    assert len(measure_method(method, pairs)) == 1
    calls.clear()
    fuse_method(method, pairs)
    assert calls == ["Mean"] * 2 and len(measure_method(method, pairs)) == 3


def test_an_image_that_is_refused_is_named_and_left_out(run, parts, pairs):
    (method,) = find_methods(run, ["mean"])
    repaint(pairs[2].ir)
    ir = load(pairs[0])[0]

    def fuse(infrared, visible, text):
        if torch.equal(infrared, ir):
            raise FusionError("needs about 9 GB of memory")
        return visible

    refusing = replace(method, make=lambda: fuse)
    assert fuse_method(refusing, pairs) == {"TNO/test/a": "needs about 9 GB of memory"}
    frame = measure_method(refusing, pairs)
    table = visualization.fusion_table({"mean": frame}, "TNO", "mean")
    assert len(frame) == 2 and table.loc["mean", ("", "n")] == 1
    assert measure_method(refusing, pairs[:1]) is None
    assert fuse_method(method, pairs) == {} and len(measure_method(method, pairs)) == 3  # there is memory again


def weights_of(name, folder):
    folder.mkdir(parents=True)
    torch.save(peers.build(name).state_dict(), folder / "net.pth")
    return folder / "net.pth"


@pytest.mark.parametrize("place", ["data/peers/checkpoints/datfuse", "data/peers/DATFuse", "peers/checkpoints/DatFuse"])
def test_given_weights_are_found_and_used(run, parts, pairs, tmp_path, monkeypatch, place):
    file = weights_of("DATFuse", tmp_path / place)
    (method,) = find_methods(run, ["datfuse"])
    assert (method.name, method.origin) == ("DATFuse", "weights of the user")
    fuse_method(method, pairs[:1])
    expected = peers.build("DATFuse", file).fuse(*load(pairs[0]))
    (image,) = inference.read_fused(method.folder / "fused", pairs[:1])
    torch.testing.assert_close(image, expected, atol=0.5 / 255 + 1e-4, rtol=0)
    digests = {file.name: files.file_fingerprint(file)}
    monkeypatch.setitem(SOURCES, "DATFuse", SOURCES["DATFuse"]._replace(sha256=digests))
    (again,) = find_methods(run, ["DATFuse"])
    assert again.origin == "official weights" and len(measure_method(again, pairs)) == 1
    torch.save(peers.build("DATFuse").state_dict(), file)  # other weights: other images, the old ones move aside
    (other,) = find_methods(run, ["DATFuse"])
    assert measure_method(other, pairs) is None and list(run.folder.glob("methods/DATFuse@*"))


def test_official_weights_of_the_development_data(shared, tmp_path, parts):
    run = runs.open_run("small", str(shared / "data"), str(tmp_path / "out"))
    found = {method.name: method.origin for method in find_methods(run, run.profile.methods)}
    official = {name for name, origin in found.items() if origin == "official weights"}
    assert official == {"AUIF", "DATFuse", "LRRNet"} and len(found) == 12
    untrained = [name for name, origin in found.items() if origin == "needs none"]
    assert untrained == ["mean", "maximum", "laplacian", "laplacian-max"]


def test_weights_of_another_network_are_refused(run, parts, tmp_path):
    weights_of("DATFuse", tmp_path / "data/peers/lrrnet")
    with pytest.raises(FusionError, match=r"net.pth does not fit LRRNet, which has \d+ tensors: "):
        find_methods(run, ["mean", "LRRNet"])
    (tmp_path / "data/peers/auif").mkdir()
    with pytest.raises(FusionError, match="expected a folder with weights"):
        find_methods(run, ["AUIF"])
    with pytest.raises(FusionError, match="there is no method 'FusionGAN' to compare: choose among AUIF, DATFuse"):
        find_methods(run, ["mean", "FusionGAN"])


def test_methods_without_weights_stay_and_say_why(run, parts, pairs):
    run = replace(run, profile=replace(run.profile, train_peers=("LRRNet", "TextIF", "IVFWSR")))
    names = ["DATFuse", "LRRNet", "TextIF", "IVFWSR", "[85]"]
    methods = find_methods(run, names)
    assert [method.name for method in methods] == names and {method.note for method in methods} == {"no weights"}
    reasons = [method.origin for method in methods]
    assert "at tthinking/DATFuse: model_10.pth; they go into the folder peers/datfuse beside the data" in reasons[0]
    assert "its training needs torchvision's state dict of vgg16" in reasons[1]
    assert "its training needs CLIP's vector [1,512]" in reasons[2] and "whose name is lost" in reasons[4]
    assert reasons[3].startswith("no weights: IVFWSR is architecture only: its release has no training code")
    assert all(fuse_method(method, pairs) == {} and measure_method(method, pairs) is None for method in methods)


def test_a_peer_without_weights_is_trained_on_the_pairs_of_stage_1(run, parts, pairs, tmp_path, monkeypatch):
    def profiled(folder):
        options = {"threads": 1, "train_peers": ("DATFuse",)}
        return with_parts(runs.open_run("small", str(run.data_root), str(tmp_path / folder), **options), parts)

    monkeypatch.setitem(RECIPES, "DATFuse", replace(RECIPES["DATFuse"], batch=1, crop=16, epochs=2))
    (whole,) = find_methods(profiled("whole"), ["DATFuse"])
    assert whole.origin == "trained by the suite, 2 epochs on 2 pairs of TNO" and whole.note == whole.origin
    save, saved = trainer.checkpoint, []

    def killed(*given):
        save(*given)
        saved.append(given)
        if len(saved) == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer, "checkpoint", killed)
        find_methods(profiled("parts"), ["DATFuse"])
    torch.manual_seed(7)  # what else happened in the process must not matter
    (resumed,) = find_methods(profiled("parts"), ["DATFuse"])
    states = [peers.build("DATFuse", tmp_path / each / "trained/DATFuse.safetensors").state_dict()
              for each in ("whole", "parts")]  # fmt: skip
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert fuse_method(resumed, pairs) == {} and len(measure_method(resumed, pairs)) == 3

    monkeypatch.setattr(trainer, "fit", None)  # nothing is trained twice
    (again,) = find_methods(profiled("parts"), ["DATFuse"])
    assert len(measure_method(again, pairs)) == 3


@pytest.fixture
def trained(run, pairs):
    """A run with what notebooks 02 to 04 leave: random networks, and an answer about each pair."""
    network = new_network(run.profile).eval()
    refined = models.TextGuidedFusion(network, 6).eval()
    for parameter in refined.harmonise.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    store = feedback.open_store(run.folder / "answers")
    answers = [
        feedback.Answer(pair.label, f"image {i}", "q", "t", "b", "m", "r", "s", "e", 0.1, 4, "now", torch.randn(4, 6))
        for i, pair in enumerate([*pairs, pairs[0]])
    ]
    keys = store.put(answers)
    for name, model in (("02_fusion_network", network), ("03_mllm_feedback", None), ("04_text_dfh", refined)):
        stage = run.stage(name)
        if model is not None:
            models.save(model, stage.folder / "last.safetensors")
        stage.finish()
    assigned = run.folder / "03_mllm_feedback" / "assigned.json"
    assigned.write_text(json.dumps(dict(zip((pair.label for pair in pairs), keys))))
    return network, refined, [answer.features for answer in keys.values()], assigned, list(keys)


def test_ours_are_stage_1_and_what_the_answers_make_of_it(run, parts, pairs, trained):
    network, refined, texts, assigned, keys = trained
    first, ours = find_methods(run, [OURS_STAGE_1, OURS])
    assert (first.origin, ours.origin) == ("stage 1", "stage 1 + Text-DFH")
    for method in (first, ours):
        assert fuse_method(method, pairs) == {} and len(measure_method(method, pairs)) == 3
    made = (inference.read_fused(method.folder / "fused", pairs) for method in (first, ours))
    for pair, text, *images in zip(pairs, texts, *made):
        expected = inference.fuse(network, *load(pair)), inference.fuse(refined, *load(pair), text)
        torch.testing.assert_close(images, list(expected), atol=0.5 / 255 + 1e-4, rtol=0)
        assert (images[0] - images[1]).abs().max() > 5 / 255
    # Another answer about one pair: its image is made again, no other one.
    assigned.write_text(json.dumps(json.loads(assigned.read_text()) | {pairs[0].label: keys[3]}))
    (ours,) = find_methods(run, [OURS])
    assert [name for _, name in measure_method(ours, pairs).index] == ["b", "c"]
    fuse_method(ours, pairs)
    assert len(measure_method(ours, pairs)) == 3


def test_ours_need_their_notebooks(run, parts):
    with pytest.raises(FusionError, match="run notebook 02_fusion_network with the same settings first"):
        find_methods(run, ["mean", OURS_STAGE_1])


def test_a_table_in_words():
    def row(ag, cv, **compared):
        return {"AG": {"mean": ag} | compared.get("AG", {}), "Q_CV": {"mean": cv} | compared.get("Q_CV", {})}

    cells = {
        "better": row(3, 20, AG={"difference": 1, "p": 0.01}, Q_CV={"difference": 10, "p": 0.01}),
        "alike": row(1, 30, AG={"difference": -1, "p": 0.6}, Q_CV={"difference": 20, "p": 0.06}),
        "none": None,
        OURS: row(2, 10),
    }
    table = visualization.build(cells, {"better": 9, "alike": 9, OURS: 9}, "caption", OURS)
    assert reading(table).splitlines() == [
        "ours is first in 1 (Q_CV) and second in 1 (AG) of 2 metrics among 3 methods with numbers.",
        "Against better: better in 1, worse in 1, inconclusive in 0",
        "Against alike: better in 0, worse in 0, inconclusive in 2",
    ]
    assert reading(table, "none") == "none has no numbers here."
    few = visualization.build(cells, {"better": 6, "alike": 6, OURS: 6}, "caption", OURS)  # four comparisons of 1/32
    assert reading(few).endswith("with numbers. 6 images are too few for a verdict: even if they all agreed, the "
                                 "corrected p of a sign-flip test would be 0.12.")
    table.attrs["units"] = 6
    assert "numbers. 9 images of 6 scenes are too few" in reading(table) and reading(table).endswith("would be 0.12.")
