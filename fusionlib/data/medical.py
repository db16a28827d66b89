"""Medical image pairs: slices of volumes in the layout of BraTS2020, and the images of the Harvard atlas.

The chosen slices are written once as 8-bit PNG below a folder of the run, and the images of the atlas are copied to the
same place, so that one manifest holds all and the rest of the package takes them like any other `Pair`. MRI (of two MRI
contrasts the first) plays infrared; the other modality plays visible: its luma is fused, its colours are unchanged.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from fusionlib.data.image_io import write_image
from fusionlib.data.layouts import Report, pair_folders
from fusionlib.data.nifti import axial_slice, choose_slices, normalise, read_volume
from fusionlib.data.pairs import Pair, Problem
from fusionlib.data.splits import load_rules
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import read_bytes, write_atomically

MODALITIES = ("t1", "t1ce", "t2", "flair")
ATLAS = {"CT-MRI": "CT", "PET-MRI": "PET", "SPECT-MRI": "SPECT"}  # folder -> subfolder beside its subfolder MRI
BRATS2020_CASES = 369  # BraTS20_Training_001 to 369
DEPTH = 4  # folders below the root


def find_cases(root) -> dict[Path, dict[str, Path]]:
    """Find the volumes in the layout of BraTS2020: .../NAME_{t1,t1ce,t2,flair,seg}.nii or .nii.gz.

    Returns {.../NAME: {modality or "seg": file}}, sorted. Of a case in both formats the .nii is taken. A single file
    *Segm.nii serves as the seg of a case without one, as in case 355 of BraTS2020.
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
    folders = {name: [f for f in _below(root, name) if (f / other).is_dir() and (f / "MRI").is_dir()]
               for name, other in ATLAS.items()}
    return {name: found[0] for name, found in folders.items() if found}


def sources(root) -> list[Path]:
    """All files below a folder that `read` would use; empty where there are no medical data."""
    volumes = [path for files in find_cases(root).values() for path in files.values()]
    folders = [folder / side for name, folder in find_atlas(root).items() for side in ("MRI", ATLAS[name])]
    return volumes + [path for folder in folders for path in sorted(folder.iterdir()) if path.is_file()]


def read(root, folder, slices: int, modalities: Sequence[str] = ("t1", "flair")) -> Report:
    """Make pairs of all medical data below `root` and write their images below `folder`.

    Args:
        root: holds folders in the layout of BraTS2020, and CT-MRI, PET-MRI and SPECT-MRI of the atlas.
        folder: receives DATASET/NAME_MODALITY.png.
        slices: number per volume, see `choose_slices`.
        modalities: the two MRI contrasts that play infrared and visible.

    Returns the pairs, the problems of cases that are left out, and a note on each volume. The tumour of a slice is a
    box of class "tumour"; boxes are None where no tumour is marked. Raises FusionError for modalities that are not two
    of `MODALITIES`, fewer than one slice, or no usable pair.
    """
    if len(modalities) != 2 or len(set(modalities)) != 2 or not set(modalities) <= set(MODALITIES):
        raise FusionError(f"modalities must be two of {', '.join(MODALITIES)}, found {', '.join(modalities)}")
    if slices < 1:
        raise FusionError(f"slices must be at least 1 slice of a volume, found {slices}")
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
        first = f", the first of {len(report.problems)} problems is: {report.problems[0]}" if report.problems else ""
        raise FusionError(f"{root}: expected volumes in the layout of BraTS2020 or folders such as PET-MRI, found no "
                          f"usable one{first}; data/README.md shows the layouts")
    return report


def divide(pairs: Sequence[Pair], train: float = 0.8) -> dict[str, list[Pair]]:
    """Divide pairs into {"train": [...], "test": [...]} by subject: all slices of a subject go to the same split.

    Subjects are ranked by the hash of their names under the seed of the committed rules; the first share `train` of a
    data set is for training, the rest for testing. A case of the atlas is in the test split of all its folders or none.
    """
    seed, test = load_rules()["seed"], set()
    for dataset in {pair.dataset for pair in pairs}:
        ranked = sorted({subject(pair) for pair in pairs if pair.dataset == dataset},
                        key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).hexdigest())
        test.update(ranked[int(len(ranked) * train):])
    divided = {"train": [], "test": []}
    for pair in pairs:
        split = "test" if subject(pair) in test else "train"
        divided[split].append(replace(pair, split=split))
    return divided


