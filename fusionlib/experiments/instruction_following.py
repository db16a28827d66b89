"""Evaluation of instruction following: the measured change in the image property that each instruction names."""

from collections.abc import Callable, Sequence

import pandas as pd
from torch import Tensor
from tqdm.auto import tqdm

from fusionlib.feedback.rules import image_statistics
from fusionlib.training.instructions import INSTRUCTIONS
from fusionlib.utils.errors import FusionError

WORDINGS = {"seen": 0, "unseen": -1}  # index into an instruction's texts, of which the last is in no training


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
        (a field of `feedback.rules.ImageStatistics`), "before", "after", "change" in per cent of before, and "right",
        whether it has the intended sign. Pairs where the property is undefined (no warm region) are left out.

    Raises:
        FusionError: no pairs, or an unknown wording.
    """
    if not pairs or not set(wordings) <= set(WORDINGS):
        raise FusionError(f"responses need pairs, and wordings of {', '.join(WORDINGS)}, but got {len(pairs)} pairs "
                          f"and {', '.join(wordings)}")
    rows = []
    for index, (ir, visible) in enumerate(tqdm(pairs, desc="instructions", leave=False)):
        fused = image_statistics(refine(ir, visible, None))
        for name, instruction in INSTRUCTIONS.items():
            for wording in wordings:
                text = instruction.texts[WORDINGS[wording]]
                refined = image_statistics(refine(ir, visible, text))
                before, after = (getattr(image, instruction.measure) for image in (fused, refined))
                if before == before and after == after:  # not nan
                    change = 100 * (after - before) / max(abs(before), 1e-6)
                    rows.append((name, wording, text, index, instruction.measure, before, after, change,
                                 instruction.sign * (after - before) > 0))
    columns = ["instruction", "wording", "text", "image", "property", "before", "after", "change", "right"]
    return pd.DataFrame(rows, columns=columns)


def summarise_responses(table: pd.DataFrame) -> pd.DataFrame:
    """Per instruction: its property, the median change in per cent for each wording, and the number of images right."""
    groups = table.groupby(["instruction", "property", "wording"], sort=False)
    found = groups.agg(change=("change", "median"), right=("right", "sum"), images=("right", "size"))
    found["right"] = found["right"].astype(str) + " of " + found.pop("images").astype(str)
    return found.unstack("wording").swaplevel(axis=1).sort_index(axis=1, level=0, sort_remaining=False)
