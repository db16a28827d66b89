"""The command line of the suite: python -m fusionlib fuse | run | data check | ask | metrics | export | ..."""

import argparse
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

from fusionlib.config import parse_settings
from fusionlib.utils.errors import FusionError, is_main_process, print_problems


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 when all went well."""
    parser = argparse.ArgumentParser(prog="python -m fusionlib", description=__doc__.split(":")[0])
    commands = parser.add_subparsers(dest="command", required=True)

    fuse = commands.add_parser(
        "fuse", help="fuse infrared and visible pictures, or two videos",
        description="Fuse the pictures in two folders, matched by file name, two pictures, or two videos, with the "
        "weights of this package. Fused pictures are png files called after the visible ones, of their size, colour "
        "and depth. What is there already, made of the same sources by the same settings, is kept: after an interrupt, "
        "the same command goes on. Where file names carry more than the name, a star in quotes says what the name is: "
        "--ir 'recordings/*_ir.png'.",
        epilog="Exit code: 0 where every pair has been fused; 3 where some pictures had no partner, another size or "
        "were not readable (stderr names them); 1 where nothing could be fused.",
    )  # fmt: skip
    for what in ("ir", "visible"):
        fuse.add_argument(f"--{what}", required=True, metavar="DIR", help=f"folder of the {what} pictures, or a file")
    fuse.add_argument("--out", required=True, metavar="DIR", help="folder to write to; nothing else is touched")
    fuse.add_argument("--instruction", default=None, metavar="TEXT", help="what to change, such as 'brighten the "
                      "image', or auto, what the rules advise; default: stage 1 alone")  # fmt: skip
    fuse.add_argument("--align", default=None, help="features or ecc: lay infrared over visible first")

    of_run = argparse.ArgumentParser(add_help=False)
    of_run.add_argument("--profile", default="quick", help="quick (default), small or paper")
    of_run.add_argument("--data-root", default="", help="folder that holds LLVIP/, M3FD/, MSRS/ and so on")
    of_run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a value for parameters cells")
    of_run.add_argument("--out", default="", help="folder of the run; default data/runs/<profile>")

    run = commands.add_parser("run", help="execute the notebooks in order", parents=[of_run])
    run.add_argument("--only", default="", help="numbers of notebooks, such as 02,04")
    run.add_argument("--publish", action="store_true", help="copy the executed notebooks back to notebooks/")

    train = commands.add_parser(
        "train", help="train as a notebook does, without the notebook; on several devices, too", parents=[of_run],
        description="Train what notebook 02 or 04 trains, in the folder of its run, where the notebook finds it. After "
        "an interrupt, the same command goes on. 'accelerate launch --multi_gpu -m fusionlib train ...' shares each "
        "batch among GPUs, and machines; the batch must be a multiple of their number.",
    )  # fmt: skip
    train.add_argument("number", choices=("02", "04"), help="02 or 04; the notebooks before it must be done")

    report = commands.add_parser(
        "report", help="join the executed notebooks, tables and figures of a run into pages",
        description="Write pages that open from disk, without a server and without network: an overview of the run "
        "with its tables, figures, settings and provenance, and a page for each notebook. The folder can be zipped and "
        "sent.",
        epilog="Exit code: 0 where everything is shown; 3 where some files could not be read (stderr and the overview "
        "name them); 1 where there is no report.",
    )  # fmt: skip
    which = report.add_mutually_exclusive_group()
    which.add_argument("--profile", default="quick", help="of the run in data/runs/<profile>; default: quick")
    which.add_argument("--run", default="", metavar="DIR", help="the folder of a run that was given --out")
    report.add_argument("--out", default="", metavar="DIR", help="folder to write to; default: report in the run's")

    data = commands.add_parser("data", help="look at data sets").add_subparsers(dest="action", required=True)
    check = data.add_parser("check", help="decode every file below a folder and report what is wrong")
    check.add_argument("folder")
    check.add_argument("--json", default=None, help="write the report here as well")

    ask = commands.add_parser(
        "ask", help="ask a multimodal language model about pictures",
        description="Ask about every picture below a folder, and keep answers and features in a store, such as the "
        "folder answers of a run, where notebook 03 finds them. What the store knows is not asked again; after an "
        "interrupt, the same command goes on. 'accelerate launch --multi_gpu -m fusionlib ask ...' shares the "
        "pictures among GPUs.",
    )  # fmt: skip
    ask.add_argument("--images", required=True, metavar="DIR", help="folder of pictures, with folders in it or without")
    ask.add_argument("--store", required=True, metavar="DIR", help="folder of the store")
    ask.add_argument("--backend", default="llava", help="llava (default), server, rules, fixed or none")
    ask.add_argument("--question", default=None, help="default: the paper's")
    ask.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an option of the back end")

    metrics = commands.add_parser(
        "metrics", help="measure fused pictures against their sources",
        description="Measure fused pictures against their sources, matched by file name; suffixes may differ. Where "
        "file names carry more than the name, a star in quotes says what the name is: --fused 'results/*_ours.png'.",
        epilog="Exit code: 0 where every picture has been measured; 3 where the table is there, but some pictures had "
        "no partner, another size or were not readable (stderr names them); 1 where nothing could be measured.",
    )  # fmt: skip
    for what in ("fused", "ir", "visible"):
        metrics.add_argument(f"--{what}", required=True, metavar="DIR", help=f"folder of the {what} pictures")
    metrics.add_argument("--names", default="paper", help="paper (default: its five), all, or such as Q_AB/F,SSIM")
    metrics.add_argument("--convention", default="vifb", help="whose definitions: vifb (default), tang or cddfuse")
    metrics.add_argument("--out", default=None, metavar="CSV", help="file for one row per picture and their mean")

    export = commands.add_parser("export", help="write the stage-1 network as a file that runs without this package")
    export.add_argument("--out", required=True, metavar="FILE", help="ends in .pt2 (torch.export) or .onnx")

    scene = commands.add_parser("train-detector", help="train the small detector of the quick profile again")
    scene.add_argument("--out", default=None, help="the file to write; default: the one in the package")

    peer = commands.add_parser(
        "train-peer", help="train a compared method on your pairs",
        description="Train a compared method by its own recipe on the training parts of your data sets. After an "
        "interrupt, the same command goes on. 'accelerate launch --multi_gpu -m fusionlib train-peer ...' takes "
        "several GPUs.",
    )  # fmt: skip
    peer.add_argument("name", metavar="NAME", help="of the method, such as DATFuse")
    peer.add_argument("--data-root", required=True, metavar="DIR", help="folder that holds LLVIP/, MSRS/ or your own")
    budget = peer.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=int, default=None, help="steps of the optimiser")
    budget.add_argument("--epochs", type=int, default=None, help="passes over the pairs; default: the recipe's")
    peer.add_argument("--out", default=None, metavar="FILE", help="default: data/runs/peers/NAME.safetensors")
    peer.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="such as batch=8 or crop=64")
    peer.add_argument("--vgg", default=None, metavar="FILE", help="torchvision's weights of vgg16, for LRRNet")
    peer.add_argument("--text", default=None, metavar="FILE", help="CLIP's vector of the prompt, or CLIP, for TextIF")

    arguments = parser.parse_args(argv)
    try:
        with nullcontext() if is_main_process() else redirect_stdout(None):
            code = globals()[f"_{arguments.command.replace('-', '_')}"](arguments)
        return code if is_main_process() else 0  # the launcher would stop the one that speaks
    except FusionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _fuse(arguments: argparse.Namespace) -> int:
    from fusionlib.inference.folder import fuse_files

    problems = []
    paths = arguments.ir, arguments.visible, arguments.out
    made = fuse_files(*paths, arguments.instruction, align=arguments.align, problems=problems)
    print(f"{len(made)} fused, in {arguments.out}; left out: {len(problems)}")
    return 3 if problems else 0


def _export(arguments: argparse.Namespace) -> int:
    from fusionlib.inference.export import export

    print(export(arguments.out))
    return 0


def _run(arguments: argparse.Namespace) -> int:
    from fusionlib.experiments import suite

    only = [n for n in arguments.only.split(",") if n]
    settings = parse_settings(arguments.set)
    table = suite.run(arguments.profile, arguments.data_root, only, settings, arguments.out)
    print("\n" + table.to_string(index=False, na_rep=""))
    which = f"--run {arguments.out}" if arguments.out else f"--profile {arguments.profile}"
    print(f"\nAs pages, to look at and to send: python -m fusionlib report {which}")
    if (table.state != "done").any():
        return 1
    if arguments.publish:
        suite.publish(suite.run_folder(arguments.profile, arguments.out))
    return 0


def _train(arguments: argparse.Namespace) -> int:
    from fusionlib.experiments.run import open_run
    from fusionlib.experiments.stages import TRAINED
    from fusionlib.utils import distributed

    distributed.process()  # before anything takes a device
    run = open_run(arguments.profile, arguments.data_root, arguments.out, **parse_settings(arguments.set))
    print(f"trained: {TRAINED[arguments.number](run).folder}")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from fusionlib.experiments import suite
    from fusionlib.viewer.report import pages

    problems = []
    folder = suite.run_folder(arguments.profile, arguments.run)
    print(pages.write_report(folder, arguments.out, problems))
    print_problems("not shown", problems)
    return 3 if problems else 0


def _data(arguments: argparse.Namespace) -> int:
    from fusionlib.data.check import run_check

    return run_check(arguments.folder, arguments.json)


def _ask(arguments: argparse.Namespace) -> int:
    from fusionlib.data.image_io import LazyImages, find_images
    from fusionlib.feedback import backends, querying
    from fusionlib.feedback.store import open_store

    paths = find_images(arguments.images)
    names = [path.relative_to(Path(arguments.images).expanduser()).with_suffix("").as_posix() for path in paths]
    responder = backends.make(arguments.backend, **parse_settings(arguments.set))
    store = open_store(arguments.store)
    before = len(store)
    question = arguments.question or querying.QUESTION
    answers = querying.ask(LazyImages(paths), responder, question, store, names)
    print(f"{len(answers)} pictures, {len(store) - before} new answers of {responder.model}, kept in {store.folder}")
    return 0


def _metrics(arguments: argparse.Namespace) -> int:
    from fusionlib.metrics.conventions import CONVENTIONS, METRICS, PAPER, describe
    from fusionlib.metrics.evaluation import evaluate_folder, summary

    if arguments.out and not arguments.out.lower().endswith(".csv"):
        raise FusionError(f"{arguments.out}: expected the name of a file that ends in .csv, found another one")
    names = {"paper": PAPER, "all": tuple(METRICS)}.get(arguments.names, arguments.names.replace(" ", "").split(","))
    convention = arguments.convention
    problems = []
    frame = evaluate_folder(arguments.fused, arguments.ir, arguments.visible, names, convention, problems)
    means = summary(frame)
    if arguments.out and is_main_process():
        _write_table(arguments.out, frame, means)

    table = describe(frame.columns, convention)
    print(f"Measured: {len(frame)} pictures, convention {convention}: {CONVENTIONS[convention].note}\n")
    print("\n".join(f"{name}: {definition}" for name, definition in table.pop("definition").items()))
    print("\nMean over the n pictures where the metric is defined; low..high is its 95 % bootstrap interval:\n")
    print(means.droplevel("dataset").join(table).to_string(float_format="{:.5g}".format))
    return 3 if problems else 0


def _write_table(path, frame, means):
    """One row per picture and a last one called mean; printed instead where the file cannot be written."""
    import pandas as pd

    from fusionlib.utils.files import write_atomically

    last = means["mean"].unstack()[list(frame.columns)].assign(name="mean").set_index("name", append=True)
    table = pd.concat([frame, last]).assign(convention=frame.attrs["convention"])
    text = table.to_csv(na_rep="nan", float_format="%.7g", lineterminator="\n")
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        print(text)
        raise FusionError(f"{path}: cannot be written ({error.strerror}); the table is printed instead") from None


def _train_detector(arguments: argparse.Namespace) -> int:
    from fusionlib.training.detector import train_scene_detector

    print(train_scene_detector(arguments.out))
    return 0


def _train_peer(arguments: argparse.Namespace) -> int:
    from fusionlib.experiments.peer_training import train_peer

    options = {key: getattr(arguments, key) for key in ("steps", "epochs", "vgg", "text")}
    settings = parse_settings(arguments.set) | {key: value for key, value in options.items() if value is not None}
    print(train_peer(arguments.name, arguments.data_root, arguments.out, **settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
