"""The ablation study of the paper (section 4.5), and the question it leaves: is it the text, or the training?

All experiments train stage 2 with one and the same budget and are judged on the same test pairs, by the same frozen
detector and the same metrics. They differ in the network, in the text that it reads, or in the weight of fidelity.
"""

from fusionlib.ablation.experiments import (
    CONTROLS,
    FULL,
    PAPER,
    STAGE_1,
    TEXTS,
    Bench,
    Experiment,
    Outcome,
    fidelity_sweep,
)
from fusionlib.ablation.gains import compare, detection_table, explain, gains, resample

__all__ = [
    "CONTROLS", "FULL", "PAPER", "STAGE_1", "TEXTS", "Bench", "Experiment", "Outcome", "compare", "detection_table",
    "explain", "fidelity_sweep", "gains", "resample",
]  # fmt: skip
