"""Medical image pairs: slices of volumes in the layouts of BraTS and of MSD, and the images of the Harvard atlas.

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
from fusionlib.data.nifti import axial_slice, choose_slices, normalise, read_volume, stated_shape
from fusionlib.data.pairs import Pair
from fusionlib.data.problems import Problem
from fusionlib.data.splits import load_rules
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import load_json, read_bytes, write_atomically

MODALITIES = ("t1", "t1ce", "t2", "flair")
#: Other names: of BraTS2023 and later ones, and of MSD's dataset.json.
ALIASES = {"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair", "t1w": "t1", "t1gd": "t1ce"}
MSD_ORDER = ("flair", "t1", "t1ce", "t2")  # of the volumes in a file of Task01_BrainTumour
ATLAS = {"CT-MRI": "CT", "PET-MRI": "PET", "SPECT-MRI": "SPECT"}  # folder -> subfolder beside its subfolder MRI
BRATS2020_CASES = 369  # BraTS20_Training_001 to 369
DEPTH = 4  # folders below the root


def find_cases(root) -> dict[Path, dict[str, Path]]:
    """Find the volumes in the layouts of BraTS: .../NAME_{t1,t1ce,t2,flair,seg}.nii or .nii.gz, as in 2020 and 2021, or
    .../NAME-{t1n,t1c,t2w,t2f,seg}, as since 2023.

    Returns {.../NAME: {modality or "seg": file}}, sorted. Of a case in both formats the .nii is taken. A single file
    *Segm.nii serves as the seg of a case without one, as in case 355 of BraTS2020.
    """
    cases, known = {}, "|".join((*MODALITIES, *ALIASES, "seg"))
    for path in _below(root, "*.nii*"):
        match = re.fullmatch(rf"(.+)[_-]({known})\.nii(\.gz)?", path.name, re.IGNORECASE | re.DOTALL)
        if match and not path.is_dir() and not path.name.startswith("."):
            name = match[2].lower()
            cases.setdefault(path.with_name(match[1]), {}).setdefault(ALIASES.get(name, name), path)
    for name, files in cases.items():
        other = sorted(name.parent.glob("*Segm.nii*"))
        if "seg" not in files and len(other) == 1:
            files["seg"] = other[0]
    return cases


def find_stacks(root) -> dict[Path, dict[str, tuple[Path, int | None]]]:
    """Find the files of four dimensions of MSD's Task01_BrainTumour: .../{imagesTr,imagesTs}/NAME.nii or .nii.gz.

    Returns {.../NAME: {modality: (file, which of its volumes), "seg": (file of labelsTr, None)}}, sorted. The order of
    the volumes is that of dataset.json in the folder around, if there is one.
    """
    stacks = {}
    for path in _below(root, "images*/*.nii*"):
        if path.name.startswith(".") or path.parent.name not in ("imagesTr", "imagesTs"):
            continue
        folder, labels = path.parents[1], path.parents[1] / "labelsTr" / path.name
        order = _msd_order(folder / "dataset.json")
        if not set(order) & set(MODALITIES):
            continue  # of another task, such as CT of the liver
        files = {modality: (path, number) for number, modality in enumerate(order)}
        if path.parent.name == "imagesTr" and labels.is_file():
            files["seg"] = labels, None
        stacks[folder / path.name.partition(".nii")[0]] = files
    return stacks


def _msd_order(path) -> list[str]:
    try:
        named = load_json(path, "MSD's description of a data set", "correct it")["modality"]
        order = [str(named[str(number)]).lower() for number in range(len(named))]
    except (FusionError, KeyError, TypeError):
        return list(MSD_ORDER)
    return [ALIASES.get(name, name) for name in order]


def find_atlas(root) -> dict[str, Path]:
    """The folders CT-MRI, PET-MRI and SPECT-MRI below `root` that hold both modalities, by name."""
    folders = {name: [f for f in _below(root, name) if (f / other).is_dir() and (f / "MRI").is_dir()]
               for name, other in ATLAS.items()}
    return {name: found[0] for name, found in folders.items() if found}


def sources(root) -> list[Path]:
    """All files below a folder that `read` would use; empty where there are no medical data."""
    volumes = [path for files in find_cases(root).values() for path in files.values()]
    volumes += sorted({path for files in find_stacks(root).values() for path, _ in files.values()})
    folders = [folder / side for name, folder in find_atlas(root).items() for side in ("MRI", ATLAS[name])]
    return volumes + [path for folder in folders for path in sorted(folder.iterdir()) if path.is_file()]


def read(root, folder, slices: int, modalities: Sequence[str] = ("t1", "flair")) -> Report:
    """Make pairs of all medical data below `root` and write their images below `folder`.

    Args:
        root: holds folders in the layout of BraTS or of MSD, and CT-MRI, PET-MRI and SPECT-MRI of the atlas.
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
    cases = {case: {name: (path, None) for name, path in files.items()} for case, files in find_cases(root).items()}
    for case, files in tqdm((cases | find_stacks(root)).items(), "volumes", leave=False):
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
    """Divide pairs into {"train": [...], "test": [...]} by subject: all slices of a subject, one scene, go together.

    Subjects are ranked by the hash of their names under the seed of the committed rules; the first share `train` of a
    data set is for training, the rest for testing. A case of the atlas is in the test split of all its folders or none.
    """
    seed, test = load_rules()["seed"], set()
    for dataset in {pair.dataset for pair in pairs}:
        ranked = sorted({subject(pair) for pair in pairs if pair.dataset == dataset},
                        key=lambda name: hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogatepass")).hexdigest())
        test.update(ranked[int(len(ranked) * train):])
    divided = {"train": [], "test": []}
    for pair in pairs:
        split = "test" if subject(pair) in test else "train"
        divided[split].append(replace(pair, split=split, scene=subject(pair)))
    return divided


def subject(pair: Pair) -> str:
    """The subject's name without the slice: BraTS20_Training_001 of BraTS20_Training_001_z080, 41 of 41010.

    The time point of BraTS2023 is left out, too: BraTS-GLI-00002 of BraTS-GLI-00002-001_z080.
    """
    match = re.fullmatch(r"(BraTS-[A-Za-z]+-\d+)-\d+_z\d+|(.+)_z\d+|(\d+)\d{3}", pair.name)
    return next(filter(None, match.groups())) if match else pair.name


def _below(root, pattern):
    """Sorted matches of a pattern in a folder and at most `DEPTH` folders below it, which excludes runs."""
    return sorted(path for depth in range(DEPTH + 1) for path in Path(root).glob("*/" * depth + pattern))


def _read_case(report, case, files, folder, count, modalities):
    """Write the chosen slices of one case, and add their pairs and a note to the report."""
    for modality in modalities:
        if modality not in files:
            raise FusionError(f"{case}_{modality}.nii.gz: expected this modality beside "
                              f"{', '.join(path.name for path, _ in files.values())}, found none; add it")
    names = [*modalities, *(["seg"] if "seg" in files else [])]
    shapes = {name: stated_shape(*files[name]) for name in names}  # before any of them is read
    for name, shape in shapes.items():
        if sorted(shape) != sorted(shapes[names[0]]):
            raise _misplaced(files[name][0], shape, files[names[0]][0], shapes[names[0]])
    first = read_volume(*files[names[0]])
    # The data set is the folder right below the root, or the root itself if it holds the folder of the case.
    below = case.parent.relative_to(report.root).parts
    dataset = below[0] if below and below[0] != case.name else report.root.resolve().name
    if any(pair.dataset == dataset and pair.name.rpartition("_z")[0] == case.name for pair in report.pairs):
        raise FusionError(f"{case}: expected one case of this name in {dataset}, found a second one; remove one")
    others = [first]
    for name in names[1:]:
        other = read_volume(*files[name])
        if other.voxels.shape != first.voxels.shape or not np.allclose(other.affine, first.affine, atol=0.5):
            raise _misplaced(other.path, other.voxels.shape, first.path, first.voxels.shape)
        others.append(other)
    tumour = others.pop().voxels > 0 if "seg" in files else None
    marked = tumour is not None and tumour.any()
    chosen = choose_slices((tumour if marked else first.voxels != 0).sum((0, 1)), count)
    grays = [(255 * normalise(volume, chosen) + 0.5).astype(np.uint8) for volume in others]
    for number, z in enumerate(chosen):
        name = f"{case.name}_z{z:03d}"
        paths = [folder / dataset / f"{name}_{modality}.png" for modality in modalities]
        for path, gray in zip(paths, grays):
            write_image(path, axial_slice(gray, number))
        pair = Pair(dataset, "", name, *paths)
        if tumour is not None:
            boxes = _box(axial_slice(tumour, z))
            pair = replace(pair, boxes=boxes, classes=("tumour",) * len(boxes))
        report.pairs.append(pair)
    x, y, z = first.spacing
    what = "tumour" if marked else "most brain, since no tumour is marked,"
    note = f"{case.name}: {len(chosen)} slices with {what} from {chosen[0]} to {chosen[-1]}, {x:.2g}x{y:.2g}x{z:.2g} mm"
    if background := max(volume.background for volume in others):
        note += f"; {background:,} voxels around the head are NaN and count as black"
    number = re.fullmatch(r"BraTS20_Training_(\d+)", case.name)
    if number and int(number[1]) > BRATS2020_CASES:
        note += f"; not one of BraTS2020's own cases, which end at {BRATS2020_CASES}"
    report.notes.append(note)


def _misplaced(path, shape, first, expected):
    return FusionError(f"{path}: expected {list(expected)} voxels at the position of {first.name}, found {list(shape)} "
                       "or another position; register and resample one to the other")


def _box(mask):
    """The bounding box of a mask [H,W], [1,4] or [0,4] xyxy in pixels."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return np.array([[x, y, x + width, y + height]] if width else [], np.float32).reshape(-1, 4)


def _copy(path, folder, pair, modality):
    target = Path(folder) / pair.dataset / f"{pair.name}_{modality}{path.suffix.lower()}"
    write_atomically(target, read_bytes(path))
    return target
