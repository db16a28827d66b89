"""Which files a place stands for, and by which name each is known: one set of rules for every command.

A place is a folder, which stands for all files below it, however deep; or a pattern whose stars stand for parts of the
name: recordings/*_ir.png, or KAIST/images/set*/V*/lwir. `~` is the home folder, a relative path begins in the working
folder, links are followed, and hidden files are passed over.

The name of a file is its path below the folder without the suffix: day/0001; of a pattern, what its stars stand for,
and the path below what it matches. Folders that say only that images or labels are in them (`PLAIN`) are no part of it,
and the part of a data set comes first: ir/images/train/1.png and ir/train2017/1.png are both train/1.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path, PurePath

from fusionlib.data.problems import Problem
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import IMAGE_SUFFIXES, absolute

# Names of folders in lower case; the comparison ignores case.
INFRARED = ("infrared", "ir", "thermal", "lwir", "cropinfrared", "tir", "fir", "mwir")
VISIBLE = ("visible", "vi", "vis", "rgb", "crop_lr_visible", "color", "colour", "visual", "optical", "eo")
LABELS = ("annotations", "annotation", "labels", "label", "bboxes")
PLAIN = (*LABELS, "detection", "images", "image", "imgs", "img", "jpegimages", "frames", "data")
PARTS = {"train": "train", "training": "train", "trainval": "train", "val": "val", "valid": "val", "validation": "val",
         "test": "test", "testing": "test", "eval": "test", "evaluation": "test"}
PART = re.compile(rf"({'|'.join(PARTS)})(?:[-_ ]?(?:set|split|data|images|imgs|(?:19|20)\d\d))?", re.IGNORECASE)
SEQUENCE = re.compile(r"(?:set|seq|sequence|video|vid|clip|v)?[-_ ]?\d+", re.IGNORECASE)  # set00, V000, 0012
LABEL_SUFFIXES = (".xml", ".txt", ".json")
#: Pictures, arrays and videos that are not read from a folder, and so are reported.
NOT_READ = (".heic", ".heif", ".jxl", ".exr", ".hdr", ".raw", ".dng", ".fff", ".seq", ".npy", ".npz", ".mat", ".h5",
            ".mp4", ".avi", ".mov", ".mkv")
READ = "png, jpg, bmp, tiff, webp or the like"


def files(place, problems: list[Problem] | None = None) -> list[tuple[str, Path]]:
    """(name, file) of all files of a place, in order of the paths.

    Raises FusionError where the place is neither a folder nor a pattern below one, or a folder cannot be listed; with a
    list of `problems`, a folder in it that cannot be listed is added to them.
    """
    path = Path(place).expanduser()
    parts = path.parts
    stars = next((index for index, part in enumerate(parts) if "*" in part), None)
    if path.is_dir() or stars is None:
        return [(name_of(file.relative_to(path).parts), file) for file in _below(_folder(place, path), problems)]
    return list(_matches(_folder(place, Path(*parts[:stars])), parts[stars:], (), problems))


def images(place, problems: list[Problem]) -> dict[str, Path]:
    """{name: image file} of a place; those below a folder of labels, such as masks, are passed over.

    A second file of a name, and one of a kind that is not read, are added to `problems`, as by `files`.
    """
    base = base_of(place)
    listed = [(name, file) for name, file in files(place, problems)
              if not any(part.lower() in LABELS for part in file.relative_to(base).parts[:-1])]
    message = f"expected an image ({READ}), found a file of another kind, which is left out; convert it"
    problems += [Problem(file, "format", message) for _, file in listed if file.suffix.lower() in NOT_READ]
    return unique(listed, IMAGE_SUFFIXES, problems)


def find_images(place, problems: list[Problem] | None = None) -> dict[str, Path]:
    """{path below the place, without suffix unless it occurs twice: image file}; FusionError where there is none.

    `problems` as for `files`.
    """
    base, listed = base_of(place), files(place, problems)
    found = [file for _, file in listed if file.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise FusionError(f"{place}: expected images ({READ}), found {len(listed)} other files; check the path")
    stems = [file.relative_to(base).with_suffix("").as_posix() for file in found]
    twice = Counter(stems)
    return {stem if twice[stem] == 1 else file.relative_to(base).as_posix(): file for stem, file in zip(stems, found)}


def unique(listed: Iterable[tuple[str, Path]], wanted: Collection[str], problems: list[Problem]) -> dict[str, Path]:
    """{name: file} of the files with one of the `wanted` suffixes; a second one of a name is added to `problems`."""
    found = {}
    for name, file in listed:
        if file.suffix.lower() in wanted and found.setdefault(name, file) is not file:
            first = found[name].name if found[name].parent == file.parent else found[name]
            message = f"expected one file of this name, also found {first}, which is used; remove one"
            problems.append(Problem(file, "duplicate", message))
    return found


def name_of(parts: Sequence[str]) -> str:
    """The name of a file, of which the last of `parts` has a suffix: images/train/day/1.png -> train/day/1."""
    *folders, file = parts
    return join(*folders, PurePath(file).stem)


def join(*parts: str) -> str:
    """A name from its folders and a last part: the part of the data set first, `PLAIN` folders left out."""
    *folders, last = (piece for part in parts for piece in part.split("/") if piece)
    folders = [folder for folder in folders if folder.lower() not in PLAIN]
    first = next((folder for folder in folders if part_of_folder(folder)), None)
    if first:
        folders.remove(first)
        folders.insert(0, part_of_folder(first))
    return unicodedata.normalize("NFC", "/".join((*folders, last)))  # macOS writes e and its accent as two characters


def without_side(name: str) -> str:
    """A name without folders called infrared, visible or the like, as labels have them: ir/day/1 -> day/1."""
    *folders, last = name.split("/")
    return "/".join((*(folder for folder in folders if folder.lower() not in (*INFRARED, *VISIBLE)), last))


def part_of(name: str) -> tuple[str, str]:
    """(part of the data set or "", rest) of a name: train/day/1 -> train, day/1."""
    first, slash, rest = name.partition("/")
    return (first, rest) if slash and first in PARTS.values() else ("", name)


def part_of_folder(folder: str) -> str:
    """The part of the data set that a folder's name is, or "": training -> train, test_set -> test, val2017 -> val."""
    match = PART.fullmatch(folder)
    return PARTS[match[1].lower()] if match else ""


