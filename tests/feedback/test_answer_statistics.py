"""Statistics of answers against counts by hand, and nearest answers against all cosines."""

import pytest
import torch

from fusionlib import feedback
from fusionlib.feedback import frequent, nearest
from fusionlib.feedback.text_statistics import clauses, words
from fusionlib.utils.errors import FusionError

statistics = feedback.statistics  # the function; the module is hidden behind it


def answer(text, features=None):
    features = torch.ones(len(text.split()), 2) if features is None else features
    return feedback.Answer("", "", "", text, "", "", "", "", "", 0.0, len(features), "", features)


def test_words_and_clauses():
    text = "1. **Brightness**: increase the don't-care level; use 3 lamps.\n- To see more, crop it."
    assert words(text) == "brightness increase the don't-care level use lamps to see more crop it".split()
    assert clauses(text) == ["increase the don't-care level", "use 3 lamps", "crop it"]


def test_numbers():
    table = statistics([answer("more light, more light"), answer("more noise"), answer("more noise")])
    # eight words, of which more, light, noise; pairs more light, light more, more noise
    assert table.to_dict() == {
        "images": 3, "words, min": 2, "words, median": 2, "words, max": 4, "tokens, min": 2, "tokens, median": 2,
        "tokens, max": 4, "distinct answers": pytest.approx(2 / 3), "distinct-1": 3 / 8, "distinct-2": 3 / 8,
    }
    silent = statistics([answer("", torch.zeros(1, 2))])
    assert silent["distinct-1"] == silent["words, max"] == 0 and silent["tokens, max"] == 1
    with pytest.raises(FusionError, match="no answers"):
        statistics([])


def test_frequent_advice():
    texts = ["Raise the contrast; reduce noise.", "To see people, raise the contrast. Raise the contrast!"]
    texts.append("Reduce the noise")
    table = frequent([answer(text) for text in texts], count=2)
    assert table.values.tolist() == [
        ["clause", "raise the contrast", 2 / 3],
        ["clause", "reduce noise", 1 / 3],
        ["words", "raise contrast", 2 / 3],
        ["words", "reduce noise", 2 / 3],
    ]
    assert list(frequent([answer("")]).columns) == ["kind", "advice", "share"]


def test_nearest():
    features = torch.randn(2100, 3, 5)
    answers = [answer("x", f) for f in features]
    indices, cosines = nearest(answers, 4)
    mean = features.mean(1)
    all_cosines = torch.nn.functional.cosine_similarity(mean[:, None], mean[None], dim=2).fill_diagonal_(-2)
    expected = all_cosines.topk(4)
    torch.testing.assert_close(cosines, expected.values)
    assert indices.shape == (2100, 4) and (indices != torch.arange(2100)[:, None]).all()
    torch.testing.assert_close(all_cosines.gather(1, indices), expected.values)


def test_nearest_of_few_and_of_zeros():
    answers = [answer("x", torch.zeros(1, 3)), answer("y", torch.ones(2, 3))]
    indices, cosines = nearest(answers, 1)
    assert indices.tolist() == [[1], [0]] and cosines.tolist() == [[0], [0]]
    with pytest.raises(FusionError, match="k must be from 1 to the number of answers minus 1, 1, but is 3"):
        nearest(answers)


def test_of_the_rules():
    images = [torch.full((3, 40, 40), level) for level in (0.05, 0.1, 0.9)]
    answers = feedback.ask(images)
    table = frequent(answers)
    assert "emphasise the thermal radiation of people" in set(table.advice)
    assert statistics(answers)["distinct answers"] == pytest.approx(len({a.text for a in answers}) / 3)
