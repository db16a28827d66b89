"""The one exception that the suite raises for bad input, and how problems that stop nothing are told."""

import os
import sys
from collections.abc import Sequence

LISTED = 20  # sentences of one kind that are printed


class FusionError(ValueError):
    """Bad input, told in one sentence: the file, what was expected, what was found and how to mend it."""


def first_line(error: Exception) -> str:
    """The first line of an exception's message that is not empty, or its type: for a sentence of ours."""
    lines = (line.strip().rstrip(".") for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def is_main_process() -> bool:
    """Whether this process is the one that speaks for all of `accelerate launch`, as a process alone does."""
    return os.environ.get("RANK", "0") == "0"


def print_problems(kind: str, sentences: Sequence[str]) -> None:
    """Print problems of one kind to stderr, the first 20 of them; nothing where there is none."""
    if sentences and is_main_process():
        more = [f"... and {len(sentences) - LISTED} more"] if len(sentences) > LISTED else []
        print("\n  ".join([f"{kind}: {len(sentences)}", *sentences[:LISTED], *more]), file=sys.stderr)
