"""Damages are put into words: one wording of the back end, and many of which training reads a part."""

from random import Random

import pytest

from fusionlib.data.degradation import DEGRADATIONS
from fusionlib.feedback.damage_words import DEGREES, HELD_OUT, NOUNS, PHRASES, describe, paraphrase
from fusionlib.utils.errors import FusionError

EVERY = [(name, modality) for name, kind in DEGRADATIONS.items() for modality in kind.modalities]


def test_there_are_words_for_each_damage_in_the_modalities_that_have_it():
    assert {name: of for name, (of, _, _) in PHRASES.items()} == {n: k.modalities for n, k in DEGRADATIONS.items()}


def test_advice_names_the_image_the_damage_its_degree_and_the_remedy():
    assert describe([("jpeg", "visible", 1.0), ("stripe noise", "ir", 0.6)]) == (
        "The visible image is strongly blocky from compression; remove the block edges and restore fine textures. "
        "The infrared image is clearly striped; remove the stripes.")
    assert describe([("haze", "visible", 0.3), ("jpeg", "visible", 0.7), ("rain", "visible", 0.9)]) == (
        "The visible image is slightly hazy, clearly blocky from compression and strongly streaked by rain; remove the "
        "haze and restore distant contrast; remove the block edges and restore fine textures; remove the rain streaks.")
    assert describe([]) == paraphrase([], Random(0)) == ""
    for name, modality in EVERY:
        assert describe([(name, modality, 0.5)]).startswith(f"The {NOUNS[modality][0]} is clearly ")


@pytest.mark.parametrize("damage", EVERY)
def test_a_damage_has_hundreds_of_wordings_and_those_held_out_share_no_phrase(damage):
    name, modality = damage
    random, found = Random(1), [(*damage, 0.9)]
    read, unread = ({paraphrase(found, random, held_out) for _ in range(400)} for held_out in (False, True))
    assert len(read) > 200 and not read & unread
    _, looks, mends = PHRASES[name]
    for phrases in (NOUNS[modality], looks, mends):
        assert len({*phrases}) == len(phrases) > 2 * HELD_OUT
    heard = " ".join(read).lower()
    for _, words in DEGREES[:2]:  # of other levels
        assert not any(f" {word} {looks[0]}" in heard for word in words)
    assert all(any(look in text for look in looks[-HELD_OUT:]) for text in unread)


def test_a_wording_depends_on_the_random_numbers_alone_and_names_every_damage():
    found = [("haze", "visible", 0.3), ("gaussian noise", "ir", 0.9)]
    texts = [paraphrase(found, Random(seed)) for seed in range(40)]
    assert texts == [paraphrase(found, Random(seed)) for seed in range(40)]
    for text in texts:
        assert all(any(look in text for look in PHRASES[name][1]) for name, *_ in found), text


@pytest.mark.parametrize("damage", [("fog", "visible", 0.5), ("haze", "ir", 0.5), ("haze", "visible", 2), ("haze",), 3])
@pytest.mark.parametrize("put_into_words", [describe, lambda found: paraphrase(found, Random(0))])
def test_bad_damages_are_refused(put_into_words, damage):
    with pytest.raises(FusionError, match=r"expected \(name, modality, level in 0..1\)"):
        put_into_words([damage])
