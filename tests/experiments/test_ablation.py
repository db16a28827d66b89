"""The ablations: one budget for all, controls that differ in their text alone, no sentence beyond its interval."""

import functools
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from fusionlib import detection, feedback, models
from fusionlib.data import Pair, write_image
from fusionlib.data.splits import Parts, evenly_spaced
from fusionlib.experiments import ablation, ablation_analysis
from fusionlib.experiments import run as runs
from fusionlib.experiments.ablation import CONTROLS, FULL, PAPER, STAGE_1, AblationStudy, Experiment
from fusionlib.feedback.backends import Reply
from fusionlib.inference import network as inference
from fusionlib.models import FusionNetwork
from fusionlib.utils.errors import FusionError

NO_TEXT, SHUFFLED = CONTROLS


class Analyst:
    """Says something else about every image, in 16 features a token."""

    name, model, revision, settings, encoder = "analyst", "toy", "", {}, "toy"

    def __init__(self):
        self.said = 0

    def reply(self, images, question):
        replies = [Reply(f"advice {self.said + i}", torch.randn(3 + i % 2, 16)) for i in range(len(images))]
        self.said += len(images)
        return replies


def make_pairs(folder, split, count):
    """Pairs of 64x96 with a warm figure each."""
    random, made = np.random.default_rng(len(split)), []
    for i in range(count):
        visible, ir = random.integers(0, 120, (64, 96, 3), dtype=np.uint8), random.integers(0, 60, (64, 96), np.uint8)
        x = 8 * i
        ir[20:50, x : x + 12] += 150
        files = folder / f"{split}{i}.png", folder / f"{split}-visible{i}.png"
        write_image(files[0], ir)
        write_image(files[1], visible)
        made.append(Pair("Toy", split, str(i), *files, np.float32([[x, 20, x + 12, 50]]), ("person",)))
    return made


def make_run(folder, pairs, **settings):
    """A run whose notebooks 02 and 03 are done."""
    data = pairs[0].ir.parent
    weights, other = data / "detector.safetensors", data / "other.safetensors"
    for seed, file in enumerate((weights, other)):
        if not file.exists():
            torch.manual_seed(seed)
            detection.save_yolov5(detection.YOLOv5(1, depth=0.33, width=0.125, names=["person"]), file)
    run = runs.open_run("quick", data, folder, detection_datasets=("Toy",), detector=str(weights), dfh_batch=2,
                        held_out_detector=str(other), **settings)
    run = replace(run, profile=replace(run.profile, detect_size=(64, 96)))
    fusion = run.stage("02_fusion_network")
    network = FusionNetwork().eval()
    models.save(network, fusion.folder / "last.safetensors")
    inference.fuse_pairs(network, pairs, fusion.folder / "fused")
    fusion.finish()
    answers = feedback.ask(inference.read_fused(fusion.folder / "fused", pairs), Analyst(), "How?",
                           feedback.open_store(run.folder / "answers"), [pair.label for pair in pairs])
    stage = run.stage("03_mllm_feedback", backend="analyst", question="How?")
    feedback.write_assignment(stage.folder / "assigned.json", answers)
    stage.finish()
    return run


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    train, test = make_pairs(folder, "train", 7), make_pairs(folder, "test", 4)
    return Parts(("Toy",), train[:5], train[5:], train[:5], train[5:], test, test, ["Toy"])


