"""Read COCO's annotations: one json file for many images, which are known by their file names, see `places`."""

from pathlib import Path, PurePosixPath

import numpy as np

from fusionlib.data.annotations import IGNORE, PERSON, checked_boxes, class_of, meaning
from fusionlib.data.label_formats import require_size
from fusionlib.data.places import name_of, without_side
from fusionlib.data.problems import Problem


def is_coco(content) -> bool:
    """Whether the content of a json file is as COCO has it."""
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def read_entries(content: dict) -> dict[str, dict]:
    """The images of a file by name (see `places`), each with its annotations; ValueError names a wrong entry."""
    categories, entries, by_id = {}, {}, {}
    for kind in ("categories", "images", "annotations"):
        if not isinstance(content[kind], list):
            raise ValueError(f"its {kind} are no list")
        for number, item in enumerate(content[kind], start=1):
            try:
                if kind == "categories":
                    categories[item["id"]] = str(item["name"])
                elif kind == "images":
                    name = without_side(name_of(PurePosixPath(item["file_name"].replace("\\", "/")).parts))
                    if name in entries or item["id"] in by_id:
                        raise ValueError(f"repeats the name {name} or the id {item['id']} of another")
                    entries[name] = by_id[item["id"]] = {**item, "annotations": []}
                else:
                    named = {**item, "category": categories[item["category_id"]]}
                    by_id[item["image_id"]]["annotations"].append(named)
            except KeyError as error:
                named = not isinstance(error.args[0], str)
                missing = f"names id {error}, which nothing has" if named else f"has no {error}"
                raise ValueError(f"number {number} of its {kind} {missing}") from None
            except (AttributeError, TypeError):
                raise ValueError(f"number {number} of its {kind} is not as COCO has it: {str(item)[:60]}") from None
            except ValueError as error:
                raise ValueError(f"number {number} of its {kind} {error}") from None
    names = meaning(categories.values())
    for entry in entries.values():
        for item in entry["annotations"]:
            item["category"] = names[item["category"]]
    return entries


def read_entry(path: Path, entry: dict, size: tuple[int, int]):
    """Read the annotations of one image of (H, W) as `annotations.read_labels` does.

    A crowd (`iscrowd`) and what has `ignore` set are regions to ignore.
    """
    try:
        require_size((entry.get("height"), entry.get("width")), size)
    except ValueError as error:
        message = (f"{entry['file_name']} cannot be used, so its pair counts as unlabelled: {error}; "
                   "correct or replace it")
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
        known = class_of(name)
        if (item.get("iscrowd") or item.get("ignore")) and known:
            if known not in (PERSON, IGNORE):
                continue  # a crowd of cars says nothing about people
            name = IGNORE
        rows.append((where, name, np.array([x, y, x + width, y + height])))
    return checked_boxes(path, rows, problems, size, entry["file_name"])