def prefix(*parts: str) -> str:
    """What precedes the names of the files in a folder with these parts."""
    return join(*parts, "-").rpartition("/")[0]


def by_file_name(found: dict[str, Path], keep_part: bool) -> dict[str, Path]:
    """{last piece of the name, after the part of the data set if it is kept: file}, of those that occur once."""
    short = {name: join(part_of(name)[0] * keep_part, name.rpartition("/")[2]) for name in found}
    return _once(short, found)


def by_common_name(found: dict[str, Path]) -> dict[str, Path]:
    """{file name without words such as ir or rgb: file}, of those that occur once: set00/I01_lwir -> I01.

    i and v are such words before or after a number, as in LasHeR and RGBT234: v0001, 0001i.
    """
    sides = "|".join((*INFRARED, *VISIBLE))
    word = re.compile(rf"(?:^|[-_. ]+)(?:{sides})(?=$|[-_. ])|^[iv](?=\d+$)|(?<=\d)[iv]$", re.IGNORECASE)
    return _once({name: word.sub("", name.rpartition("/")[2]).strip("-_. ") for name in found}, found)


def _once(short: dict[str, str], found: dict[str, Path]) -> dict[str, Path]:
    count = Counter(short.values())
    return {short[name]: file for name, file in found.items() if short[name] and count[short[name]] == 1}


