"""Options and sentences that several commands share."""

from argparse import ArgumentParser
from collections.abc import Sequence

from fusionlib.config import parse_settings
from fusionlib.utils.errors import FusionError

PATTERN = ("Folders are read with all that is below them. If file names contain more than the name, put a star in its "
           "place, in quotes: ")
LAUNCH = ("After an interrupt, the same command continues. To use several GPUs, start it with 'accelerate launch "
          "--multi_gpu -m fusionlib' instead of 'python -m fusionlib'")
SOME_FAILED = "3 if some images had no partner, a different size or could not be read (stderr names them)"
SIDES = {"--ir": "infrared", "--visible": "visible"}


def add_settings(parser: ArgumentParser, of: str, names: Sequence[str]) -> None:
    """Add `--set` for settings of something, and list their names at the end of the help."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help=f"a setting {of}, such as {names[0]}=...; several may follow, and the option may "
                        "be repeated; the names are listed below")  # fmt: skip
    parser.epilog = " ".join(filter(None, [parser.epilog, f"Settings for --set: {', '.join(names)}."]))


def settings_among(names: Sequence[str], given: Sequence[str], of: str) -> dict:
    """What `--set` gives, as `config.parse_settings`; FusionError for a key that is none of the names.

    Where they are arguments of a function beside others of its own, such as `out`, these are no settings.
    """
    settings = parse_settings(given)
    if unknown := [key for key in settings if key not in names]:
        raise FusionError(f"no setting {of} is called {unknown[0]!r}; there are {', '.join(names)}")
    return settings


def add_sides(parser: ArgumentParser, words: str, metavar: str = "DIR", **options) -> None:
    """Add `--ir` and `--visible`; `words` are their help, with {} for the kind of images."""
    for option, kind in SIDES.items():
        parser.add_argument(option, metavar=metavar, help=words.format(kind), **options)


def add_reading(parser: ArgumentParser) -> None:
    """Add the options that say how infrared images are read and laid over visible ones."""
    parser.add_argument("--align", help="features or ecc: register infrared to visible first")
    parser.add_argument("--ir-range", metavar="LOW,HIGH", help="infrared values that become black and white, or auto "
                        "for the percentiles .5 and 99.5 of all images; default: auto for radiometric images alone")
    parser.add_argument("--invert-ir", action="store_true", help="hot is dark in the infrared images (black-hot)")


def reading_of(arguments) -> dict:
    """The options of `add_reading` as arguments of `inference.folder.fuse_files`."""
    limits = arguments.ir_range
    return {"align": arguments.align, "invert_ir": arguments.invert_ir,
            "ir_range": limits.split(",") if limits and "," in limits else limits}
