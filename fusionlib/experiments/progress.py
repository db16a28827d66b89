"""Where a run of notebooks is: one live line on a terminal, lines with a minute between them elsewhere."""

import shutil
import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

LOGGED = 60  # seconds between two lines of a log


class Progress:
    """The notebook, the cell and its progress bar, and the time left.

    Args:
        expected: {stem of a notebook: seconds that it takes}, of those to be executed in their order; empty if unknown.
    """

    def __init__(self, expected: Mapping[str, float]):
        self.expected, self.took = dict(expected), {}
        self.live = sys.stderr.isatty()
        self.line = tqdm(bar_format="{desc}", leave=False, disable=not self.live, file=sys.stderr)
        self.notebook, self.cells, self.cell, self.bar, self.began, self.logged = "", 0, 0, "", 0.0, 0.0

    def begin(self, notebook: str, cells: int) -> None:
        """A notebook with so many cells of code is executed now."""
        self.notebook, self.cells, self.cell, self.bar = notebook, cells, 0, ""
        self.began = self.logged = time.monotonic()
        if not self.live:
            print(f"{notebook} ...", flush=True)

    def begin_cell(self) -> None:
        """The next cell of code begins."""
        self.cell, self.bar = self.cell + 1, ""

    def end(self, row: Mapping) -> None:
        """A notebook has ended with this row of the summary."""
        self.took[self.notebook] = row["seconds"]
        self.line.clear()
        name = f"{self.notebook}: " if self.live else "  "
        print(f"{name}{row['state']} in {row['seconds']:.0f} s, {row['peak MiB']:.0f} MiB", flush=True)

    def close(self) -> None:
        """Remove the live line."""
        self.line.close()

    def show(self) -> None:
        """Show where the run is: at once on a terminal, every minute in a log."""
        if self.live:
            self.line.set_description_str(self.text()[: shutil.get_terminal_size().columns - 1])
        elif time.monotonic() >= self.logged + LOGGED:
            self.logged = time.monotonic()
            print(f"  {self.text()}", flush=True)

    def text(self) -> str:
        """Notebook, cell, progress bar (such as of epochs) and the time left, as far as they are known."""
        cell = f"cell {self.cell} of {self.cells}" if self.cell else "starting"
        seconds = self.seconds_left()
        left = "" if seconds is None else f"about {max(1, round(seconds / 60))} min left"
        return ", ".join(filter(None, [f"{self.notebook}: {cell}", left, self.bar]))

    def seconds_left(self) -> float | None:
        """What is expected of the rest, as much faster or slower as the notebooks so far; None if unknown."""
        if self.notebook not in self.expected:
            return None
        elapsed, now = time.monotonic() - self.began, self.expected[self.notebook]
        before = sum(self.expected.get(name, 0) for name in self.took)
        factor = max(0.5, sum(self.took.values()) / before) if before else 1.0  # loaded results say little of the rest
        rest = sum(value for name, value in self.expected.items() if name not in self.took and name != self.notebook)
        return factor * rest + max(0.0, factor * now - elapsed)