def is_below(file: Path, bases: Collection[Path]) -> bool:
    """Whether a file lies below one of some absolute folders."""
    return bool(bases) and not set(bases).isdisjoint(absolute(file).parents)


def is_plain(folder: str) -> bool:
    """Whether a folder's name is of a part, of a sequence, or says only that images are in it: not of a data set."""
    return folder.lower() in PLAIN or bool(part_of_folder(folder) or SEQUENCE.fullmatch(folder))


def words(name: str) -> set[str]:
    """The words in a file's or folder's name, in lower case: images_thermal_train, ThermalImages8bit, IRimages."""
    return {word.lower() for pattern in (r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", r"[A-Z]{2,}(?=[a-z])")
            for word in re.findall(pattern, name)}


def sides_in(name: str) -> tuple[bool, bool]:
    """Whether a word in a file's or folder's name says infrared, and whether one says visible."""
    found = words(name)
    return not found.isdisjoint(INFRARED), not found.isdisjoint(VISIBLE)


def part_in(name: str) -> str:
    """The part of the data set that a word in a file's or folder's name says, or "": images_thermal_train -> train."""
    return next((PARTS[word] for word in sorted(words(name)) if word in PARTS), "")


def base_of(place) -> Path:
    """The folder of a place: itself, or of a pattern the part before the first star."""
    path = Path(place).expanduser()
    if path.is_dir():
        return path
    return Path(*[part for index, part in enumerate(path.parts) if "*" not in "".join(path.parts[: index + 1])])


def folders(folder: Path) -> list[Path]:
    """The folders in a folder, links to folders among them, without hidden ones, in order of their names."""
    return [path for path, is_folder in _children(folder) if is_folder]


def _children(folder: Path) -> list[tuple[Path, bool]]:
    """(path, whether it is a folder) of all but hidden entries, in order of their names."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir())
                           for entry in entries if not entry.name.startswith("."))  # a link may lead nowhere
    except OSError as error:
        raise FusionError(f"{folder}: expected a folder that can be listed, found one that cannot ({error.strerror}); "
                          "check its permissions") from None
    return [(folder / name, is_folder) for name, is_folder in found]


def _below(folder: Path, problems: list[Problem] | None, above: frozenset = frozenset()) -> Iterator[Path]:
    """All files below a folder; a link to a folder that it lies in is not followed. `problems` as for `files`."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        children = _children(folder)
    except FusionError as error:
        if problems is None or not above:
            raise
        problems.append(Problem.unreadable(folder, error))
        return
    for path, is_folder in children:
        if is_folder:
            yield from _below(path, problems, above | {real})
        else:
            yield path


def _matches(folder: Path, patterns: Sequence[str], stars: tuple[str, ...],
             problems: list[Problem] | None) -> Iterator[tuple[str, Path]]:
    """(name, file) of the files that match patterns, one for each level below a folder, or lie below such a folder."""
    head, *rest = patterns
    suffix = PurePath(head).suffix.lower()
    has_suffix = suffix in (*IMAGE_SUFFIXES, *LABEL_SUFFIXES)
    head = head[: -len(suffix)] + suffix if has_suffix else head
    expression = re.compile("(.+)".join(map(re.escape, re.split(r"\*+", head))), re.DOTALL)
    for path, is_folder in _children(folder):
        match = expression.fullmatch(path.name)
        if is_folder and match:
            if rest:
                yield from _matches(path, rest, (*stars, *match.groups()), problems)
            else:
                for file in _below(path, problems):
                    yield join(*stars, *match.groups(), name_of(file.relative_to(path).parts)), file
        elif not is_folder and not rest:
            if match := expression.fullmatch(path.stem + path.suffix.lower() if has_suffix else path.stem):
                yield join(*stars, *match.groups()), path


def _folder(place, folder: Path) -> Path:
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise FusionError(f"{place}: expected a folder of images, found {found}; check the path")
    return folder