def subject(pair: Pair) -> str:
    """The subject's name without the slice: BraTS20_Training_001 of BraTS20_Training_001_z080, 41 of 41010."""
    match = re.fullmatch(r"(.+)_z\d+|(\d+)\d{3}", pair.name)
    return match[1] or match[2] if match else pair.name


def _below(root, pattern):
    """Sorted matches of a pattern in a folder and at most `DEPTH` folders below it, which excludes runs."""
    return sorted(path for depth in range(DEPTH + 1) for path in Path(root).glob("*/" * depth + pattern))


def _read_case(report, case, files, folder, count, modalities):
    """Write the chosen slices of one case, and add their pairs and a note to the report."""
    for modality in modalities:
        if modality not in files:
            raise FusionError(f"{case}_{modality}.nii.gz: expected this modality beside "
                              f"{', '.join(path.name for path in files.values())}, found none; add it")
    volumes = [read_volume(files[modality]) for modality in modalities]
    seg = read_volume(files["seg"]) if "seg" in files else None
    # The data set is the folder right below the root, or the root itself if it holds the folder of the case.
    first, below = volumes[0], case.parent.relative_to(report.root).parts
    dataset = below[0] if below and below[0] != case.name else report.root.resolve().name
    if any(pair.dataset == dataset and subject(pair) == case.name for pair in report.pairs):
        raise FusionError(f"{case}: expected one case of this name in {dataset}, found a second one; remove one")
    for other in (*volumes[1:], *([seg] if seg else [])):
        if other.voxels.shape != first.voxels.shape or not np.allclose(other.affine, first.affine, atol=0.5):
            raise FusionError(f"{other.path}: expected {list(first.voxels.shape)} voxels at the position of "
                              f"{first.path.name}, found {list(other.voxels.shape)} or another position; register and "
                              "resample one to the other")
    grays = [(255 * normalise(volume) + 0.5).astype(np.uint8) for volume in volumes]
    tumour = seg.voxels > 0 if seg else None
    marked = tumour is not None and tumour.any()
    chosen = choose_slices((tumour if marked else first.voxels != 0).sum((0, 1)), count)
    for z in chosen:
        name = f"{case.name}_z{z:03d}"
        paths = [folder / dataset / f"{name}_{modality}.png" for modality in modalities]
        for path, gray in zip(paths, grays):
            write_image(path, axial_slice(gray, z))
        pair = Pair(dataset, "", name, *paths)
        if tumour is not None:
            boxes = _box(axial_slice(tumour, z))
            pair = replace(pair, boxes=boxes, classes=("tumour",) * len(boxes))
        report.pairs.append(pair)
    x, y, z = first.spacing
    what = "tumour" if marked else "most brain, since no tumour is marked,"
    note = f"{case.name}: {len(chosen)} slices with {what} from {chosen[0]} to {chosen[-1]}, {x:.2g}x{y:.2g}x{z:.2g} mm"
    number = re.fullmatch(r"BraTS20_Training_(\d+)", case.name)
    if number and int(number[1]) > BRATS2020_CASES:
        note += f"; not one of BraTS2020's own cases, which end at {BRATS2020_CASES}"
    report.notes.append(note)


def _box(mask):
    """The bounding box of a mask [H,W], [1,4] or [0,4] xyxy in pixels."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return np.array([[x, y, x + width, y + height]] if width else [], np.float32).reshape(-1, 4)


def _copy(path, folder, pair, modality):
    target = Path(folder) / pair.dataset / f"{pair.name}_{modality}{path.suffix.lower()}"
    write_atomically(target, read_bytes(path))
    return target
