"""The exception for bad input, and the printing of problems that are not fatal."""

import os
import sys
from collections.abc import Sequence

MAX_PRINTED = 20  # problems of one kind


class FusionError(ValueError):
    """Bad input. The message is one sentence: the file, what was expected, what was found and how to fix it."""


def first_line(error: Exception) -> str:
    """The first non-empty line of an exception's message, or its type: to be quoted in another message."""
    lines = (line.strip().rstrip(".") for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def is_main_process() -> bool:
    """Whether this is the main process of `accelerate launch` or the only process."""
    return os.environ.get("RANK", "0") == "0"


def print_problems(kind: str, sentences: Sequence[str]) -> None:
    """Print the number of problems of one kind, and the first 20 of them, to stderr; nothing if there are none."""
    if sentences and is_main_process():
        more = [f"... and {len(sentences) - MAX_PRINTED} more"] if len(sentences) > MAX_PRINTED else []
        print("\n  ".join([f"{kind}: {len(sentences)}", *sentences[:MAX_PRINTED], *more]), file=sys.stderr)
