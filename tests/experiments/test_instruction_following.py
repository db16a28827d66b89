"""Responses to instructions: doing as told is right, doing nothing is not; what cannot be measured is left out."""

import pytest
import torch

from fusionlib import visualization
from fusionlib.data.color import split_luma
from fusionlib.data.image_io import as_tensor
from fusionlib.data.synthetic import scene as scenes
from fusionlib.experiments import instruction_following
from fusionlib.training.instructions import INSTRUCTIONS
from fusionlib.utils.errors import FusionError

TOLD = {text: told for told in INSTRUCTIONS.values() for text in told.texts}


@pytest.fixture(scope="module")
def pairs():
    rendered = [scenes.render(index, seed=5, size=(128, 160)) for index in range(4)]
    return [(as_tensor(scene.ir), as_tensor(scene.visible)) for scene in rendered]


def obedient(ir, visible, text):
    luma = torch.maximum(ir, split_luma(visible)[0])
    told = TOLD.get(text)  # nothing for stage 1 and for the sentence about something else
    return (told.change(luma, ir).clamp(0, 1) if told else luma).expand(3, -1, -1)


def test_doing_as_told_is_right_and_doing_nothing_is_not(pairs):
    table = instruction_following.instruction_responses(obedient, pairs)
    certain = table[table["property"] != "warm_contrast"]
    assert len(certain) == (len(INSTRUCTIONS) - 1) * 2 * len(pairs) and certain["right"].all()
    darker = certain[certain["instruction"] == "darker"]
    assert (darker["change"] < 0).all() and set(darker["text"]) == {INSTRUCTIONS["darker"].texts[i] for i in (0, -1)}
    first = darker.iloc[0]
    assert first["change"] == pytest.approx(100 * (first["after"] / first["before"] - 1))
    idle = instruction_following.instruction_responses(
        lambda ir, visible, text: obedient(ir, visible, None), pairs[:1], ["seen"]
    )
    assert not idle["right"].any() and (idle["change"] == 0).all() and set(idle["wording"]) == {"seen"}


def test_what_any_sentence_does_is_no_response(pairs):
    table = instruction_following.instruction_responses(lambda ir, visible, text: visible / (1 + bool(text)), pairs[:2])
    darker = table[table["instruction"] == "darker"]
    assert darker["right"].all() and not darker["beside control"].any()
    listens = instruction_following.instruction_responses(obedient, pairs[:2])
    darker = listens[listens["instruction"] == "darker"]
    assert darker["right"].all() and darker["beside control"].all()


def test_probes_count_what_went_where_the_words_say(pairs):
    def refine(ir, visible, text):
        return visible * (0.5 if text and "darker" in text else 1.02 if text and "brighter" in text else 1.0)

    found = instruction_following.probe(refine, pairs).set_index(["text", "property"])
    assert len(found) == len(instruction_following.PROBES)
    assert found.loc[("Make it darker and sharper.", "brightness"), "right"] == f"{len(pairs)} of {len(pairs)}"
    assert found.loc[("Make it darker and sharper.", "sharpness"), "right"] == f"0 of {len(pairs)}"
    assert found.loc[("Do not make it brighter.", "brightness"), "right"] == f"{len(pairs)} of {len(pairs)}"  # 2 %
    assert found.loc[("Make it darker and sharper.", "brightness"), "change"] == pytest.approx(-50, abs=0.5)
    read = {text for told in INSTRUCTIONS.values() for text in told.texts}
    assert not read & {text for _, text, *_ in instruction_following.PROBES}


def test_a_property_that_is_not_there_is_left_out():
    flat = torch.full((1, 64, 64), 0.4), torch.full((3, 64, 64), 0.4)
    table = instruction_following.instruction_responses(obedient, [flat], ["seen"])
    assert "warmer targets" not in set(table["instruction"]) and "darker" in set(table["instruction"])


def test_the_summary_counts_images_per_wording(pairs):
    table = instruction_following.instruction_responses(obedient, pairs)
    summary = instruction_following.summarise_responses(table)
    assert list(summary.index.get_level_values("instruction"))[:2] == ["brighter", "darker"]
    assert summary.loc[("darker", "brightness"), ("unseen", "right")] == "4 of 4"
    median = table.query("instruction == 'sharper' and wording == 'seen'")["change"].median()
    assert summary.loc[("sharper", "sharpness"), ("seen", "change")] == pytest.approx(median)


def test_the_figure_has_a_row_for_each_instruction_and_a_colour_for_each_wording(pairs):
    table = instruction_following.instruction_responses(obedient, pairs)
    axes = visualization.instruction_responses(table).axes[0]
    assert [label.get_text().split("\n")[0] for label in axes.get_yticklabels()] == list(INSTRUCTIONS)
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["seen", "unseen"]
    points = sum(len(each.get_offsets()) for each in axes.collections if len(each.get_offsets()) > 1)
    assert points == len(table)


@pytest.mark.parametrize("count, wordings, message", [(0, ["seen"], "got 0 pairs"), (1, ["heard"], "heard")])
def test_nothing_to_measure_is_refused(pairs, count, wordings, message):
    with pytest.raises(FusionError, match=message):
        instruction_following.instruction_responses(obedient, pairs[:count], wordings)
