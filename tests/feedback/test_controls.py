"""The controls: the paper's prompt, no text, and answers of other images."""

from collections import Counter

import pytest
import torch
from slow import Slow, pictures

from fusionlib import feedback
from fusionlib.feedback.controls import PROMPT, Shuffled
from fusionlib.utils.errors import FusionError


@pytest.fixture
def store(tmp_path):
    return feedback.open_store(tmp_path)


def test_fixed_says_the_papers_prompt_to_the_letter(store):
    answers = feedback.ask(pictures(3), "fixed", store=store)
    assert {a.text for a in answers} == {"Brighter brightness, higher contrast, and clearer texture details."}
    expected = feedback.encode([PROMPT])[0]
    assert all(torch.allclose(a.features, expected, atol=1e-3) for a in answers)
    other = feedback.ask(pictures(3), "fixed", store=store, text="Darker.")
    assert {a.text for a in other} == {"Darker."} and len(store) == 6


def test_none_is_one_vector_of_zeros(store):
    for answer in feedback.ask(pictures(2), "none", store=store):
        assert answer.text == "" and torch.equal(answer.features, torch.zeros(1, 384))
    assert feedback.ask(pictures(1), "none", store=store, dim=7)[0].features.shape == (1, 7)


def test_shuffled_gives_each_image_the_answer_of_another_one(store):
    some, names = pictures(12), [str(i) for i in range(12)]
    own = feedback.ask(some, Slow(), store=store, names=names)
    dealt = feedback.ask(some, Shuffled(Slow()), store=store, names=names)
    assert [a.name for a in dealt] == names and {a.backend for a in dealt} == {"shuffled"}
    assert all(a.text != b.text and a.image != b.image for a, b in zip(own, dealt))
    assert Counter(a.text for a in dealt) == Counter(a.text for a in own)
    by_text = {a.text: a.features for a in own}
    assert all(torch.equal(a.features, by_text[a.text]) for a in dealt)
    assert len(store) == 12  # nothing is stored twice
    again, other = feedback.ask(some, Shuffled(Slow())), feedback.ask(some, Shuffled(Slow(), seed=1))
    assert [a.text for a in again] == [a.text for a in dealt] != [a.text for a in other]


def test_shuffled_of_a_name_with_its_options(store):
    answers = feedback.ask(pictures(2), "shuffled", store=store, of="fixed", text="Hm.")
    assert [a.text for a in answers] == ["Hm.", "Hm."] and list(store.frame().backend) == ["fixed"] * 2
    backend = feedback.make("shuffled")
    assert backend.model.startswith("shuffled: rules") and backend.encoder == feedback.encoder_name()


def test_two_images_change_places_and_one_has_no_partner():
    a, b = feedback.ask(pictures(2), Slow())
    assert [x.text for x in feedback.ask(pictures(2), Shuffled(Slow()))] == [b.text, a.text]
    with pytest.raises(FusionError, match="at least 2 images, but got 1: ask about more"):
        feedback.ask(pictures(1), Shuffled(Slow()))


def test_every_derangement_is_as_likely():
    answers = feedback.ask(pictures(4), Slow())
    place = {a.text: i for i, a in enumerate(answers)}
    orders = Counter(
        tuple(place[a.text] for a in Shuffled(Slow(), seed=seed).deal(answers)) for seed in range(1800)
    )
    assert len(orders) == 9  # of four things
    assert all(150 < count < 250 for count in orders.values())


def test_shuffled_needs_a_back_end_that_answers():
    with pytest.raises(FusionError, match="is shuffled itself"):
        feedback.make("shuffled", of="shuffled")
    with pytest.raises(FusionError, match="backend must be one of"):
        feedback.make("shuffled", of="oracle")
    with pytest.raises(FusionError, match='"rules" takes the options none'):
        feedback.make("shuffled", model="x")
