"""`python -m fusionlib data check DIR`: decode every picture of the data sets below a folder and say what is wrong."""

import json
import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from fusionlib.data import splits
from fusionlib.data.image_io import is_coloured, read_image
from fusionlib.data.layouts import Report, survey
from fusionlib.data.pairs import Pair, Problem
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import write_atomically

LISTED = 20  # problems of one kind that are printed; the json report has all


def check(root, names=None, progress: bool = True) -> Report:
    """Read the data sets at or below `root` and decode every picture of every pair.

    Returns the report of `fusionlib.data.layouts.read`, less the pairs whose pictures do not decode, with the formats
    of all pictures; it may be without a usable pair. Raises FusionError where `root` is not a folder or one of `names`
    is not there.
    """
    report = survey(root, names)
    found = report.pairs
    report.pairs = []
    with ThreadPoolExecutor() as pool:  # OpenCV decodes outside of Python's lock
        for pair, problems, formats in tqdm(pool.map(_decode, found), "decoding", len(found), disable=not progress):
            report.problems += problems
            report.formats |= formats
            if not problems:
                report.pairs.append(pair)
    return report


def _decode(pair: Pair):
    problems, formats = [], {}
    for path in (pair.ir, pair.visible):
        try:
            image = read_image(path)
        except FusionError as error:
            problems.append(Problem(path, "unreadable", str(error).removeprefix(f"{path}: ")))
            continue
        formats[path] = (image.shape[:2], 8 * image.dtype.itemsize, "colour" if is_coloured(image) else "gray")
    return pair, problems, formats


def table(report: Report) -> pd.DataFrame:
    """One row per data set and part: pairs, labelled ones, boxes per class, and the formats of the pictures."""
    rows = []
    for (dataset, split), group in groupby(report.pairs, key=lambda pair: (pair.dataset, pair.split)):
        pairs = list(group)
        boxes = Counter(name for pair in pairs for name in pair.classes or ())
        sizes = sorted({report.formats[pair.ir][0] for pair in pairs}, key=lambda size: (size[0] * size[1], size))
        rows.append({
            "data set": dataset, "part": split or "-", "pairs": len(pairs),
            "labelled": sum(pair.boxes is not None for pair in pairs),
            "boxes": ", ".join(f"{count} {name}" for name, count in boxes.most_common()) or "-",
            "width x height": " to ".join(f"{w}x{h}" for h, w in (sizes[:1] + sizes[1:][-1:])),
            "infrared": _formats(report, [pair.ir for pair in pairs]),
            "visible": _formats(report, [pair.visible for pair in pairs]),
        })
    return pd.DataFrame(rows)


def _formats(report, paths):
    kinds = Counter(report.formats[path][1:] for path in paths)
    names = [(f"{bits} bit {colour}", count) for (bits, colour), count in kinds.most_common()]
    return ", ".join(name if len(names) == 1 else f"{name} ({count})" for name, count in names)


def describe(report: Report) -> str:
    """The report of `check` as plain text: the table, what the split rules take, notes, and the problems by kind."""
    lines = [f"{report.root}: usable pairs: {len(report.pairs)}, problems: {len(report.problems)}", ""]
    if report.pairs:
        lines += [table(report).to_string(index=False), ""]
        lines += [f"split rule: {line}" for line in splits.summary(splits.choose(report.pairs))] + [""]
    coloured = [pair.ir for pair in report.pairs if report.formats[pair.ir][2] == "colour"]
    if coloured:
        lines.append(f"note: infrared in colour, of which the luma is used: {len(coloured)}, the first being "
                     f"{_short(coloured[0], report)}; false colours are no temperatures, so prefer gray originals")
    lines += [f"note: {note}" for note in report.notes]
    for kind, group in groupby(sorted(report.problems, key=lambda p: p.kind), key=lambda p: p.kind):
        problems = list(group)
        lines += ["", f"{kind}: {len(problems)}"] + [f"  {_short(problem, report)}" for problem in problems[:LISTED]]
        if len(problems) > LISTED:
            lines.append(f"  ... and {len(problems) - LISTED} more")
    return "\n".join(lines)


def _short(item, report):
    return str(item) if report.root == Path(".") else str(item).replace(os.path.join(report.root, ""), "")


def run_check(root, json_out=None) -> int:
    """Print the report on `root`, write it to `json_out` as json if asked; 0, or 1 where no pair is usable."""
    try:
        report = check(root)
        print(describe(report))
        if json_out:
            problems = [{"file": str(p.path), "kind": p.kind, "message": p.message} for p in report.problems]
            content = {"table": table(report).to_dict("records"), "notes": report.notes, "problems": problems}
            write_atomically(json_out, json.dumps(content, indent=1).encode())
        report.require_pairs()
    except FusionError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
