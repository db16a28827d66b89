"""The parser of the command line, of all commands."""

import os
import re
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence

from fusionlib import __version__
from fusionlib.commands import data, images, methods, runs

EXAMPLES = """examples:
  %(prog)s fuse --ir ir.png --visible visible.png --out fused.png
  %(prog)s fuse --ir recordings/ir --visible recordings/rgb --out fused --instruction auto
  %(prog)s metrics --fused fused --ir recordings/ir --visible recordings/rgb
  %(prog)s run                          # all notebooks, on embedded scenes
  %(prog)s browse data/runs/quick       # what came of it

%(prog)s COMMAND --help says more about each."""
SCRIPT = "fusionlib"  # in the environment's bin/


def build() -> ArgumentParser:
    """The parser; what it parses has the command's function as `function`, and no function without a command."""
    name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    parser = ArgumentParser(
        prog=SCRIPT if name == SCRIPT else f"python -m {SCRIPT}", epilog=EXAMPLES,
        description="Infrared and visible image fusion.", formatter_class=RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--version", action="version", version=f"{SCRIPT} {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for add in (
        images.add_fuse, images.add_advise, data.add_metrics, runs.add_viewer, runs.add_run, runs.add_report,
        runs.add_results, runs.add_train, data.add_data, data.add_ask, methods.add_peers, methods.add_train_peer,
        methods.add_train_detector, images.add_export,
    ):  # fmt: skip
        add(commands)
    return parser


def parse(argv: Sequence[str]):
    """The parsed arguments; without any, None, after the help was printed."""
    parser = build()
    if not argv:
        parser.print_help()
        return None
    arguments = parser.parse_args(one_by_one(argv))
    if arguments.command is None:
        parser.error("which command?")
    return arguments


def one_by_one(argv: Sequence[str]) -> list[str]:
    """The arguments with `--set` before each of several settings that follow it, and with a range as one argument.

    argparse takes the -20,40 of `--ir-range -20,40` for an option.
    """
    result = []
    for argument in argv:
        if result[-1:] == ["--ir-range"] and re.match(r"-[\d.]", argument):
            result[-1] += f"={argument}"
            continue
        after_setting = len(result) > 1 and result[-2] == "--set"
        result += ["--set"] * (after_setting and bool(re.match(r"\w+=", argument))) + [argument]
    return result
