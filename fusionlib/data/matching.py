"""Match fused images with their sources in arbitrary folders, by file name."""

import re
from itertools import combinations
from pathlib import Path

import torch

from fusionlib.data.image_io import IMAGE_SUFFIXES, as_tensor, image_size, read_image
from fusionlib.data.layouts import INFRARED, SPLITS, Report, files_by_stem
from fusionlib.data.pairs import Pair
from fusionlib.utils.errors import FusionError


def match(fused, ir, visible) -> tuple[dict[Path, Pair], list[str]]:
    """Find the infrared and the visible source of each fused image by its name; the suffixes may differ.

    fused, ir, visible: folders, or patterns whose star stands for the name: "results/*_ours" or "results/*_ours.png"
    takes 1_ours.png for 1. All three may be patterns in one folder.

    Returns ({fused file: its pair} in order of the names, a sentence for each file without a partner or with a
    duplicate). The data set of the pairs is the nearest folder above `ir` that is not called infrared, train or the
    like. Raises FusionError where a folder is missing, two folders hold the same images, or no name is common to all.
    """
    places = {"fused": fused, "infrared": ir, "visible": visible}
    found, problems = match_names(places)
    parents = Path(ir).expanduser().parent.resolve().parts[1:]
    dataset = next((name for name in reversed(parents) if name.lower() not in (*INFRARED, *SPLITS)), "images")
    return {files["fused"]: Pair(dataset, "", name, files["infrared"], files["visible"])
            for name, files in found.items()}, problems


def match_names(places: dict) -> tuple[dict[str, dict[str, Path]], list[str]]:
    """Match the images in two or three folders by their names.

    `places` is {role, such as "infrared": folder or pattern as for `match`}. Returns {name: {role: file}} in order of
    the names, and the sentences, as `match`. Raises as `match`.
    """
    report = Report(Path())
    found = {role: _images(place, report) for role, place in places.items()}
    common = sorted(set.intersection(*map(set, found.values())))
    if not common:
        first, count = next(iter(places)), "all three" if len(places) == 3 else "both"
        examples = ", ".join(f"{place} has {_examples(place, found[role])}" for role, place in places.items())
        raise FusionError(f"No image name is in {count} folders: {examples}; give the files equal names, or mark the "
                          f"name with a star as in {Path(places[first]) / f'*_{first}'}")
    for one, other in combinations(found, 2):
        if found[one][common[0]].samefile(found[other][common[0]]):
            raise FusionError(f"{places[one]}: the {one} and the {other} images are the same files; give each its "
                              "own folder, or a star for the name, as in images/*_ir and images/*_fused")
    problems = list(dict.fromkeys(map(str, report.problems)))
    for name in sorted(set().union(*found.values()) - set(common)):
        path = next(images[name] for images in found.values() if name in images)
        missing = " and ".join(f"{role} in {places[role]}" for role, images in found.items() if name not in images)
        problems.append(f"{path}: expected its partner {missing}, found none called {name}; add it or remove this one")
    return {name: {role: images[name] for role, images in found.items()} for name in common}, problems


def load_fused(path: Path, pair: Pair) -> torch.Tensor:
    """The fused image of a pair as float32 [1 or 3, H, W] in 0..1; FusionError if unreadable or of another size."""
    image, (height, width) = read_image(path), image_size(pair.ir)
    if image.shape[:2] != (height, width):
        raise FusionError(f"{path}: expected {width}x{height} like its infrared source {pair.ir}, found "
                          f"{image.shape[1]}x{image.shape[0]}; write the fused image at the size of its sources")
    return as_tensor(image)


def _images(place, report):
    """Name -> file of the images in a folder, or of those that match a pattern such as folder/*_ir.png."""
    folder, pattern, suffixes = Path(place).expanduser(), "*", IMAGE_SUFFIXES
    if not folder.is_dir() and folder.name.count("*") == 1:
        folder, pattern = folder.parent, folder.name
        if Path(pattern).suffix.lower() in IMAGE_SUFFIXES:
            pattern, suffixes = Path(pattern).stem, (Path(pattern).suffix.lower(),)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise FusionError(f"{place}: expected a folder of images, found {found}; check the path")
    names = re.compile("(.+)".join(map(re.escape, pattern.split("*"))))
    files = files_by_stem(report, folder, suffixes)
    return {match[1]: path for stem, path in files.items() if (match := names.fullmatch(stem))}


def _examples(place, images):
    """What a folder holds, for an error message: a few file names, or no image but a few subfolders."""
    files = [path.name for path in images.values()]
    if files:
        return ", ".join(files[:2]) + (f" and {len(files) - 2} more" if len(files) > 2 else "")
    folder = Path(place).expanduser()
    folders = sorted(child.name for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []
    return "no image" + (f", but the folders {', '.join(folders[:3])}" if folders else "")
