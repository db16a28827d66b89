"""Find and read data sets by the structure of their folders: LLVIP, M3FD, MSRS, RoadScene, TNO and any alike.

A data set is a folder with an infrared and a visible folder of equally named pictures, and perhaps `train` and `test`
below them (as LLVIP has it) or above them (MSRS). So every official layout, the embedded scenes and own recordings are
read by the same few lines; data/README.md draws the trees.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from fusionlib.data.annotations import read_labels
from fusionlib.data.image_io import IMAGE_SUFFIXES, image_size
from fusionlib.data.pairs import Pair, Problem, size_mismatch
from fusionlib.utils.errors import FusionError

# Names of folders, in lower case: they are compared without regard to case.
INFRARED = ("infrared", "ir", "thermal", "lwir", "cropinfrared")
VISIBLE = ("visible", "vi", "vis", "rgb", "crop_lr_visible")
LABELS = ("annotations", "annotation", "labels")
SPLITS = ("train", "test")

OFFICIAL = {"llvip": "LLVIP", "m3fd": "M3FD", "msrs": "MSRS", "roadscene": "RoadScene", "tno": "TNO"}


@dataclass
class Report:
    """What lies below a folder: usable pairs, problems that each name a file, and notes on what was passed over.

    `formats` maps picture files to (H, W), bits and "gray" or "colour"; only a full check fills it.
    """

    root: Path
    pairs: list[Pair] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    formats: dict[Path, tuple[tuple[int, int], int, str]] = field(default_factory=dict)

    def require_pairs(self) -> "Report":
        """Return the report itself; raises FusionError, in one sentence, where no pair is usable."""
        if self.pairs:
            return self
        if self.problems:
            raise FusionError(f"{self.root}: no usable pair is left, the first of {len(self.problems)} problems being: "
                              f"{self.problems[0]} (`python -m fusionlib data check {self.root}` names them all)")
        raise FusionError(f"{self.root}: expected data sets with folders of equally named infrared and visible "
                          "pictures, such as ir/ and vi/, found none; data/README.md draws the layouts")


def find(root, depth: int = 3) -> dict[str, Path]:
    """The data sets at `root` or up to `depth` folders below it: name -> folder, in order of the paths.

    A folder named after an official data set (MSRS-main, M3FD_Fusion) gets its official name, another one its own.
    Where two folders claim one name, the first keeps it and the next is named with its parent folder. Raises
    FusionError where `root` is not a folder.
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

    Looks into the headers of the pictures (partner and size), not at their pixels: `fusionlib.data.check.check` does.
    What is not usable is named in the report's problems and left out. Raises FusionError where nothing usable is left,
    or one of `names` is not there.
    """
    return survey(root, names).require_pairs()


def survey(root, names=None) -> Report:
    """As `read`, without the demand that a usable pair be left."""
    found = find(root)
    missing = sorted(set(names or ()) - set(found))
    if missing:
        raise FusionError(f"{root}: expected the data set {missing[0]}, found {', '.join(found) or 'none'}; "
                          "data/README.md says where each data set goes")
    report = Report(Path(root))
    for name, folder in found.items():
        if names is None or name in names:
            before = len(report.pairs) + len(report.problems)
            for split, ir, visible, labels in _parts(folder):
                _read_part(report, name, split, ir, visible, labels)
            if len(report.pairs) + len(report.problems) == before:
                report.notes.append(f"{name} is passed over: no png, jpg, bmp or tiff picture is in its folders")
    if Path(root) not in found.values():
        for folder in _folders(Path(root)):
            if not any(folder == f or folder in f.parents for f in found.values()):
                report.notes.append(f"{folder.name} is passed over: it is not an infrared-visible data set")
    return report


def pair_folders(ir_dir, visible_dir, labels_dir=None, dataset: str | None = None, split: str = "") -> Report:
    """Pair any two folders by the stems of their files (1.png with 1.jpg), with labels from a third one.

    `dataset` defaults to the name of the folder around `ir_dir`. Raises FusionError where no pair is usable.
    """
    ir_dir, visible_dir = Path(ir_dir), Path(visible_dir)
    for folder in (ir_dir, visible_dir, Path(labels_dir or ir_dir)):
        if not folder.is_dir():
            raise FusionError(f"{folder}: expected a folder of pictures or labels, found none; check the path")
    report = Report(ir_dir.parent)
    name = dataset or ir_dir.resolve().parent.name
    _read_part(report, name, split, ir_dir, visible_dir, Path(labels_dir) if labels_dir else None)
    return report.require_pairs()


def _walk(folder, depth):
    """Folders that hold a data set, outermost first; what lies inside one is part of it."""
    if any(True for _ in _parts(folder)):
        yield folder
    elif depth:
        for child in _folders(folder):
            yield from _walk(child, depth - 1)


def _folders(folder):
    with os.scandir(folder) as children:
        return sorted(folder / child.name for child in children if child.is_dir() and not child.name.startswith("."))


def _child(folder, names):
    """The folder inside `folder` that has one of `names`, of any case; None if there is none, or no `folder`."""
    children = {child.name.lower(): child for child in _folders(folder)} if folder else {}
    return next((children[name] for name in names if name in children), None)


def _parts(folder):
    """The parts of a data set as (split, infrared folder, visible folder, labels folder or None)."""
    ir, visible = _child(folder, INFRARED), _child(folder, VISIBLE)
    for split in SPLITS:
        if ir and visible:  # LLVIP: infrared/train, visible/train
            inner = _child(ir, [split]), _child(visible, [split])
            if any(inner):
                yield split, inner[0] or ir / split, inner[1] or visible / split, _labels(folder, split)
        elif part := _child(folder, [split]):  # MSRS: train/ir, train/vi
            inner = _child(part, INFRARED), _child(part, VISIBLE)
            if all(inner):
                yield split, *inner, _child(part, LABELS) or _labels(folder, split)
    if ir and visible and not any(_child(side, SPLITS) for side in (ir, visible)):
        yield "", ir, visible, _labels(folder, "")


def _labels(folder, split):
    labels = _child(folder, LABELS) or _child(_child(folder, ["detection"]), LABELS)
    return _child(labels, [split]) or labels


def _name(folder):
    """The official name where the folder is named so, alone or with more behind it; otherwise the folder's own name."""
    own = folder.resolve().name
    if own.lower().startswith("m3fd_detection"):
        return "M3FD_Detection"  # 4,200 other pictures than M3FD_Fusion, numbered alike
    if _child(folder, ["cropinfrared"]):
        return "RoadScene"
    return OFFICIAL.get(re.split(r"[-_ .]", own.lower())[0], own)


