"""Find and read data sets by their folder structure: LLVIP, M3FD, MSRS, RoadScene, TNO and similar ones.

A data set is a folder with an infrared and a visible folder of equally named images, optionally with `train` and `test`
below them (as in LLVIP) or above them (as in MSRS). One reader serves all official layouts, the synthetic scenes and
users' recordings; data/README.md draws the trees.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fusionlib.data import coco, scenes
from fusionlib.data.annotations import IGNORE, read_labels
from fusionlib.data.image_io import IMAGE_SUFFIXES, image_size
from fusionlib.data.pairs import Pair, Problem, size_mismatch
from fusionlib.utils.errors import FusionError

# Folder names in lower case; the comparison ignores case.
INFRARED = ("infrared", "ir", "thermal", "lwir", "cropinfrared")
VISIBLE = ("visible", "vi", "vis", "rgb", "crop_lr_visible")
LABELS = ("annotations", "annotation", "labels")
SPLITS = ("train", "test")
OFFICIAL = {"llvip": "LLVIP", "m3fd": "M3FD", "msrs": "MSRS", "roadscene": "RoadScene", "tno": "TNO"}


@dataclass
class Report:
    """Result of reading a folder: usable pairs, problems that each name a file, and notes on what was skipped.

    `formats` maps image files to (H, W), bits and "gray" or "colour"; only `fusionlib.data.check.check` fills it.
    """

    root: Path
    pairs: list[Pair] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    formats: dict[Path, tuple[tuple[int, int], int, str]] = field(default_factory=dict)

    def require_pairs(self) -> "Report":
        """Return the report itself; raises FusionError where no pair is usable."""
        if self.pairs:
            return self
        if self.problems:
            raise FusionError(f"{self.root}: no usable pair is left, the first of {len(self.problems)} problems is: "
                              f"{self.problems[0]} (`python -m fusionlib data check {self.root}` lists them all)")
        raise FusionError(f"{self.root}: expected data sets with folders of equally named infrared and visible "
                          "images, such as ir/ and vi/, found none; data/README.md shows the layouts")


def find(root, depth: int = 3) -> dict[str, Path]:
    """Find the data sets at `root` or up to `depth` folders below it: name -> folder, in order of the paths.

    A folder named after an official data set (MSRS-main, M3FD_Fusion) gets the official name, any other its own name,
    preceded by its parent folder's where that name is taken. Raises FusionError where `root` is not a folder.
    """
    root = Path(root)
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise FusionError(f"{root}: expected a folder with data sets, found {found}; give the folder that holds LLVIP, "
                          "MSRS or your own pairs")
    found = {}
    for folder in _walk(root, depth):
        name = _name(folder)
        found[name if name not in found else f"{folder.resolve().parent.name}/{name}"] = folder
    return found


def read(root, names=None) -> Report:
    """Read all pairs and labels of the data sets at or below `root`, or of those called `names` only.

    Only the headers of the images are read; `fusionlib.data.check.check` decodes them. Unusable files are listed in the
    report's problems. Raises FusionError where no pair is usable or one of `names` is missing.
    """
    return survey(root, names).require_pairs()


def survey(root, names=None) -> Report:
    """As `read`, but the report may be without a usable pair."""
    found = find(root)
    missing = sorted(set(names or ()) - set(found))
    if missing:
        raise FusionError(f"{root}: expected the data set {missing[0]}, found {', '.join(found) or 'none'}; "
                          "data/README.md says where each data set goes")
    report = Report(Path(root))
    for name, folder in found.items():
        if names is None or name in names:
            before = len(report.pairs) + len(report.problems)
            _add_data_set(report, name, folder, list(_image_folders(folder)))
            if len(report.pairs) + len(report.problems) == before:
                report.notes.append(f"{name} is skipped: its folders hold no png, jpg, bmp or tiff image")
    pairs, copies = scenes.without_copies(report.pairs, list(OFFICIAL.values()))
    report.pairs, report.notes = scenes.by_number(pairs), report.notes + copies
    if Path(root) not in found.values():
        for folder in _folders(Path(root)):
            if not any(folder == f or folder in f.parents for f in found.values()):
                report.notes.append(f"{folder.name} is skipped: it is not an infrared-visible data set")
    return report


def pair_folders(ir_dir, visible_dir, labels_dir=None, dataset: str | None = None, split: str = "") -> Report:
    """Pair any two folders by the stems of their files (1.png with 1.jpg), with labels from a third one.

    `dataset` defaults to the name of the folder around `ir_dir`. Raises FusionError where no pair is usable.
    """
    ir_dir, visible_dir, labels_dir = Path(ir_dir), Path(visible_dir), Path(labels_dir) if labels_dir else None
    for folder in (ir_dir, visible_dir, labels_dir or ir_dir):
        if not folder.is_dir():
            raise FusionError(f"{folder}: expected a folder of images or labels, found none; check the path")
    report = Report(ir_dir.parent)
    folders = [(split, ir_dir, visible_dir, labels_dir)]
    _add_data_set(report, dataset or ir_dir.resolve().parent.name, ir_dir.parent, folders)
    report.pairs = scenes.by_number(report.pairs)
    return report.require_pairs()


def _walk(folder, depth):
    """The outermost folders that hold a data set; nothing is searched inside one."""
    if next(_image_folders(folder), None):
        yield folder
    elif depth:
        for child in _folders(folder):
            yield from _walk(child, depth - 1)


def _folders(folder):
    with os.scandir(folder) as children:
        return sorted(folder / child.name for child in children if child.is_dir() and not child.name.startswith("."))


def _child(folder, names):
    """The subfolder called by one of `names` in any case; None where there is none, or no `folder`."""
    children = {child.name.lower(): child for child in _folders(folder)} if folder else {}
    return next((children[name] for name in names if name in children), None)


def _image_folders(folder):
    """Yield (split, infrared folder, visible folder, labels folder or None) of each split of a data set."""
    ir, visible = _child(folder, INFRARED), _child(folder, VISIBLE)
    for split in SPLITS:
        if ir and visible:  # LLVIP: infrared/train, visible/train
            inner = _child(ir, [split]), _child(visible, [split])
            if any(inner):
                yield split, inner[0] or ir / split, inner[1] or visible / split, _labels(folder, split)
        elif split_folder := _child(folder, [split]):  # MSRS: train/ir, train/vi
            inner = _child(split_folder, INFRARED), _child(split_folder, VISIBLE)
            if all(inner):
                yield split, *inner, _child(split_folder, LABELS) or _labels(folder, split)
    if ir and visible and not any(_child(side, SPLITS) for side in (ir, visible)):
        yield "", ir, visible, _labels(folder, "")


def _labels(folder, split):
    labels = _child(folder, LABELS) or _child(_child(folder, ["detection"]), LABELS)
    return _child(labels, [split]) or labels


def _name(folder):
    """The official name where the folder's name begins with it, otherwise the folder's name.

    MSRS_labelled keeps its name: it is a choice of frames that somebody else labelled, and not the release.
    """
    name = folder.resolve().name
    if re.search("label+ed", name.lower()):
        return name
    if name.lower().startswith("m3fd_detection"):
        return "M3FD_Detection"  # 4,200 images other than those of M3FD_Fusion, with the same numbers
    if _child(folder, ["cropinfrared"]):
        return "RoadScene"
    return OFFICIAL.get(re.split(r"[-_ .]", name.lower())[0], name)


def _add_data_set(report, dataset, folder, image_folders):
    """Add the pairs of a data set with their scenes, and its problems, to the report."""
    known, problems = scenes.table(folder)
    report.problems += problems
    before = len(report.pairs)
    for split, ir, visible, labels in image_folders:
        _add_pairs(report, dataset, split, ir, visible, labels, known)
    added = report.pairs[before:]
    if known and (unknown := [pair.name for pair in added if not pair.scene]):
        report.notes.append(f"{len(unknown)} of {len(added)} pairs of {dataset} have no scene in its table, the first "
                            f"is {unknown[0]}")


def _add_pairs(report, dataset, split, ir_dir, visible_dir, labels_dir, known: Mapping[str, tuple[str, bool]]):
    """Add the pairs of two folders, and their problems, to the report."""
    ir_files, visible_files = (files_by_stem(report, folder, IMAGE_SUFFIXES) for folder in (ir_dir, visible_dir))
    label_files = files_by_stem(report, labels_dir, (".xml", ".txt")) if labels_dir else {}
    entries, problems, notes = coco.find_entries(labels_dir, split) if labels_dir else ({}, [], [])
    if entries and not split and not entries.keys() & (ir_files | visible_files).keys():
        notes.append(f"none of {len(entries)} images in the json files of {labels_dir} is called like a pair, the "
                     f"first is {next(iter(entries))}")
    report.problems += [problem for problem in problems if problem not in report.problems]  # two parts may share a file
    report.notes += [note for note in notes if note not in report.notes]
    for stem in sorted(ir_files | visible_files):
        ir, visible = ir_files.get(stem), visible_files.get(stem)
        if not (ir and visible):
            wanted = f"{(visible_dir if ir else ir_dir) / stem}.*"
            message = f"expected its partner {wanted}, found none; add that file or remove this one"
            report.problems.append(Problem(ir or visible, "partner", message))
            continue
        sizes = []
        for path in (ir, visible):
            try:
                sizes.append(image_size(path))
            except FusionError as error:
                report.problems.append(Problem.unreadable(path, error))
        if len(sizes) < 2:
            continue
        if sizes[0] != sizes[1]:
            message = size_mismatch(ir, sizes[0], visible, sizes[1]).removeprefix(f"{visible}: ")
            report.problems.append(Problem(visible, "size", message))
            continue
        boxes = classes = None
        if stem in label_files:
            boxes, classes, problems = read_labels(label_files[stem], sizes[0], dataset)
            report.problems += problems
        elif stem in entries:
            boxes, classes, problems = coco.read_entry(*entries[stem], sizes[0])
            report.problems += problems
        scene, complete = known.get(stem, ("", True))
        if boxes is not None and not complete:  # anybody may be anywhere
            boxes = np.concatenate([boxes, np.float32([[0, 0, *sizes[0][::-1]]])])
            classes = (*classes, IGNORE)
        report.pairs.append(Pair(dataset, split, stem, ir, visible, boxes, classes, scene))


def files_by_stem(report, folder, suffixes):
    """Stem -> file for the files with one of `suffixes`; a second file of a stem is added to the report's problems."""
    files = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.name) if folder.is_dir() else ():
        if path.suffix.lower() not in suffixes or path.name.startswith(".") or path.name == "classes.txt":
            continue
        if path.stem in files:
            message = f"expected one file of this name, also found {files[path.stem].name}, which is used; remove one"
            report.problems.append(Problem(path, "duplicate", message))
        else:
            files[path.stem] = path
    return files
