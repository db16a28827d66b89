"""`python -m fusionlib data check DIR`: decode every image of the data sets in a folder and report the problems."""

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
from fusionlib.utils.errors import MAX_PRINTED, FusionError
from fusionlib.utils.files import write_json


def check(root, names=None, progress: bool = True) -> Report:
    """Read the data sets at or below `root`, all or those called `names`, and decode every image of every pair.

    Returns the report of `fusionlib.data.layouts.read` with the formats of the images and without the pairs that do
    not decode; it may have no usable pair. Raises FusionError where `root` is no folder or a data set is missing.
    """
    report = survey(root, names)
    pairs, report.pairs = report.pairs, []
    with ThreadPoolExecutor() as pool:  # OpenCV releases the GIL while it decodes
        for pair, problems, formats in tqdm(pool.map(_decode, pairs), "decoding", len(pairs), disable=not progress):
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
            problems.append(Problem.unreadable(path, error))
        else:
            formats[path] = (image.shape[:2], 8 * image.dtype.itemsize, "colour" if is_coloured(image) else "gray")
    return pair, problems, formats


def table(report: Report) -> pd.DataFrame:
    """One row per data set and split: pairs, labelled pairs, boxes per class, and the formats of the images."""
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
            "infrared": _formats(report.formats[pair.ir] for pair in pairs),
            "visible": _formats(report.formats[pair.visible] for pair in pairs),
        })
    return pd.DataFrame(rows)


def _formats(formats):
    kinds = Counter(f"{bits} bit {colour}" for _, bits, colour in formats)
    return ", ".join(f"{kind} ({count})" if len(kinds) > 1 else kind for kind, count in kinds.most_common())


def describe(report: Report) -> str:
    """The report of `check` as plain text: the table, the split chosen by the rules, notes, and problems by kind."""
    lines = [f"{report.root}: usable pairs: {len(report.pairs)}, problems: {len(report.problems)}", ""]
    if report.pairs:
        lines += [table(report).to_string(index=False), ""]
        lines += [f"split rule: {line}" for line in splits.summary(splits.choose(report.pairs))]
        if scenes := Counter(dataset for dataset, scene in {(p.dataset, p.scene) for p in report.pairs} if scene):
            lines.append(f"scenes: {', '.join(f'{count} of {dataset}' for dataset, count in sorted(scenes.items()))}")
        lines.append("")
    coloured = [pair.ir for pair in report.pairs if report.formats[pair.ir][2] == "colour"]
    if coloured:
        lines.append(f"note: {len(coloured)} infrared images are in colour and reduced to their luma, the first is "
                     f"{_short(coloured[0], report)}; false colours are not temperatures, so prefer gray originals")
    lines += [f"note: {note}" for note in report.notes]
    for kind, group in groupby(sorted(report.problems, key=lambda p: p.kind), key=lambda p: p.kind):
        problems = list(group)
        lines += ["", f"{kind}: {len(problems)}"]
        lines += [f"  {_short(problem, report)}" for problem in problems[:MAX_PRINTED]]
        if len(problems) > MAX_PRINTED:
            lines.append(f"  ... and {len(problems) - MAX_PRINTED} more")
    return "\n".join(lines)


def _short(item, report):
    """A path or problem as text, relative to the root of the report."""
    return str(item) if report.root == Path(".") else str(item).replace(os.path.join(report.root, ""), "")


def run_check(root, json_out=None) -> int:
    """Print the report on `root` and write it to `json_out` if given; exit code 0, or 1 where no pair is usable."""
    try:
        report = check(root)
        print(describe(report))
        if json_out:
            problems = [{"file": str(p.path), "kind": p.kind, "message": p.message} for p in report.problems]
            rows = table(report).to_dict("records")
            write_json(json_out, {"table": rows, "notes": report.notes, "problems": problems})
        report.require_pairs()
    except FusionError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
