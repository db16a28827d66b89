"""The experiment on damaged pairs, with networks whose results are known: one that ignores words, one that listens."""

import numpy as np
import pytest

from fusionlib.data import Pair, load
from fusionlib.data.color import split_luma
from fusionlib.data.degradation import degrade
from fusionlib.data.image_io import write_image
from fusionlib.data.synthetic import scene as scenes
from fusionlib.experiments import restoration
from fusionlib.experiments.restoration import DAMAGED, KNOWN, NO_TEXT, NONSENSE, OTHER, OWN, UNDAMAGED, UNREAD
from fusionlib.feedback.damage_words import PHRASES
from fusionlib.utils.errors import FusionError

STRIPES = ("stripe noise", "ir"), ("gaussian noise", "visible")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("restored"), []
    for index in range(3):
        scene = scenes.render(index, seed=6, size=(96, 128))
        write_image(folder / f"ir{index}.png", scene.ir)
        write_image(folder / f"vi{index}.png", scene.visible)
        made.append(Pair("Toy", "test", str(index), folder / f"ir{index}.png", folder / f"vi{index}.png"))
    return made


def ignores(ir, visible, text):
    return (ir + visible) / 2


@pytest.fixture(scope="module")
def listens(pairs):
    """A refinement that gives the undamaged image where the words name what is there, and the damaged one elsewhere."""
    known = {}
    for pair in pairs:
        clean = load(pair)
        for name, modality in STRIPES:
            for level in (0.4, 0.9):
                damaged = tuple(x.mul(255).round() / 255 for x in degrade(*clean, [(name, modality, level)], 0))
                known[damaged[0].sum().item(), damaged[1].sum().item()] = name, ignores(*clean, None)

    def refine(ir, visible, text):
        name, clean = known.get((ir.sum().item(), visible.sum().item()), ("", None))
        return clean if text and name and any(look in text for look in PHRASES[name][1]) else ignores(ir, visible, None)

    return refine


def test_who_ignores_words_gets_the_same_with_all_of_them(pairs):
    table = restoration.restorations(ignores, pairs, STRIPES, (0.4, 0.9))
    assert len(table) == 3 * (5 + 4 * 7)
    for _, rows in table.groupby(["pair", "damage", "level"]):
        assert rows[list(restoration.MEASURES)].nunique().eq(1).all()
    assert (table[table["damage"] == UNDAMAGED]["PSNR"] == 60).all()
    one = table[(table["pair"] == pairs[0].label) & (table["damage"] == "stripe noise") & (table["level"] == 0.9)]
    clean, damaged = load(pairs[0]), degrade(*load(pairs[0]), [("stripe noise", "ir", 0.9)], 0)
    luma = [split_luma(ignores(*images, None)[None])[0].mul(255).round() for images in (clean, damaged)]
    error = (luma[0] - luma[1]).square().mean().item() / 255**2
    assert one["PSNR"].iloc[0] == pytest.approx(-10 * np.log10(error), abs=0.1)  # the damaged pair was rounded before
    assert np.allclose(restoration.differences(table)[["difference", "low", "high"]], 0)
    assert "inconclusive" in restoration.explain(table)


def test_an_example_has_each_damage_with_the_answers_to_it_and_to_the_next(pairs, listens):
    rows, answers = restoration.example(listens, pairs[0], STRIPES, level=0.9)
    for answer, (name, _) in zip(answers, STRIPES, strict=True):
        assert any(look in answer for look in PHRASES[name][1])
    clean = ignores(*load(pairs[0]), None)
    for row in rows:
        assert list(row) == ["infrared", "visible", DAMAGED, OWN, OTHER, NO_TEXT, "undamaged, stage 1"]
        assert row[OWN].equal(clean) and row["undamaged, stage 1"].equal(clean)
        assert row[OTHER].equal(row[DAMAGED]) and row[NO_TEXT].equal(row[DAMAGED]) and not row[DAMAGED].equal(clean)


def test_who_listens_is_told_apart(pairs, listens):
    table = restoration.restorations(listens, pairs, STRIPES, (0.4, 0.9), controls={"blind": ignores})
    means = restoration.summarise(table)
    every = means.loc[("all damages", "")]
    assert every[KNOWN] == every[UNREAD] == 60
    assert every[DAMAGED] == every[NO_TEXT] == every[NONSENSE] == every["blind"] < every[OTHER] < 60
    assert every[OWN] > every[DAMAGED] + 10  # the analyst finds nearly all of these
    compared = restoration.differences(table)
    assert set(compared["pairs"]) == {3}
    assert (compared.loc["blind"]["low"] > 0).all() and (compared.loc[NONSENSE]["low"] > 0).all()
    assert f"{OWN} against blind: +" in restoration.explain(table) and "better" in restoration.explain(table)
    assert 0 <= restoration.equal_answers(table) < 1 == restoration.equal_answers(table.assign(text="the same"))
    assert 0 < restoration.distance(table) < restoration.distance(table, NONSENSE) < 2
    assert restoration.distance(table, OWN) == pytest.approx(0, abs=1e-6)
    again = restoration.restorations(listens, pairs, STRIPES, (0.4, 0.9), controls={"blind": ignores})
    assert table.equals(again)


def test_no_pairs_and_unknown_damages_are_refused(pairs):
    with pytest.raises(FusionError, match="expected pairs to damage, found none"):
        restoration.restorations(ignores, [])
    with pytest.raises(FusionError, match="fog"):
        restoration.restorations(ignores, pairs, [("fog", "visible")])
