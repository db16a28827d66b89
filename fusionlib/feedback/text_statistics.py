"""What answers have in common: length, diversity, frequent advice, and which are alike."""

import itertools
import re
from collections import Counter
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from fusionlib.feedback.store import Answer
from fusionlib.utils.errors import FusionError

# Words without a meaning of their own, which would head every list.
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
    """What full stops, semicolons and colons divide, in lower case, without a "To improve this or that," in front."""
    parts = (" ".join(part.lower().split()).strip("*-• ") for part in re.split(r"[.;:!?](?:\s|$)|\n", text))
    parts = (re.sub("^to [^,]+, ", "", part) for part in parts)
    return [part for part in parts if len(words(part)) > 1]


def statistics(answers: Sequence[Answer]) -> pd.Series:
    """Numbers about answers.

    images; words and tokens of an answer (min, median, max); distinct answers: share of texts that differ from all
    before; distinct-1, distinct-2: different words and pairs of neighbouring words by all words (Li et al., "A
    diversity-promoting objective function for neural conversation models", NAACL 2016). Both fall as answers become
    more, so compare equal numbers of them only.
    """
    if not answers:
        raise FusionError("there are no answers to count: ask first")
    texts = [words(answer.text) for answer in answers]
    lengths = pd.DataFrame({"words": map(len, texts), "tokens": [answer.tokens for answer in answers]})
    spread = lengths.agg(["min", "median", "max"]).unstack()
    total = max(1, lengths["words"].sum())
    return pd.Series(
        {"images": len(answers)} | dict(zip(map(", ".join, spread.index), spread))
        | {"distinct answers": len({answer.text for answer in answers}) / len(answers)}
        | {"distinct-1": len({word for text in texts for word in text}) / total}
        | {"distinct-2": len({pair for text in texts for pair in itertools.pairwise(text)}) / total}
    )  # fmt: skip


def frequent(answers: Sequence[Answer], count: int = 8) -> pd.DataFrame:
    """The most frequent advice: whole clauses, and pairs of content words, for models that never say it twice alike.

    Returns:
        Columns kind ("clause" or "words"), advice, and share: of the answers, those that hold it.
    """
    found = Counter()
    for answer in answers:
        parts = clauses(answer.text)
        content = [[word for word in words(part) if word not in FUNCTION_WORDS] for part in parts]
        pairs = {" ".join(pair) for part in content for pair in itertools.pairwise(part)}
        found.update({("clause", part) for part in parts} | {("words", pair) for pair in pairs})
    rows = [(*advice, number / len(answers)) for advice, number in found.items()]
    table = pd.DataFrame(rows, columns=["kind", "advice", "share"])
    table = table.sort_values(["kind", "share", "advice"], ascending=[True, False, True])
    return table.groupby("kind").head(count).reset_index(drop=True)


def nearest(answers: Sequence[Answer], k: int = 3) -> tuple[Tensor, Tensor]:
    """For each answer the k others that are nearest by the cosine of the features, averaged over the tokens.

    Returns:
        Indices [N,k] int64 and cosines [N,k] in -1..1, nearest first. Answers without direction (zeros) have cosine 0.

    Raises:
        FusionError: fewer than k + 1 answers.
    """
    if not 0 < k < len(answers):
        raise FusionError(f"k must be from 1 to the number of answers less one, {len(answers) - 1}, but is {k}")
    mean = torch.stack([answer.features.mean(0) for answer in answers])
    mean = torch.nn.functional.normalize(mean, dim=1)
    best = []
    for number, block in enumerate(mean.split(1024)):  # not all against all at once: 160,000 answers would need 100 GB
        cosines = block @ mean.T
        cosines.diagonal(1024 * number).fill_(-torch.inf)
        best.append(cosines.topk(k))
    cosines, indices = map(torch.cat, zip(*best))
    return indices, cosines.clamp(-1, 1)
