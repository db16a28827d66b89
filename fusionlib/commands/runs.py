"""run, train, report, results, browse, app: runs of the notebooks, and looking at them."""

from collections.abc import Callable
from dataclasses import fields

from fusionlib.commands.shared import LAUNCH, add_settings, settings_among
from fusionlib.config import Profile, parse_settings
from fusionlib.utils.terminal import command_line

#: Parameters of single notebooks that are no settings of a profile; a test compares them with the notebooks.
NOTEBOOK_SETTINGS = ("ir", "visible", "labels", "question", "convention", "fidelities", "damaged_pairs", "modalities",
                     "tried_pairs")  # fmt: skip
SETTINGS = tuple(field.name for field in fields(Profile)[1:])


def _add_run_options(parser, names) -> None:
    parser.add_argument("--profile", default="quick", help="quick (default), small or paper")
    parser.add_argument("--data-root", default="", metavar="DIR", help="folder that contains LLVIP/, M3FD/, ...")
    parser.add_argument("--out", default="", metavar="DIR", help="folder of the run; default: data/runs/<profile>")
    add_settings(parser, "of the notebooks", names)


def _add_which_run(parser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--profile", default="quick", help="of the run in data/runs/<profile>; default: quick")
    which.add_argument("--run", default="", metavar="DIR", help="the folder of a run made with --out")


def add_run(commands) -> None:
    """Add the parser of run."""
    parser = commands.add_parser(
        "run", help="execute the notebooks in order",
        description="Execute the notebooks in order, in the run's folder. What they need (data, weights, back end, "
        "room) is looked for first. Results that are finished with the same settings, data and code are loaded.",
        epilog="Exit code: 0 if all notebooks were executed, 1 if one failed or something is missing.")  # fmt: skip
    parser.add_argument("--only", default="", help="numbers of notebooks, such as 02,04")
    parser.add_argument("--publish", action="store_true", help="copy the executed notebooks back to notebooks/, their "
                        "figures to figures/")
    _add_run_options(parser, SETTINGS + NOTEBOOK_SETTINGS)
    parser.set_defaults(function=run)


def run(arguments) -> int | None:
    """Look ahead, execute the notebooks, and print what came of them."""
    from fusionlib.experiments import suite

    only = [number for number in arguments.only.split(",") if number]
    table = suite.run(arguments.profile, arguments.data_root, only, parse_settings(arguments.set), arguments.out)
    print("\n" + table.to_string(index=False, na_rep=""))
    which = {"run": arguments.out} if arguments.out else {"profile": arguments.profile}
    print(f"\nAs pages, to view or send: {command_line('report', **which)}")
    if (table.state != "done").any():
        return 1
    if arguments.publish:
        from fusionlib.experiments.inputs import run_folder
        from fusionlib.experiments.publishing import publish

        publish(run_folder(arguments.profile, arguments.out), table.notebook)


def add_train(commands) -> None:
    """Add the parser of train."""
    parser = commands.add_parser(
        "train", help="train as a notebook does, without it, also on several devices",
        description="Train what notebook 02 or 04 trains, in the run's folder, where the notebook finds it. "
        f"{LAUNCH}; they share each batch, whose size must be a multiple of their number.")
    parser.add_argument("number", choices=("02", "04"), help="02 or 04; the preceding notebooks must have been run")
    _add_run_options(parser, SETTINGS)
    parser.set_defaults(function=train)


def train(arguments) -> None:
    """Train a stage."""
    from fusionlib.experiments.run import open_run
    from fusionlib.experiments.stages import TRAINED
    from fusionlib.utils import distributed

    settings = settings_among(SETTINGS, arguments.set, "of a run")
    distributed.process()  # before anything takes a device
    run = open_run(arguments.profile, arguments.data_root, arguments.out, **settings)
    print(f"trained: {TRAINED[arguments.number](run).folder}")


def add_report(commands) -> None:
    """Add the parser of report."""
    parser = commands.add_parser(
        "report", help="collect the executed notebooks, tables and figures of a run in HTML pages",
        description="Write pages that open from disk, without a server or network: an overview of the run with its "
        "tables, figures, settings and provenance, and one page per notebook. The folder can be zipped and sent.",
        epilog="Exit code: 0 if everything is shown; 3 if some files could not be read (stderr and the overview name "
        "them); 1 if there is no report.")
    _add_which_run(parser)
    parser.add_argument("--out", default="", metavar="DIR", help="output folder; default: report in the run's folder")
    parser.set_defaults(function=report)


def report(arguments) -> int:
    """Write the report, and print its front page."""
    from fusionlib.viewer.report import pages

    return _write(pages.write_report, arguments)


def _write(write: Callable, arguments) -> int:
    """Write something about the run that was asked for, print its path, and name what could not be read."""
    from fusionlib.experiments.inputs import run_folder
    from fusionlib.utils.errors import print_problems

    problems = []
    print(write(run_folder(arguments.profile, arguments.run), arguments.out, problems))
    print_problems("not shown", problems)
    return 3 if problems else 0


def add_results(commands) -> None:
    """Add the parser of results."""
    parser = commands.add_parser(
        "results", help="write the tables of a run, and the paper's claims beside what was found, as Markdown",
        description="Write one Markdown file without pictures: data, settings, tables 1 to 7 and, by rule, what of the "
        "paper's claims was found. The same run gives the same file.",
        epilog="Exit code: 0 if all was read; 3 if some files of the run could not be read (stderr names them); 1 if "
        "nothing was written.")
    _add_which_run(parser)
    parser.add_argument("--out", default="", metavar="FILE", help="default: RESULTS.md in the run's folder")
    parser.set_defaults(function=results)


def results(arguments) -> int:
    """Write the file, and print its path."""
    from fusionlib.viewer.report.published import write_results

    return _write(write_results, arguments)


def add_viewer(commands) -> None:
    """Add the parsers of browse and app."""
    helps = {"browse": "view a run or a folder of images in the web browser",
             "app": "as browse, but only print the address"}  # fmt: skip
    for name, words in helps.items():
        parser = commands.add_parser(name, help=words, description="Serve the viewer of a run or a folder of images as "
                                     "a page on this computer, until Ctrl+C.")  # fmt: skip
        parser.add_argument("folder", help="of a run, such as data/runs/quick, or of images")
        parser.add_argument("--port", type=int, default=0, help="default: a free one")
        parser.set_defaults(function=view)


def view(arguments) -> None:
    """Serve the viewer; browse opens its page."""
    from fusionlib.viewer.app import serve

    serve(arguments.folder, arguments.port, open_page=arguments.command == "browse")
