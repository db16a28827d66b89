"""Train, validation and test pairs, by the rules in rules.json.

The paper trains on 2,000 random pairs of LLVIP and tests on 200 random pairs each of LLVIP, M3FD and MSRS (section
4.1). A rule ranks the pairs of a data set by the hash of their names and takes the first ones. So the split of the
official release is fixed without the data, and an incomplete copy loses only the pairs that it lacks.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusionlib.config import Profile
from fusionlib.data import scenes
from fusionlib.data.pairs import Pair
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import load_json

SPLITS = ("train", "test")
RULES = Path(__file__).with_name("rules.json")


def load_rules(path=RULES) -> dict:
    """The rules: a seed and, per data set, the numbers of train and test pairs (null: all) or the names of train ones.

    Raises FusionError.
    """
    return load_json(path, "the rules of the splits, such as fusionlib/data/rules.json", "install the package again")


def choose(pairs: list[Pair], rules: dict | None = None) -> dict[str, list[Pair]]:
    """Choose train and test pairs of each data set by its rule.

    `rules` are the committed ones by default. Returns {"train": [...], "test": [...]}, sorted by data set and within it
    by rank, so the first n are a random sample too. Train pairs come from the official train split, test pairs from the
    test split or from an official data set without splits, less the train pairs that its rule names; any other data set
    without splits, such as a user's folders, is divided, where it has several scenes by whole scenes. Where there are
    fewer pairs than the rule asks for, all are taken; see `summary`. Pairs of a val part are after the train pairs, for
    `parts` to validate on, or where their data set has no test part, test pairs.
    """
    rules = rules or load_rules()
    ranked, chosen, validation, sides = {}, {}, {}, {}  # sides: the split of each scene so far
    for pair in sorted(pairs, key=lambda p: (p.dataset, _rank(rules, p.dataset, p.name))):
        ranked.setdefault(pair.dataset, []).append(pair)
    divided = {name for name, of in ranked.items() if name not in rules["datasets"] and not any(p.split for p in of)}
    for dataset in sorted(ranked, key=lambda name: name in divided):
        if dataset in divided:
            chosen[dataset] = _divide(ranked[dataset], sides, rules)
        elif isinstance(named := _requested(rules, dataset, "train"), list):
            chosen[dataset] = {"train": [p for p in ranked[dataset] if p.name in named],
                               "test": [p for p in ranked[dataset] if p.name not in named]}  # fmt: skip
        else:
            of = ranked[dataset]
            tests = ("", "test") if any(pair.split in ("", "test") for pair in of) else ("val",)
            chosen[dataset] = {"train": [pair for pair in of if pair.split == "train"],
                               "test": [pair for pair in of if pair.split in tests]}
            if "val" not in tests and _requested(rules, dataset, "train") != 0:
                validation[dataset] = [pair for pair in of if pair.split == "val"]
        for split in SPLITS:
            for pair in chosen[dataset][split]:
                if pair.scene:
                    sides.setdefault(pair.scene, split)
    counted = {split: {dataset: chosen[dataset][split][:_count(_requested(rules, dataset, split))]
                       for dataset in ranked} for split in SPLITS}
    return {"train": [pair for dataset in ranked for pair in counted["train"][dataset] + validation.get(dataset, [])],
            "test": [pair for dataset in ranked for pair in counted["test"][dataset]]}


def _rank(rules, dataset, name):
    return hashlib.sha256(f"{rules['seed']}/{dataset}/{name}".encode("utf-8", "surrogatepass")).hexdigest()


def _divide(ranked, sides, rules):
    """Divide the pairs of a data set by whole scenes, which are ranked like pairs; a single scene by pairs.

    A scene that is in another data set too (`sides`), or has a pair that a rule names, keeps its side. The others are
    added to the train pairs as long as that brings their number nearer to the share asked for.
    """
    named = {name for rule in rules["datasets"].values() if isinstance(rule["train"], list) for name in rule["train"]}
    sides = dict.fromkeys((pair.scene for pair in ranked if pair.scene and pair.name in named), "train") | sides
    keys = [pair.scene or pair.name for pair in ranked]
    if len(set(keys)) == 1 and ranked[0].scene not in sides:
        keys = [pair.name for pair in ranked]
    groups = {}
    for key, pair in zip(keys, ranked):
        groups.setdefault(key, []).append(pair)
    train = [name for name, group in groups.items() if sides.get(group[0].scene) == "train"]
    free = [name for name, group in groups.items() if group[0].scene not in sides]
    free.sort(key=lambda name: _rank(rules, ranked[0].dataset, name))
    missing = int(len(ranked) * rules["other"]["unsplit_train"]) - sum(len(groups[name]) for name in train)
    if len(train) + len(free) == len(groups) > 1:
        free = free[:-1]  # something to test on
    for name in free:
        if abs(missing - len(groups[name])) < abs(missing):
            train.append(name)
            missing -= len(groups[name])
    chosen = {pair.label for name in train for pair in groups[name]}
    return {"train": [pair for pair in ranked if pair.label in chosen],
            "test": [pair for pair in ranked if pair.label not in chosen]}


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
            of = [pair for pair in split[name] if pair.dataset == dataset]
            chosen = [pair for pair in of if name == "test" or pair.split != "val"]
            validation = [pair for pair in of if name == "train" and pair.split == "val"]
            requested = _count(_requested(rules, dataset, name))
            if not chosen and not requested:
                continue
            line = f"{dataset} {name}: {_numbers(chosen)}"
            if requested is not None and len(chosen) < requested:
                line += f"; the rule asks for {requested}, all available ones are taken"
            if chosen and all(pair.split == "val" for pair in chosen):
                line += "; they are its val part, since it has no test part"
            lines.append(line)
            if validation:
                lines.append(f"{dataset} val: {_numbers(validation)}; evenly spaced ones, as many as the setting "
                             "validation says, validate")
    return lines


def _numbers(pairs):
    return f"{len(pairs)} pairs, {sum(pair.boxes is not None for pair in pairs)} labelled"


def unused(pairs: Sequence[Pair], split: dict[str, list[Pair]]) -> list[str]:
    """A note on each part of a data set of which not all pairs are in the split."""
    used, left = {pair.label for of in split.values() for pair in of}, {}
    for pair in pairs:
        if pair.label not in used:
            left.setdefault((pair.dataset, pair.split), []).append(pair.name)
    return [f"{len(names)} pairs of {' '.join(filter(None, key))} are not used: the split rule asks for no more, the "
            f"first is {names[0]}" for key, names in left.items()]


@dataclass(frozen=True)
class Parts:
    """The pairs by their use, see `parts`. Detection needs labelled pairs of `detection_datasets`."""

    detection_datasets: tuple[str, ...]
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
                f"detection needs labelled training and test pairs of {', '.join(self.detection_datasets) or 'any'}, "
                f"found {len(self.dfh_train) + len(self.dfh_validation)} and {len(self.labelled_test)}: add labels, or "
                f"set detection_datasets to others (labelled data sets: {', '.join(self.labelled_sets) or 'none'})"
            )


def parts(split: dict[str, list[Pair]], settings: Profile) -> Parts:
    """Divide the pairs of a split between the stages.

    Stage 1 learns from the training pairs of the data sets `fusion_datasets` (all if empty), stage 2 from the labelled
    ones of `detection_datasets` (all if empty). Of each, `validation` pairs are held out to watch the loss,
    evenly spaced: of data sets with a val part such ones, of the others at most a fifth, for stage 2 of scenes that it
    is not trained on. Without a detector, both stages learn from the same pairs.
    """
    train, test = split["train"], split["test"]
    labelled_sets = sorted({p.dataset for p in train + test if p.boxes is not None})
    detection = settings.detection_datasets or tuple(labelled_sets)
    fusion = [p for p in train if not settings.fusion_datasets or p.dataset in settings.fusion_datasets]
    labelled, labelled_test = ([p for p in pairs if p.boxes is not None and p.dataset in detection]
                               for pairs in (train, test))
    of_fusion = _validated(fusion, settings.validation, lambda pairs: list(range(len(pairs))))
    of_detection = _validated(labelled, settings.validation, scenes.names) if settings.detector else of_fusion
    return Parts(detection, *of_fusion, *of_detection, test, labelled_test, labelled_sets)


def _validated(pairs: list[Pair], count: int, scenes_of) -> tuple[list[Pair], list[Pair]]:
    """Training and validation pairs: of data sets with a val part its pairs validate, of others those held out."""
    validation = [pair for pair in pairs if pair.split == "val"]
    with_part = {pair.dataset for pair in validation}
    others = [pair for pair in pairs if pair.dataset not in with_part]
    train, held_out = _hold_out(others, count, scenes_of(others))
    train += [pair for pair in pairs if pair.dataset in with_part and pair.split != "val"]
    return train, held_out + (evenly_spaced(validation, max(1, count)) if validation else [])


def _hold_out(pairs: list[Pair], count: int, of_pair: list) -> tuple[list[Pair], list[Pair]]:
    """Training and validation pairs, which share no scene where there are several; `of_pair` is the scene of each.

    The scenes of evenly spaced pairs come first, then those of their neighbours, and so on, as long as they fit; scenes
    of more than a third of what is held out come last, for variety. At least the smallest is held out.
    """
    if len(set(of_pair)) == 1:
        of_pair = list(range(len(pairs)))
    sizes, wanted = Counter(of_pair), max(1, min(count, len(pairs) // 5))
    step = len(pairs) // wanted or 1
    held_out = Counter()
    spaced = [scene for start in range(step)[::-1] for scene in of_pair[start::step]]
    for scene in sorted(spaced, key=lambda scene: max(sizes[scene], wanted // 3)):
        if scene not in held_out and (not held_out or held_out.total() + sizes[scene] <= wanted):
            held_out[scene] = sizes[scene]
    return ([p for p, scene in zip(pairs, of_pair) if scene not in held_out],
            [p for p, scene in zip(pairs, of_pair) if scene in held_out])


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
