"""Export of the tables of `tables`: coloured in a notebook, and written as csv, LaTeX and HTML."""

import contextlib
import html
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from fusionlib.utils.errors import CONTROLS, FusionError, encodable
from fusionlib.utils.files import write_atomically

FORMULA = ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠")  # beginnings of formulas
MARKS = " Best in red and bold, second best in blue and underlined."  # after a caption
BEST, SECOND = "#E03131", "#1C7ED6"  # red and blue as in the paper, legible on white and on black
CSS = [
    ("caption", "caption-side: top; text-align: left; padding-bottom: 0.6em"),
    ("th, td", "text-align: right; vertical-align: top; padding: 0.3em 0.8em"),
    ("td", "white-space: pre-line; font-variant-numeric: tabular-nums"),
    ("td.note", "min-width: 8em"),
    ("td.number", "white-space: pre; font-size: 85%"),
    ("td.number::first-line", "font-size: 118%"),
    ("th.row_heading, th.blank, th.index_name, th.col0, td.note", "text-align: left"),
    ("td.best::first-line", f"color: {BEST}; font-weight: bold"),
    ("td.second::first-line", f"color: {SECOND}; text-decoration: underline"),
]
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 0.9rem system-ui, sans-serif; }}
body {{ margin: 2em; overflow-x: auto; }}
table {{ border-collapse: collapse; border-block: 2px solid; }}
caption {{ max-width: 60em; }}
thead tr:last-child th {{ border-bottom: 1px solid; }}
</style>
</head>
<body>
{table}
</body>
</html>
"""
_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "[": "{[}", "]": "{]}", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "−": "$-$", "–": "--", "±": r"$\pm$", "×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$", "∞": r"$\infty$", "\n": " ",
})


def show_table(table: pd.DataFrame) -> Styler:
    """Format a table for display: best value red and bold, second blue and underlined, arrows for better directions.

    Each cell has the value, below it the interval, and the difference to the reference with p. A method without any
    number has no row: the caption names it. Ranks are those of the rounded values, so equal texts are marked equally.
    The HTML is deterministic, and all text in it is escaped.

    Raises:
        FusionError: not a table of `tables`.
    """
    shown, classes = _with_numbers(*cell_texts(table))
    styler = _Table(shown, uuid=f"{zlib.crc32(table.attrs['caption'].encode()):08x}", cell_ids=False)
    styler.set_caption(html.escape(_caption(table))).set_table_styles(
        [{"selector": selector, "props": props} for selector, props in CSS])
    styler.format(escape="html").format_index(escape="html").format_index(escape="html", axis=1)
    return styler.set_td_classes(classes).hide(names=True)


def save_table(table: pd.DataFrame, path: str | Path) -> list[Path]:
    """Write a table as csv, LaTeX and HTML.

    Returns:
        The files: path.csv (all numbers, unrounded), path.tex (a table environment that needs the packages booktabs and
        xcolor, labelled tab:<name>) and path.html (a page, light or dark as the reader's system is).

    Raises:
        FusionError: not a table of `tables`, or a path that ends in one of these suffixes.
    """
    path = Path(path)
    if path.suffix in (".csv", ".tex", ".html"):
        raise FusionError(f"{path}: a table is written as csv, tex and html; give the path without {path.suffix}.")
    styler = show_table(table)
    flat = table.set_axis([" ".join(filter(None, column)) for column in table.columns], axis=1)
    page = _PAGE.format(title=html.escape(path.name), table=styler.to_html())
    contents = {".csv": csv_text(flat), ".tex": _latex_table(table, path.name), ".html": page}
    paths = [path.with_name(path.name + suffix) for suffix in contents]
    for file, text in zip(paths, contents.values()):
        write_atomically(file, encodable(text).encode())
    return paths


def csv_text(table: pd.DataFrame, **options) -> str:
    """A table as csv, with an apostrophe before texts that a spreadsheet would run as formulas, such as =cmd.

    `options` are those of `pandas.DataFrame.to_csv`.
    """
    safe = table.map(no_formula).rename(index=no_formula, columns=no_formula)
    return safe.to_csv(lineterminator="\n", **options)


def no_formula(value):
    """A cell of a csv as `csv_text` writes it: texts that a spreadsheet would run as formulas get an apostrophe."""
    if not isinstance(value, str):
        return value
    text = encodable(value.translate(CONTROLS))
    with contextlib.suppress(ValueError):
        float(text)  # a number such as -1, which is no formula
        return text
    return f"'{text}" if text.startswith(FORMULA) else text


class _Table(Styler):
    def __repr__(self):  # without the address of the object, so that nbval finds the same text in each run
        return f"{html.unescape(self.caption)}\n{self.data.replace(chr(10), ' ', regex=True).to_string()}"


def cell_texts(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table as text, the lines of a cell separated by newlines, and the classes of its cells, as "number best".

    Raises:
        FusionError: not a table of `tables`.
    """
    if not {"caption", "higher_is_better"} <= set(table.attrs) or table.columns.nlevels != 2:
        raise FusionError("This is no table of the suite (two levels of columns, a caption in attrs): make it with "
                          "fusion_table, detection_table or build, and change neither columns nor attrs.")
    (note, _), shown, classes = table[""].columns, {}, {}
    shown[note], classes[note] = table["", note], pd.Series("note", table.index)
    shown["n"], classes["n"] = table["", "n"].astype(str).replace("0", "–"), pd.Series("", table.index)
    for metric, higher in table.attrs["higher_is_better"].items():
        head, values = f"{metric} {'↑' if higher else '↓'}", table[metric]
        decimals = decimals_of(values["mean"])
        shown[head] = values.apply(_cell, axis=1, decimals=decimals)
        ranks = values["mean"].round(decimals).rank(method="dense", ascending=not higher)
        marks = {1: "number best", 2: "number second"} if ranks.count() > 1 else {}
        classes[head] = ranks.map(marks).fillna("number")
    return pd.DataFrame(shown, dtype=object).rename_axis(columns="method"), pd.DataFrame(classes, dtype=object)


def decimals_of(means: pd.Series) -> int:
    """Decimals of a column by its largest value, as in 0.523, 1.412, 12.34, 581.2, 1934 and 0.0123."""
    largest = means[np.isfinite(means)].abs().max()
    power = int(np.floor(np.log10(largest))) if largest > 0 else 0
    return min(2 - power, 6) if power < -1 else max(3 - max(power, 0), 0)


def _cell(row, decimals):
    if np.isnan(row["mean"]):
        return "–"
    lines = [_number(row["mean"], decimals)]
    if not np.isnan(row[["low", "high"]]).any():
        lines.append(f"[{_number(row['low'], decimals)}, {_number(row['high'], decimals)}]")
    if not np.isnan(row["difference"]):
        lines.append(_signed(row["difference"], decimals) + _p(row["p"]))
    return "\n".join(lines)


def difference_text(row: Mapping[str, float], decimals: int) -> str:
    """A "difference" with its interval "low" to "high" and "p_holm" in words: +0.020 [+0.004, +0.031], p = .031."""
    text = _signed(row["difference"], decimals)
    if not np.isnan([row["low"], row["high"]]).any():
        text += f" [{_signed(row['low'], decimals)}, {_signed(row['high'], decimals)}]"
    return text + _p(row["p_holm"])


def _signed(value, decimals):
    return ("+" if round(value, decimals) > 0 else "") + _number(value, decimals)


def _number(value, decimals):
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if not float(text) else text.replace("-", "−").replace("inf", "∞")


def _p(p):
    if np.isnan(p):
        return ""
    return ", p < .001" if p < 0.001 else f", p = {p:.3f}".replace("0.", ".", 1).replace("1.000", "1")


def _latex_table(table, name):
    shown, classes = _with_numbers(*cell_texts(table))
    heads = ["method", *shown.columns]
    rows = [[str(method).translate(_LATEX), *map(_latex_cell, shown.loc[method], classes.loc[method])]
            for method in shown.index]
    label = re.sub(r"[^A-Za-z0-9.:-]+", "-", name)
    return "\n".join([
        r"% needs \usepackage{booktabs} and \usepackage{xcolor}",
        r"\begin{table}[t]",
        r"\centering\footnotesize\setlength{\tabcolsep}{4pt}\setlength{\belowcaptionskip}{6pt}",
        rf"\caption{{{_caption(table).translate(_LATEX)}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{@{{}}ll{'r' * (len(heads) - 2)}@{{}}}}",
        r"\toprule", " & ".join(head.translate(_LATEX) for head in heads) + r" \\", r"\midrule",
        " \\\\\\addlinespace\n".join(" & ".join(row) for row in rows) + r" \\",
        r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
    ])


def _with_numbers(shown, classes):
    """The rows of methods that were measured, of what `cell_texts` returns."""
    measured = (shown.iloc[:, 1:] != "–").any(axis=1)
    return shown[measured], classes[measured]


def _caption(table):
    return table.attrs["caption"] + MARKS


def _latex_cell(text, mark):
    if mark == "note":
        return rf"\parbox[t]{{0.14\linewidth}}{{\raggedright {text.translate(_LATEX)}\strut}}" if text else ""
    value, *more = (line.translate(_LATEX) for line in text.split("\n"))
    if "best" in mark:
        value = rf"\textcolor[HTML]{{{BEST[1:]}}}{{\textbf{{{value}}}}}"
    elif "second" in mark:
        value = rf"\textcolor[HTML]{{{SECOND[1:]}}}{{\underline{{{value}}}}}"
    lines = r" \\ ".join([value, *(rf"{{\scriptsize {line}}}" for line in more)])
    return rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{lines}\end{{tabular}}" if more else value
