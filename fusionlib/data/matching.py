"""Match fused pictures with their sources in folders of anybody's making, by the names of the files."""

import re
from itertools import combinations
from pathlib import Path

import torch

from fusionlib.data.image_io import IMAGE_SUFFIXES, as_tensor, image_size, read_image
from fusionlib.data.layouts import INFRARED, SPLITS, Report, files_by_stem
from fusionlib.data.pairs import Pair
from fusionlib.utils.errors import FusionError


def match(fused, ir, visible) -> tuple[dict[Path, Pair], list[str]]:
    """Find for each fused picture its infrared and visible source of the same name; the suffixes may differ.

    Args:
        fused, ir, visible: folders. Where file names carry more than the name, a star says what the name is:
            "results/*_ours" or "results/*_ours.png" takes 1_ours.png for 1. All three may then be in one folder.

    Returns:
        ({fused file: its pair} in order of the names, a sentence for each file without a partner or one too many). The
        data set of the pairs is called after the folder around `ir`, above folders called infrared, train and so on.

    Raises:
        FusionError: not a folder, the same pictures twice, or no name that all three have.
    """
    places = {"fused": fused, "infrared": ir, "visible": visible}
    found, problems = match_names(places)
    around = Path(ir).expanduser().parent.resolve().parts[1:]
    dataset = next((part for part in reversed(around) if part.lower() not in (*INFRARED, *SPLITS)), "images")
    return {files["fused"]: Pair(dataset, "", name, files["infrared"], files["visible"])
            for name, files in found.items()}, problems


def match_names(places: dict) -> tuple[dict[str, dict[str, Path]], list[str]]:
    """Match the pictures in two or three folders by their names.

    Args:
        places: {what the pictures are, such as "infrared": folder, or pattern as for `match`}.

    Returns:
        {name: {what: file}} in order of the names, and the sentences, as `match` has them. Raises as `match` does.
    """
    report = Report(Path())
    found = {role: _pictures(place, report) for role, place in places.items()}
    common = sorted(set.intersection(*map(set, found.values())))
    first, count = next(iter(places)), "all three" if len(places) == 3 else "both"
    if not common:
        examples = ", ".join(f"{place} has {_examples(place, found[role])}" for role, place in places.items())
        raise FusionError(f"No name of a picture is in {count} folders: {examples}; name the files alike, or say "
                          f"with a star what the name is, as in {Path(places[first]) / f'*_{first}'}")
    for one, other in combinations(found, 2):
        if found[one][common[0]].samefile(found[other][common[0]]):
            raise FusionError(f"{places[one]}: the {one} and the {other} pictures are the same files; give each its "
                              "own folder, or a star for the name, as in pictures/*_ir and pictures/*_fused")
    problems = list(dict.fromkeys(map(str, report.problems)))
    for name in sorted(set().union(*found.values()) - set(common)):
        there = next(pictures[name] for pictures in found.values() if name in pictures)
        missing = " and ".join(f"{role} in {places[role]}" for role, pictures in found.items() if name not in pictures)
        problems.append(f"{there}: expected its partner {missing}, found none called {name}; add it or remove this one")
    return {name: {role: pictures[name] for role, pictures in found.items()} for name in common}, problems


def load_fused(path: Path, pair: Pair) -> torch.Tensor:
    """The fused picture of a pair as float32 [1 or 3, H, W] in 0..1; FusionError if unreadable or of another size."""
    image, (height, width) = read_image(path), image_size(pair.ir)
    if image.shape[:2] != (height, width):
        raise FusionError(f"{path}: expected {width}x{height} like its infrared source {pair.ir}, found "
                          f"{image.shape[1]}x{image.shape[0]}; write the fused picture at the size of its sources")
    return as_tensor(image)


def _pictures(place, report):
    """Name -> file of the pictures in a folder, or of those that fit a pattern such as folder/*_ir.png."""
    folder, pattern, suffixes = Path(place).expanduser(), "*", IMAGE_SUFFIXES
    if not folder.is_dir() and folder.name.count("*") == 1:
        folder, pattern = folder.parent, folder.name
        if Path(pattern).suffix.lower() in IMAGE_SUFFIXES:
            pattern, suffixes = Path(pattern).stem, (Path(pattern).suffix.lower(),)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise FusionError(f"{place}: expected a folder of pictures, found {found}; check the path")
    names = re.compile("(.+)".join(map(re.escape, pattern.split("*"))))
    files = files_by_stem(report, folder, suffixes)
    return {match[1]: path for stem, path in files.items() if (match := names.fullmatch(stem))}


def _examples(place, pictures):
    files = [path.name for path in pictures.values()]
    if files:
        return ", ".join(files[:2]) + (f" and {len(files) - 2} more" if len(files) > 2 else "")
    folder = Path(place).expanduser()
    folders = sorted(child.name for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []
    return "no picture" + (f", but the folders {', '.join(folders[:3])}" if folders else "")
