"""The command line of the suite: python -m fusionlib run | data check | train-detector."""

import argparse
import sys

from fusionlib.errors import FusionError


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 when all went well."""
    parser = argparse.ArgumentParser(prog="python -m fusionlib", description=__doc__.split(":")[0])
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="execute the notebooks in order")
    run.add_argument("--profile", default="quick", help="quick (default), small or paper")
    run.add_argument("--data-root", default="", help="folder that holds LLVIP/, M3FD/, MSRS/ and so on")
    run.add_argument("--only", default="", help="numbers of notebooks, such as 02,04")
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a value for the parameters cells")
    run.add_argument("--out", default="", help="folder of the run; default data/runs/<profile>")
    run.add_argument("--publish", action="store_true", help="copy the executed notebooks back to notebooks/")

    data = commands.add_parser("data", help="look at data sets").add_subparsers(dest="action", required=True)
    check = data.add_parser("check", help="decode every file below a folder and report what is wrong")
    check.add_argument("folder")
    check.add_argument("--json", default=None, help="write the report here as well")

    train = commands.add_parser("train-detector", help="train the small detector of the quick profile again")
    train.add_argument("--out", default=None, help="the file to write; default: the one in the package")

    arguments = parser.parse_args(argv)
    try:
        return globals()[f"_{arguments.command.replace('-', '_')}"](arguments)
    except FusionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(arguments: argparse.Namespace) -> int:
    from fusionlib import suite

    only = [n for n in arguments.only.split(",") if n]
    settings = suite.parse_settings(arguments.set)
    table = suite.run(arguments.profile, arguments.data_root, only, settings, arguments.out)
    print("\n" + table.to_string(index=False, na_rep=""))
    if (table.state != "done").any():
        return 1
    if arguments.publish:
        suite.publish(suite.run_folder(arguments.profile, arguments.out))
    return 0


def _data(arguments: argparse.Namespace) -> int:
    from fusionlib.data.check import run_check

    return run_check(arguments.folder, arguments.json)


def _train_detector(arguments: argparse.Namespace) -> int:
    from fusionlib.detection import train_scene_detector

    print(train_scene_detector(arguments.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
