"""The `Problem` of a file in a data set."""

from dataclasses import dataclass
from pathlib import Path

from fusionlib.utils.errors import FusionError


@dataclass(frozen=True)
class Problem:
    """What is wrong with one file, or (range, colours, polarity, swapped) what is made of it.

    `kind` is partner, duplicate, size, format, unreadable, label, class, scene or volume, or one of the four.
    """

    path: Path
    kind: str
    message: str

    def __str__(self):
        return f"{self.path}: {self.message}"

    @classmethod
    def unreadable(cls, path: Path, error: FusionError) -> "Problem":
        """The problem of a file whose reading raised `error`."""
        return cls(path, "unreadable", str(error).removeprefix(f"{path}: "))
