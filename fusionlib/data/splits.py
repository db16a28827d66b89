"""Train and test splits: the committed rules, and manifests with a checksum of every file.

The paper trains on 2,000 random pairs of LLVIP and tests on 200 random pairs each of LLVIP, M3FD and MSRS (section
4.1). A rule ranks the pairs of a data set by the hash of their names and takes the first ones. So the split of the
official release is fixed without the data, and an incomplete copy loses only the pairs that it lacks.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusionlib.config import Profile
from fusionlib.data.image_io import decode_image
from fusionlib.data.layouts import SPLITS
from fusionlib.data.pairs import Pair, Problem
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import read_bytes, write_json

RULES = Path(__file__).resolve().parents[2] / "data" / "splits" / "rules.json"


def load_rules(path=RULES) -> dict:
    """The rules: a seed and, per data set, the numbers of train and test pairs (null: all) or the names of train ones.

    Raises FusionError.
    """
    return _load_json(path, "the checkout's data/splits/rules.json; install with `pip install -e .` from the checkout")


def choose(pairs: list[Pair], rules: dict | None = None) -> dict[str, list[Pair]]:
    """Choose train and test pairs of each data set by its rule.

    `rules` are the committed ones by default. Returns {"train": [...], "test": [...]}, sorted by data set and within it
    by rank, so the first n are a random sample too. Train pairs come from the official train split, test pairs from the
    test split or from an official data set without splits, less the train pairs that its rule names; any other data set
    without splits, such as a user's folders, is divided. Where there are fewer pairs than the rule asks for, all are
    taken; see `summary`.
    """
    rules = rules or load_rules()
    chosen = {split: [] for split in SPLITS}
    for dataset in sorted({pair.dataset for pair in pairs}):
        ranked = sorted((p for p in pairs if p.dataset == dataset),
                        key=lambda p: _sha256(f"{rules['seed']}/{p.dataset}/{p.name}".encode()))
        if dataset not in rules["datasets"] and not any(pair.split for pair in ranked):
            train = int(len(ranked) * rules["other"]["unsplit_train"])
            candidates = {"train": ranked[:train], "test": ranked[train:]}
        elif isinstance(named := _requested(rules, dataset, "train"), list):
            candidates = {"train": [p for p in ranked if p.name in named],
                          "test": [p for p in ranked if p.name not in named]}  # fmt: skip
        else:
            candidates = {split: [pair for pair in ranked if (pair.split or "test") == split] for split in SPLITS}
        for split in SPLITS:
            chosen[split] += candidates[split][:_count(_requested(rules, dataset, split))]
    return chosen


def _requested(rules, dataset, split):
    """What the rule of a data set asks for: a number of pairs, the names of pairs, or None for all."""
    return rules["datasets"].get(dataset, rules["other"])[split]


def _count(requested):
    return len(requested) if isinstance(requested, list) else requested


def summary(split: dict[str, list[Pair]], rules: dict | None = None) -> list[str]:
    """One line per data set and split: the numbers of chosen and labelled pairs, and what is missing to the rule."""
    rules, lines = rules or load_rules(), []
    for dataset in sorted({pair.dataset for pairs in split.values() for pair in pairs}):
        for name in SPLITS:
            chosen = [pair for pair in split[name] if pair.dataset == dataset]
            requested = _count(_requested(rules, dataset, name))
            if not chosen and not requested:
                continue
            line = f"{dataset} {name}: {len(chosen)} pairs, {sum(pair.boxes is not None for pair in chosen)} labelled"
            if requested is not None and len(chosen) < requested:
                line += f"; the rule asks for {requested}, all available ones are taken"
            lines.append(line)
    return lines


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
    return Pair(entry["dataset"], entry["split"], entry["name"], *files, boxes, classes)


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
        "classes": None if pair.classes is None else list(pair.classes),
    }


def _relative(file, root):
    try:
        return file.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        raise FusionError(f"{file}: expected a file below {root}, so that the manifest is valid elsewhere too; move it "
                          "there") from None


def _fingerprint(entries):
    return _sha256(json.dumps({split: entries[split] for split in SPLITS}, sort_keys=True).encode())


def _sha256(data):
    return hashlib.sha256(data).hexdigest()


def _load_manifest(path):
    content = _load_json(path, "a split manifest; write one with fusionlib.data.write_manifest")
    if not all(split in content for split in SPLITS) or content.get("fingerprint") != _fingerprint(content):
        raise FusionError(f"{path}: expected a split manifest whose entries match its fingerprint, found an edited or "
                          "incomplete one; write it again")
    return content


def _load_json(path, wanted):
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise FusionError(f"{path}: expected {wanted}; found {error}") from None


@dataclass(frozen=True)
class Parts:
    """The pairs by their use, see `parts`. Detection needs labelled pairs of `detection_dataset`."""

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
        """The number of pairs of each use."""
        return {k: len(v) for k, v in vars(self).items() if isinstance(v, list) and k != "labelled_sets"}

    @property
    def asked(self) -> list[Pair]:
        """Pairs of stage 2 and of the tests: those whose fused images a feedback back end is asked about."""
        return self.dfh_train + self.dfh_validation + self.test

    @property
    def shown(self) -> list[Pair]:
        """Test pairs for figures: labelled ones where there are any."""
        return self.labelled_test or self.test

    def require_labels(self) -> None:
        """Raise FusionError, naming the labelled data sets, where labels are missing to train or to test detection."""
        if not self.dfh_train or not self.dfh_validation or not self.labelled_test:
            raise FusionError(
                f"detection needs labelled training and test pairs of {self.detection_dataset}, found "
                f"{len(self.dfh_train) + len(self.dfh_validation)} and {len(self.labelled_test)}: add its labels, or "
                f"set detection_dataset to another one (labelled data sets: {', '.join(self.labelled_sets) or 'none'})"
            )


def parts(split: dict[str, list[Pair]], settings: Profile) -> Parts:
    """Divide the pairs of a split between the stages.

    Stage 1 learns from the training pairs of the data sets `fusion_datasets` (all if empty), stage 2 from the labelled
    ones of `detection_dataset`. Of each, `validation` pairs, but at most a fifth, evenly spaced, are held out to choose
    the best epoch. Without a detector, both stages learn from the same pairs.
    """
    train, test = split["train"], split["test"]
    fusion = [p for p in train if not settings.fusion_datasets or p.dataset in settings.fusion_datasets]
    labelled = [p for p in train if p.boxes is not None and p.dataset == settings.detection_dataset]
    return Parts(
        settings.detection_dataset, *_hold_out(fusion, settings.validation),
        *_hold_out(labelled if settings.detector else fusion, settings.validation), test,
        [p for p in test if p.boxes is not None and p.dataset == settings.detection_dataset],
        sorted({p.dataset for p in train + test if p.boxes is not None}),
    )


def _hold_out(pairs: list[Pair], count: int) -> tuple[list[Pair], list[Pair]]:
    """Training and validation pairs."""
    step = len(pairs) // max(1, min(count, len(pairs) // 5)) or 1
    validation = pairs[step - 1 :: step][: max(1, count)]
    return [p for p in pairs if not any(p is q for q in validation)], validation


def balanced(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs with those of the smaller data sets repeated, so that all data sets have about as many."""
    sets = {name: [pair for pair in pairs if pair.dataset == name] for name in dict.fromkeys(p.dataset for p in pairs)}
    most = max(map(len, sets.values()), default=0)
    return [pair for of_set in sets.values() for pair in of_set * round(most / len(of_set))]


def evenly_spaced(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """`count` pairs, evenly spaced over the list from the first to the last; all for 0, or if there are no more."""
    if not count or count >= len(pairs):
        return list(pairs)
    return [pairs[index] for index in np.linspace(0, len(pairs) - 1, count).round().astype(int)]