def _read_part(report, dataset, split, ir_dir, visible_dir, labels_dir):
    ir_files, visible_files = (files_by_stem(report, folder, IMAGE_SUFFIXES) for folder in (ir_dir, visible_dir))
    label_files = files_by_stem(report, labels_dir, (".xml", ".txt")) if labels_dir else {}
    for stem in sorted(ir_files | visible_files):
        ir, visible = ir_files.get(stem), visible_files.get(stem)
        if not (ir and visible):
            wanted = f"{(visible_dir if ir else ir_dir) / stem}.*"
            message = f"expected its partner {wanted}, found none; add that file or remove this one"
            report.problems.append(Problem(ir or visible, "partner", message))
            continue
        sizes = [_or_problem(report, path, image_size) for path in (ir, visible)]
        if not all(sizes):
            continue
        if sizes[0] != sizes[1]:
            message = size_mismatch(ir, sizes[0], visible, sizes[1]).removeprefix(f"{visible}: ")
            report.problems.append(Problem(visible, "size", message))
            continue
        boxes = classes = None
        if stem in label_files:
            boxes, classes, problems = read_labels(label_files[stem], sizes[0], dataset)
            report.problems += problems
        report.pairs.append(Pair(dataset, split, stem, ir, visible, boxes, classes))


def files_by_stem(report, folder, suffixes):
    """Stem -> file for the files of these suffixes; a second file of one stem is a problem."""
    files = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.name) if folder.is_dir() else ():
        if path.suffix.lower() not in suffixes or path.name.startswith(".") or path.name == "classes.txt":
            continue
        if path.stem in files:
            message = f"expected one file of this name, found {files[path.stem].name} too, which is used; remove one"
            report.problems.append(Problem(path, "duplicate", message))
        else:
            files[path.stem] = path
    return files


def _or_problem(report, path, reader):
    """`reader(path)`, or None with the problem noted in the report."""
    try:
        return reader(path)
    except FusionError as error:
        report.problems.append(Problem(path, "unreadable", str(error).removeprefix(f"{path}: ")))
        return None
