"""Which labels belong to which pair: files of one image each, and COCO's files of many."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from fusionlib.data import coco, places
from fusionlib.data.annotations import YOLO_NAMES, read_labels
from fusionlib.data.label_formats import CLASS_LISTS, class_names, content_of, has_numbers
from fusionlib.data.problems import Problem
from fusionlib.utils.files import LONGEST_TEXT, parse_json

NOT_READ = (".vbb", ".mat", ".csv", ".tsv", ".npy")  # labels of other kinds, which are reported


class Labels:
    """The labels of a data set, to be read pair by pair; a file of one image goes before COCO's of many.

    Labels and pairs belong together by their names (see `places`), then without the part of the data set, then by those
    of the image files, where a pattern's star stands for less, then by the last part of the name, where only one label
    and one pair have it.

    Args:
        folders: (folder, pattern or file of labels, what precedes their names), the first that has a name first.
        beside: the same for what may hold labels too: folders of images, and json files that may be COCO's.
        names: of the pairs.
        top: the last folder in which class names are looked for, see `label_formats.class_names`.
    """

    def __init__(self, folders: Sequence[tuple[Path, str]], beside: Sequence[tuple[Path, str]],
                 names: Iterable[str], top: Path | None):
        self.top, self.problems, self.notes = top, [], []
        self._folders, self._read_files = [place for place, _ in folders], set()
        files, entries = {}, {}  # {name: (place, file)}, {name: (place, file, entry)}
        for place, prefix in [*folders, *beside]:
            # What cannot be listed beside the labels is reported with the images there.
            for listed in _listed(place, self.problems if place in self._folders else []):
                self._add(place, prefix, listed, files, entries)
        self._alone, self._unlisted = _by_last(names), None  # the latter: a file with numbers that no list names
        self._tables = [(table, _by_last(table), set()) for table in (files, entries)]  # the last: names that were used

    def read(self, name: str, files: Iterable[Path], size: tuple[int, int], dataset: str) -> tuple:
        """Boxes, classes and problems of a pair of two files of (H, W), as of `annotations.read_labels`.

        Boxes and classes are None for an unlabelled pair.
        """
        last = name.rpartition("/")[2]
        stems = [file.stem for file in files if file.stem != last]
        for table, alone, used in self._tables:
            keys = name, places.part_of(name)[1], *stems, alone.get(last) if last in self._alone else None
            if found := next((key for key in keys if key in table), None):
                used.add(found)
                _, path, *entry = table[found]
                if entry:
                    return coco.read_entry(path, *entry, size)
                labels = read_labels(path, size, dataset, self.top)
                if labels[0] is not None and len(labels[0]) and not self._unlisted and dataset not in YOLO_NAMES:
                    self._unlisted = path if has_numbers(path) and class_names(path, self.top) is None else None
                return labels
        return None, None, []

    def about(self) -> list[str]:
        """Notes on class numbers without names, and on labels of no pair; to be asked for when all pairs are read."""
        notes = []
        if self._unlisted:
            notes.append(f"{self._unlisted} has class numbers, and no list of their names (classes.txt, data.yaml, "
                         "obj.names) is beside it or above: 0 counts as a person, all others as unknown")
        for what, (table, _, used) in zip(("label files in", "images in the json files of"), self._tables):
            for place in self._folders:
                names = [name for name, (of, *_) in table.items() if of == place]
                if left := [name for name in names if name not in used]:
                    notes.append(f"{len(left)} of {len(names)} {what} {place} belong to no pair, the first is "
                                 f"{left[0]}")
        return notes

    def _add(self, place, prefix, listed, files, entries):
        """Add the listed labels of a place to the tables."""
        of_images, others, unread = [], [], []
        for name, path in listed:
            if path in self._read_files:  # places may overlap
                continue
            self._read_files.add(path)
            if path.suffix.lower() == ".json":
                content = self._read(path, place)
                if coco.is_coco(content):
                    self._add_entries(place, prefix, path, content, entries)
                    continue
                if not isinstance(content, dict) or "shapes" not in content or place == path:
                    others += [] if content is None else [path.name]
                    continue
            unread += [path.name] if path.suffix.lower() in NOT_READ else []
            if not CLASS_LISTS.fullmatch(path.name):
                of_images.append((places.join(prefix, name), path))
        found = places.unique(of_images, places.LABEL_SUFFIXES, self.problems)
        if place in self._folders and others:
            self.notes.append(f"{len(others)} json files in {place} are skipped, since they are neither COCO's, with "
                              f"images, annotations and categories, nor labelme's: {', '.join(others[:3])}"
                              f"{', ...' * (len(others) > 3)}")
        if place in self._folders and unread:
            self.notes.append(f"{len(unread)} files in {place} are not read, since labels are xml, txt or json: "
                              f"{', '.join(unread[:3])}{', ...' * (len(unread) > 3)}")
        if known := [name for name in found if name in files]:
            self.notes.append(f"{len(known)} label files in {place} are not used, since others come before them: "
                              f"{files[known[0]][1]} before {found[known[0]]}")
        files |= {name: (place, path) for name, path in found.items() if name not in files}

    def _add_entries(self, place, prefix, path, content, entries):
        part = places.part_in(path.stem)
        try:
            found = {places.join(prefix, part, name): entry for name, entry in coco.read_entries(content).items()}
        except ValueError as error:
            self.problems.append(_unusable(path, error))
            return
        if known := sorted(entries.keys() & found.keys()):
            self.notes.append(f"{len(known)} images in {path} are not used, since others come before them: "
                              f"{found[known[0]]['file_name']} in {entries[known[0]][1]}")
        entries |= {name: (place, path, entry) for name, entry in found.items() if name not in entries}

    def _read(self, path, place):
        """The content of a json file; None, with a problem added, where it is damaged."""
        try:
            return parse_json(content_of(path, LONGEST_TEXT))
        except (OSError, ValueError) as error:
            if place != path or place in self._folders:  # one beside the folders may be about anything
                self.problems.append(_unusable(path, error))


def _listed(place, problems):
    """Two lists of (name, file) of a place: those in a visible folder in it, as in labels/vi/1.txt, come second."""
    if Path(place).is_file():
        return [[(Path(place).stem, Path(place))]]
    base, listed = places.base_of(place), ([], [])
    for name, path in places.files(place, problems):
        in_folders = {folder.lower() for folder in path.relative_to(base).parts[:-1]}
        listed[not in_folders.isdisjoint(places.VISIBLE)].append((places.without_side(name), path))
    return listed


def _by_last(names):
    """{last part of a name: name}, of those that are the only ones with it."""
    count = Counter(name.rpartition("/")[2] for name in names)
    return {last: name for name in names if count[last := name.rpartition("/")[2]] == 1}


def _unusable(path, error):
    return Problem(path, "label", f"cannot be used, so its images count as unlabelled: {error}; correct or replace it")
