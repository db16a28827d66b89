"""Evaluation of instruction following: the measured change in the image property that each instruction names."""

from collections.abc import Callable, Sequence

import pandas as pd
from torch import Tensor
from tqdm.auto import tqdm

from fusionlib.feedback.controls import UNRELATED_UNREAD
from fusionlib.feedback.rules import image_statistics
from fusionlib.training.instructions import INSTRUCTIONS
from fusionlib.utils.errors import FusionError

WORDINGS = {"seen": 0, "unseen": -1}  # index into an instruction's texts, of which the last is in no training
CONTROL = UNRELATED_UNREAD[-1]  # what a sentence about something else does, an instruction must do better
#: Sentences that no training reads: kind, text, and the property that should go up (1), down (-1) or stay (0).
PROBES = (
    ("own words", "I can hardly see anything, it is pitch black.", "brightness", 1),
    ("own words", "Why is everything so white? Tone it down.", "brightness", -1),
    ("own words", "The picture looks washed out.", "contrast", 1),
    ("own words", "I cannot read the signs, they are fuzzy.", "sharpness", 1),
    ("own words", "Those headlights hurt my eyes.", "highlights", -1),
    ("own words", "Where are the people? I cannot make them out.", "warm_contrast", 1),
    ("negation", "Do not make it brighter.", "brightness", 0),
    ("negation", "Do not sharpen it.", "sharpness", 0),
    ("negation", "The contrast is fine, leave it alone.", "contrast", 0),
    ("two wishes", "Make it darker and sharper.", "brightness", -1),
    ("two wishes", "Make it darker and sharper.", "sharpness", 1),
    ("two wishes", "More contrast, but less glare.", "contrast", 1),
    ("two wishes", "More contrast, but less glare.", "highlights", -1),
)
STAYS = 5.0  # per cent: a smaller change counts as none


def instruction_responses(refine: Callable[[Tensor, Tensor, str | None], Tensor],
                          pairs: Sequence[tuple[Tensor, Tensor]],
                          wordings: Sequence[str] = tuple(WORDINGS)) -> pd.DataFrame:
    """Refine every pair by every instruction, and measure the property that the instruction names.

    Args:
        refine: (infrared [1,H,W], visible [3,H,W], text, or None for stage 1) -> [3,H,W], such as
            `inference.pair.fuse_tensors`.
        pairs: infrared and visible images in 0..1.
        wordings: of "seen" (in training) and "unseen".

    Returns:
        A row for each instruction, wording and pair: "instruction", "wording", "text", "image" (a number), "property"
        (a field of `feedback.rules.ImageStatistics`), "before", "after", "change" in per cent of before, "right",
        whether it has the intended sign, and "beside control", whether it has it against what `CONTROL` gives, too.
        Pairs where the property is undefined (no warm region) are left out.

    Raises:
        FusionError: no pairs, or an unknown wording.
    """
    if not pairs or not set(wordings) <= set(WORDINGS):
        raise FusionError(f"responses need pairs, and wordings of {', '.join(WORDINGS)}, but got {len(pairs)} pairs "
                          f"and {', '.join(wordings)}")
    rows = []
    for index, (ir, visible) in enumerate(tqdm(pairs, desc="instructions", leave=False)):
        fused, control = (image_statistics(refine(ir, visible, text)) for text in (None, CONTROL))
        for name, instruction in INSTRUCTIONS.items():
            for wording in wordings:
                text = instruction.texts[WORDINGS[wording]]
                refined = image_statistics(refine(ir, visible, text))
                before, after, other = (getattr(image, instruction.measure) for image in (fused, refined, control))
                if before == before and after == after:  # not nan
                    right = instruction.sign * (after - before) > 0
                    as_little = instruction.sign * (after - other) <= 0  # False where the control has no warm region
                    rows.append((name, wording, text, index, instruction.measure, before, after,
                                 _change(before, after), right, right and not as_little))
    columns = ["instruction", "wording", "text", "image", "property", "before", "after", "change", "right",
               "beside control"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def probe(refine: Callable[[Tensor, Tensor, str | None], Tensor],
          pairs: Sequence[tuple[Tensor, Tensor]]) -> pd.DataFrame:
    """What the network makes of people's own words, of negations and of two wishes at once (`PROBES`).

    Arguments as for `instruction_responses`. Returns a row for each: "kind", "text", "property", "asked" ("up", "down"
    or "stays"), "change", the median in per cent of stage 1, and "right", such as "3 of 4": images where the property
    went where the words say, or moved by less than `STAYS` per cent.
    """
    changes = {number: [] for number in range(len(PROBES))}
    for ir, visible in tqdm(pairs, desc="probes", leave=False):
        fused = image_statistics(refine(ir, visible, None))
        refined = {text: image_statistics(refine(ir, visible, text)) for text in {text for _, text, *_ in PROBES}}
        for number, (_, text, measure, _) in enumerate(PROBES):
            before, after = getattr(fused, measure), getattr(refined[text], measure)
            if before == before and after == after:  # not nan
                changes[number].append(_change(before, after))
    rows = []
    for number, (kind, text, measure, sign) in enumerate(PROBES):
        found = pd.Series(changes[number], dtype=float)
        right = int((sign * found > 0).sum() if sign else (found.abs() < STAYS).sum())
        rows.append((kind, text, measure, {1: "up", -1: "down", 0: "stays"}[sign], found.median(),
                     f"{right} of {len(found)}"))  # fmt: skip
    return pd.DataFrame(rows, columns=["kind", "text", "property", "asked", "change", "right"])


def _change(before, after):
    return 100 * (after - before) / max(abs(before), 1e-6)


def summarise_responses(table: pd.DataFrame) -> pd.DataFrame:
    """Per instruction: its property, the median change in per cent for each wording, and the numbers of images right.

    "right" is against stage 1, "beside control" against the sentence about something else, too.
    """
    groups = table.groupby(["instruction", "property", "wording"], sort=False)
    found = groups.agg(**{"change": ("change", "median"), "right": ("right", "sum"),
                          "beside control": ("beside control", "sum"), "images": ("right", "size")})  # fmt: skip
    images = found.pop("images").astype(str)
    for column in ("right", "beside control"):
        found[column] = found[column].astype(str) + " of " + images
    return found.unstack("wording").swaplevel(axis=1).sort_index(axis=1, level=0, sort_remaining=False)
