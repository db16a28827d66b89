"""Statistics of answers: length, diversity, frequent advice, and nearest neighbours."""

import itertools
import re
from collections import Counter
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from fusionlib.feedback.store import Answer
from fusionlib.utils.errors import FusionError

# Stop words, which would head every list.
FUNCTION_WORDS = frozenset(
    "a about above against all also an and any are as at be been between but by can could do for from had has have "
    "here how if in into is it its like make may more most of on one only or other over should so some such than "
    "that the their them then there these they this those through to too under up use used using was we were what "
    "when where which while will with without would you your".split()
)


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation and numbers."""
    return re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text.lower())


def clauses(text: str) -> list[str]:
    """Split a text at punctuation into clauses, in lower case and without an introductory "To ...,"."""
    found = (" ".join(clause.lower().split()).strip("*-• ") for clause in re.split(r"[.;:!?](?:\s|$)|\n", text))
    found = (re.sub("^to [^,]+, ", "", clause) for clause in found)
    return [clause for clause in found if len(words(clause)) > 1]


def statistics(answers: Sequence[Answer]) -> pd.Series:
    """Length and diversity of answers.

    images: number of answers. words, tokens: min, median and max per answer. distinct answers: different texts by all
    texts. distinct-1, distinct-2: different words and pairs of neighbouring words by all words (Li et al., "A
    diversity-promoting objective function for neural conversation models", NAACL 2016). Both decrease with the number
    of answers, so compare only equal numbers.

    Raises:
        FusionError: no answers.
    """
    if not answers:
        raise FusionError("expected at least one answer, found no answers: ask first")
    texts = [words(answer.text) for answer in answers]
    lengths = pd.DataFrame({"words": map(len, texts), "tokens": [answer.tokens for answer in answers]})
    spread = lengths.agg(["min", "median", "max"]).unstack()
    total = max(1, lengths["words"].sum())
    return pd.Series({
        "images": len(answers), **dict(zip(map(", ".join, spread.index), spread)),
        "distinct answers": len({answer.text for answer in answers}) / len(answers),
        "distinct-1": len({word for text in texts for word in text}) / total,
        "distinct-2": len({pair for text in texts for pair in itertools.pairwise(text)}) / total,
    })


def frequent(answers: Sequence[Answer], count: int = 8) -> pd.DataFrame:
    """The `count` most frequent clauses and pairs of neighbouring content words (for models that vary their wording).

    Returns:
        Columns kind ("clause" or "words"), advice, and share, the fraction of the answers that contain it.
    """
    found = Counter()
    for answer in answers:
        content = [[word for word in words(clause) if word not in FUNCTION_WORDS] for clause in clauses(answer.text)]
        pairs = {" ".join(pair) for clause in content for pair in itertools.pairwise(clause)}
        found.update({("clause", clause) for clause in clauses(answer.text)} | {("words", pair) for pair in pairs})
    rows = [(*advice, number / len(answers)) for advice, number in found.items()]
    table = pd.DataFrame(rows, columns=["kind", "advice", "share"])
    table = table.sort_values(["kind", "share", "advice"], ascending=[True, False, True])
    return table.groupby("kind").head(count).reset_index(drop=True)


def nearest(answers: Sequence[Answer], k: int = 3) -> tuple[Tensor, Tensor]:
    """The k nearest other answers of each answer, by the cosine similarity of the features' means over the tokens.

    Returns:
        Indices [N,k] int64 and cosines [N,k] in -1..1, nearest first. Features of zeros have cosine 0 to all others.

    Raises:
        FusionError: fewer than k + 1 answers.
    """
    if not 0 < k < len(answers):
        raise FusionError(f"k must be from 1 to the number of answers minus 1, {len(answers) - 1}, but is {k}")
    mean = torch.nn.functional.normalize(torch.stack([answer.features.mean(0) for answer in answers]), dim=1)
    best = []
    for number, block in enumerate(mean.split(1024)):  # the full matrix of 160,000 answers would need 100 GB
        cosines = block @ mean.T
        cosines.diagonal(1024 * number).fill_(-torch.inf)
        best.append(cosines.topk(k))
    cosines, indices = map(torch.cat, zip(*best))
    return indices, cosines.clamp(-1, 1)
