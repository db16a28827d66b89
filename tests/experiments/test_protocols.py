import functools
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from random_boxes import scenes

from fusionlib.config import profile
from fusionlib.data.datasets import letterbox
from fusionlib.data.image_io import read_image, write_image
from fusionlib.data.pairs import Pair, load
from fusionlib.detection import YOLOv5, detect, load_yolov5, paired, save_yolov5
from fusionlib.experiments import Method, protocols
from fusionlib.experiments.protocols import MethodImages
from fusionlib.experiments.run import Run
from fusionlib.utils.errors import FusionError

SIZE = (64, 96)


@pytest.fixture
def run(tmp_path):
    settings = replace(profile("quick", detector_epochs=2, detector_lr=1e-3), detect_size=SIZE)
    return Run(settings, tmp_path / "run", tmp_path / "data")


@pytest.fixture
def pairs(run):
    """Bright people in infrared, none to be seen in visible, at twice the size in front of the detector."""
    rng, made = np.random.default_rng(0), []
    for index in range(8):
        ir, visible = rng.integers(0, 60, (128, 192), np.uint8), rng.integers(0, 60, (128, 192, 3), np.uint8)
        x, y = rng.integers(0, 150), rng.integers(0, 60)
        ir[y:y + 60, x:x + 30] += 150
        places = [run.data_root / kind / f"{index}.png" for kind in ("ir", "visible")]
        for place, image in zip(places, (ir, visible)):
            write_image(place, image)
        boxes = np.array([[x, y, x + 30, y + 60], [0, 0, 9, 9]], np.float32)
        made.append(Pair("Set", "train", str(index), *places, boxes, ("person", "car")))
    return made


@pytest.fixture
def weights(run):
    torch.manual_seed(1)
    save_yolov5(YOLOv5(1, width=0.125, names=["person"]), run.data_root / "start.safetensors")
    return run.data_root / "start.safetensors"


def mean(run, calls=None):
    """A method that fuses by the mean, and notes what it fused."""

    def fuse(ir, visible, _):
        if calls is not None:
            calls.append(ir)
        return (ir + visible) / 2

    return Method("Mean", "needs none", run.stage("methods/Mean").folder, lambda: fuse)


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return all(torch.equal(a[key], b[key]) for key in a)


def test_images_of_a_method(run, pairs):
    infrared, visible = protocols.sources(run)
    image, boxes, none = MethodImages(infrared, pairs, SIZE)[3]
    assert none.shape == (0, 4)
    cars = replace(pairs[3], classes=("person", "ignore"))
    _, again, ignore = MethodImages(infrared, [cars], SIZE)[0]
    assert torch.equal(again, boxes) and ignore.tolist() == (pairs[3].boxes[1:] / 2).tolist()
    assert torch.equal(protocols.ignored([cars], SIZE)[0], ignore)
    assert image.shape == (3, 64, 96) and torch.equal(image[0], image[2])
    assert boxes.tolist() == (pairs[3].boxes[:1] / 2).tolist()  # people alone, at half the size
    x1, y1, x2, y2 = boxes[0].int().tolist()
    assert image[0, y1 + 1:y2 - 1, x1 + 1:x2 - 1].min() > 0.5 > image[0].mean()
    halves = read_image(pairs[3].visible).reshape(64, 2, 96, 2, 3).mean((1, 3)) / 255
    image, _, _ = MethodImages(visible, pairs, SIZE)[3]
    assert np.abs(image.permute(1, 2, 0).numpy() - halves).mean() < 0.02
    square, boxes, _ = MethodImages(infrared, pairs, (32, 64))[3]
    assert square.shape == (3, 32, 64) and boxes.tolist() == (pairs[3].boxes[:1] / 4).tolist()


def test_radiometric_images_are_in_the_range_of_their_data_set(run, pairs):
    """As every other method reads them; a fused image must be of the size of its pair."""
    pair = replace(pairs[0], ir_range=(6900.0, 7800.0))
    write_image(pair.ir, 7000 + 2 * read_image(pair.ir).astype(np.uint16))
    plane, colour = load(pair)
    infrared, visible = protocols.sources(run)
    for method, image in ((infrared, plane.expand(3, -1, -1)), (visible, colour)):
        found, _, _ = MethodImages(method, [pair], SIZE)[0]
        torch.testing.assert_close(found, letterbox(image, SIZE)[0], atol=0.51 / 255, rtol=0)
    assert plane.min() > 0.1 and plane.max() < 0.7  # as raw values, all would be .11
    fused = mean(run)
    write_image(fused.image_path(pair), np.zeros((9, 9), np.uint8))
    with pytest.raises(FusionError, match="expected 192x128 like its infrared source"):
        MethodImages(fused, [pair], SIZE)[0]


