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
from fusionlib.utils.errors import FusionError


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return read(scene.write(tmp_path_factory.mktemp("scenes"), 4, 0, seed=3, size=(128, 160))).pairs


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
    right = [row[damage] for (_, damage, _), row in found.iterrows() if damage != "none"]
    assert len(right) == 14 and np.mean(right) > 0.9
    assert found.xs("none", level="damage")["any"].max() <= 0.25


def test_a_fit_is_a_function_of_pairs_and_seed(pairs, fitted):
    assert fit(pairs[:1], seed=1) == fit(pairs[:1], seed=1) != fit(pairs[:1], seed=2)
    shipped = json.loads(damage_analysis.CLASSIFIERS.read_text())
    assert fitted["measurements"] == shipped["measurements"] and fitted.keys() == shipped.keys()


def test_the_logistic_regression_has_the_known_solution():
    """One feature that is 0 or 1: the probabilities are the fractions, up to a small penalty."""
    feature, present = np.repeat([0.0, 1.0], 100), np.repeat([False, True, False, True], (80, 20, 30, 70))
    slope, constant = damage_detection._logistic(np.stack([feature, np.ones(200)], 1), present, np.ones(200))
    assert constant == pytest.approx(np.log(20 / 80), abs=0.02)
    assert slope + constant == pytest.approx(np.log(70 / 30), abs=0.02)


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
