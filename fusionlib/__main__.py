"""Infrared and visible image fusion on the command line: python -m fusionlib fuse | run | ask | metrics | ..."""

import argparse
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

from fusionlib.config import parse_settings
from fusionlib.utils.errors import FusionError, is_main_process, print_problems

PATTERN = "If file names contain more than the name, put a star in its place, in quotes: "
LAUNCH = ("After an interrupt, the same command continues. To use several GPUs, start it with 'accelerate launch "
          "--multi_gpu -m fusionlib' instead of 'python -m fusionlib'")
SOME_FAILED = "3 if some images had no partner, a different size or could not be read (stderr names them)"


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code: that of the command's function below, which may be None for 0."""
    parser = argparse.ArgumentParser(prog="python -m fusionlib", description=__doc__.split(":")[0])
    commands = parser.add_subparsers(dest="command", required=True)

    settings = argparse.ArgumentParser(add_help=False)
    settings.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the notebooks "
                          "(run, train), the back end (ask) or the recipe (train-peer), such as batch=8; repeatable")
    of_run = argparse.ArgumentParser(add_help=False, parents=[settings])
    of_run.add_argument("--profile", default="quick", help="quick (default), small or paper")
    of_run.add_argument("--data-root", default="", help="folder that contains LLVIP/, M3FD/, MSRS/ and so on")
    of_run.add_argument("--out", default="", help="folder of the run; default: data/runs/<profile>")

    fuse = commands.add_parser(
        "fuse", help="fuse infrared and visible images, or two videos",
        description="Fuse the images in two folders, matched by file name, two images, or two videos, with the "
        "packaged weights. Fused images are PNG files with the name, size, colour and bit depth of the visible ones. "
        "Results of the same sources and settings are not computed again: after an interrupt, the same command "
        f"continues. {PATTERN}--ir 'recordings/*_ir.png'.",
        epilog=f"Exit code: 0 if every pair was fused; {SOME_FAILED}; 1 if nothing could be fused.")
    for option, kind in (("--ir", "infrared"), ("--visible", "visible")):
        fuse.add_argument(option, required=True, metavar="DIR", help=f"folder of {kind} images, or a file")
    fuse.add_argument("--out", required=True, metavar="DIR", help="output folder; nothing else is written")
    fuse.add_argument("--instruction", metavar="TEXT", help="what to change, such as 'brighten the image', or auto for "
                      "advice on the damages that are found in a pair; default: stage 1 only")
    fuse.add_argument("--align", help="features or ecc: register infrared to visible first")

    run = commands.add_parser("run", help="execute the notebooks in order", parents=[of_run])
    run.add_argument("--only", default="", help="numbers of notebooks, such as 02,04")
    run.add_argument("--publish", action="store_true", help="copy the executed notebooks back to notebooks/")

    train = commands.add_parser(
        "train", help="train as a notebook does, without it, also on several devices", parents=[of_run],
        description="Train what notebook 02 or 04 trains, in the run's folder, where the notebook finds it. "
        f"{LAUNCH}; they share each batch, whose size must be a multiple of their number.")
    train.add_argument("number", choices=("02", "04"), help="02 or 04; the preceding notebooks must have been run")

    report = commands.add_parser(
        "report", help="collect the executed notebooks, tables and figures of a run in HTML pages",
        description="Write pages that open from disk, without a server or network: an overview of the run with its "
        "tables, figures, settings and provenance, and one page per notebook. The folder can be zipped and sent.",
        epilog="Exit code: 0 if everything is shown; 3 if some files could not be read (stderr and the overview name "
        "them); 1 if there is no report.")
    which = report.add_mutually_exclusive_group()
    which.add_argument("--profile", default="quick", help="of the run in data/runs/<profile>; default: quick")
    which.add_argument("--run", default="", metavar="DIR", help="the folder of a run made with --out")
    report.add_argument("--out", default="", metavar="DIR", help="output folder; default: report in the run's folder")

    ask = commands.add_parser(
        "ask", help="ask a multimodal language model about images", parents=[settings],
        description="Ask about every image below a folder and save answers and features in a store, such as the folder "
        f"answers of a run, where notebook 03 finds them. Stored answers are not asked for again. {LAUNCH}.")
    ask.add_argument("--images", required=True, metavar="DIR", help="folder of images, searched recursively")
    ask.add_argument("--store", required=True, metavar="DIR", help="folder of the store")
    ask.add_argument("--backend", default="llava", help="llava (default), server, rules, fixed or none")
    ask.add_argument("--question", help="default: the paper's")

    metrics = commands.add_parser(
        "metrics", help="evaluate fused images against their sources",
        description="Evaluate fused images against their sources, matched by file name; suffixes may differ. "
        f"{PATTERN}--fused 'results/*_ours.png'.",
        epilog=f"Exit code: 0 if every image was evaluated; {SOME_FAILED}; 1 if nothing could be evaluated.")
    for option, kind in (("--fused", "fused"), ("--ir", "infrared"), ("--visible", "visible")):
        metrics.add_argument(option, required=True, metavar="DIR", help=f"folder of {kind} images")
    metrics.add_argument("--names", default="paper", help="paper (default: its five), all, or such as Q_AB/F,SSIM")
    metrics.add_argument("--convention", default="vifb", help="whose definitions: vifb (default), tang or cddfuse")
    metrics.add_argument("--out", metavar="CSV", help="file for one row per image and their mean")

    data = commands.add_parser("data", help="inspect data sets").add_subparsers(dest="action", required=True)
    check = data.add_parser("check", help="decode every file below a folder and report problems")
    check.add_argument("folder")
    check.add_argument("--json", help="also write the report to this file")
    export = commands.add_parser("export", help="write the stage-1 network as a file that runs without this package")
    export.add_argument("--out", required=True, metavar="FILE", help="ends in .pt2 (torch.export) or .onnx")
    scene = commands.add_parser("train-detector", help="retrain the small detector of the quick profile")
    scene.add_argument("--out", help="output file; default: the one in the package")

    peer = commands.add_parser(
        "train-peer", help="train a compared method on your pairs", parents=[settings],
        description=f"Train a compared method by its own recipe on the training parts of your data sets. {LAUNCH}.")
    peer.add_argument("name", metavar="NAME", help="of the method, such as DATFuse")
    peer.add_argument("--data-root", required=True, metavar="DIR", help="contains LLVIP/, MSRS/ or your own data sets")
    budget = peer.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=int, help="optimiser steps")
    budget.add_argument("--epochs", type=int, help="passes over the pairs; default: the recipe's")
    peer.add_argument("--out", metavar="FILE", help="default: data/runs/peers/NAME.safetensors")
    peer.add_argument("--vgg", metavar="FILE", help="torchvision's VGG-16 weights, for LRRNet")
    peer.add_argument("--text", metavar="FILE", help="CLIP's embedding of the prompt, or CLIP, for TextIF")

    arguments = parser.parse_args(argv)
    try:
        with nullcontext() if is_main_process() else redirect_stdout(None):
            code = globals()[f"_{arguments.command.replace('-', '_')}"](arguments) or 0
        return code if is_main_process() else 0  # if another process failed, the launcher would stop the main one
    except FusionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _fuse(arguments):
    from fusionlib.inference.folder import fuse_files

    problems, paths = [], (arguments.ir, arguments.visible, arguments.out)
    made = fuse_files(*paths, arguments.instruction, align=arguments.align, problems=problems)
    print(f"{len(made)} fused, in {arguments.out}; left out: {len(problems)}")
    return 3 if problems else 0