@pytest.fixture(scope="module")
def bench(parts, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:  # the encoder of sentences takes seconds to load
        patch.setattr("fusionlib.feedback.querying.encode", lambda texts: [torch.ones(5, 20) for _ in texts])
        budget = {"ablation_pairs": 4, "ablation_test": 3, "ablation_epochs": 2, "ablation_seeds": 2}
        run = make_run(tmp_path_factory.mktemp("run"), parts.dfh_train + parts.dfh_validation + parts.test, **budget)
        vars(run)["parts"] = parts
        yield AblationStudy(run)


@pytest.fixture(scope="module")
def outcomes(bench):
    every = {e.name: bench.outcome(e, 1) for e in (*PAPER, *CONTROLS)}
    return every | {STAGE_1: bench.stage_1(1)}


def provenance(bench, experiment, seed=0):
    folder = bench.run.folder / "ablations" / f"{experiment.name.replace(' ', '-')}-seed{seed}"
    return json.loads((folder / "provenance.json").read_text())


def test_every_experiment_has_the_same_budget(bench, outcomes):
    assert len(bench.train) == 4 and len(bench.test) == 3 and len(bench.validation) == 1
    records = [provenance(bench, experiment) for experiment in (*PAPER, *CONTROLS)]
    for experiment, record in zip((*PAPER, *CONTROLS), records):
        assert len(pd.read_csv(outcomes[experiment.name].methods[0].folder / "curves.csv")) == 2
        assert record["profile"]["variant"] == experiment.variant
        assert {**record["profile"], "variant": ""} == {**records[0]["profile"], "variant": ""}
        same = ("fusion", "weights", "count", "pairs", "dfh_epochs", "dfh_batch", "dfh_lr", "fidelity", "seed", "code")
        assert all(record["inputs"][key] == records[0]["inputs"][key] for key in same)
    assert "pairs of Toy: 4, epochs: 2, batch: 2" in bench.budget


def test_controls_differ_from_full_in_their_text_alone(bench, outcomes):
    full = provenance(bench, FULL)["inputs"]
    for control in (PAPER[0], *CONTROLS):
        other = provenance(bench, control)["inputs"]
        assert {key for key in full if full[key] != other[key]} == {"answers"}
    pairs = bench.train
    own, fixed, none, shuffled = (bench.answers(text, pairs, 0) for text in ablation.TEXTS)
    assert all(answer.features.shape[1] == 16 for answers in (own, fixed, none, shuffled) for answer in answers)
    assert {a.text for a in fixed} == {"Brighter brightness, higher contrast, and clearer texture details."}
    assert all(not answer.features.any() for answer in none)
    assert sorted(a.text for a in shuffled) == sorted(a.text for a in own)
    assert all(a.text != b.text and a.name == b.name for a, b in zip(own, shuffled))
    assert [a.text for a in bench.answers("shuffled", bench.train + bench.validation, 1)] != [a.text for a in own]


def test_variants_are_trained_and_judged(bench, outcomes):
    for experiment in PAPER:
        harmonise = outcomes[experiment.name].methods[0].make().args[0].harmonise["ir"]
        assert harmonise.variant == experiment.variant and harmonise.layers[-1].weight.abs().sum() > 0
    start, full = outcomes[STAGE_1], outcomes["full"]
    assert list(full.found) == list(bench.detectors) == ["detector", "other"]
    assert {len(x.found[name][0]) for x in (start, full) for name in bench.detectors} == {3}
    assert full.scores[0].shape == (3, 5) and not full.scores[0].equals(start.scores[0])
    first = bench.test[0]
    image = inference.read_fused(full.methods[0].folder / "fused", [first])[0]
    assert bench.detector is bench.detectors["detector"]
    expected = [detection.detect(each, [image])[0] for each in bench.detectors.values()]
    assert not torch.equal(*expected)
    assert all(torch.equal(full.found[name][0][0], boxes) for name, boxes in zip(bench.detectors, expected))


def test_what_is_finished_is_loaded_and_the_rest_trained(bench, outcomes, monkeypatch):
    trained, train = [], ablation.train_text_dfh

    @functools.wraps(train)  # whose code results depend on
    def counted(*args, **options):
        trained.append((args[-1].seed, args[-1].fidelity))
        if len(trained) == 2:
            raise KeyboardInterrupt
        return train(*args, **options)

    monkeypatch.setattr(ablation, "train_text_dfh", counted)
    again = bench.outcome(FULL, 1)
    assert trained == [] and torch.equal(again.found["other"][0][1], outcomes["full"].found["other"][0][1])
    weak = Experiment("fidelity 0", "", fidelity=0.0)
    with pytest.raises(KeyboardInterrupt):
        bench.outcome(weak, 2)
    assert trained == [(0, 0.0), (1, 0.0)]
    both = bench.outcome(weak, 2)
    assert trained[2:] == [(1, 0.0)]
    weights = [method.make().args[0].state_dict() for method in both.methods]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    mean = (both.scores[0] + both.scores[1]) / 2
    pd.testing.assert_frame_equal(both.mean_scores, mean)
    assert both.mean_scores.attrs["convention"] == "vifb"


def test_more_test_images_cost_no_training(bench, outcomes, parts, monkeypatch):
    monkeypatch.setattr(ablation, "train_text_dfh", functools.wraps(ablation.train_text_dfh)(lambda *_: 1 / 0))
    run = replace(bench.run, profile=replace(bench.run.profile, ablation_test=0))
    vars(run)["parts"] = parts
    more = AblationStudy(run).outcome(FULL, 1)
    assert len(more.scores[0]) == 4
    pd.testing.assert_frame_equal(more.scores[0].iloc[[0]], outcomes["full"].scores[0].iloc[[0]])


def test_how_far_images_move(bench, outcomes):
    moved = bench.text_sensitivity()
    pairs = bench.test
    images = [inference.read_fused(outcomes[name].methods[0].folder / "fused", pairs) for name in ("full", STAGE_1)]
    expected = 255 * torch.stack([(a - b).abs().mean() for a, b in zip(*images)]).mean()
    assert moved["stage 2"] == pytest.approx(expected.item(), abs=0.5)  # of the rounding to 8 bit
    assert 0 < moved["answer"] < moved["stage 2"]


def test_the_sweep_holds_the_profiles_own_weight(bench):
    sweep = ablation.fidelity_sweep((0.3, 0.0, 1.0), bench.run.profile)
    assert list(sweep) == [0.0, 0.3, 1.0]
    assert sweep[1.0] is FULL and sweep[0.3].fidelity == 0.3


def test_a_run_with_a_control_instead_of_an_analyst_is_refused(bench, parts):
    feedback_folder = bench.run.folder / "03_mllm_feedback"
    record = (feedback_folder / "provenance.json").read_text()
    (feedback_folder / "provenance.json").write_text(record.replace('"backend": "analyst"', '"backend": "fixed"'))
    with pytest.raises(FusionError, match="notebook 03 asked a control, fixed"):
        AblationStudy(bench.run)
    (feedback_folder / "provenance.json").write_text(record)


def test_spread():
    pairs = list(range(10))
    assert evenly_spaced(pairs, 4) == [0, 3, 6, 9]
    assert evenly_spaced(pairs, 0) == evenly_spaced(pairs, 99) == pairs


def people_found(hits, images=24, seed=0):
    """Predictions on images with two people each, of which so large a share is found, and the truths."""
    random = np.random.default_rng(seed)
    truths = [torch.tensor([[5.0, 5, 15, 35], [40, 5, 50, 35]]) for _ in range(images)]
    found = []
    for boxes in truths:
        rows = [[*box, random.uniform(0.5, 1), 0] for box in boxes.tolist() if random.random() < hits]
        rows += [[70, 5, 80, 35, random.uniform(0, 0.8), 0]]
        found.append(torch.tensor(rows))
    return found, truths


def test_with_one_seed_the_numbers_are_those_of_the_detection_measures():
    found, truths = {"full": people_found(0.8, seed=0)[0], "x": people_found(0.5, seed=1)[0]}, people_found(1)[1]
    table = ablation_analysis.compare(
        ablation_analysis.resample({name: [runs] for name, runs in found.items()}, truths)
    )
    for name, predictions in found.items():
        alone = detection.intervals(predictions, truths, heights={})
        assert table.loc[name, ["mean", "low", "high"]].to_numpy() == pytest.approx(
            alone.loc[table.loc[name].index, ["value", "low", "high"]].to_numpy())
    paired = detection.paired(found, "full", truths, heights={}).loc["x"]
    columns = ["difference", "difference low", "difference high", "p", "p_holm"]
    assert table.loc["x", columns].to_numpy() == pytest.approx(
        paired.loc[table.loc["x"].index, ["difference", "low", "high", "p", "p_holm"]].to_numpy())
    assert table.loc["full", "difference"].isna().all() and table.loc["full", "verdict"].isna().all()
    assert list(table.loc["x", "verdict"]) == list(paired.loc[table.loc["x"].index, "verdict"])


def test_seeds_are_averaged_and_widen_the_interval():
    truths = people_found(1)[1]
    runs = [people_found(hits, seed=seed)[0] for seed, hits in enumerate((0.3, 0.6, 0.9))]
    found = {"full": [runs[1]] * 3, "spread": runs, "same": [runs[0]] * 3}
    table = ablation_analysis.compare(ablation_analysis.resample(found, truths))
    each = [detection.measure(run, truths, heights={})["mAP@.5"] for run in runs]
    row = table.loc["spread", "mAP@.5"]
    assert row["mean"] == pytest.approx(np.mean(each))
    assert (row["lowest"], row["highest"]) == pytest.approx((min(each), max(each)))
    first = {name: runs[:1] for name, runs in found.items()}
    one = ablation_analysis.compare(ablation_analysis.resample(first, truths))
    pd.testing.assert_series_equal(table.loc["same", "mAP@.5"], one.loc["same", "mAP@.5"])
    width = row["high"] - row["low"]
    assert width > 1.2 * max(one.loc[name, "mAP@.5"]["high"] - one.loc[name, "mAP@.5"]["low"] for name in found)


def test_table_7_has_every_row(outcomes, bench):
    resampled, other = (ablation_analysis.resample({row: outcome.found[name] for row, outcome in outcomes.items()},
                                                   bench.truths, 50) for name in bench.detectors)
    table = ablation_analysis.ablation_table(resampled, {"CA1": "one branch"}, "Toy", "quick")
    assert list(table.index) == [*outcomes] and table.loc["CA1", ("", "differs in")] == "one branch"
    assert list(table.attrs["higher_is_better"].items()) == [
        ("mAP@.5", True), ("mAP@.75", True), ("mAP@.5:.95", True), ("R@P.9", True), ("LAMR", False)]
    assert "on Toy, profile quick" in table.attrs["caption"] and "n = 3 images with 3 people" in table.attrs["caption"]
    both = ablation_analysis.ablation_table(resampled, {}, "Toy", "quick", {"other": other})
    alone = ablation_analysis.ablation_table(other, {}, "Toy", "quick")
    for measure, up in alone.attrs["higher_is_better"].items():
        pd.testing.assert_frame_equal(both[measure], table[measure])
        pd.testing.assert_frame_equal(both[f"{measure} other"], alone[measure])
        assert both.attrs["higher_is_better"][f"{measure} other"] == up
    assert both.attrs["caption"].startswith(table.attrs["caption"].partition(" Below")[0])
    assert "Columns with the name other: by a detector that was in no loss." in both.attrs["caption"]
    assert "no loss" not in table.attrs["caption"]


def toy_gain(stage_1, none, fixed, shuffled, own, seeds=3, measure="mAP@.5", scenes=None):
    hits = {STAGE_1: stage_1, "no text": none, "no MLLM": fixed, "shuffled text": shuffled, "full": own}
    truths = people_found(1)[1]
    found = {name: [people_found(share, seed=seed)[0] for seed in range(seeds)] for name, share in hits.items()}
    return ablation_analysis.attribute_gain(ablation_analysis.resample(found, truths, 400, scenes=scenes), measure)


def test_a_gain_is_divided_without_rest():
    table = toy_gain(0.3, 0.5, 0.6, 0.6, 0.8)
    total = table.loc["full", "gain"]
    assert (table["gain"] + table["own-text gain"])[:3].to_numpy() == pytest.approx([total] * 3)
    assert total == pytest.approx(table.loc["full", "mean"] - table.attrs["stage 1"])
    assert np.isnan(table.loc["full", "own-text gain"])
    rates = toy_gain(0.3, 0.5, 0.6, 0.6, 0.8, measure="LAMR")
    assert rates.loc["full", "gain"] == pytest.approx(rates.attrs["stage 1"] - rates.loc["full", "mean"])
    assert rates.loc["full", "gain"] > 0


@pytest.mark.parametrize(("hits", "said", "unsaid"), [
    ((0.2, 0.9, 0.9, 0.9, 0.9), ["1: mAP@.5 better", "(100% of that gain)", "No effect of the text"], ["matters here"]),
    ((0.1, 0.3, 0.3, 0.3, 0.95), ["The text matters here"], ["No effect", "inconclusive"]),
    ((0.1, 0.3, 0.9, 0.9, 0.9), ["on training without any text, but not on training with"], ["No effect"]),
    ((0.6, 0.6, 0.6, 0.6, 0.6), ["1: mAP@.5 inconclusive", "nothing to attribute"], ["% of that", "matters here"]),
    ((0.9, 0.9, 0.9, 0.9, 0.2), ["1: mAP@.5 worse", "text: mAP@.5 worse"], ["% of that", "matters here"]),
])  # fmt: skip
def test_the_answer_says_no_more_than_the_intervals(hits, said, unsaid):
    text = ablation_analysis.explain(toy_gain(*hits))
    assert all(part in text for part in said), text
    assert not any(part in text for part in unsaid), text
    assert "on 24 images with 48 people, mean over 3 seeds" in text and "too narrow" not in text


def test_one_seed_concludes_nothing_and_few_images_are_named():
    text = ablation_analysis.explain(toy_gain(0.1, 0.3, 0.3, 0.3, 0.95, seeds=1))
    assert "No conclusion about the text can be drawn from one seed" in text and "matters here" not in text
    table = toy_gain(0.1, 0.3, 0.3, 0.3, 0.95, scenes=[f"s{i % 6}" for i in range(24)])
    text = ablation_analysis.explain(table)
    assert "mAP@.5 on 24 images of 6 scenes with 48 people" in text
    assert "only 24 images of 6 scenes the intervals tend to be too narrow" in text


def test_scenes_and_regions_are_those_of_the_detection_measures():
    found, truths = {"full": people_found(0.8, seed=0)[0], "x": people_found(0.5, seed=1)[0]}, people_found(1)[1]
    options = {"ignore": [torch.tensor([[60.0, 0, 96, 40]])] * 12 + [torch.zeros(0, 4)] * 12,
               "scenes": [f"s{i // 4}" for i in range(24)]}
    resampled = ablation_analysis.resample({name: [runs] for name, runs in found.items()}, truths, **options)
    table = ablation_analysis.compare(resampled)
    for name, predictions in found.items():
        alone = detection.intervals(predictions, truths, heights={}, **options)
        assert table.loc[name, ["mean", "low", "high"]].to_numpy() == pytest.approx(
            alone.loc[table.loc[name].index, ["value", "low", "high"]].to_numpy())
    caption = ablation_analysis.ablation_table(resampled, {}, "Toy", "quick").attrs["caption"]
    assert "n = 24 images of 6 scenes with 48 people" in caption and "bootstrap interval over scenes." in caption


def test_what_cannot_be_compared_is_refused():
    found, truths = people_found(0.5)
    with pytest.raises(FusionError, match="found full 2, CA1 1"):
        ablation_analysis.resample({"full": [found] * 2, "CA1": [found]}, truths)
    with pytest.raises(FusionError, match="found none"):
        ablation_analysis.resample({}, truths)
    with pytest.raises(FusionError, match="needs two or more, found 1"):
        ablation_analysis.resample({"full": [found[:1]]}, truths[:1])
