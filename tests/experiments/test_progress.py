"""Where a run is: a live line on a terminal, lines in a log, with the notebook, the cell, its bar and the time left."""

import io
import re

import pytest

from fusionlib.experiments import progress, suite
from fusionlib.experiments.lookahead import Outlook
from fusionlib.experiments.progress import Progress
from tests.experiments.test_suite import notebooks, write  # noqa: F401

ROW = {"state": "done", "seconds": 30.0, "peak MiB": 100}
BAR = ("import time\nfrom tqdm.auto import tqdm\nfor _ in tqdm(range(3), desc='epochs', leave=False):\n"
       "    time.sleep(0.6)")  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_bar_of_a_notebook_reaches_the_log(notebooks, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(progress, "LOGGED", 0)
    monkeypatch.setattr(suite, "look_ahead", lambda *_: Outlook("one notebook", {"01": 100.0}))
    write(suite.NOTEBOOKS, "01_a.ipynb", 'out = ""', BAR)
    suite.run(only=["01"], out=str(notebooks / "run"))
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["one notebook", "01_a ..."] and re.match(r"  done in \d+ s, \d+ MiB$", said[-1])
    bars = [line for line in said if "epochs: " in line]
    assert re.match(r"  01_a: cell 3 of 3, about 2 min left, epochs: +\d+% \d/3 \[00:0\d<", bars[0])
    assert {re.search(r"(\d)/3", line)[1] for line in bars} >= {"1", "2"}


def test_a_terminal_has_one_live_line(clock, monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    shown = Progress({"01_a": 60, "02_b": 120})
    shown.begin("01_a", 4)
    shown.show()
    shown.begin_cell()
    shown.bar = "epochs: 50% 1/2 " + "x" * 500
    shown.show()
    shown.end(ROW)
    shown.close()
    lines = [line.strip() for line in terminal.getvalue().split("\r") if line.strip()]
    assert lines[0] == "01_a: starting, about 3 min left" and "\n" not in terminal.getvalue()
    assert lines[1].startswith("01_a: cell 1 of 4, about 3 min left, epochs: 50% 1/2 xxx") and len(lines[1]) < 200
    assert capsys.readouterr().out == "01_a: done in 30 s, 100 MiB\n"


def test_a_log_has_a_line_a_minute(clock, capsys):
    shown = Progress({})
    shown.begin("02_b", 2)
    for second in range(150):
        clock[0] = float(second)
        shown.show()
    assert capsys.readouterr().out.splitlines() == ["02_b ...", "  02_b: starting", "  02_b: starting"]
    shown.close()


def test_time_left_follows_what_the_notebooks_took(clock):
    shown = Progress({"01_a": 60, "02_b": 120, "03_c": 600})
    assert shown.seconds_left() is None
    shown.begin("01_a", 1)
    clock[0] = 40
    assert shown.seconds_left() == 60 - 40 + 120 + 600
    shown.end({**ROW, "seconds": 120.0})  # twice as long as expected
    shown.begin("02_b", 1)
    assert shown.seconds_left() == 2 * (120 + 600)
    clock[0] += 1000
    assert shown.seconds_left() == 2 * 600  # not less than the rest
    shown.end({**ROW, "seconds": 1.0})  # loaded
    shown.begin("03_c", 1)
    assert shown.seconds_left() == pytest.approx(600 * 121 / 180)
    unknown = Progress({})
    unknown.begin("01_a", 1)
    assert unknown.seconds_left() is None and "left" not in unknown.text()
