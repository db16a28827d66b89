"""Any text reaches any output, and none commands a terminal."""

import io
import sys

import pytest

from fusionlib.utils.errors import FusionError, one_line, print_problems
from fusionlib.utils.terminal import Printable, printable_output


def written(*texts, encoding="utf-8"):
    data = io.BytesIO()
    stream = io.TextIOWrapper(data, encoding=encoding, newline="")
    for text in texts:
        Printable(stream).write(text)
    stream.flush()
    return data.getvalue()


@pytest.mark.parametrize(("text", "shown"), [
    ("plain\ttext\n", b"plain\ttext\n"), ("a\x1b[2Jb", b"a\\x1b[2Jb"), ("a\x1b]0;title\x07", b"a\\x1b]0;title\\x07"),
    ("a\rb", b"a\\rb"), ("a\x00b\x7f", b"a\\x00b\\x7f"), ("a\x9b2J", b"a\\x9b2J"), ("a\u202egnp", b"a\\u202egnp"),
    ("a\u2028b", b"a\\u2028b"), ("a\udcff", b"a\\udcff"), ("a\x1b[Ab", b"a\\x1b[Ab"), ("ä – 線", "ä – 線".encode()),
])  # fmt: skip
def test_control_characters_are_shown(text, shown):
    assert written(text) == shown


@pytest.mark.parametrize("text", ["\rfusing: 10%", "\n\rmetrics: 5%", "\x1b[A", "\r", "\n\n\x1b[A\x1b[A\r", ""])
def test_bars_of_progress_move(text):
    assert written(text) == text.encode()


@pytest.mark.parametrize(("encoding", "shown"), [
    ("ascii", b"\\xe4 \\u2013 \\u221e \\u7dda"), ("cp1252", b"\xe4 \x96 \\u221e \\u7dda"),
    ("latin-1", b"\xe4 \\u2013 \\u221e \\u7dda"), ("cp437", b"\x84 \\u2013 \xec \\u7dda"),
])  # fmt: skip
def test_an_encoding_that_lacks_characters(encoding, shown):
    assert written("ä – ∞ 線", encoding=encoding) == shown


def test_streams_are_those_of_before_afterwards(capsys, monkeypatch):
    before = sys.stdout, sys.stderr
    with pytest.raises(KeyError), printable_output():
        print("a\x07")
        print("b\x07", file=sys.stderr)
        raise KeyError
    assert (sys.stdout, sys.stderr) == before
    said = capsys.readouterr()
    assert (said.out, said.err) == ("a\\x07\n", "b\\x07\n")
    monkeypatch.setattr(sys, "stdout", None)  # closed, as by >&-
    with printable_output():
        print("nobody reads it")
    assert sys.stdout is None


def test_a_full_disk_is_a_sentence():
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    with pytest.raises(FusionError, match=r"the output cannot be written \(No space left on device\)"):
        Printable(Full()).write("a")


def test_a_sentence_stays_one_line(capsys):
    assert one_line("two\nlines\tand\r\x1b") == r"two\nlines\tand\r\x1b"
    print_problems("not fused", ["a\nerror: all is lost", "b\x1b[1A"])
    assert capsys.readouterr().err == "not fused: 2\n  a\\nerror: all is lost\n  b\\x1b[1A\n"
