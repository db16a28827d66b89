"""The exception for bad input, and the printing of problems that are not fatal."""

import os
import sys
from collections.abc import Sequence

MAX_PRINTED = 20  # problems of one kind
#: Characters that command a terminal or change the order of the text, and how they are shown; not tab and line feed.
CONTROLS = {code: repr(chr(code))[1:-1] for code in (*range(9), *range(11, 32), *range(127, 160), 0x2028, 0x2029,
                                                     *range(0x202A, 0x202F), *range(0x2066, 0x206A))}  # fmt: skip
_LINE = CONTROLS | {9: r"\t", 10: r"\n"}


class FusionError(ValueError):
    """Bad input. The message is one sentence: the file, what was expected, what was found and how to fix it."""


def first_line(error: Exception) -> str:
    """The first non-empty line of an exception's message, or its type: to be quoted in another message."""
    lines = (line.strip().rstrip(".") for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def one_line(text: str) -> str:
    """A sentence that may hold names of files, without the line breaks and control characters that these may have."""
    return text.translate(_LINE)


def encodable(text: str) -> str:
    """A text as UTF-8 can hold it: names of files may hold any bytes, and answers of a server halves of characters."""
    return text.encode("utf-8", "backslashreplace").decode()


def is_main_process() -> bool:
    """Whether this is the main process of `accelerate launch` or the only process."""
    return os.environ.get("RANK", "0") == "0"


def print_problems(kind: str, sentences: Sequence[str]) -> None:
    """Print the number of problems of one kind, and the first 20 of them, to stderr; nothing if there are none."""
    if sentences and is_main_process():
        more = [f"... and {len(sentences) - MAX_PRINTED} more"] if len(sentences) > MAX_PRINTED else []
        shown = map(one_line, sentences[:MAX_PRINTED])
        print("\n  ".join([f"{kind}: {len(sentences)}", *shown, *more]), file=sys.stderr)
