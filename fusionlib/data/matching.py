"""Match the images of two or three places, see `places`, by their names."""

from contextlib import suppress
from functools import partial
from itertools import combinations
from pathlib import Path

import torch

from fusionlib.data import places as rules
from fusionlib.data.common_range import with_ranges
from fusionlib.data.image_io import as_tensor, image_size, read_image
from fusionlib.data.pairs import Pair
from fusionlib.data.problems import Problem
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import absolute


def match(fused, ir, visible) -> tuple[dict[Path, Pair], list[str]]:
    """Find the infrared and the visible source of each fused image by its name; the suffixes may differ.

    fused, ir, visible: folders, or patterns whose stars stand for the name: "results/*_ours" or "results/*_ours.png"
    takes 1_ours.png for 1. All three may be patterns in one folder.

    Returns ({fused file: its pair} in order of the names, a sentence for each file without a partner or with a
    duplicate). The data set of the pairs is called as by `data_set_of`. Raises FusionError where a folder is missing,
    two folders hold the same images, or no name is common to all.
    """
    found, problems = match_names({"fused": fused, "infrared": ir, "visible": visible})
    dataset = data_set_of(ir)
    pairs = [Pair(dataset, "", name, files["infrared"], files["visible"]) for name, files in found.items()]
    return dict(zip((files["fused"] for files in found.values()), with_ranges(pairs))), problems


def match_names(places: dict, out=None) -> tuple[dict[str, dict[str, Path]], list[str]]:
    """As `pair_up`, with a sentence for each problem; FusionError where no name is common, or two places are one.

    `out` is a folder whose images belong to none of the places.
    """
    problems = []
    found = pair_up(places, problems, out)
    if not found:
        raise FusionError(no_common_name(places))
    files = next(iter(found.values()))
    for one, other in combinations(places, 2):
        with suppress(OSError):  # one that cannot be looked at is reported when it is read
            if files[one].samefile(files[other]):
                raise FusionError(f"{places[one]}: the {one} and the {other} images are the same files; give each its "
                                  "own folder, or a star for the name, as in images/*_ir and images/*_fused")
    return found, list(dict.fromkeys(map(str, problems)))


def no_common_name(places: dict) -> str:
    """A sentence where no image name is common to two or three places, {role: folder or pattern}."""
    count = "all three" if len(places) == 3 else "both"
    examples = ", ".join(f"{place} has {_examples(place)}" for place in places.values())
    first, place = next(iter(places.items()))
    mend = f"give the files equal names, or mark the name with a star as in {rules.base_of(place) / f'*_{first}'}"
    if not all(rules.images(place, []) for place in places.values()):
        mend = "give folders of images, or two images or videos by their names"
    return f"No image name is in {count} folders: {examples}; {mend}"


def swapped_names(ir, visible) -> list[str]:
    """A sentence where the names of two places or files call infrared visible, and the other way round."""
    says = [rules.sides_in(f"{place.parent.name} {place.stem}") for place in map(Path, (ir, visible))]
    return [f"{ir} and {visible}: by their names, infrared and visible are swapped; exchange the two if they are"
            ] if says == [(False, True), (True, False)] else []


def pair_up(places: dict, problems: list[Problem], out=None) -> dict[str, dict[str, Path]]:
    """Match the images of two or three places by their names; where none is common, by their file names alone, and then
    without words such as ir and rgb in these (1_ir.png with 1_rgb.png).

    `places` is {role, such as "infrared": folder or pattern}. Where one lies in another, or `out` does, its images are
    those of the inner one. Returns {name: {role: file}} in order of the names; files without a partner, of a second
    file type, or of one that is not read are added to `problems`. Raises FusionError where a place is no folder.
    """
    bases = {role: absolute(rules.base_of(place)) for role, place in places.items()}
    bases |= {None: absolute(out)} if out else {}
    found, unused = {}, []
    for role, place in places.items():
        inner, of_place = [base for base in bases.values() if bases[role] in base.parents], []
        files = rules.images(place, of_place)
        found[role] = {name: file for name, file in files.items() if not rules.is_below(file, inner)}
        unused += [problem for problem in of_place if not rules.is_below(problem.path, inner)]
    for shorten in (partial(rules.by_file_name, keep_part=True), partial(rules.by_file_name, keep_part=False),
                    rules.by_common_name):  # fmt: skip
        if not set.intersection(*map(set, found.values())):
            short = {role: shorten(files) for role, files in found.items()}
            found = short if set.intersection(*map(set, short.values())) else found
    problems += unused
    others = {problem.path.stem: problem.path for problem in unused if problem.kind == "format"}
    for name in sorted(set().union(*found.values())):
        missing = [role for role, files in found.items() if name not in files]
        if missing:
            path = next(files[name] for files in found.values() if name in files)
            partner = " and ".join(f"{role} in {places[role]}" for role in missing)
            is_there = others.get(name.rpartition("/")[2])
            message = f"found none called {name}; add it or remove this one"
            message = f"found {is_there}, which is not read; convert it" if is_there else message
            problems.append(Problem(path, "partner", f"expected its partner {partner}, {message}"))
    common = sorted(set.intersection(*map(set, found.values())))
    return {name: {role: files[name] for role, files in found.items()} for name in common}


def data_set_of(ir) -> str:
    """The name of the nearest folder above a place that is not called infrared, train, images, set00 or the like."""
    parents = absolute(Path(ir).parent).parts[1:]
    return next((name for name in reversed(parents) if not rules.is_plain(name) and "*" not in name
                 and name.lower() not in rules.INFRARED), "images")


def load_fused(path: Path, pair: Pair) -> torch.Tensor:
    """The fused image of a pair as float32 [1 or 3, H, W] in 0..1; FusionError if unreadable or of another size."""
    (height, width), found = image_size(pair.ir), image_size(path)
    if found != (height, width):
        raise FusionError(f"{path}: expected {width}x{height} like its infrared source {pair.ir}, found "
                          f"{found[1]}x{found[0]}; write the fused image at the size of its sources")
    return as_tensor(read_image(path), path)


def _examples(place):
    """What a place holds, for an error message: a few image files, or none and a few others."""
    listed = [file for _, file in rules.files(place)]
    base = rules.base_of(place)
    names = [file.relative_to(base).as_posix() for file in rules.images(place, []).values()]
    if names:
        return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
    return "no image" + (f", but {len(listed)} other files such as {listed[0].name}" if listed else "")
