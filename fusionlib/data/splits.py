"""Which pairs train and which test: committed rules, and manifests with the fingerprint of every file.

The paper takes 2,000 random pairs of LLVIP to train and 200 random pairs each of LLVIP, M3FD and MSRS to test (section
4.1). A rule ranks the pairs of a data set by the hash of their names and takes the first ones. It so fixes the list for
the official release exactly, without the data, and an incomplete copy loses none but the pairs that it lacks.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusionlib.config import Profile
from fusionlib.data.image_io import decode_image
from fusionlib.data.pairs import Pair, Problem
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import read_bytes, write_atomically

RULES = Path(__file__).resolve().parents[2] / "data" / "splits" / "rules.json"
PARTS = ("train", "test")


def load_rules(path=RULES) -> dict:
    """The rules: a seed and, per data set, how many train and test pairs to take (null: all).

    Raises FusionError where the file is missing or not json.
    """
    return _load_json(path, "the checkout's data/splits/rules.json; install with `pip install -e .` from the checkout")


def choose(pairs: list[Pair], rules: dict | None = None) -> dict[str, list[Pair]]:
    """Choose train and test pairs of each data set by its rule.

    Args:
        pairs: of any number of data sets; select by labels or names before, if need be.
        rules: as from `load_rules`, the committed ones by default.

    Returns:
        {"train": [...], "test": [...]}, by data set and within it in the order of the rule, so the first n are a random
        choice too. Train pairs come from the official train part, test pairs from the test part or from an official
        data set without parts; another data set without parts, such as a user's own folders, is divided. Where fewer
        are there than the rule asks for, all are taken; `summary` says so.
    """
    rules = rules or load_rules()
    chosen = {part: [] for part in PARTS}
    for dataset in sorted({pair.dataset for pair in pairs}):
        ranked = sorted((p for p in pairs if p.dataset == dataset), key=lambda p: _rank(rules["seed"], p))
        if dataset not in rules["datasets"] and not any(pair.split for pair in ranked):
            train = int(len(ranked) * rules["other"]["unsplit_train"])
            candidates = {"train": ranked[:train], "test": ranked[train:]}
        else:
            candidates = {part: [pair for pair in ranked if (pair.split or "test") == part] for part in PARTS}
        for part in PARTS:
            chosen[part] += candidates[part][: _asked(rules, dataset, part)]
    return chosen


def _rank(seed, pair):
    return hashlib.sha256(f"{seed}/{pair.dataset}/{pair.name}".encode()).hexdigest()


def _asked(rules, dataset, part):
    """How many pairs the rule of a data set asks for; None for all."""
    return rules["datasets"].get(dataset, rules["other"])[part]


def summary(split: dict[str, list[Pair]], rules: dict | None = None) -> list[str]:
    """One line per data set and part: how many pairs are chosen, how many labelled, how many the rule asks for."""
    rules, lines = rules or load_rules(), []
    for dataset in sorted({pair.dataset for pairs in split.values() for pair in pairs}):
        for part in PARTS:
            taken, asked = [pair for pair in split[part] if pair.dataset == dataset], _asked(rules, dataset, part)
            if not taken and not asked:
                continue
            labelled = sum(pair.boxes is not None for pair in taken)
            line = f"{dataset} {part}: {len(taken)} pairs, {labelled} of them labelled"
            if asked is not None and len(taken) < asked:
                line += f"; {asked} are asked for, no more are there"
            lines.append(line)
    return lines


def write_manifest(path, split: dict[str, list[Pair]], root, rules: dict | None = None) -> list[Problem]:
    """Write the chosen pairs as json: paths relative to `root`, SHA-256 of each file, size, boxes and the rule.

    Every picture is decoded on the way. A pair with an unreadable file is left out, named in the manifest and returned
    as a problem. Raises FusionError where a file lies outside of `root` or no pair is left.
    """
    entries, problems = {part: [] for part in PARTS}, []
    for part in PARTS:
        for pair in split[part]:
            try:
                entries[part].append(_entry(pair, Path(root)))
            except _Unreadable as error:
                problems.append(error.problem)
    if not any(entries.values()):
        first = f", the first problem being {problems[0]}" if problems else ""
        raise FusionError(f"{root}: no pair is left to write to {path}{first}; run `python -m fusionlib data check`")
    content = {
        "fingerprint": _fingerprint(entries),
        "rules": rules or load_rules(),
        "left_out": [f"{_relative(problem.path, Path(root))}: {problem.message}" for problem in problems],
        **entries,
    }
    write_atomically(path, json.dumps(content, indent=1).encode())
    return problems


def read_manifest(path, root, verify: bool = False) -> dict[str, list[Pair]]:
    """Read the pairs of a manifest, with the files below `root`.

    Raises FusionError where the manifest is missing or changed by hand, where a file is missing, and with `verify`,
    which reads every file, where a file is not the one that the manifest was made with.
    """
    content, split = _load_manifest(path), {}
    for part in PARTS:
        split[part] = [_pair(entry, Path(root)) for entry in content[part]]
        for pair, entry in zip(split[part], content[part]):
            for side in ("ir", "visible"):
                file = getattr(pair, side)
                if not file.is_file():
                    raise FusionError(f"{file}: named in {path} but missing; restore it or write the manifest anew")
                if verify and _sha256(read_bytes(file)) != entry[f"{side}_sha256"]:
                    raise FusionError(f"{file}: expected SHA-256 {entry[f'{side}_sha256'][:12]}... as in {path}, found "
                                      "another; restore the file or write the manifest anew")
    return split


def fingerprint(path) -> str:
    """The fingerprint of a manifest: SHA-256 over all its entries, so over files, boxes and their order."""
    return _load_manifest(path)["fingerprint"]


class _Unreadable(Exception):
    def __init__(self, problem):
        self.problem = problem


def _entry(pair, root):
    hashes, size = {}, None
    for side in ("ir", "visible"):
        file = getattr(pair, side)
        try:
            data = read_bytes(file)
            size = list(decode_image(data, file).shape[:2])
        except FusionError as error:
            raise _Unreadable(Problem(file, "unreadable", str(error).removeprefix(f"{file}: "))) from None
        hashes[f"{side}_sha256"] = _sha256(data)
    return {
        "dataset": pair.dataset, "split": pair.split, "name": pair.name,
        "ir": _relative(pair.ir, root), "visible": _relative(pair.visible, root), **hashes, "size": size,
        "boxes": None if pair.boxes is None else pair.boxes.tolist(),
        "classes": None if pair.classes is None else list(pair.classes),
    }


def _pair(entry, root):
    boxes = classes = None
    if entry["boxes"] is not None:
        boxes, classes = np.array(entry["boxes"], np.float32).reshape(-1, 4), tuple(entry["classes"])
    files = root / entry["ir"], root / entry["visible"]
    return Pair(entry["dataset"], entry["split"], entry["name"], *files, boxes, classes)


def _relative(file, root):
    try:
        return file.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        raise FusionError(f"{file}: expected a file below {root}, so that the manifest holds elsewhere too") from None


def _fingerprint(entries):
    return _sha256(json.dumps({part: entries[part] for part in PARTS}, sort_keys=True).encode())


def _sha256(data):
    return hashlib.sha256(data).hexdigest()


def _load_manifest(path):
    content = _load_json(path, "a split manifest; write one with fusionlib.data.write_manifest")
    if not all(part in content for part in PARTS) or content.get("fingerprint") != _fingerprint(content):
        raise FusionError(f"{path}: expected a split manifest whose entries match its fingerprint, found it changed; "
                          "write it anew")
    return content


def _load_json(path, wanted):
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise FusionError(f"{path}: expected {wanted}; found {error}") from None


@dataclass(frozen=True)
class Parts:
    """Which pairs serve what, see `parts`. Detection needs labelled pairs of `detection_dataset`."""

    detection_dataset: str
    fusion_train: list[Pair]
    fusion_validation: list[Pair]
    dfh_train: list[Pair]
    dfh_validation: list[Pair]
    test: list[Pair]
    labelled_test: list[Pair]
    labelled_sets: list[str]

    @property
    def counts(self) -> dict[str, int]:
        """How many pairs serve what."""
        return {k: len(v) for k, v in vars(self).items() if isinstance(v, list) and k != "labelled_sets"}

    @property
    def asked(self) -> list[Pair]:
        """Pairs that stage 2 learns from or that test it: those whose fused images a back end is asked about."""
        return self.dfh_train + self.dfh_validation + self.test

    @property
    def shown(self) -> list[Pair]:
        """Test pairs worth showing: labelled ones where there are any."""
        return self.labelled_test or self.test

    def require_labels(self) -> None:
        """Raise FusionError, saying which data sets have labels, where there is too little to train or test on."""
        if not self.dfh_train or not self.dfh_validation or not self.labelled_test:
            raise FusionError(
                f"detection needs labelled training and test pairs of {self.detection_dataset}, found "
                f"{len(self.dfh_train) + len(self.dfh_validation)} and {len(self.labelled_test)}: add its labels, or "
                f"set detection_dataset to another one (labels are there for {', '.join(self.labelled_sets) or 'none'})"
            )


def parts(split: dict[str, list[Pair]], settings: Profile) -> Parts:
    """Divide the pairs of a split between the stages.

    Stage 1 learns from the training pairs of the data sets `fusion_datasets` (all, when it names none), stage 2 from
    the labelled ones of `detection_dataset`. Of each, `validation` pairs, a fifth at most, spread over the list, are
    set aside to choose the best epoch. Without a detector, both stages learn from the same pairs.
    """
    train, test = split["train"], split["test"]
    fusion = [p for p in train if not settings.fusion_datasets or p.dataset in settings.fusion_datasets]
    labelled = [p for p in train if p.boxes is not None and p.dataset == settings.detection_dataset]
    labelled = labelled if settings.detector else fusion
    return Parts(
        settings.detection_dataset, *_set_aside(fusion, settings.validation),
        *_set_aside(labelled, settings.validation), test,
        [p for p in test if p.boxes is not None and p.dataset == settings.detection_dataset],
        sorted({p.dataset for p in train + test if p.boxes is not None}),
    )  # fmt: skip


def _set_aside(pairs: list[Pair], count: int) -> tuple[list[Pair], list[Pair]]:
    step = len(pairs) // max(1, min(count, len(pairs) // 5)) or 1
    aside = pairs[step - 1 :: step][: max(1, count)]
    return [p for p in pairs if not any(p is q for q in aside)], aside


def evenly_spaced(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """So many pairs, evenly over the list, the first and the last among them; all for 0, or where there are no more."""
    if not count or count >= len(pairs):
        return list(pairs)
    return [pairs[index] for index in np.linspace(0, len(pairs) - 1, count).round().astype(int)]
