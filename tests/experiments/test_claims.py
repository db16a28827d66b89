"""Claims are judged by rule: which rows are compared, in which direction, and what follows from the verdicts."""

import numpy as np
import pytest

from fusionlib import visualization
from fusionlib.experiments import OURS, OURS_STAGE_1, ablation, claims

ROWS = {  # of the notebooks' tables, whichever
    "05_table_LLVIP": ["mean", "laplacian", "AUIF", "CDDFuse", OURS_STAGE_1, OURS],
    "06_table4": ["infrared", "visible", "mean", "AUIF", OURS_STAGE_1, OURS, "infrared, retrained", "mean, retrained",
                  "AUIF, retrained", f"{OURS}, retrained"],
    "07_table6": ["stage 1", "no MLLM", "no Text-DFH", "CA1", "CA2", "full", "no text", "shuffled text"],
    "08_table5_x": ["mean", "ALMFnet", "[85]", OURS_STAGE_1, OURS],
}  # fmt: skip


def others(number):
    """The rows that a claim is compared with, by table."""
    claim = claims.CLAIMS[number - 1]
    found = {name: [row for row in rows if claim.is_other(row)] for name, rows in ROWS.items()
             if name.startswith(claim.tables)}  # fmt: skip
    assert all(claim.row in ROWS[name] for name in found)
    return found


@pytest.mark.parametrize(("number", "expected"), [
    (1, {"05_table_LLVIP": ["AUIF", "CDDFuse"]}), (2, {"06_table4": ["AUIF, retrained"]}),
    (3, {"07_table6": ["no MLLM"]}), (4, {"07_table6": ["no Text-DFH"]}), (5, {"07_table6": ["CA1", "CA2"]}),
    (6, {"08_table5_x": ["ALMFnet", "[85]"]}), (7, {"06_table4": ["infrared", "visible"]}),
    (8, {"06_table4": [OURS_STAGE_1]}), (9, {"06_table4": ["mean", "AUIF"]}), (10, {"05_table_LLVIP": [OURS_STAGE_1]}),
    (11, {"05_table_LLVIP": ["mean", "laplacian"]}), (12, {"07_table6": ["stage 1"]}),
    (13, {"07_table6": ["no text", "shuffled text"]}), (14, {"08_table5_x": ["mean"]}),
])  # fmt: skip
def test_the_rows_that_a_claim_is_about(number, expected):
    assert others(number) == expected
    assert claims.CLAIMS[number - 1].of_paper == (number <= 6)


def test_every_experiment_of_the_ablations_is_in_a_claim():
    of_them = [claim for claim in claims.CLAIMS if claim.row == "full"]
    compared = [row for claim in of_them for row in ROWS["07_table6"] if claim.is_other(row)]
    names = [experiment.name for experiment in (*ablation.PAPER, *ablation.CONTROLS)]
    assert sorted(compared) == sorted({ablation.STAGE_1, *names} - {"full"})


def table_of(reference=OURS, **cells):
    """A table with ours; cells by the name of a row: {metric: (difference, low, high, p)} to ours."""
    fields = ("difference", "difference low", "difference high", "p")
    rows = {name: row and {metric: {"mean": 1.0, **dict(zip(fields, values))} for metric, values in row.items()}
            for name, row in cells.items()}  # fmt: skip
    rows[OURS] = {"Q_AB/F": {"mean": 0.5}, "Q_CV": {"mean": 300.0}}
    return visualization.build(rows, dict.fromkeys(rows, 9), "", reference)


def test_a_comparison_is_ours_minus_the_other():
    table = table_of(AUIF={"Q_AB/F": (-0.2, -0.3, -0.1, 0.01), "Q_CV": (-40, -60, -5, 0.03)},
                     LRRNet={"Q_AB/F": (0.1, np.nan, np.nan, 0.2)}, DATFuse=None,
                     mean={"Q_AB/F": (0.3, 0.2, 0.4, 0.01)})  # fmt: skip
    compared = claims.compare(table, claims.CLAIMS[0])
    assert compared.index.tolist() == [("AUIF", "Q_AB/F"), ("AUIF", "Q_CV"), ("LRRNet", "Q_AB/F")]
    assert compared.loc["AUIF", "Q_AB/F"].tolist() == [0.2, 0.1, 0.3, 0.01, "better"]
    assert compared.loc["AUIF", "Q_CV"].tolist() == [40, 5, 60, 0.03, "worse"]  # lower is better
    assert compared.loc["LRRNet", "Q_AB/F"].isna().tolist() == [False, True, True, False, False]
    assert compared.loc["LRRNet", "Q_AB/F"]["verdict"] == "inconclusive"


def test_nothing_is_compared_with_another_reference_or_without_numbers():
    cells = {"AUIF": {"Q_AB/F": (-0.2, -0.3, -0.1, 0.01)}, "mean": {"Q_AB/F": (0.1, 0, 0.2, 0.5)}}
    for table in (table_of("mean", **cells), table_of(AUIF=None), table_of(mean=cells["mean"])):
        compared = claims.compare(table, claims.CLAIMS[0])
        assert len(compared) == 0 and list(compared)[-1] == "verdict" and compared.index.nlevels == 2


@pytest.mark.parametrize(("verdicts", "expected"), [
    ([], "nothing to compare"), (["inconclusive"] * 3, "inconclusive"), (["better", "inconclusive"], "better"),
    (["worse", "inconclusive", "worse"], "worse"), (["better", "worse"], "mixed"),
    (["inconclusive", "worse", "better"], "mixed"),
])  # fmt: skip
def test_what_is_found_follows_from_the_verdicts(verdicts, expected):
    assert claims.found(verdicts) == expected
