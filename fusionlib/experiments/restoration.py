"""Does an answer matter? Test pairs are damaged, and refined by words about their damage, by others, and by none.

What stage 1 makes of the undamaged pair is the image to come back to. A network that listens is hurt by a wrong answer,
so that own answer against another's flatters; against a network that was trained without text, "blind", it does not.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random

import numpy as np
import pandas as pd
from kornia.metrics import psnr, ssim
from torch import Tensor
from torch.nn.functional import cosine_similarity
from tqdm.auto import tqdm

from fusionlib import metrics
from fusionlib.data.color import split_luma
from fusionlib.data.datasets import resize_longer_side
from fusionlib.data.degradation import degrade
from fusionlib.data.pairs import Pair, load
from fusionlib.feedback.controls import UNRELATED_UNREAD
from fusionlib.feedback.damage_analysis import detect
from fusionlib.feedback.damage_words import describe, paraphrase
from fusionlib.feedback.text_encoder import encode_one
from fusionlib.metrics.statistics import mean_interval, verdict
from fusionlib.training.restoration import Damages
from fusionlib.utils.errors import FusionError

#: One kind of damage each, in the modality that usually has it.
DAMAGES = (("haze", "visible"), ("rain", "visible"), ("snow", "visible"), ("low light", "visible"),
           ("overexposure", "visible"), ("motion blur", "visible"), ("stripe noise", "ir"), ("gaussian noise", "ir"))
LEVELS = 0.4, 0.8
UNDAMAGED = "none"
DAMAGED, OWN, KNOWN, UNREAD = "stage 1", "own answer", "damage known", "damage known, unread words"
OTHER, NO_TEXT, NONSENSE = "another's answer", "no text", "unrelated sentence"
MEASURES = "PSNR", "SSIM", "Q_AB/F"
LONGER_SIDE = 320  # pixels that images are reduced to

#: (infrared [1,H,W], visible [3,H,W], text, or None for stage 1) -> refined image [3,H,W], all in 0..1.
Refine = Callable[[Tensor, Tensor, str | None], Tensor]
#: The same for a network that is given the damages that were found, and may ignore them.
Control = Callable[[Tensor, Tensor, Damages], Tensor]


def restorations(refine: Refine, pairs: Sequence[Pair], damages: Sequence[tuple[str, str]] = DAMAGES,
                 levels: Sequence[float] = LEVELS, controls: Mapping[str, Control] | None = None, seed: int = 0
                 ) -> pd.DataFrame:  # fmt: skip
    """Refine damaged pairs by different words, and compare each result with stage 1 of the undamaged pair.

    An answer is what "auto" follows: advice on the damages that are found, and none where nothing is found.

    Args:
        refine: the network that reads.
        pairs: registered test pairs.
        damages, levels: every pair gets each of these damages at each level; undamaged pairs are refined too.
        controls: other networks by name.
        seed: of the damages and of the choice of words.

    Returns:
        A row for each image and text: "pair", "damage" ("none" for undamaged ones), "modality", "level", "words" (one
        of the constants of this module, or the name of a control), "text", and the `MEASURES` between the lumas of the
        refined image and of stage 1 of the undamaged pair, as of files of 8 bits: PSNR in dB, at most 60, SSIM
        (Gaussian window 11), and Q_AB/F with that image as both sources.

    Raises:
        FusionError: no pairs, or what `degrade` raises for damages and levels.
    """
    if not pairs:
        raise FusionError("restoration: expected pairs to damage, found none; read some by fusionlib.data.read")
    cases = [(UNDAMAGED, "", 0.0), *((*damage, level) for damage in damages for level in levels)]
    found = {}
    for pair in tqdm(pairs, desc="damages", leave=False):
        images = resize_longer_side(*load(pair), LONGER_SIDE)
        for case in cases:
            found[pair.label, case] = detect(*_damaged(images, case, seed))
    rows, random = [], Random(seed)
    for number, pair in enumerate(tqdm(pairs, desc="restoration", leave=False)):
        images = resize_longer_side(*load(pair), LONGER_SIDE)
        target = _luma(refine(*images, None))
        for case in cases:
            damaged, mine = _damaged(images, case, seed), found[pair.label, case]
            other = pairs[(number + 1 + random.randrange(max(len(pairs) - 1, 1))) % len(pairs)].label
            texts = {DAMAGED: None, OWN: describe(mine) or None, NO_TEXT: "",
                     NONSENSE: random.choice(UNRELATED_UNREAD),
                     OTHER: describe(found[other, random.choice(cases[1:])]) or None}  # fmt: skip
            if case[0] != UNDAMAGED:
                texts |= {KNOWN: paraphrase([case], random), UNREAD: paraphrase([case], random, held_out=True)}
            results = {words: (text, refine(*damaged, text)) for words, text in texts.items()}
            results |= {name: (None, control(*damaged, mine)) for name, control in (controls or {}).items()}
            rows += [(pair.label, *case, words, text or "", *_measures(_luma(image), target))
                     for words, (text, image) in results.items()]
    return pd.DataFrame(rows, columns=["pair", "damage", "modality", "level", "words", "text", *MEASURES])


def example(refine: Refine, pair: Pair, damages: Sequence[tuple[str, str]], level: float = 0.8, seed: int = 0,
            ) -> tuple[list[dict[str, Tensor]], list[str]]:
    """Images of a pair under each damage, refined by the answer to it, by the answer to the next damage, and by none.

    Returns a row {title: image [1 or 3,H,W]} and the answer for each damage, "" where none is found. The answer to the
    next damage shows whether it matters what the words say; "undamaged, stage 1" is the image to come back to.
    """
    images = resize_longer_side(*load(pair), LONGER_SIDE)
    damaged = [_damaged(images, (*damage, level), seed) for damage in damages]
    answers = [describe(detect(*each)) for each in damaged]
    rows = []
    for index, sources in enumerate(damaged):
        texts = {DAMAGED: None, OWN: answers[index] or None, OTHER: answers[(index + 1) % len(answers)] or None,
                 NO_TEXT: ""}  # fmt: skip
        rows.append(dict(zip(("infrared", "visible"), sources)) | {words: refine(*sources, text)
                                                                   for words, text in texts.items()})
        rows[-1]["undamaged, stage 1"] = refine(*images, None)
    return rows, answers


def summarise(table: pd.DataFrame, measure: str = "PSNR") -> pd.DataFrame:
    """Mean of a measure for each damage ("modality" and "damage") and for all damages, a column for each kind of words.
    """
    damaged = table[table["damage"] != UNDAMAGED]
    by_damage = table.pivot_table(measure, ["damage", "modality"], "words", sort=False)
    by_damage.loc[("all damages", ""), :] = damaged.groupby("words")[measure].mean()
    return by_damage[list(dict.fromkeys(damaged["words"]))]


def differences(table: pd.DataFrame, reference: str = OWN) -> pd.DataFrame:
    """How much better the reference is than every other kind of words, on the damaged pairs.

    Returns rows indexed by (words, measure): "difference", reference minus words, with the 95 % bootstrap interval
    "low" to "high" over pairs, whose images are averaged first, and "pairs".
    """
    damaged = table[table["damage"] != UNDAMAGED]
    means = damaged.groupby(["words", "pair"], sort=False)[list(MEASURES)].mean()
    rows = {}
    for words in means.index.get_level_values("words").unique():
        if words != reference:
            for measure in MEASURES:
                values = (means.loc[reference, measure] - means.loc[words, measure]).dropna()
                rows[words, measure] = (*mean_interval(values), len(values))
    index = pd.MultiIndex.from_tuples(rows, names=["words", "measure"])
    return pd.DataFrame(list(rows.values()), index, ["difference", "low", "high", "pairs"])


def explain(table: pd.DataFrame) -> str:
    """What `differences` says of PSNR, in plain words."""
    pairs, own = table["pair"].nunique(), summarise(table)[OWN].iloc[-1]
    lines = [f"{pairs} pairs: {own:.1f} dB with the {OWN} on average. Another image's answer was the same, word by "
             f"word, in {equal_answers(table):.0%} of the images; its features were {distance(table):.2f} away, those "
             f"of an {NONSENSE} {distance(table, NONSENSE):.2f} (1 - cosine)."]  # fmt: skip
    for words, row in differences(table).xs("PSNR", level="measure").iterrows():
        lines.append(f"{OWN} against {words}: {row['difference']:+.1f} dB [{row['low']:+.1f}, {row['high']:+.1f}], "
                     f"{verdict(row, higher_is_better=True)}")  # fmt: skip
    return "\n".join(lines)


def equal_answers(table: pd.DataFrame) -> float:
    """In which fraction of the damaged images the other image's answer is the own one, word by word."""
    texts = table[table["damage"] != UNDAMAGED].pivot(index=["pair", "damage", "modality", "level"], columns="words",
                                                      values="text")  # fmt: skip
    return float((texts[OWN] == texts[OTHER]).mean())


