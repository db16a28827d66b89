"""The classifiers of damages are fitted reproducibly, and what they find and miss is counted right."""

import json

import numpy as np
import pytest

from fusionlib.data.degradation import DEGRADATIONS
from fusionlib.data.layouts import read
from fusionlib.data.synthetic import scene
from fusionlib.experiments import damage_detection
from fusionlib.experiments.damage_detection import confusion, detections, fit, refit
from fusionlib.feedback import damage_analysis
from fusionlib.feedback.damage_analysis import Measurements
from fusionlib.utils.errors import FusionError


@pytest.fixture(scope="module", autouse=True)
def few_steps():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(damage_detection, "STEPS", 800)
        yield


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return read(scene.write(tmp_path_factory.mktemp("scenes"), 8, 0, seed=3, size=(128, 160))).pairs


@pytest.fixture(scope="module")
def fitted(pairs):
    return fit(pairs, seed=1)


def test_a_fit_finds_the_strong_damages_of_its_own_pairs(pairs, fitted, tmp_path, monkeypatch):
    path = tmp_path / "classifiers.json"
    path.write_text(json.dumps(fitted))
    monkeypatch.setattr(damage_analysis, "CLASSIFIERS", path)
    damage_analysis._classifiers.cache_clear()
    try:
        found = confusion(detections(pairs, levels=(1,)))
    finally:
        damage_analysis._classifiers.cache_clear()
    right = {(modality, damage): row[damage] for (modality, damage, _), row in found.iterrows() if damage != "none"}
    learned = [(modality, damage) for modality, of in fitted["classifiers"].items() for damage in of["damages"]]
    assert len(right) == 14 and len(learned) >= 12 and np.mean([right[each] for each in learned]) > 0.9
    assert all(found == 0 for each, found in right.items() if each not in learned)
    assert found.xs("none", level="damage")["any"].max() <= 0.25


def test_a_damage_that_cannot_be_told_is_left_out(pairs, monkeypatch):
    """With samples whose measurements say nothing about haze, and all about the other damages."""
    random, rows = np.random.default_rng(0), {"ir": [], "visible": []}
    for modality, samples in rows.items():
        names = [name for name, of in damage_detection.KINDS if of == modality]
        for number in range(400):
            damages = {names[number % len(names)]: 0.9} if number % 2 else {}
            values = random.normal(size=19)
            for place, name in enumerate(names):
                values[place] += 8 * (name in damages and name != "haze")
            samples.append((number % 8, Measurements(*values), damages))
    monkeypatch.setattr(damage_detection, "_samples", lambda *_: rows)
    found = fit(pairs)["classifiers"]
    assert found["ir"]["damages"] == [name for name, of in damage_detection.KINDS if of == "ir"]
    assert found["visible"]["damages"] == [name for name, of in damage_detection.KINDS
                                           if of == "visible" and name != "haze"]
    assert len(found["visible"]["presence"]) == len(found["visible"]["level"]) == 8


def test_a_fit_is_a_function_of_pairs_and_seed(pairs, fitted):
    assert fit(pairs[:1], seed=1) == fit(pairs[:1], seed=1) != fit(pairs[:1], seed=2)
    shipped = json.loads(damage_analysis.CLASSIFIERS.read_text())
    assert fitted["measurements"] == shipped["measurements"] and fitted.keys() == shipped.keys()


def test_the_network_learns_what_no_line_divides():
    """Present where exactly one of two values is positive, at a level that the third one gives."""
    values = np.random.default_rng(0).uniform(-2, 2, (2000, 4))
    values[:, 3] = 1
    there = values[:, :1] * values[:, 1:2] < 0
    levels = there * (0.5 + 0.2 * values[:, 2:3])
    layers = damage_detection._train(values[:1000], levels[:1000], seed=0)
    presence, level = damage_analysis.score(layers, values[1000:])
    assert ((presence > 0) == there[1000:]).mean() > 0.97
    assert np.abs(level - levels[1000:])[there[1000:]].mean() < 0.03
    assert layers["hidden"].shape == (damage_detection.HIDDEN, 4) and presence.shape == (1000, 1)


def test_every_case_is_counted_once(pairs, monkeypatch):
    """With an analyst that calls every image hazy and noisy, at a level that is known."""
    found = [("haze", 0.25), ("gaussian noise", 0.5)]
    monkeypatch.setattr(damage_detection, "detect_in", lambda image, modality: found)
    table = detections(pairs[:2], levels=(0.5, 1), seeds=(0, 1))
    assert len(table) == 2 * (2 + 14 * 2 * 2) and not table.drop(columns="estimate").duplicated().any()
    counted = confusion(table)
    assert len(counted) == 2 + 14 * 2 and (counted["any"] == 1).all()
    assert (counted[["haze", "gaussian noise"]] == 1).all(axis=None)
    assert counted[[*DEGRADATIONS]].to_numpy().sum() == 2 * len(counted)
    assert counted.loc[("visible", "haze", 0.5), "estimate"] == 0.25
    assert counted["estimate"].notna().sum() == 2 * 3  # haze, and noise of two modalities, at two levels


def test_pairs_are_needed(tmp_path):
    with pytest.raises(FusionError, match="expected pairs to damage, found none"):
        detections([])
    scene.write(tmp_path / "mine", 1, 0, size=(64, 80))
    with pytest.raises(FusionError, match="expected training pairs of LLVIP, MSRS, RoadScene, found none"):
        refit(tmp_path)
