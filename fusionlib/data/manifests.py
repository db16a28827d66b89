"""Manifests of a split: the chosen pairs with their boxes and scenes, and a checksum of every file."""

import hashlib
import json
import os
from pathlib import Path

import fastjsonschema
import numpy as np

from fusionlib.data.image_io import decode_image
from fusionlib.data.pairs import Pair
from fusionlib.data.problems import Problem
from fusionlib.data.splits import SPLITS, load_rules
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import absolute, below, load_json, read_bytes, write_json
from fusionlib.utils.terminal import command_line

_TEXTS = ("dataset", "split", "name", "ir", "visible", "ir_sha256", "visible_sha256")
_NUMBER = {"type": "number", "minimum": -1e9, "maximum": 1e9}
_BOX = {"type": "array", "items": _NUMBER, "minItems": 4, "maxItems": 4}
_ENTRY = {"type": "object", "required": [*_TEXTS, "boxes"], "properties": {
    **{key: {"type": "string"} for key in (*_TEXTS, "scene")}, "boxes": {"type": ["array", "null"], "items": _BOX},
    "classes": {"type": ["array", "null"], "items": {"type": "string"}},
    "ir_range": {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}}}  # fmt: skip
_check = fastjsonschema.compile({"type": "object", "required": [*SPLITS, "fingerprint"], "properties": {
    split: {"type": "array", "items": _ENTRY} for split in SPLITS}})  # fmt: skip


def write_manifest(path, split: dict[str, list[Pair]], root, rules: dict | None = None) -> list[Problem]:
    """Write the chosen pairs as json: paths relative to `root`, SHA-256 of each file, size, boxes and the rule.

    Every image is decoded. A pair with an unreadable file is left out, listed in the manifest and returned as a
    problem. Raises FusionError where a file lies outside `root` or no pair is left.
    """
    root, problems = Path(root), []
    entries = {name: [entry for pair in split[name] if (entry := _entry(pair, root, problems))] for name in SPLITS}
    if not any(entries.values()):
        first = f", the first problem is {problems[0]}" if problems else ""
        command = command_line("data", "check", root)
        raise FusionError(f"{root}: no pair is left to write to {path}{first}; run `{command}`")
    left_out = [f"{_relative(problem.path, root)}: {problem.message}" for problem in problems]
    header = {"fingerprint": _fingerprint(entries), "rules": rules or load_rules(), "left_out": left_out}
    write_json(path, header | entries)
    return problems


def read_manifest(path, root, verify: bool = False) -> dict[str, list[Pair]]:
    """Read the pairs of a manifest, whose files lie below `root`.

    Raises FusionError where the manifest is missing, edited or damaged, where a name leads out of the root or a file is
    missing, and with `verify`, which reads every file, where the SHA-256 of a file differs.
    """
    content = _load_manifest(path)
    return {split: [_pair(entry, path, Path(root), verify) for entry in content[split]] for split in SPLITS}


def _pair(entry, manifest, root, verify):
    """The pair of a manifest entry, whose values and files are checked."""
    boxes, classes = entry["boxes"], entry.get("classes") or ()
    boxes = None if boxes is None else np.array(boxes, np.float32).reshape(-1, 4)
    finite = np.isfinite(entry.get("ir_range", 0)).all() and (boxes is None or np.isfinite(boxes).all())
    if not finite or (boxes is not None and len(boxes) != len(classes)):
        raise FusionError(f"{manifest}: expected finite numbers and one class for each box, found others for "
                          f"{entry['name']}; write it again")
    try:
        files = [below(root, entry[side]) for side in ("ir", "visible")]
        pair = Pair(*(entry[key] for key in ("dataset", "split", "name")), *files, boxes,
                    None if boxes is None else tuple(classes), entry.get("scene", ""),
                    tuple(entry["ir_range"]) if "ir_range" in entry else None)
        below(root, pair.label)  # a run has folders and files of this name
    except FusionError as error:
        raise FusionError(f"{manifest}: {error}") from None
    for side in ("ir", "visible"):
        file, digest = getattr(pair, side), entry[f"{side}_sha256"]
        if not os.path.isfile(file):
            raise FusionError(f"{file}: named in {manifest} but missing; restore it or write the manifest again")
        if verify and _sha256(read_bytes(file)) != digest:
            raise FusionError(f"{file}: expected SHA-256 {digest[:12]}... as in {manifest}, found another; restore the "
                              "file or write the manifest again")
    return pair


def fingerprint(path) -> str:
    """The fingerprint of a manifest: SHA-256 over all entries, that is over files, boxes and their order."""
    return _load_manifest(path)["fingerprint"]


def _entry(pair, root, problems):
    """The manifest entry of a pair; None, with a problem added, where one of its files cannot be read."""
    hashes = {}
    for side in ("ir", "visible"):
        file = getattr(pair, side)
        try:
            data = read_bytes(file)
            height, width = decode_image(data, file).shape[:2]
        except FusionError as error:
            problems.append(Problem.unreadable(file, error))
            return None
        hashes[f"{side}_sha256"] = _sha256(data)
    return {
        "dataset": pair.dataset, "split": pair.split, "name": pair.name,
        "ir": _relative(pair.ir, root), "visible": _relative(pair.visible, root), **hashes, "size": [height, width],
        "boxes": None if pair.boxes is None else pair.boxes.tolist(),
        "classes": None if pair.classes is None else list(pair.classes), "scene": pair.scene,
    } | ({"ir_range": list(pair.ir_range)} if pair.ir_range else {})


def _relative(file, root):
    """The path below a root, in which links, to whatever place, are folders and files like others."""
    try:
        return absolute(file).relative_to(absolute(root)).as_posix()
    except ValueError:
        raise FusionError(f"{file}: expected a file below {root}, so that the manifest is valid elsewhere too; move it "
                          "there") from None


def _fingerprint(entries):
    return _sha256(json.dumps({split: entries[split] for split in SPLITS}, sort_keys=True).encode())


def _load_manifest(path):
    content = load_json(path, "a split manifest", "write one with fusionlib.data.write_manifest", _check)
    if content["fingerprint"] != _fingerprint(content) or not any(content[split] for split in SPLITS):
        raise FusionError(f"{path}: expected a split manifest whose entries match its fingerprint, found an edited or "
                          "incomplete one; write it again")
    return content


def _sha256(data):
    return hashlib.sha256(data).hexdigest()
