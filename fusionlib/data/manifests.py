"""Manifests of a split: the chosen pairs with their boxes and scenes, and a checksum of every file."""

import hashlib
import json
from pathlib import Path

import numpy as np

from fusionlib.data.image_io import decode_image
from fusionlib.data.layouts import SPLITS
from fusionlib.data.pairs import Pair, Problem
from fusionlib.data.splits import load_json, load_rules
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import read_bytes, write_json


def write_manifest(path, split: dict[str, list[Pair]], root, rules: dict | None = None) -> list[Problem]:
    """Write the chosen pairs as json: paths relative to `root`, SHA-256 of each file, size, boxes and the rule.

    Every image is decoded. A pair with an unreadable file is left out, listed in the manifest and returned as a
    problem. Raises FusionError where a file lies outside `root` or no pair is left.
    """
    root, problems = Path(root), []
    entries = {name: [entry for pair in split[name] if (entry := _entry(pair, root, problems))] for name in SPLITS}
    if not any(entries.values()):
        first = f", the first problem is {problems[0]}" if problems else ""
        raise FusionError(f"{root}: no pair is left to write to {path}{first}; run `python -m fusionlib data check`")
    left_out = [f"{_relative(problem.path, root)}: {problem.message}" for problem in problems]
    header = {"fingerprint": _fingerprint(entries), "rules": rules or load_rules(), "left_out": left_out}
    write_json(path, header | entries)
    return problems


def read_manifest(path, root, verify: bool = False) -> dict[str, list[Pair]]:
    """Read the pairs of a manifest, whose files lie below `root`.

    Raises FusionError where the manifest is missing or edited, where a file is missing, and with `verify`, which reads
    every file, where the SHA-256 of a file differs.
    """
    content = _load_manifest(path)
    return {split: [_pair(entry, path, Path(root), verify) for entry in content[split]] for split in SPLITS}


def _pair(entry, manifest, root, verify):
    """The pair of a manifest entry, whose files are checked."""
    for side in ("ir", "visible"):
        file, digest = root / entry[side], entry[f"{side}_sha256"]
        if not file.is_file():
            raise FusionError(f"{file}: named in {manifest} but missing; restore it or write the manifest again")
        if verify and _sha256(read_bytes(file)) != digest:
            raise FusionError(f"{file}: expected SHA-256 {digest[:12]}... as in {manifest}, found another; restore the "
                              "file or write the manifest again")
    boxes = None if entry["boxes"] is None else np.array(entry["boxes"], np.float32).reshape(-1, 4)
    classes = None if entry["boxes"] is None else tuple(entry["classes"])
    files = root / entry["ir"], root / entry["visible"]
    return Pair(entry["dataset"], entry["split"], entry["name"], *files, boxes, classes, entry.get("scene", ""))


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
    }


def _relative(file, root):
    try:
        return file.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        raise FusionError(f"{file}: expected a file below {root}, so that the manifest is valid elsewhere too; move it "
                          "there") from None


def _fingerprint(entries):
    return _sha256(json.dumps({split: entries[split] for split in SPLITS}, sort_keys=True).encode())


def _load_manifest(path):
    content = load_json(path, "a split manifest; write one with fusionlib.data.write_manifest")
    if not all(split in content for split in SPLITS) or content.get("fingerprint") != _fingerprint(content):
        raise FusionError(f"{path}: expected a split manifest whose entries match its fingerprint, found an edited or "
                          "incomplete one; write it again")
    return content


def _sha256(data):
    return hashlib.sha256(data).hexdigest()
