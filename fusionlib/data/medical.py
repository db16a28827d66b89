"""Medical pairs: slices of volumes in the layout of BraTS2020, and the pictures of the Harvard atlas.

The chosen slices are written once as PNG below a folder of the run, so that every part of the suite that takes a `Pair`
takes them as it takes any other: training, peers, metrics, manifests and figures know nothing of volumes. They have 8
bit, as the pictures of street scenes have. The pictures of the atlas are copied to their side, so that one manifest
holds all. MRI (of two MRI contrasts the first) plays infrared, the other modality plays visible: its luma is fused, its
colours are kept.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from fusionlib.data.image_io import write_image
from fusionlib.data.layouts import Report, pair_folders
from fusionlib.data.nifti import choose_slices, normalise, picture, read_volume
from fusionlib.data.pairs import Pair, Problem
from fusionlib.data.splits import load_rules
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import read_bytes, write_atomically

MODALITIES = ("t1", "t1ce", "t2", "flair")
ATLAS = {"CT-MRI": "CT", "PET-MRI": "PET", "SPECT-MRI": "SPECT"}  # folder -> folder inside of it, beside MRI
BRATS2020_CASES = 369  # BraTS20_Training_001 to 369
DEPTH = 4  # folders below the root


def find_cases(root) -> dict[Path, dict[str, Path]]:
    """The volumes below a folder in the layout of BraTS2020: .../NAME_{t1,t1ce,t2,flair,seg}.nii or .nii.gz.

    Returns:
        {.../NAME: {modality or "seg": file}}, in order. Of a case in both formats the .nii counts. A lone seg in a
        folder may have another name that ends in Segm, as that of BraTS2020's case 355 has.
    """
    cases = {}
    for path in _below(root, "*.nii*"):
        match = re.fullmatch(rf"(.+)_({'|'.join((*MODALITIES, 'seg'))})\.nii(\.gz)?", path.name, re.IGNORECASE)
        if match and path.is_file() and not path.name.startswith("."):
            cases.setdefault(path.with_name(match[1]), {}).setdefault(match[2].lower(), path)
    for name, files in cases.items():
        other = sorted(name.parent.glob("*Segm.nii*"))
        if "seg" not in files and len(other) == 1:
            files["seg"] = other[0]
    return cases


def find_atlas(root) -> dict[str, Path]:
    """The folders CT-MRI, PET-MRI and SPECT-MRI below `root` that hold both modalities, by name."""
    found = {}
    for name, other in ATLAS.items():
        folders = [f for f in _below(root, name) if (f / other).is_dir() and (f / "MRI").is_dir()]
        if folders:
            found[name] = folders[0]
    return found


def sources(root) -> list[Path]:
    """All files below a folder that `read` would look at; empty where there are no medical data."""
    volumes = [path for files in find_cases(root).values() for path in files.values()]
    folders = [folder / side for name, folder in find_atlas(root).items() for side in ("MRI", ATLAS[name])]
    return volumes + [path for folder in folders for path in sorted(folder.iterdir()) if path.is_file()]


def read(root, folder, slices: int, modalities: Sequence[str] = ("t1", "flair")) -> Report:
    """Make pairs of all medical data below `root`; their pictures are written below `folder`.

    Args:
        root: holds folders in the layout of BraTS2020, and CT-MRI, PET-MRI and SPECT-MRI of the atlas, at any depth.
        folder: receives DATASET/NAME_MODALITY.png.
        slices: of each volume, see `choose_slices`.
        modalities: the two contrasts of a volume: the one that plays infrared, and the one that plays visible.

    Returns:
        The pairs; what was wrong with cases that are left out; and notes: what each volume gave. The tumour of a slice
        is a box of class "tumour"; boxes are None where no tumour is marked.

    Raises:
        FusionError: modalities that are not two of `MODALITIES`, fewer than one slice, or no pair that is usable.
    """
    if len(modalities) != 2 or len(set(modalities)) != 2 or not set(modalities) <= set(MODALITIES):
        raise FusionError(f"modalities must be two of {', '.join(MODALITIES)}, but are {', '.join(modalities)}")
    if slices < 1:
        raise FusionError(f"there must be at least 1 slice of a volume, but slices is {slices}")
    report = Report(Path(root))
    for case, files in tqdm(find_cases(root).items(), "volumes", leave=False):
        try:
            _read_case(report, case, files, Path(folder), slices, tuple(modalities))
        except FusionError as error:
            path, _, message = str(error).partition(": ")
            report.problems.append(Problem(Path(path), "volume", message))
    for name, place in find_atlas(root).items():
        found = pair_folders(place / "MRI", place / ATLAS[name], dataset=name)
        report.problems += found.problems
        for pair in found.pairs:
            report.pairs.append(replace(pair, ir=_copy(pair.ir, folder, pair, "MRI"),
                                        visible=_copy(pair.visible, folder, pair, ATLAS[name])))
    if not report.pairs:
        first = f", the first of {len(report.problems)} problems being: {report.problems[0]}" if report.problems else ""
        raise FusionError(f"{root}: expected volumes in the layout of BraTS2020 or folders such as PET-MRI, found no "
                          f"usable one{first}; data/README.md draws the layouts")
    return report


def divide(pairs: Sequence[Pair], train: float = 0.8) -> dict[str, list[Pair]]:
    """Divide pairs into {"train": [...], "test": [...]}, subject by subject: all slices of one stay together.

    Subjects are ranked by the hash of their names under the seed of the committed rules, which need not know the data;
    of each data set the first `train` train and the rest, at least one, test. In the atlas, whose pictures are named by
    the case and three digits for the slice, a case has one name in all its folders and tests in all of them or in none.
    """
    seed, test = load_rules()["seed"], set()
    for dataset in {pair.dataset for pair in pairs}:
        ranked = sorted({subject(pair) for pair in pairs if pair.dataset == dataset},
                        key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).hexdigest())
        test.update(ranked[int(len(ranked) * train):])
    parts = {"train": [], "test": []}
    for pair in pairs:
        part = "test" if subject(pair) in test else "train"
        parts[part].append(replace(pair, split=part))
    return parts


def subject(pair: Pair) -> str:
    """Whose head it is: the name without the slice; BraTS20_Training_001 of BraTS20_Training_001_z080, 41 of 41010."""
    match = re.fullmatch(r"(.+)_z\d+|(\d+)\d{3}", pair.name)
    return match[1] or match[2] if match else pair.name


def _below(root, pattern):
    """What fits a pattern in a folder and in at most `DEPTH` folders below it, in order; runs lie deeper."""
    return sorted(path for depth in range(DEPTH + 1) for path in Path(root).glob("*/" * depth + pattern))


def _read_case(report, case, files, folder, count, modalities):
    """Write the chosen slices of one case, and add their pairs and a note to the report."""
    for modality in modalities:
        if modality not in files:
            raise FusionError(f"{case}_{modality}.nii.gz: expected this modality beside "
                              f"{', '.join(path.name for path in files.values())}, found none; add it")
    volumes = [read_volume(files[modality]) for modality in modalities]
    seg = read_volume(files["seg"]) if "seg" in files else None
    first, dataset = volumes[0], _dataset(report.root, case)
    if any(pair.dataset == dataset and subject(pair) == case.name for pair in report.pairs):
        raise FusionError(f"{case}: expected one case of this name in {dataset}, found a second one; remove one")
    for other in (*volumes[1:], *([seg] if seg else [])):
        if other.voxels.shape != first.voxels.shape or not np.allclose(other.affine, first.affine, atol=0.5):
            raise FusionError(f"{other.path}: expected {list(first.voxels.shape)} voxels at the place of "
                              f"{first.path.name}, found {list(other.voxels.shape)} or another place; register and "
                              "resample one to the other")
    grays = [(255 * normalise(volume) + 0.5).astype(np.uint8) for volume in volumes]
    tumour = seg.voxels > 0 if seg else None
    marked = tumour is not None and tumour.any()
    chosen = choose_slices((tumour if marked else first.voxels != 0).sum((0, 1)), count)
    for z in chosen:
        pair = Pair(dataset, "", f"{case.name}_z{z:03d}", *(
            _picture_path(folder, dataset, f"{case.name}_z{z:03d}", modality) for modality in modalities
        ))  # fmt: skip
        for path, gray in zip((pair.ir, pair.visible), grays):
            write_image(path, picture(gray, z))
        if tumour is not None:
            boxes = _box(picture(tumour, z))
            pair = replace(pair, boxes=boxes, classes=("tumour",) * len(boxes))
        report.pairs.append(pair)
    x, y, z = first.spacing
    what = "tumour" if marked else "most brain, since no tumour is marked,"
    note = f"{case.name}: {len(chosen)} slices with {what} from {chosen[0]} to {chosen[-1]}, {x:.2g}x{y:.2g}x{z:.2g} mm"
    number = re.fullmatch(r"BraTS20_Training_(\d+)", case.name)
    if number and int(number[1]) > BRATS2020_CASES:
        note += f"; not one of BraTS2020's own cases, which end at {BRATS2020_CASES}"
    report.notes.append(note)


def _dataset(root, case):
    """The folder right below the root in which a case lies, as BraTS2020; the root's own name where it lies there."""
    below = case.parent.relative_to(root).parts
    return below[0] if below and below[0] != case.name else root.resolve().name


def _box(mask):
    """The box around all that is marked in a slice, [1,4] or [0,4] xyxy in pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return np.zeros((0, 4), np.float32)
    return np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float32)


def _picture_path(folder, dataset, name, modality, suffix=".png"):
    return Path(folder) / dataset / f"{name}_{modality}{suffix}"


def _copy(path, folder, pair, modality):
    target = _picture_path(folder, pair.dataset, pair.name, modality, path.suffix.lower())
    write_atomically(target, read_bytes(path))
    return target
