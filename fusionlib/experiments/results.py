"""Fused images and metrics of the compared methods, stored per image, and a table of them in words.

A method's folder has fused/<pair>.png, and results/<pair>.json with the fingerprint of the image's sources, the seconds
that its fusion took, and its metrics.
"""

import functools
import time
from collections.abc import Sequence
from pathlib import Path

import fastjsonschema
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from fusionlib import metrics
from fusionlib.data.image_io import write_image
from fusionlib.data.matching import load_fused
from fusionlib.data.pairs import Pair, load
from fusionlib.experiments.methods import OURS, Method
from fusionlib.feedback.store import Answer, answer_key
from fusionlib.metrics import conventions
from fusionlib.metrics.evaluation import known_scenes
from fusionlib.metrics.statistics import LEVEL, summarise_comparison, verdict
from fusionlib.utils.allocator import hand_back_freed_memory
from fusionlib.utils.code import code_of
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import file_fingerprint, fingerprint, read_json, write_json

_VALUES = {"type": "object", "additionalProperties": {"type": "number"}}
_MEASURED = {"type": "object", "required": ["values"], "properties": {"values": _VALUES}}
_check = fastjsonschema.compile({"type": "object", "required": ["sources", "seconds", "metrics"], "properties": {
    "seconds": {"type": "number"}, "metrics": {"type": "object", "additionalProperties": _MEASURED}}})  # fmt: skip


def fuse_method(method: Method, pairs: Sequence[Pair]) -> dict[str, str]:
    """Fuse the pairs that have no image yet, or one of other sources, as method.folder/fused/<label>.png.

    Returns {label of a pair: why it could not be fused}, such as too little memory; the next call tries again.
    """
    fuse, problems = None, {}
    for pair, source, answer in tqdm(_inputs(method, pairs), desc=f"fusing by {method.name}", leave=False):
        image, path, record = _files(method, pair, source)
        if record:
            continue
        fuse = fuse or method.make()
        try:
            ir, visible = load(pair)
            text = answer.features if answer else None
            start = time.perf_counter()
            fused = fuse(ir, visible, text)
            seconds = time.perf_counter() - start
        except FusionError as error:
            image.unlink(missing_ok=True)  # of other sources
            problems[pair.label] = str(error)
            continue
        write_image(image, fused)
        write_json(path, {"sources": source, "seconds": seconds, "metrics": {}})
    if fuse:
        hand_back_freed_memory()  # some methods need gigabytes, and the next one needs its own
    return problems


def measure_method(method: Method, pairs: Sequence[Pair], convention: str = "vifb",
                   names: Sequence[str] = conventions.PAPER) -> pd.DataFrame | None:
    """Measure the images of `fuse_method`, once for each metric, convention and state of the metrics' code.

    Pairs without an image of their current sources are left out; `convention` and `names` are as for
    `metrics.evaluate`.

    Returns:
        As `evaluation.evaluate_pairs`, with the median time to fuse one of these images as `attrs["seconds"]`; None
        without any image.
    """
    names, code = list(dict.fromkeys(names)), code_of(metrics.evaluate, load_fused)
    conventions.check(names, convention)
    rows, index, seconds, measured = [], [], [], []
    for pair, source, _ in tqdm(_inputs(method, pairs), desc=f"measuring {method.name}", leave=False):
        image, path, record = _files(method, pair, source)
        if record is None:
            continue
        stored = record["metrics"].get(convention, {})
        values = stored["values"] if stored.get("code") == code else {}
        if missing := [name for name in names if name not in values]:
            images = (tensor[None] for tensor in (load_fused(image, pair), *load(pair)))
            values |= {name: value.item() for name, value in metrics.evaluate(*images, missing, convention).items()}
            record["metrics"][convention] = {"code": code, "values": values}
            write_json(path, record)
        rows.append([values[name] for name in names])
        index.append((pair.dataset, pair.name))
        measured.append(pair)
        seconds.append(record["seconds"])
    if not rows:
        return None
    frame = pd.DataFrame(rows, pd.MultiIndex.from_tuples(index, names=["dataset", "name"]), names)
    frame.attrs.update(convention=convention, seconds=float(np.median(seconds)), **known_scenes(measured))
    return frame


def reading(table: pd.DataFrame, method: str = OURS) -> str:
    """Summarise a table of `tables` in words, for the method that is its reference.

    It says in which metrics the method is first and second among the methods with numbers, and for each other method in
    how many metrics it is better or worse, or the comparison inconclusive.
    """
    counts, directions = table["", "n"], table.attrs["higher_is_better"]
    if not counts[method]:
        return f"{method} has no numbers here."
    ranks = {name: table[name, "mean"].rank(ascending=not up, method="min")[method] for name, up in directions.items()}
    places = []
    for place, word in ((1, "first"), (2, "second")):
        at = [name for name, rank in ranks.items() if rank == place]
        places.append(f"{word} in {len(at)}" + (f" ({', '.join(at)})" if at else ""))
    ranked = f"{method} is {' and '.join(places)} of {len(ranks)} metrics among {sum(counts > 0)} methods with numbers."
    compared = int(table.xs("p", axis=1, level=1).notna().sum(axis=None))
    units = int(min(counts[method], table.attrs.get("units", counts[method])))
    least = compared * 2 / 2**units  # all signs alike, corrected by Holm
    if least >= LEVEL:
        few = f"{counts[method]} images" + f" of {units} scenes" * bool(units < counts[method])
        return (f"{ranked} {few} are too few for a verdict: even if they all agreed, the corrected p of a sign-flip "
                f"test would be {min(1, least):.2g}.")
    verdicts = {  # on the method: a difference is the other one minus it
        (f"Against {other}", name): verdict({"difference": difference, "p_holm": p}, not up)
        for other in table.index[(counts > 0) & (table.index != method)] for name, up in directions.items()
        for difference, p in [table.loc[other, name][["difference", "p"]]]
    }
    return "\n".join([ranked, *summarise_comparison(pd.DataFrame.from_dict({"verdict": verdicts}))])


def _inputs(method: Method, pairs: Sequence[Pair]) -> list[tuple[Pair, str, Answer | None]]:
    """Pairs, each with the fingerprint of its image's sources and the answer about it; none if nothing is fused."""
    if method.make is None:
        return []
    answers = method.answers(pairs) if method.answers else [None] * len(pairs)
    return [(pair, fingerprint([*map(_digest, (pair.ir, pair.visible)), answer and answer_key(vars(answer))]), answer)
            for pair, answer in zip(pairs, answers)]


def _digest(path: Path) -> str:
    return _digest_of(path, path.stat().st_size, path.stat().st_mtime_ns)


# Every method reads every image, so digests are cached as long as size and time of a file stay the same.
_digest_of = functools.cache(lambda path, size, modified: file_fingerprint(path))


def read_record(folder: Path, label: str) -> dict | None:
    """The record of an image in a method's folder: "sources", "seconds", "metrics"; None if missing or damaged."""
    return read_json(_record(folder, label), _check)


def _record(folder, label):
    return folder / "results" / f"{label}.json"


def _files(method: Method, pair: Pair, source: str) -> tuple[Path, Path, dict | None]:
    """The files of an image and of its record, and the record; None where the image is missing or of other sources."""
    image, path = method.image_path(pair), _record(method.folder, pair.label)
    record = read_record(method.folder, pair.label) if image.exists() else None
    return image, path, record if record and record["sources"] == source else None