def test_stock_is_the_detector_on_each_image(run, pairs, weights, capsys):
    detector, calls = load_yolov5(weights), []
    nothing = Method("TextIF", "no weights: somewhere")

    def refuse(*_):
        raise FusionError("too large")

    broken = Method("Broken", "official weights", run.stage("methods/Broken").folder, lambda: refuse)
    methods = [*protocols.sources(run), mean(run, calls), nothing, broken]
    found = protocols.stock(detector, methods, pairs[:2], SIZE)
    assert list(found) == ["infrared", "visible", "Mean", "TextIF", "Broken"] and len(calls) == 2
    assert found["TextIF"] is None and found["Broken"] is None
    assert "Broken cannot fuse 2 of 2 pairs, the first is Set/train/0: too large" in capsys.readouterr().out
    for name, method in zip(found, methods[:3]):
        images = MethodImages(method, pairs[:2], SIZE)
        for expected, boxes in zip(detect(detector, [images[0][0], images[1][0]]), found[name]):
            assert torch.equal(expected, boxes)
    fused = methods[2].image_path(pairs[1])
    assert fused == methods[2].folder / "fused" / "Set" / "train" / "1.png" and fused.is_file()
    protocols.stock(detector, methods[:3], pairs[:3], SIZE)
    assert len(calls) == 3  # another image costs only itself


def test_retrained_detectors_are_kept(run, pairs, weights, monkeypatch):
    methods = [mean(run), protocols.sources(run)[1], Method("TextIF", "no weights")]
    found, facts = protocols.retrained(methods, pairs[:5], pairs[5:7], pairs[7:], weights, run)
    assert list(found) == ["Mean", "visible", "TextIF"] and found["TextIF"] is None and list(facts) == list(found)[:2]
    kept = methods[0].folder / "detector"
    assert len(facts["Mean"]["validation"]) == 3 and facts["Mean"]["epochs"] == 2
    assert facts["Mean"]["validation"][1:] == pd.read_csv(kept / "curves.csv")["mAP@.5:.95"].tolist()
    trained = load_yolov5(kept / "best.safetensors")
    image, _, _ = MethodImages(methods[0], pairs[7:], SIZE)[0]
    assert torch.equal(detect(trained, [image])[0], found["Mean"][0])

    trainings, train = [], protocols.train_detector

    @functools.wraps(train)  # whose code results depend on
    def counted(*arguments, **options):
        trainings.append(arguments[2])
        return train(*arguments, **options)

    monkeypatch.setattr(protocols, "train_detector", counted)
    again, same_facts = protocols.retrained(methods, pairs[:5], pairs[5:7], pairs[7:], weights, run)
    assert not trainings and same_facts == facts and torch.equal(again["Mean"][0], found["Mean"][0])

    # Another image, other weights and other settings each begin anew, and only where they matter.
    changed = read_image(pairs[0].visible)
    write_image(pairs[0].visible, 255 - changed)
    protocols.retrained(methods[1:2], pairs[:5], pairs[5:7], pairs[7:], weights, run)
    assert trainings == [methods[1].folder / "detector"]
    write_image(pairs[0].visible, changed)
    protocols.retrained(methods[1:2], pairs[:5], pairs[5:7], pairs[7:], weights, run)
    assert len(trainings) == 1  # what was there before is found again
    other = replace(run, profile=replace(run.profile, detector_epochs=1))
    protocols.retrained(methods[1:2], pairs[:5], pairs[5:7], pairs[7:], weights, other)
    assert len(trainings) == 2
    ranged = [replace(pair, ir_range=(0.0, 100.0)) for pair in pairs]
    protocols.retrained(methods[1:2], ranged[:5], ranged[5:7], ranged[7:], weights, other)
    assert len(trainings) == 3


