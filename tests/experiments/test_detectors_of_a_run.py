"""Two detectors on the same images, which are fused at their own size."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_boxes import scenes
from torch.nn.functional import interpolate

from fusionlib import models
from fusionlib.config import profile
from fusionlib.data import Pair, load, write_image
from fusionlib.detection import YOLOv5, detect, measure, save_yolov5
from fusionlib.experiments.detection import detection_table, find_people, load_detectors, sources_and_results
from fusionlib.experiments.run import Run
from fusionlib.inference import fuse
from fusionlib.utils.errors import FusionError

SIZE = 64, 96


def weights(path, seed=0, names=("person",)):
    torch.manual_seed(seed)
    save_yolov5(YOLOv5(len(names), width=0.125, names=names), path)
    return str(path)


@pytest.fixture
def run(tmp_path):
    settings = profile("quick", detector=weights(tmp_path / "taught.safetensors"))
    return Run(replace(settings, detect_size=SIZE), tmp_path / "run", tmp_path)


def judged_by(run, held_out):
    return replace(run, profile=replace(run.profile, held_out_detector=held_out))


@pytest.fixture
def pairs(tmp_path):
    """Three pairs of twice the detector's size."""
    random, made = np.random.default_rng(0), []
    for index in range(3):
        files = [tmp_path / kind / f"{index}.png" for kind in ("ir", "vi")]
        for file, shape in zip(files, ((128, 192), (128, 192, 3))):
            write_image(file, random.integers(0, 255, shape, dtype=np.uint8))
        boxes = np.float32([[20, 30, 50, 110], [100, 10, 130, 90]])
        made.append(Pair("Toy", "test", str(index), *files, boxes, ("person", "car")))
    return made


@pytest.fixture
def networks():
    torch.manual_seed(0)
    network = models.FusionNetwork().eval()
    refined = models.TextGuidedFusion(network, 8)
    for harmonise in refined.harmonise.values():
        torch.nn.init.normal_(harmonise.layers[-1].weight, std=0.3)
    return network, refined.eval(), torch.randn(3, 8)


def half(image):
    return interpolate(image[None], SIZE, mode="bilinear", antialias=True)[0]


def test_without_a_held_out_detector_a_sentence_says_how_to_add_one(run, capsys):
    assert list(load_detectors(run)) == ["taught"]
    assert "set held_out_detector to their name" in capsys.readouterr().out


def test_the_held_out_detector_comes_second(run, tmp_path, capsys):
    held_out = weights(tmp_path / "judge.safetensors", 1, ("car", "People"))
    detectors = load_detectors(judged_by(run, held_out))
    assert list(detectors) == ["taught", "judge"] and detectors["judge"].names == ["car", "People"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("name", "names", "message"), [
    ("other/taught.safetensors", ("person",), "expected a held_out_detector that is in no loss, found the one"),
    ("cars.safetensors", ("car",), "knows car, not person"),
    ("none.onnx", None, "none.onnx are missing"),
])
def test_a_detector_that_cannot_judge_is_refused(run, tmp_path, name, names, message):
    if names:
        weights(tmp_path / name, 1, names)
    with pytest.raises(FusionError, match=message):
        load_detectors(judged_by(run, str(tmp_path / name)))


def test_images_are_fused_at_their_own_size(pairs, networks):
    network, refined, text = networks
    ir, visible = load(pairs[0])
    images = sources_and_results(pairs[0], SIZE, network, refined, text)
    assert list(images) == ["infrared", "visible", "mean", "maximum", "laplacian", "laplacian-max", "fused", "refined"]
    assert all(image.shape == (3, *SIZE) for image in images.values())
    expected = {"infrared": ir.expand(3, -1, -1), "visible": visible, "fused": fuse(network, ir, visible),
                "refined": fuse(refined, ir, visible, text)}
    for name, image in expected.items():
        torch.testing.assert_close(images[name], half(image), atol=1e-5, rtol=0)
    again = sources_and_results(pairs[0], SIZE, network, refined, text, reduced_first=True)
    assert list(again) == [*images, "fused, reduced first", "refined, reduced first"]
    small = half(ir), half(visible)
    torch.testing.assert_close(again["fused, reduced first"], fuse(network, *small), atol=1e-5, rtol=0)
    torch.testing.assert_close(again["refined, reduced first"], fuse(refined, *small, text), atol=1e-5, rtol=0)
    assert (again["refined, reduced first"] - again["refined"]).abs().max() > 0.01
    own = sources_and_results(pairs[0], (128, 192), network)
    assert "refined" not in own and torch.equal(own["fused"], expected["fused"])


def test_each_detector_sees_every_image(run, pairs, networks, tmp_path):
    network, refined, text = networks
    detectors = load_detectors(judged_by(run, weights(tmp_path / "judge.safetensors", 1)))
    found, truths = find_people(detectors, pairs[:2], SIZE, network, refined, [text] * 2)
    assert [boxes.tolist() for boxes in truths] == [(pairs[0].boxes[:1] / 2).tolist()] * 2
    images = [sources_and_results(pair, SIZE, network, refined, text, True) for pair in pairs[:2]]
    assert list(found) == ["taught", "judge"] and list(found["judge"]) == list(images[0])
    for name, each in detectors.items():
        for row in ("visible", "refined", "refined, reduced first"):
            expected = detect(each, [image[row] for image in images])
            assert all(torch.equal(a, b) for a, b in zip(expected, found[name][row], strict=True))
    own, _ = find_people({"taught": detectors["taught"]}, pairs[:1], (128, 192), network, refined, [text])
    assert not any("reduced" in row for row in own["taught"])


def test_the_table_has_columns_for_each_detector():
    good, truths = scenes(1, jitter=0.02)
    bad = scenes(1, jitter=0.2)[0]
    table = detection_table({"taught": {"fused": bad, "refined": good}}, truths)
    measures = ["mAP@.5", "mAP@.75", "mAP@.5:.95", "R@P.9", "LAMR"]
    assert list(table) == [*measures, "images", "boxes"] and list(table.index) == ["fused", "refined"]
    expected = measure(good, truths)
    assert table.loc["refined", measures].tolist() == [expected[name] for name in measures]
    assert table["images"].tolist() == [8, 8] and table["boxes"].tolist() == [29, 29]
    found = {"taught": {"fused": bad, "refined": good}, "judge": {"fused": good, "refined": bad}}
    both = detection_table(found, truths)
    assert list(both) == [*measures, *(f"{name} judge" for name in measures), "images", "boxes"]
    assert both.loc["fused", [f"{name} judge" for name in measures]].tolist() == table.loc["refined", measures].tolist()
    assert both[list(table)].equals(table)
