"""Find and read data sets by their folder structure: LLVIP, M3FD, MSRS, RoadScene, TNO, KAIST and similar ones.

A data set is a folder with an infrared and a visible folder of equally named images. Above these may be folders of its
parts (train, val, test, as in MSRS) and of its sequences (set00/V000, as in KAIST), below them any folders, those of
its parts among them (as in LLVIP). One reader serves all layouts, the synthetic scenes and users' recordings, by the
rules of `places`; data/README.md draws the trees.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fusionlib.data import places, scenes
from fusionlib.data.annotations import IGNORE
from fusionlib.data.common_range import with_ranges
from fusionlib.data.finding import OFFICIAL, data_sets, label_places, unused_images
from fusionlib.data.image_io import image_size
from fusionlib.data.labels import Labels
from fusionlib.data.matching import data_set_of, no_common_name, pair_up, swapped_names
from fusionlib.data.pairs import Pair, size_mismatch
from fusionlib.data.problems import Problem
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import absolute

ORDER = ("", "train", "val", "test")  # of the parts


@dataclass
class Report:
    """Result of reading a folder: usable pairs, problems that each name a file, and notes on what was skipped.

    `given` are the arguments of `data check` that make it again. `formats` maps image files to (H, W), bits and "gray"
    or "colour"; `remarks` name files and what is made of their values, such as radiometric ones. Only
    `fusionlib.data.check.check` fills these two.
    """

    root: Path
    given: str = ""
    pairs: list[Pair] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    formats: dict[Path, tuple[tuple[int, int], int, str]] = field(default_factory=dict)
    remarks: list[Problem] = field(default_factory=list)

    def require_pairs(self) -> "Report":
        """Return the report itself; raises FusionError where no pair is usable."""
        if self.pairs:
            return self
        if self.problems:
            raise FusionError(f"{self.root}: no usable pair is left, the first of {len(self.problems)} problems is: "
                              f"{self.problems[0]} (`python -m fusionlib data check {self.given}` lists them all)")
        raise FusionError(f"{self.root}: expected data sets with folders of equally named infrared and visible "
                          "images, such as ir/ and vi/, found none; data/README.md shows the layouts, and two folders "
                          "of any names can be given as ir= and visible=")


def read(root=None, names=None, *, ir=None, visible=None, labels=None) -> Report:
    """Read all pairs and labels of the data sets at or below `root`, or of those called `names` only.

    In the place of `root`, `ir`, `visible` and optionally `labels` are those of `pair_folders`. Only the headers of the
    images are read; `fusionlib.data.check.check` decodes them. Unusable files are listed in the report's problems.
    Raises FusionError where no pair is usable or one of `names` is missing.
    """
    return survey(root, names, ir=ir, visible=visible, labels=labels).require_pairs()


def survey(root=None, names=None, *, ir=None, visible=None, labels=None) -> Report:
    """As `read`, but the report may be without a usable pair."""
    if root is None or ir or visible or labels:
        if root or not (ir and visible):
            raise FusionError("expected either a folder with data sets or both ir and visible, found "
                              f"{f'{root} and ' if root else ''}ir={ir or ''} visible={visible or ''} "
                              f"labels={labels or ''}; leave out the one, or give the other")
        return _survey_places(ir, visible, labels)
    found = data_sets(root)
    missing = sorted(set(names or ()) - set(found))
    if missing:
        raise FusionError(f"{root}: expected the data set {missing[0]}, found {', '.join(found) or 'none'}; "
                          "data/README.md says where each data set goes")
    report = Report(Path(root).expanduser(), str(root))
    for name, (folder, sides) in found.items():
        if names is None or name in names:
            before = len(report.pairs) + len(report.problems)
            _add_data_set(report, name, folder, sides, *label_places(folder, sides), folder.parent)
            if len(report.pairs) + len(report.problems) == before:
                report.notes.append(f"{name} is skipped: no image ({places.READ}) is in its folders or below them")
            report.notes += unused_images(folder, sides)
    report.pairs, copies = scenes.without_copies(report.pairs, list(OFFICIAL.values()))
    report.pairs, report.notes = with_ranges(scenes.by_number(report.pairs)), report.notes + copies
    folders = [folder for folder, _ in found.values()]
    if report.root not in folders:
        for folder in places.folders(report.root):
            if not any(folder == f or folder in f.parents for f in folders):
                report.notes.append(f"{folder.name} is skipped: it does not hold one infrared and one visible folder, "
                                    "such as ir and vi")
        if names := [file.name for file in sorted(report.root.glob("*.json")) if not file.name.startswith(".")]:
            report.notes.append(f"{', '.join(names[:3])}{', ...' * (len(names) > 3)} in {report.root} are not read: "
                                "labels lie in the folder of their data set, or are given as labels=")
    return report


def pair_folders(ir_dir, visible_dir, labels_dir=None, dataset: str | None = None, split: str = "") -> Report:
    """Pair the images of any two places, see `places`, by their names (1.png with 1.jpg), with labels from a third.

    A place is a folder or a pattern such as JPEGImages/*_RGB.jpg; the labels may also be one json file of COCO.
    `dataset` defaults to the name of the folder around `ir_dir`, `split` to the part in the names, such as train/1.
    Raises FusionError where no pair is usable.
    """
    return _survey_places(ir_dir, visible_dir, labels_dir, dataset, split).require_pairs()


def _survey_places(ir, visible, labels, dataset=None, split=""):
    given = {"ir": ir, "visible": visible, "labels": labels}
    report = Report(Path(), " ".join(f"--{name} '{place}'" for name, place in given.items() if place))
    ir, visible, *labels = (absolute(place) for place in given.values() if place)
    bases = [places.base_of(place) for place in (ir, visible, *labels)]
    if labels and not bases[2].exists():
        raise FusionError(f"{labels[0]}: expected a folder of labels or a json file of COCO, found nothing; check the "
                          "path")
    try:
        report.root = Path(os.path.commonpath(bases))
    except ValueError:  # of Windows, whose drives have no folder in common
        raise FusionError(f"{' and '.join(map(str, bases))}: expected folders on one drive, found several drives; copy "
                          "them to one") from None
    report.notes += swapped_names(ir, visible)
    sources = [(place, "") for place in labels], [(bases[0], ""), (bases[1], "")]
    dataset, around = dataset or data_set_of(ir), places.base_of(ir.parent)
    _add_data_set(report, dataset, around, [("", ir, visible)], *sources, bases[-1].parent.parent, split)
    report.pairs = with_ranges(scenes.by_number(report.pairs))
    return report


def _add_data_set(report, dataset, folder, sides, labels, beside, top, split=""):
    """Add the pairs of a data set with their scenes, and its problems, to the report.

    `sides` are (what precedes the names, infrared place, visible place); `labels`, `beside`, `top` those of `Labels`.
    """
    known, problems = scenes.table(folder)
    report.problems += problems
    matched, pairs = {}, []
    for prefix, ir, visible in sides:
        for name, files in pair_up({"infrared": ir, "visible": visible}, report.problems).items():
            first = matched.setdefault(places.join(prefix, name), files)
            if first is not files:
                message = f"expected one pair of this name, also found {first['infrared']}, which is used; remove one"
                report.problems.append(Problem(files["infrared"], "duplicate", message))
    first = dict(zip(("infrared", "visible"), sides[0][1:]))
    if not matched and all(places.images(side, []) for side in first.values()):
        report.notes.append(f"{dataset}: {no_common_name(first)}")
    found = Labels(labels, beside, matched, top)
    report.problems += found.problems
    for name in sorted(matched, key=lambda name: (ORDER.index(places.part_of(name)[0]), name)):
        pairs += _pair(report, dataset, name, matched[name], found, known, split)
    report.pairs += pairs
    report.notes += found.notes + found.about()
    if known and (unknown := [pair.name for pair in pairs if not pair.scene]):
        report.notes.append(f"{len(unknown)} of {len(pairs)} pairs of {dataset} have no scene in its table, the first "
                            f"is {unknown[0]}")


def _pair(report, dataset, name, files, labels, known, split) -> Sequence[Pair]:
    """The pair of two files with its labels; none, with a problem added to the report, if it cannot be used."""
    sizes = []
    for path in files.values():
        try:
            sizes.append(image_size(path))
        except FusionError as error:
            report.problems.append(Problem.unreadable(path, error))
    if len(sizes) < 2:
        return []
    ir, visible = files["infrared"], files["visible"]
    if sizes[0] != sizes[1]:
        message = size_mismatch(ir, sizes[0], visible, sizes[1]).removeprefix(f"{visible}: ")
        report.problems.append(Problem(visible, "size", message))
        return []
    boxes, classes, problems = labels.read(name, files.values(), sizes[0], dataset)
    report.problems += problems
    part, name = places.part_of(name)
    scene, complete = known.get(name) or known.get(name.rpartition("/")[2]) or ("", True)
    if boxes is not None and not complete:  # anybody may be anywhere
        boxes = np.concatenate([boxes, np.float32([[0, 0, *sizes[0][::-1]]])])
        classes = (*classes, IGNORE)
    return [Pair(dataset, split or part, name, ir, visible, boxes, classes, scene)]
