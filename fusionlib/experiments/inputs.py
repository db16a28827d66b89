"""What a run is given: settings, folder, data, weights. Without torch, so that what is missing is said at once."""

import os
import re
from dataclasses import replace
from pathlib import Path

import fusionlib
from fusionlib.config import Profile, profile
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import absolute

YOLOV5 = "https://github.com/ultralytics/yolov5/releases/tag/v7.0"


def checked_profile(name: str, /, **overrides) -> Profile:
    """As `config.profile`, and the compared methods are known ones, spelled as in `peers`. Raises FusionError."""
    settings = profile(name, **overrides)
    if not {"methods", "train_peers"} & overrides.keys():
        return settings
    from fusionlib.peers.sources import spelled  # here, since it imports torch

    return replace(settings, methods=tuple(spelled(settings.methods)), train_peers=tuple(spelled(settings.train_peers)))


def run_folder(profile: str, out: str | Path = "") -> Path:
    """The folder of a run's results: `out`, or data/runs/<profile>."""
    return absolute(out) if out else fusionlib.ROOT / "data" / "runs" / profile


def data_root_of(settings: Profile, folder: Path, data_root: str | Path = "") -> Path:
    """The given root of the data sets, or the embedded scenes of the run (a folder per sequence), or data/.

    Raises FusionError where the given one is no folder.
    """
    if data_root:
        root = Path(data_root).expanduser()
        if not root.is_dir():
            raise FusionError(f"the data root {root} is no folder: give the folder that holds LLVIP/, M3FD/ and so on")
        return root
    if settings.scenes_train:
        return folder / "scenes" / f"seed-{settings.seed}-{settings.scenes_train}-{settings.scenes_test}"
    return fusionlib.ROOT / "data"


def roots_of(data_root: Path) -> tuple[Path, ...]:
    """Folders whose subfolders weights and peers may hold the user's weights: at or above the data root, data/."""
    return data_root, data_root.parent, fusionlib.ROOT / "data"


def find_weights(name: str, data_root: Path) -> Path:
    """Find a weight file by path or by name; FusionError lists the folders that were searched, and where to get it."""
    name = os.path.expanduser(name)
    places = [Path("."), Path(fusionlib.__file__).parent / "weights", data_root,
              *(root / "weights" for root in roots_of(data_root))]  # fmt: skip
    for place in places:
        if (place / name).is_file():
            return (place / name).resolve()
    searched = ", ".join(dict.fromkeys(map(str, places[2:])))
    source = f"; {YOLOV5} has them" if re.fullmatch(r"yolov5[nsmlx]\.pt", os.path.basename(name)) else ""
    raise FusionError(f"the weights {name} are missing: put the file into one of {searched}, or give its path{source}")