def distance(table: pd.DataFrame, words: str = OTHER) -> float:
    """How far other words are from the own answer: mean 1 - cosine similarity of the mean token features, 0..2.

    Over the damaged images that have both texts; nan without any.
    """
    texts = table[table["damage"] != UNDAMAGED].pivot(index=["pair", "damage", "modality", "level"], columns="words",
                                                      values="text")  # fmt: skip
    both = texts[(texts[OWN] != "") & (texts[words] != "")]
    means = [[encode_one(text).mean(0) for text in row] for row in both[[OWN, words]].to_numpy()]
    return float(np.mean([1 - cosine_similarity(*pair, dim=0).item() for pair in means])) if means else float("nan")


def _damaged(images, case, seed):
    """A pair with one of the cases, as files of 8 bits hold it."""
    damages = [] if case[0] == UNDAMAGED else [case]
    return tuple(map(as_stored, degrade(*images, damages, seed)))


def _luma(image):
    return as_stored(split_luma(image[None])[0])


def as_stored(image):
    """As a file of 8 bits holds it."""
    return image.mul(255).round() / 255


def _measures(image, target):
    gray, clean = ((255 * each).round().byte() for each in (image, target))
    edges = metrics.evaluate(gray, clean, clean, ["Q_AB/F"])["Q_AB/F"].item()
    return min(psnr(image, target, 1.0).item(), 60.0), ssim(image, target, 11).mean().item(), edges