def _export(arguments):
    from fusionlib.inference.export import export

    print(export(arguments.out))


def _run(arguments):
    from fusionlib.experiments import suite

    only = [number for number in arguments.only.split(",") if number]
    table = suite.run(arguments.profile, arguments.data_root, only, parse_settings(arguments.set), arguments.out)
    print("\n" + table.to_string(index=False, na_rep=""))
    which = f"--run {arguments.out}" if arguments.out else f"--profile {arguments.profile}"
    print(f"\nAs pages, to view or send: python -m fusionlib report {which}")
    if (table.state != "done").any():
        return 1
    if arguments.publish:
        suite.publish(suite.run_folder(arguments.profile, arguments.out))


def _train(arguments):
    from fusionlib.experiments.run import open_run
    from fusionlib.experiments.stages import TRAINED
    from fusionlib.utils import distributed

    distributed.process()  # before anything takes a device
    run = open_run(arguments.profile, arguments.data_root, arguments.out, **parse_settings(arguments.set))
    print(f"trained: {TRAINED[arguments.number](run).folder}")


def _report(arguments):
    from fusionlib.experiments import suite
    from fusionlib.viewer.report import pages

    problems = []
    print(pages.write_report(suite.run_folder(arguments.profile, arguments.run), arguments.out, problems))
    print_problems("not shown", problems)
    return 3 if problems else 0


