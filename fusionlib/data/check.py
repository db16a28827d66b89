"""`python -m fusionlib data check DIR`: decode every image of the data sets in a folder and report the problems."""

import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from fusionlib.data import splits
from fusionlib.data.image_io import is_coloured, read_image, require_levels
from fusionlib.data.infrared import Reading, of_pair, span_remark, to_plane
from fusionlib.data.layouts import Report, survey
from fusionlib.data.pairs import Pair
from fusionlib.data.problems import Problem
from fusionlib.utils.errors import MAX_PRINTED, FusionError, one_line
from fusionlib.utils.files import write_json


def check(root=None, names=None, progress: bool = True, **places) -> Report:
    """Read the data sets at or below `root`, all or those called `names`, and decode every image of every pair.

    `places` are ir, visible and labels, as for `layouts.read`. Returns its report as `examine` completes it, with a
    note on pairs that the split rule leaves out; it may have no usable pair. Raises FusionError where `root` is no
    folder or a data set is missing.
    """
    report = examine(survey(root, names, **places), progress)
    report.notes += splits.unused(report.pairs, splits.choose(report.pairs))
    return report


def examine(report: Report, progress: bool = True) -> Report:
    """Decode every image of a report: adds formats and remarks, and removes the pairs that do not decode.

    A few images of a data set that seem to be black-hot are none: a camera shows all of them so.
    """
    pairs, report.pairs, suspected = report.pairs, [], Counter()
    pool = ThreadPoolExecutor()  # OpenCV releases the GIL while it decodes
    try:
        examined = pool.map(_examine, pairs)
        for pair, problems, formats, remarks in tqdm(examined, "decoding", len(pairs), disable=not progress):
            report.problems += problems
            report.formats |= formats
            report.remarks += remarks
            if not problems:
                report.pairs.append(pair)
                suspected[pair.dataset] += any(remark.kind == "polarity" for remark in remarks)
    finally:
        pool.shutdown(cancel_futures=True)  # after an interrupt, the rest is not decoded
    count = Counter(pair.dataset for pair in report.pairs)
    few = {pair.ir for pair in report.pairs if 3 * suspected[pair.dataset] <= count[pair.dataset]}
    report.remarks = [r for r in report.remarks if not (r.kind == "polarity" and r.path in few)]
    return report


def _examine(pair: Pair):
    problems, formats, images = [], {}, {}
    for path in (pair.ir, pair.visible):
        try:
            images[path] = image = read_image(path)
            if path == pair.ir:
                plane, remarks = to_plane(image, path, Reading(common=pair.ir_range))
            else:
                require_levels(image, path)
        except FusionError as error:
            problems.append(Problem.unreadable(path, error))
        else:
            formats[path] = (image.shape[:2], 8 * image.dtype.itemsize, "colour" if is_coloured(image) else "gray")
    if problems:
        return pair, problems, formats, []
    visible = images[pair.visible]
    found = [Problem(pair.ir, *remark) for remark in of_pair(plane, remarks, lambda: visible)]
    if visible.dtype == np.uint16 and (sentence := span_remark((visible.min() / 65535, visible.max() / 65535))):
        found.append(Problem(pair.visible, "range", sentence))
    return pair, problems, formats, found


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
    """The report of `check` as plain text: the table, the split chosen by the rules, and `sentences`."""
    counts = f"usable pairs: {len(report.pairs)}, problems: {len(report.problems)}, remarks: {len(report.remarks)}"
    lines = [f"{report.root}: {counts}", ""]
    if report.pairs:
        lines += [table(report).to_string(index=False), ""]
        lines += [f"split rule: {line}" for line in splits.summary(splits.choose(report.pairs))]
        if scenes := Counter(dataset for dataset, scene in {(p.dataset, p.scene) for p in report.pairs} if scene):
            lines.append(f"scenes: {', '.join(f'{count} of {dataset}' for dataset, count in sorted(scenes.items()))}")
        lines.append("")
    return "\n".join(lines + sentences(report))


def sentences(report: Report) -> list[str]:
    """What a report says: its notes, then problems and remarks by kind, of the first 20 files of each."""
    lines = [f"note: {note}" for note in report.notes]
    for found in (report.problems, report.remarks):
        for kind, group in groupby(sorted(found, key=lambda p: p.kind), key=lambda p: p.kind):
            problems = list(group)
            lines += ["", f"{kind}: {len(problems)}"]
            shown = _shown(problems)
            lines += [f"  {_short(problem, report)}" for problem in shown]
            if len(problems) > len(shown):
                lines.append(f"  ... and {len(problems) - len(shown)} more")
    return lines


def _shown(problems):
    """Those of the first 20 files; of a file with many some and the last, which says whether it is used at all."""
    files = {}
    for problem in problems:
        files.setdefault(problem.path, []).append(problem)
    most = max(2, MAX_PRINTED // len(files)) - 1
    return [problem for of in list(files.values())[:MAX_PRINTED] for problem in (*of[:most], *of[most:][-1:])]


def _short(item, report):
    """A path or problem as text, relative to the root of the report; as it is where that is a disk's or none."""
    return one_line(str(item).replace(os.path.join(report.root, ""), "") if report.root.name else str(item))


def run_check(root=None, json_out=None, **places) -> int:
    """Print the report of `check` and write it to `json_out` if given.

    Returns the exit code: 0, 3 where it has problems, or 1 where no pair is usable.
    """
    try:
        report = check(root, **places)
        print(describe(report))
        if json_out:
            problems, remarks = ([{"file": str(p.path), "kind": p.kind, "message": p.message} for p in found]
                                 for found in (report.problems, report.remarks))
            rows = table(report).to_dict("records")
            write_json(json_out, {"table": rows, "notes": report.notes, "problems": problems, "remarks": remarks})
        report.require_pairs()
    except FusionError as error:
        print(one_line(str(error)), file=sys.stderr)
        return 1
    return 3 if report.problems else 0