def test_an_interrupted_retraining_goes_on(run, pairs, weights, monkeypatch):
    method, evaluate = mean(run), protocols.train_detector.__globals__["evaluate_detector"]
    images = protocols._images(method, pairs[:5], SIZE), protocols._images(method, pairs[5:], SIZE)
    whole, facts = protocols.retrain(*images, weights, run)
    shutil.rmtree(method.folder / "detector")

    calls = []

    def interrupt(*arguments):
        calls.append(arguments)
        if len(calls) == 2:  # after the second epoch, before it is kept
            raise KeyboardInterrupt
        return evaluate(*arguments)

    monkeypatch.setitem(protocols.train_detector.__globals__, "evaluate_detector", interrupt)
    with pytest.raises(KeyboardInterrupt):
        protocols.retrain(*images, weights, run)
    assert len(pd.read_csv(method.folder / "detector" / "curves.csv")) == 1
    resumed, same_facts = protocols.retrain(*images, weights, run)
    assert len(calls) == 3 and same(whole, resumed) and same_facts == facts


def test_a_training_that_makes_it_worse_is_left_out(run, pairs, weights, monkeypatch):
    scores = {"worse": [0.1, 0.2], "as good": [0.1, 0.5], "better": [0.6, 0.55]}
    trained = YOLOv5(1, width=0.125, names=["person"])
    monkeypatch.setattr(protocols, "evaluate_detector", lambda *_: {"mAP@.5:.95": 0.5})
    for word, values in scores.items():

        def train(model, data, folder, values=values, **_):
            save_yolov5(trained, folder / "best.safetensors")
            pd.DataFrame({"mAP@.5:.95": values}).to_csv(folder / "curves.csv")
            (folder / "checkpoint").mkdir()

        monkeypatch.setattr(protocols, "train_detector", train)
        method = Method(word, "needs none", run.stage(f"methods/{word}").folder, mean(run).make)
        images = protocols._images(method, pairs[:3], SIZE), protocols._images(method, pairs[5:], SIZE)
        detector, facts = protocols.retrain(*images, weights, run)
        assert facts["epoch"] == {"worse": 0, "as good": 2, "better": 1}[word]
        assert same(detector, load_yolov5(weights) if word == "worse" else trained)


def test_bad_input(run, pairs, weights):
    infrared, _ = protocols.sources(run)
    images = MethodImages(infrared, pairs, SIZE)
    without = replace(pairs[0], boxes=None, classes=None)
    with pytest.raises(FusionError, match="Set/train/0: expected a pair with labels of people, found none"):
        MethodImages(infrared, [*pairs, without], SIZE)
    empty = MethodImages(infrared, [replace(pair, classes=("car", "car")) for pair in pairs], SIZE)
    for train, check in ((MethodImages(infrared, [], SIZE), images), (images, empty)):
        with pytest.raises(FusionError, match="chosen by others with people in them, found"):
            protocols.retrain(train, check, weights, run)
    save_yolov5(YOLOv5(2, width=0.125, names=["car", "person"]), weights)
    with pytest.raises(FusionError, match=r"start\.safetensors: expected .* class 0 is the person, found car"):
        protocols.retrain(images, images, weights, run)


def test_answer_in_words():
    good, truths = scenes(1, counts=(6,) * 24, false=0, jitter=0.02)
    bad = scenes(1, counts=(6,) * 24, false=6, jitter=0.15)[0]
    found = {"ours": good, "same": good, "bad": bad, "nothing": None}
    text = protocols.answer(found, truths).splitlines()
    assert text[0] == ("By mAP@.5:.95, ours against 2 others on 24 images with 144 people: better in 1, worse in 0, "
                       "inconclusive in 1 (p < 0.05 after Holm's correction).")
    assert text[1].startswith("Against same: mAP@.5:.95 inconclusive (difference +0.000, 95 % CI +0.000 to +0.000); "
                              "mAP@.5 inconclusive")
    row = paired({"ours": good, "bad": bad}, "ours", truths, heights={}).loc["bad", "mAP@.5:.95"]
    assert text[2].startswith(f"Against bad: mAP@.5:.95 better (difference {-row['difference']:+.3f}, 95 % CI "
                              f"{-row['high']:+.3f} to {-row['low']:+.3f}); mAP@.5 better")
    assert len(text) == 3
    many = {"ours": good} | {f"bad {number}": bad for number in range(13)}  # 2000 resamples give no p below .05 / 52
    assert "better in 13, worse in 0, inconclusive in 0" in protocols.answer(many, truths)
    assert "better in 0, worse in 1, inconclusive in 0" in protocols.answer({"ours": bad, "other": good}, truths)
    assert "Against other: LAMR worse" in protocols.answer({"ours": bad, "other": good}, truths, measures=["LAMR"])
