"""Tables of a run read back from their files, and tables as Markdown."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from bs4 import BeautifulSoup

from fusionlib.utils.errors import FusionError, first_line, one_line
from fusionlib.utils.files import read_text
from fusionlib.visualization.table_export import MARKS, cell_texts, decimals_of, difference_text
from fusionlib.visualization.tables import FIELDS, higher_is_better

LONGEST = 1 << 24  # bytes of a file
_MEND = "run its notebook again"
#: What Markdown, or GitHub's, takes for markup. Some things are none: [0.57, 0.63], p < .001, Q_AB/F.
_SPECIAL = re.compile(r"[\\`*|~$]|\](?=[(\[:])|(?<!\w)_|_(?!\w)|<(?=[\w/!?])|&(?=#?\w+;)")
_ENTITIES = {"<": "&lt;", "&": "&amp;", "$": "&#36;", "~": "&#126;"}  # a backslash before them is shown by some


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a table that `save_table` has written: the numbers of path.csv under the caption of path.html.

    Returns:
        A table (see `tables`), without its convention. Of a file of an earlier version, whose differences have no
        intervals, these are NaN.

    Raises:
        FusionError: a file is missing or damaged.
    """
    path = Path(path)
    numbers, page = (path.with_name(path.name + suffix) for suffix in (".csv", ".html"))
    text = read_text(numbers, "a table", _MEND, LONGEST)
    try:
        table = _parse(list(csv.reader(io.StringIO(text, newline=""), strict=True)))
    except (ValueError, csv.Error) as error:
        raise FusionError(f"{numbers}: expected a table of the suite, found another ({first_line(error)}); "
                          f"{_MEND}") from None
    caption = BeautifulSoup(read_text(page, "the page of a table", _MEND, LONGEST), "html.parser").caption
    if caption is None:
        raise FusionError(f"{page}: expected the page of a table with its caption, found none; {_MEND}")
    said = " ".join(caption.get_text().split()).removesuffix(MARKS)
    reference = re.search(r"Below: difference to (.+?) on the same data", said)
    if reference and reference[1] not in table.index:
        raise FusionError(f"{numbers}: expected a table with the row that the others are compared with, as its page "
                          f"says, found none of this name; {_MEND}")
    table.attrs |= {"caption": said, "reference": reference[1] if reference else ""}
    return table


def _parse(rows):
    header, body = rows[0] if rows else [], rows[1:]
    if header[:1] + header[2:3] != ["method", "n"] or not body or {len(row) for row in body} != {len(header)}:
        raise ValueError("the columns are not method, a note, n and the fields of metrics, or there is no row")
    columns = [("", header[1]), ("", "n"), *map(_metric_and_field, header[3:])]
    methods, metrics = [row[0] for row in body], list(dict.fromkeys(metric for metric, _ in columns[2:]))
    if len(set(methods)) < len(methods) or len(set(columns)) < len(columns) or not metrics:
        raise ValueError("a method or a column is there twice, or there is no metric")
    cells = [[row[1], int(row[2]), *(float(cell or "nan") for cell in row[3:])] for row in body]
    read = pd.DataFrame(cells, methods, pd.MultiIndex.from_tuples(columns))
    wanted = columns[:2] + [(metric, field) for metric in metrics for field in FIELDS]
    table = read.reindex(columns=pd.MultiIndex.from_tuples(wanted, names=["metric", "value"])).rename_axis("method")
    table.attrs = {"convention": "", "higher_is_better": {metric: higher_is_better(metric) for metric in metrics}}
    return table


def _metric_and_field(column):
    for field in sorted(FIELDS, key=len, reverse=True):  # "difference low" before "low"
        if column.endswith(f" {field}"):
            return column.removesuffix(f" {field}"), field
    raise ValueError(f"the column {column!r} is no field of a metric")


def markdown_table(table: pd.DataFrame) -> str:
    """A table of `tables` in Markdown, below its caption: the best value bold, the second best in italics.

    Raises:
        FusionError: not a table of `tables`.
    """
    shown, classes = cell_texts(table)
    rows = [["method", *shown.columns]]
    for method in table.index:
        cells = zip(shown.loc[method], classes.loc[method])
        rows.append([method, *(_marked(text, mark) for text, mark in cells)])
    caption = escape(table.attrs["caption"]) + " Best in bold, second best in italics."
    return f"{caption}\n\n" + markdown_rows(rows, numbers=2)


def markdown_comparison(compared: pd.DataFrame, table: pd.DataFrame) -> str:
    """A comparison in Markdown: a row for each other method, a column for each metric.

    Args:
        compared: rows indexed by (method, metric) with the columns of `metrics.statistics.compare_to_reference`.
        table: that it is about, whose decimals it gets.
    """
    higher = table.attrs["higher_is_better"]
    metrics = [metric for metric in higher if metric in compared.index.get_level_values(1)]
    decimals = {metric: decimals_of(table[metric, "mean"]) for metric in metrics}
    rows = [["against", *(f"{metric} {'↑' if higher[metric] else '↓'}" for metric in metrics)]]
    for method in compared.index.unique(0):
        there = compared.loc[method]
        rows.append([method, *(
            f"{there.loc[metric, 'verdict']}\n{difference_text(there.loc[metric], decimals[metric])}"
            if metric in there.index else "–" for metric in metrics)])
    return markdown_rows(rows, numbers=1)


class _Markup(str):
    """Text that is Markdown already."""


def _marked(text, mark):
    value, *more = str(text).split("\n")
    sign = "**" if "best" in mark else "_" if "second" in mark else ""
    return _Markup("<br>".join([f"{sign}{escape(value)}{sign}", *map(escape, more)]))


def markdown_rows(rows: Sequence[Sequence[str]], numbers: int | None = None) -> str:
    """Rows, the first of which is the header, as a table in Markdown; columns from `numbers` on are right-aligned."""
    def line(cells):
        return "| " + " | ".join(each if isinstance(each, _Markup) else _marked(each, "") for each in cells) + " |"

    count = len(rows[0])
    right = count if numbers is None else numbers
    rule = "|" + "|".join("---" if column < right else "--:" for column in range(count)) + "|"
    return "\n".join([line(rows[0]), rule, *map(line, rows[1:])])


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return _SPECIAL.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), one_line(text))
