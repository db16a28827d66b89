"""Ratings: cells that no spreadsheet runs, whatever is rated, and damaged rows that take no other with them."""

import csv
import io
import os
from pathlib import Path

import pytest

from fusionlib.utils.errors import FusionError
from fusionlib.viewer import ratings


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1",
                                  "-1", "plain", "'=1", "a\x1b[2J\x07", "\udcff"])  # fmt: skip
def test_ratings_hold_no_formulas_and_are_found_by_any_name(tmp_path, name):
    path = tmp_path / "saves" / "ratings.csv"
    for image, score in ((name, 2), ("other", 3), (name, 5)):
        ratings.add(path, name, name, image, "", score)
    ratings.add(path, name, name, name, name or "text", 1)
    data = path.read_bytes().decode()
    cells = [cell for row in csv.reader(io.StringIO(data, newline="")) for cell in row]
    assert len(cells) == 5 * 6 and all(cell == "-1" or cell[:1] not in "=+-@\t\r\n\uff1d" for cell in cells if cell)
    assert not set("\x1b\x07\r") & set(data)
    assert ratings.of_entry(ratings.read(path, name), name, [name, "other", "third"]) == {name: 5, "other": 3}
    assert ratings.read(path, "another gallery") == {}


@pytest.mark.parametrize(("rest", "kept"), [
    ("2026-01-01,g,e,im", 5), ("2026-01-01,g,e,image,,4", 4), ("x,g,e,image,,many\n", 5), ("x,g,e,image,,nan\n", 5),
    ("x,g,e,image,,9\n", 5), ("x,g,e,image,," + "9" * 5000 + "\n", 5), ("\n\n", 5), (",,,,,,,,,\n", 5),
    ("\0\n", 5), ("x,g,e,=image,,1\n", 5), ('"', 5),
])  # fmt: skip
def test_a_row_that_is_no_rating_takes_no_other_with_it(tmp_path, rest, kept):
    """As one that was cut short when the disk was full."""
    path = tmp_path / "ratings.csv"
    ratings.add(path, "g", "e", "image", "", 5)
    with open(path, "a", encoding="utf-8", newline="") as file:
        file.write(rest)
    assert ratings.read(path, "g")["e", "image"] == kept
    if rest != '"':
        ratings.add(path, "g", "e", "second", "", 1)
        assert ratings.read(path, "g")["e", "image"] == kept and ratings.read(path, "g")["e", "second"] == 1


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
@pytest.mark.timeout(20)
def test_what_is_no_file_of_ratings(tmp_path, make):
    path = tmp_path / "ratings.csv"
    make(path)
    assert ratings.read(path, "g") == {}
    with pytest.raises(FusionError, match="expected a file of ratings, found a"):
        ratings.add(path, "g", "e", "image", "", 5)
