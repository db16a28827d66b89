"""data check, metrics, ask: what lies in folders of images."""

from pathlib import Path

from fusionlib.commands.shared import LAUNCH, PATTERN, SIDES, SOME_FAILED, add_settings, add_sides
from fusionlib.config import parse_settings
from fusionlib.utils.errors import FusionError, is_main_process, print_problems

#: Options of the back ends, for the help; a test compares them with the classes.
BACK_END_SETTINGS = (
    "model", "revision", "dtype", "quantize", "device", "max_new_tokens", "temperature", "seed", "pool", "download",
    "url", "max_tokens", "concurrency", "timeout", "retries", "text", "dim",
)  # fmt: skip


def add_data(commands) -> None:
    """Add the parser of data check."""
    actions = commands.add_parser("data", help="inspect data sets").add_subparsers(dest="action", required=True)
    parser = actions.add_parser("check", help="decode every file below a folder and report problems",
                                epilog="Exit code: 0; 3 if there are problems; 1 if no pair can be used.")
    parser.add_argument("folder", nargs="?", help="contains LLVIP/, MSRS/ or your own data sets, or is one")
    add_sides(parser, "instead: folder of {} images, or a pattern")
    parser.add_argument("--labels", metavar="DIR", help="instead: folder of labels, or a pattern")
    parser.add_argument("--json", help="also write the report to this file")
    parser.set_defaults(function=check)


def check(arguments) -> int:
    """Check the data sets."""
    from fusionlib.data.check import run_check

    return run_check(arguments.folder, arguments.json, ir=arguments.ir, visible=arguments.visible,
                     labels=arguments.labels)  # fmt: skip


def add_metrics(commands) -> None:
    """Add the parser of metrics."""
    parser = commands.add_parser(
        "metrics", help="evaluate fused images against their sources",
        description="Evaluate fused images against their sources, matched by file name; suffixes may differ. "
        f"{PATTERN}--fused 'results/*_ours.png'.",
        epilog=f"Exit code: 0 if every image was evaluated; {SOME_FAILED}; 1 if nothing could be evaluated.")
    for option, kind in {"--fused": "fused", **SIDES}.items():
        parser.add_argument(option, required=True, metavar="DIR", help=f"folder of {kind} images")
    parser.add_argument("--names", default="paper", help="paper (default: its five), all, or such as Q_AB/F,SSIM")
    parser.add_argument("--convention", default="vifb", help="whose definitions: vifb (default), tang or cddfuse")
    parser.add_argument("--out", metavar="CSV", help="file for one row per image and their mean")
    parser.set_defaults(function=metrics)


def metrics(arguments) -> int:
    """Measure, print the means, and write a row per image."""
    import pandas as pd

    from fusionlib.metrics.conventions import CONVENTIONS, METRICS, PAPER, describe
    from fusionlib.metrics.evaluation import evaluate_folder, summary
    from fusionlib.utils.files import write_atomically
    from fusionlib.visualization.table_export import csv_text

    if arguments.out and (suffix := Path(arguments.out).suffix).lower() != ".csv":
        raise FusionError(f"{arguments.out}: expected the name of a file that ends in .csv, found "
                          f"{suffix or 'no ending'}; rename it")
    names = {"paper": PAPER, "all": tuple(METRICS)}.get(arguments.names, arguments.names.replace(" ", "").split(","))
    problems, convention = [], arguments.convention
    frame = evaluate_folder(arguments.fused, arguments.ir, arguments.visible, names, convention, problems)
    means = summary(frame)
    if arguments.out and is_main_process():  # one row per image, and a last one called mean
        last = means["mean"].unstack()[list(frame.columns)].assign(name="mean").set_index("name", append=True)
        rows = pd.concat([frame, last]).assign(convention=frame.attrs["convention"])
        csv = csv_text(rows, na_rep="nan", float_format="%.7g")
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


def add_ask(commands) -> None:
    """Add the parser of ask."""
    parser = commands.add_parser(
        "ask", help="ask a multimodal language model about images",
        description="Ask about every image below a folder and save answers and features in a store, such as the folder "
        f"answers of a run, where notebook 03 finds them. Stored answers are not asked for again. {LAUNCH}.",
        epilog="Exit code: 0 if there is an answer about every image; 3 if some images could not be read or got none "
        "(stderr names them); 1 if there is no answer.")
    parser.add_argument("--images", required=True, metavar="DIR", help="folder of images with all below it, or a "
                        "pattern")
    parser.add_argument("--store", required=True, metavar="DIR", help="folder of the store")
    parser.add_argument("--backend", default="llava", help="llava (default), server, rules, fixed or none")
    parser.add_argument("--question", help="default: the paper's")
    add_settings(parser, "of the back end", BACK_END_SETTINGS)
    parser.set_defaults(function=ask)


def ask(arguments) -> int:
    """Ask, and say how many answers are new."""
    from fusionlib.data.image_io import LazyImages
    from fusionlib.data.places import find_images
    from fusionlib.feedback import backends, querying
    from fusionlib.feedback.store import open_store

    problems = []
    images = find_images(arguments.images, problems)
    backend = backends.make(arguments.backend, **parse_settings(arguments.set))
    store = open_store(arguments.store)
    before = len(store)
    question = arguments.question or querying.QUESTION
    answers = querying.ask(LazyImages(images.values()), backend, question, store, list(images), problems=problems)
    print(f"{len(answers)} images, {len(store) - before} new answers of {backend.model}, stored in {store.folder}")
    print_problems("without an answer", list(map(str, problems)))
    return 3 if problems else 0
