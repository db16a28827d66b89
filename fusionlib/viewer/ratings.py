"""Ratings of images by a user: rows of a CSV, of which the newest of an image counts. Rows are only ever added."""

import csv
import datetime
import io
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import read_text, require_regular_file
from fusionlib.visualization.table_export import no_formula

NAME = "ratings.csv"
COLUMNS = ("time", "gallery", "entry", "image", "instruction", "score")
SCORES = range(1, 6)
LONGEST = 1 << 26  # bytes of the file, some hundred thousand ratings


def add(path: Path, gallery: str, entry: str, image: str, instruction: str, score: int) -> None:
    """Add a row to the file, which is made with its header if it is missing.

    Args:
        score: from 1, bad, to 5, good.

    Raises ValueError for another score, or where something else than a file is in its place, and OSError for a file
    that cannot be written.
    """
    if score not in SCORES:
        raise ValueError(f"a rating is a whole number from {SCORES[0]} to {SCORES[-1]}, but is {score}")
    require_regular_file(path, "a file of ratings", LONGEST)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    with open(path, "a+b") as file:
        if not file.tell():
            writer.writerow(COLUMNS)
        else:
            file.seek(-1, io.SEEK_END)
            text.write("\n" * (file.read() != b"\n"))  # after a row that was cut short
        writer.writerow(map(no_formula, (now, gallery, entry, image, instruction, score)))
        file.write(text.getvalue().encode())


def read(path: Path, gallery: str) -> dict[tuple[str, str], int]:
    """The newest score of each image of a gallery, {cells of entry and image: score}; of instructed images none.

    A row that is no rating, as one that was cut short, is passed over. Empty for a file that is missing or holds
    something else: it is added to, never replaced.
    """
    rated, scores = {}, {str(score): score for score in SCORES}
    with suppress(FusionError, csv.Error):
        text = io.StringIO(read_text(path, "ratings", "move it away", LONGEST), newline="")
        for row in csv.DictReader(text):
            _, shown, entry, image, instruction, score = (no_formula(row.get(name)) for name in COLUMNS)
            if shown == no_formula(gallery) and instruction == "" and score in scores:
                rated[entry, image] = scores[score]
    return rated


def of_entry(rated: Mapping[tuple[str, str], int], entry: str, images: Iterable[str]) -> dict[str, int]:
    """{image: score} of the rated ones among the images of an entry; `rated` is that of `read`."""
    cells = {image: (no_formula(entry), no_formula(image)) for image in images} if rated else {}
    return {image: rated[cell] for image, cell in cells.items() if cell in rated}
