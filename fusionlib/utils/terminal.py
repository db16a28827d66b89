"""The command line's terminal: text on any encoding, no commands in it, pipes that close early, and SIGTERM."""

import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress

from fusionlib.utils.errors import CONTROLS, FusionError

NO_OUTPUT = "the output cannot be written"
CLOSED_PIPE = 141  # exit code of a program that the signal SIGPIPE ends
_MOVES = re.compile(r"(?:[\r\n]|\x1b\[A)*")  # by which tqdm places its bars, at the beginning of what it writes


@contextmanager
def printable_output() -> Iterator[None]:
    """Show characters that stdout or stderr cannot encode, and control characters, as escapes such as \\x1b."""
    streams = [Printable(stream or open(os.devnull, "w")) for stream in (sys.stdout, sys.stderr)]
    with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        yield


class Printable:
    """A text stream that writes to another one what that can encode and a terminal only shows."""

    def __init__(self, stream):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text; returns the number of characters. Raises FusionError on a full disk."""
        moves, encoding = _MOVES.match(text)[0], self._stream.encoding or "utf-8"
        text = moves + text[len(moves):].translate(CONTROLS)
        try:
            return self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except BrokenPipeError:
            raise
        except OSError as error:
            raise FusionError(f"{NO_OUTPUT} ({error.strerror})") from None

    def __getattr__(self, name):
        return getattr(self._stream, name)


def flush_output(code: int) -> int:
    """Write what is left of stdout; returns the exit code, `code` unless that is impossible."""
    try:
        sys.stdout.flush()
        return code
    except OSError as error:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it ends
        if isinstance(error, BrokenPipeError):
            return CLOSED_PIPE
        if not code:
            print(f"error: {NO_OUTPUT} ({error.strerror})", file=sys.stderr)
        return code or 1


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Within it, or in a function that it decorates, SIGTERM does what Ctrl-C does: what was begun is finished first.

    `kill` sends it, and schedulers do before they kill.
    """
    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or before is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def command_line(*words, **options) -> str:
    """A command of this package for a sentence to repeat: words, then --name value of the options that are not empty.

    A list is an option with several values: set=["seed=1", "threads=2"] becomes --set seed=1 threads=2.
    """
    given = ["python", "-m", "fusionlib", *map(str, words)]
    for name, value in options.items():
        values = [str(each) for each in (value if isinstance(value, list | tuple) else [value]) if each]
        given += [f"--{name.replace('_', '-')}", *values] if values else []
    return shlex.join(given)
