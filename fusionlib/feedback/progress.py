"""What a person sees of a long run: a bar with rate and time left, and one line that says how much is left in all."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm.auto import tqdm

from fusionlib.feedback.store import Answer

LONG = 60  # seconds of work left from which on the estimate is printed


class Progress:
    """A bar from the first batch that is asked on, and after the second, where much is left, a line that says how much.

    The first batch does not count for the estimate: some back ends read their weights when they are first asked.

    Args:
        label: what is done.
        count: number of images, None where it is not known: then there is no estimate.
        folder: which the answers go to, if any.
        processes: that share the images; the others are taken to be as fast as this one.
        shown: whether this process is the one that people hear.
    """

    def __init__(self, label: str, count: int | None, folder: Path | None, processes: int = 1, shown: bool = True):
        self.label, self.count, self.folder, self.processes, self.shown = label, count, folder, processes, shown
        self.bar, self.ends = None, []

    def begin(self, done: int) -> None:
        """A batch is about to be asked; `done` images of this process are settled."""
        if self.bar is None:  # as it stays when a store knows every answer
            self.bar = tqdm(total=self.count, initial=done * self.processes, desc=self.label, unit=" images",
                            leave=False, delay=5, disable=not self.shown)  # fmt: skip

    def advance(self, done: int, answers: Sequence[Answer]) -> None:
        """A batch has been asked and gave these answers."""
        self.bar.update(done * self.processes - self.bar.n)
        self.ends.append((done, time.perf_counter()))
        if len(self.ends) == 2 and self.shown and self.count is not None and answers:
            (before, began), (_, ended) = self.ends
            left = self.count - done * self.processes
            seconds = (ended - began) / (done - before) * left / self.processes
            size = sum(2 * answer.features.numel() for answer in answers) / len(answers) * left  # half precision
            if seconds > LONG:
                told = f"{left:,} images left: about {duration(seconds)} and {size / 1e9:.1f} GB"
                self.bar.write(told + self._lack(size))

    def _lack(self, size: float) -> str:
        free = size if self.folder is None else shutil.disk_usage(self.folder).free
        return f", but only {free / 1e9:.1f} GB are free in {self.folder}" if free < size else ""

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()


def duration(seconds: float) -> str:
    """A time as people say it: 2 d 3 h, 2 h 10 min, 12 min."""
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"
