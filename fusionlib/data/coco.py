"""Read COCO's annotations: one json file for many images, which are known by the stems of their file names."""

import json
from pathlib import Path

import numpy as np

from fusionlib.data.annotations import CLASSES, IGNORE, checked_boxes
from fusionlib.data.pairs import Problem


def find_entries(folder: Path, part: str = "") -> tuple[dict[str, tuple[Path, dict]], list[Problem], list[str]]:
    """The images in the json files of a folder: {stem: (file, entry for `read_entry`)}, problems, and notes.

    Of instances_train.json and instances_test.json, which may have images of one name, `part` reads its own alone.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".json") if folder.is_dir() else []
    found, problems, others = {}, [], []
    for path in [path for path in files if part and part in path.stem.lower()] or files:
        try:
            content = json.loads(path.read_bytes())
            if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= content.keys():
                others.append(path.name)
                continue
            entries = _entries(content)
        except (OSError, ValueError) as error:
            message = f"cannot be used, so its images count as unlabelled: {error}; correct or replace it"
            problems.append(Problem(path, "label", message))
            continue
        for stem in sorted(found.keys() & entries.keys()):
            message = f"{entries.pop(stem)['file_name']} is in {found[stem][0].name} too, which is used; remove one"
            problems.append(Problem(path, "duplicate", message))
        found |= {stem: (path, entry) for stem, entry in entries.items()}
    notes = [f"{len(others)} json files in {folder} are skipped, since they have no images, annotations and categories "
             f"as COCO's files: {', '.join(others[:3])}{', ...' * (len(others) > 3)}"] if others else []
    return found, problems, notes


def _entries(content):
    """The images of a file by stem, each with its annotations; raises ValueError that names the entry."""
    categories, entries, by_id = {}, {}, {}
    for kind in ("categories", "images", "annotations"):
        if not isinstance(content[kind], list):
            raise ValueError(f"its {kind} are no list")
        for number, item in enumerate(content[kind], start=1):
            try:
                if kind == "categories":
                    categories[item["id"]] = str(item["name"])
                elif kind == "images":
                    stem = Path(item["file_name"]).stem
                    if stem in entries or item["id"] in by_id:
                        raise ValueError(f"repeats the name {stem} or the id {item['id']} of another")
                    entries[stem] = by_id[item["id"]] = {**item, "annotations": []}
                else:
                    named = {**item, "category": categories[item["category_id"]]}
                    by_id[item["image_id"]]["annotations"].append(named)
            except KeyError as error:
                named = not isinstance(error.args[0], str)
                missing = f"names id {error}, which nothing has" if named else f"has no {error}"
                raise ValueError(f"number {number} of its {kind} {missing}") from None
            except TypeError:
                raise ValueError(f"number {number} of its {kind} is not as COCO has it: {str(item)[:60]}") from None
            except ValueError as error:
                raise ValueError(f"number {number} of its {kind} {error}") from None
    return entries


def read_entry(path: Path, entry: dict, size: tuple[int, int]):
    """Read the annotations of one image of (H, W) as `annotations.read_labels` does; a crowd is a region to ignore."""
    stated = entry.get("height"), entry.get("width")
    if None not in stated and stated != tuple(size):
        message = (f"{entry['file_name']} cannot be used, so its pair counts as unlabelled: it is made for {stated[1]}x"
                   f"{stated[0]} pixels, its image has {size[1]}x{size[0]}; correct or replace it")
        return None, None, [Problem(path, "label", message)]
    rows, problems = [], []
    for item in entry["annotations"]:
        where, name = f"annotation {item.get('id')} of {entry['file_name']}", item["category"].strip()
        try:
            x, y, width, height = (float(value) for value in item["bbox"])
            if not np.isfinite([x, y, width, height]).all():
                raise ValueError
        except (KeyError, TypeError, ValueError):
            message = f"{where} has no bbox of four numbers x, y, width, height and is left out"
            problems.append(Problem(path, "label", message))
            continue
        known = CLASSES.get(name.lower())
        if item.get("iscrowd") and known:
            if known not in ("person", IGNORE):
                continue  # a crowd of cars says nothing about people
            name = IGNORE
        rows.append((where, name, np.array([x, y, x + width, y + height])))
    return checked_boxes(path, rows, problems, size)