def _data(arguments):
    from fusionlib.data.check import run_check

    return run_check(arguments.folder, arguments.json)


def _ask(arguments):
    from fusionlib.data.image_io import LazyImages, find_images
    from fusionlib.feedback import backends, querying
    from fusionlib.feedback.store import open_store

    paths = find_images(arguments.images)
    names = [path.relative_to(Path(arguments.images).expanduser()).with_suffix("").as_posix() for path in paths]
    backend = backends.make(arguments.backend, **parse_settings(arguments.set))
    store = open_store(arguments.store)
    before = len(store)
    answers = querying.ask(LazyImages(paths), backend, arguments.question or querying.QUESTION, store, names)
    print(f"{len(answers)} images, {len(store) - before} new answers of {backend.model}, stored in {store.folder}")


def _metrics(arguments):
    import pandas as pd

    from fusionlib.metrics.conventions import CONVENTIONS, METRICS, PAPER, describe
    from fusionlib.metrics.evaluation import evaluate_folder, summary
    from fusionlib.utils.files import write_atomically

    if arguments.out and not arguments.out.lower().endswith(".csv"):
        raise FusionError(f"{arguments.out}: expected the name of a file that ends in .csv, found another one")
    names = {"paper": PAPER, "all": tuple(METRICS)}.get(arguments.names, arguments.names.replace(" ", "").split(","))
    problems, convention = [], arguments.convention
    frame = evaluate_folder(arguments.fused, arguments.ir, arguments.visible, names, convention, problems)
    means = summary(frame)
    if arguments.out and is_main_process():  # one row per image, and a last one called mean
        last = means["mean"].unstack()[list(frame.columns)].assign(name="mean").set_index("name", append=True)
        rows = pd.concat([frame, last]).assign(convention=frame.attrs["convention"])
        csv = rows.to_csv(na_rep="nan", float_format="%.7g", lineterminator="\n")
        try:
            write_atomically(arguments.out, csv.encode())
        except OSError as error:
            print(csv)
            raise FusionError(f"{arguments.out}: cannot be written ({error.strerror}); the table is printed") from None
    table = describe(frame.columns, convention)
    print(f"Measured: {len(frame)} images, convention {convention}: {CONVENTIONS[convention].note}\n")
    print("\n".join(f"{name}: {definition}" for name, definition in table.pop("definition").items()))
    print("\nMean over the n images where the metric is defined; low..high is its 95 % bootstrap interval:\n")
    print(means.droplevel("dataset").join(table).to_string(float_format="{:.5g}".format))
    return 3 if problems else 0


def _train_detector(arguments):
    from fusionlib.training.detector import train_scene_detector

    print(train_scene_detector(arguments.out))


def _train_peer(arguments):
    from fusionlib.experiments.peer_training import train_peer

    options = {key: getattr(arguments, key) for key in ("steps", "epochs", "vgg", "text")}
    settings = parse_settings(arguments.set) | {key: value for key, value in options.items() if value is not None}
    print(train_peer(arguments.name, arguments.data_root, arguments.out, **settings))


if __name__ == "__main__":
    sys.exit(main())
