"""Find data sets below a folder, and in each its infrared and visible folders and what may hold labels."""

import os
import re
from pathlib import Path

from fusionlib.data import places
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import absolute

OFFICIAL = {"llvip": "LLVIP", "m3fd": "M3FD", "msrs": "MSRS", "roadscene": "RoadScene", "tno": "TNO"}
#: Data sets of videos, each in a folder of any name: RGBT234/afterrain/{infrared,visible}.
OF_VIDEOS = {"lasher", "rgbt210", "rgbt234", "gtot", "vtuav", "camel", "kaist"}
DEPTH = 8  # folders below the root in which data sets are looked for
RUNS = "runs"  # a folder of the suite's results, which is passed over
# Words in the name of a folder that is neither.
NO_SIDE = {"fused", "fusion", "annotated", "mask", "masks", "segmentation", "depth", *places.LABELS}


def find(root, depth: int = DEPTH) -> dict[str, Path]:
    """Find the data sets at `root` or up to `depth` folders below it: name -> folder, in order of the paths.

    A folder named after an official data set (MSRS-main, M3FD_Fusion) gets the official name, any other its own name,
    preceded by its parent folder's where that name is taken. Raises FusionError where `root` is not a folder.
    """
    return {name: folder for name, (folder, _) in data_sets(root, depth).items()}


def data_sets(root, depth=DEPTH):
    """{name: (folder, sides)} of the data sets that `find` finds.

    Its sides are [(what precedes the names of their images, infrared folder, visible folder)].
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise FusionError(f"{root}: expected a folder with data sets, found {found}; give the folder that holds LLVIP, "
                          "MSRS or your own pairs")
    found = {}
    for folder, sides in _walk(root, depth, frozenset()):
        name, *parents = _name(folder), *reversed(absolute(folder).parts[1:-1])
        while name in found and parents:
            name = f"{parents.pop(0)}/{name}"
        found[name] = folder, [(_prefix(folder, ir), ir, visible) for ir, visible in sides]
    return found


def _walk(folder, depth, above):
    """(folder, its infrared and visible folders) of the outermost data sets; nothing is searched inside one.

    What only parts, sequences and folders called images or the like hold belongs to the data set around them, and so
    does what is in one of `OF_VIDEOS`, and what folders hold whose names differ in their numbers alone (walk_01, 02).
    """
    try:
        sides = _sides(folder)
    except FusionError:
        if not above:
            raise
        return []  # a folder that cannot be listed, such as lost+found
    if sides:
        return [(folder, sides)]
    real = os.path.realpath(folder)
    if not depth or real in above:
        return []
    found = [each for child in places.folders(folder) if child.name != RUNS
             for each in _walk(child, depth - 1, above | {real})]
    if found and _are_sequences(folder, [inner for inner, _ in found]):
        return [(folder, [side for _, sides in found for side in sides])]
    return found


def _are_sequences(folder, inner):
    """Whether folders with both sides below a folder are parts or sequences of one data set."""
    if all(places.is_plain(path.name) for path in inner):
        return True
    if any(_first_word(path.name) in OFFICIAL for path in inner):
        return False
    numbered = {re.sub(r"\d+", "#", path.name) for path in inner if path.parent == folder}
    differ_in_numbers = len(inner) > 1 == len(numbered) and all("#" in name for name in numbered)
    return _first_word(folder.name) in OF_VIDEOS or (differ_in_numbers and all(p.parent == folder for p in inner))


def _first_word(name):
    return re.split(r"[-_ .]", name.lower())[0]


def _sides(folder):
    """[(infrared, visible folder)] in a folder: those of well-known names, or else one with such a word for each part.

    So thermal_8_bit and RGB_images are a pair, and images_thermal_train and images_rgb_train one of the part train.
    thermal_16_bit beside thermal_8_bit is not taken.
    """
    children = places.folders(folder)
    exact = [next((child for name in names for child in children if child.name.lower() == name), None)
             for names in (places.INFRARED, places.VISIBLE)]
    if all(exact):
        return [tuple(exact)]
    parts = {}
    for child in sorted(children, key=lambda child: len(child.name)):
        side = places.sides_in(child.name)
        if sum(side) == 1 and places.words(child.name).isdisjoint(NO_SIDE):
            parts.setdefault(places.part_in(child.name), ({}, {}))[side[1]].setdefault(_without_bits(child), child)
    parts = {part: [list(side.values()) for side in sides] for part, sides in parts.items()}
    return [(ir[0], visible[0]) for ir, visible in parts.values()
            if len(ir) == len(visible) == 1 and not _sides(ir[0]) and not _sides(visible[0])]


def _without_bits(folder):
    return re.sub(r"\d+(?=[-_ ]?bit)", "", folder.name.lower())


def _prefix(folder, ir):
    """What precedes the names in an infrared folder of a data set: the folders between, and a part in its name."""
    return places.prefix(places.part_in(ir.name), *ir.parent.relative_to(folder).parts)


def _around(folder, sides):
    """The folders from a data set down to those around its infrared folders, the innermost first."""
    found = {base for _, ir, _ in sides for base in ir.parents if base == folder or folder in base.parents}
    return sorted(found, key=lambda base: (-len(base.parts), base))


def label_places(folder, sides):
    """The sources of `Labels` in a data set: its folders of labels, and what may hold labels too."""
    labels, loose = [], []
    for base in _around(folder, sides):
        prefix = places.prefix(*base.relative_to(folder).parts)
        children = [child for child in places.folders(base)
                    if not places.words(child.name).isdisjoint(places.LABELS) or child.name.lower() == "detection"]
        children.sort(key=lambda child: (places.LABELS + (child.name.lower(),)).index(child.name.lower()))
        labels += [(child, prefix) for child in children]
        loose += [(path, prefix) for path in sorted(base.glob("*.json"))]
    return labels, [(side[number], side[0]) for number in (1, 2) for side in sides] + loose


def unused_images(folder, sides):
    """Notes on images of a data set that are neither in its infrared and visible folders nor in one of labels."""
    used = {side for each in sides for side in each[1:]}
    found = {}
    for file in places.images(folder, []).values():
        if used.isdisjoint(file.parents):
            found.setdefault(file.parent, []).append(file)
    return [f"{len(files)} images in {place} are not used: it is no infrared or visible folder with a partner"
            for place, files in found.items()]


def _name(folder):
    """The official name where the folder's name, or that of what it links to, begins with it; otherwise its name.

    MSRS_labelled keeps its name: it is a choice of frames that somebody else labelled, and not the release.
    """
    names = absolute(folder).name, folder.resolve().name
    for name in dict.fromkeys(names):
        if re.search("label+ed", name.lower()):
            return name
        if name.lower().startswith("m3fd_detection"):
            return "M3FD_Detection"  # 4,200 images other than those of M3FD_Fusion, with the same numbers
        if official := OFFICIAL.get(_first_word(name)):
            return official
    return "RoadScene" if any(child.name.lower() == "cropinfrared" for child in places.folders(folder)) else names[0]
