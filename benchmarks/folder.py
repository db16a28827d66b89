"""A folder of 16 pairs: `fuse_files`, beside the network alone on each and a plain loop from files to files."""

import io
import tempfile
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path

from benchmarks.timing import Case
from fusionlib.data.image_io import write_image
from fusionlib.data.infrared import DEFAULT
from fusionlib.data.pairs import Pair, load
from fusionlib.data.synthetic import scene as scenes
from fusionlib.inference import network, pair
from fusionlib.inference.folder import fuse_files
from fusionlib.inference.pair_files import Sample, fuse_to_file

SIZES = ((480, 640), (1024, 1280))
PAIRS, SCENES = 16, 4
SETTINGS = {"instruction": None, "align": None}

_folders = []  # temporary ones, which are removed at the end of the process that made them


def inputs() -> dict[str, str]:
    """For each size, as WIDTHxHEIGHT, a folder with the folders ir and vi."""
    _folders.append(tempfile.TemporaryDirectory())
    places = {f"{width}x{height}": Path(_folders[-1].name, f"{width}x{height}") for height, width in SIZES}
    for (height, width), place in zip(SIZES, places.values()):
        for number in range(PAIRS):
            scene = scenes.render(number % SCENES, size=(height, width))
            write_image(place / f"ir/{number:02d}.png", scene.ir)
            write_image(place / f"vi/{number:02d}.png", scene.visible)
    return {size: str(place) for size, place in places.items()}


def cases(arrays: dict[str, str]) -> list[Case]:
    """The network alone first, which a folder cannot be faster than on one core."""
    found, stage_1 = [], pair.fusion_network()
    for size, place in arrays.items():
        files = [[Path(place, kind, f"{number:02d}.png") for kind in ("ir", "vi")] for number in range(PAIRS)]
        images = [load(Pair("", "", "", *each)) for each in files[:SCENES]]
        ways = {
            "the network alone": partial(_network_alone, stage_1, images),
            "a plain loop: read, check, fuse, write": partial(_plain_loop, files, Path(place)),
            "fuse_files": partial(_fuse_files, Path(place)),
        }
        found += [Case(f"{PAIRS} pairs {size}", way, run) for way, run in ways.items()]
    return found


def _network_alone(stage_1, images):
    return [network.fuse(stage_1, *images[number % len(images)]) for number in range(PAIRS)]


def _plain_loop(files, place):
    out = Path(tempfile.mkdtemp(dir=place))
    planned = Sample().planned((index, *each, out / each[0].name) for index, each in enumerate(files))
    return [fuse_to_file(each._replace(check=True), SETTINGS, DEFAULT, None).target for each in planned]


def _fuse_files(place):
    with redirect_stderr(io.StringIO()):  # the progress bar
        return fuse_files(place / "ir", place / "vi", tempfile.mkdtemp(dir=place))
