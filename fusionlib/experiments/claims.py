"""The paper's claims, and further ones that its method invites, judged by rule from the tables of a run.

A claim is about one row of some tables and compares it with others. What is found follows from the verdicts of these
comparisons by `RULE`; nobody writes it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd

from fusionlib.experiments.ablation import FULL, STAGE_1
from fusionlib.experiments.methods import OURS, OURS_STAGE_1
from fusionlib.metrics.statistics import LEVEL, verdict
from fusionlib.peers import BASELINES
from fusionlib.peers.sources import SOURCES

RETRAINED = ", retrained"  # ending of the rows with a detector of their own
#: How what is found follows from the comparisons, for the reader.
RULE = (
    "A comparison is of two rows of a table in one metric, on the same images. It is better or worse where p, after "
    f"Holm's correction for all comparisons of its table and detector, is below {LEVEL:g}, and otherwise inconclusive, "
    "even if its 95 % interval, which is not corrected, is on one side of 0. Found is better where some comparisons "
    "are better and none is worse, worse the other way round, mixed where there are both, and inconclusive where there "
    "is neither.")


@dataclass(frozen=True)
class Claim:
    """A row of some tables, and others that it is claimed to be better than."""

    words: str
    tables: tuple[str, ...]  # names of their files, or beginnings of names where they end in _
    row: str
    is_other: Callable[[str], bool]  # whether a row is one of the others
    of_paper: bool = True


def _published(name):
    return name in SOURCES and name not in BASELINES


_FUSION, _FOUND, _MEDICAL = ("05_table_",), ("06_table4",), ("08_table5_",)
_ABLATED = ("07_table6", "07_table7")
#: What the suite is for.
PEOPLE = Claim("People are found better in the refined images than in infrared or visible alone.", _FOUND, OURS,
               {"infrared", "visible"}.__contains__, False)
CLAIMS = (
    Claim("The fused images are of better quality than those of the compared methods.", _FUSION, OURS, _published),
    Claim("People are found better in the fused images, without retraining, than by detectors that are retrained on "
          "the images of the compared methods.", _FOUND, OURS,
          lambda name: name.endswith(RETRAINED) and _published(name.removesuffix(RETRAINED))),
    Claim("Answers about the fused images give better images than a fixed prompt (no MLLM).", _ABLATED, FULL.name,
          {"no MLLM"}.__contains__),
    Claim("Text-DFH gives better images than text that is concatenated to the features (no Text-DFH).", _ABLATED,
          FULL.name, {"no Text-DFH"}.__contains__),
    Claim("Both branches of cross attention give better images than one of them (CA1, CA2).", _ABLATED, FULL.name,
          {"CA1", "CA2"}.__contains__),
    Claim("It works for medical images: they are of better quality than those of the compared methods.", _MEDICAL, OURS,
          _published),
    PEOPLE,
    Claim("People are found better in the refined images than in those of stage 1.", _FOUND, OURS,
          {OURS_STAGE_1}.__contains__, False),
    Claim("People are found better in the refined images than in those of other methods, by the same detector.", _FOUND,
          OURS, SOURCES.__contains__, False),
    Claim("The refined images are of better quality than those of stage 1.", _FUSION, OURS, {OURS_STAGE_1}.__contains__,
          False),
    Claim("The fused images are of better quality than those of simple rules.", _FUSION, OURS, BASELINES.__contains__,
          False),
    Claim("Stage 2 gives better images than stage 1 under the budget of the ablations.", _ABLATED, FULL.name,
          {STAGE_1}.__contains__, False),
    Claim("An image's own answer gives better images than no text or another image's answer.", _ABLATED, FULL.name,
          {"no text", "shuffled text"}.__contains__, False),
    Claim("Fused medical images are of better quality than those of simple rules.", _MEDICAL, OURS,
          BASELINES.__contains__, False),
)


def compare(table: pd.DataFrame, claim: Claim) -> pd.DataFrame:
    """The comparisons of a claim in a table of `visualization`.

    Returns:
        Rows indexed by (other row, metric): "difference", the claim's row minus the other, its interval "low" to
        "high" (NaN where the table has none), "p_holm" and "verdict" on the claim's row; none if the table compares
        its rows with another one, or has no numbers of them.
    """
    others = filter(claim.is_other, table.index) if table.attrs["reference"] == claim.row else ()
    rows = {}
    for other in others:
        for metric, higher in table.attrs["higher_is_better"].items():
            cell = table.loc[other, metric]
            row = {"difference": -cell["difference"], "low": -cell["difference high"], "high": -cell["difference low"],
                   "p_holm": cell["p"]}  # fmt: skip
            if pd.notna(row["difference"]):
                rows[other, metric] = row | {"verdict": verdict(row, higher)}
    index = pd.MultiIndex.from_arrays([[key[level] for key in rows] for level in (0, 1)], names=["method", "measure"])
    return pd.DataFrame(list(rows.values()), index, ["difference", "low", "high", "p_holm", "verdict"])


def found(verdicts: Iterable[str]) -> str:
    """What is found of a claim, from the verdicts of its comparisons by `RULE`; "nothing to compare" without any."""
    verdicts = set(verdicts)
    if not verdicts:
        return "nothing to compare"
    return "mixed" if {"better", "worse"} <= verdicts else next(iter(verdicts - {"inconclusive"}), "inconclusive")
