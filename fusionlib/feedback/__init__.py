"""Feedback on fused images: what a back end advises, and the features of its answer (paper section 3.3)."""

from fusionlib.feedback.asking import QUESTION, ask
from fusionlib.feedback.assignment import read_assignment, write_assignment
from fusionlib.feedback.backends import BACKENDS, make
from fusionlib.feedback.encode import encode, encoder_name, tokens
from fusionlib.feedback.statistics import frequent, nearest, statistics
from fusionlib.feedback.store import Answer, Features, Store, open_store

__all__ = [
    "BACKENDS", "QUESTION", "Answer", "Features", "Store", "ask", "encode", "encoder_name", "frequent", "make",
    "nearest", "open_store", "read_assignment", "statistics", "tokens", "write_assignment",
]  # fmt: skip
