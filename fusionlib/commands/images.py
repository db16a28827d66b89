"""fuse, advise, export: the user's own images."""

from pathlib import Path

from fusionlib.commands.shared import PATTERN, SOME_FAILED, add_reading, add_sides, reading_of
from fusionlib.utils.errors import FusionError
from fusionlib.utils.terminal import termination_as_interrupt

NO_ADVICE = "no damage is found: stage 1 alone"
ADVICE_COLUMNS = ["image", "advice"]


def add_fuse(commands) -> None:
    """Add the parser of fuse."""
    parser = commands.add_parser(
        "fuse", help="fuse infrared and visible images, or two videos",
        description="Fuse the images in two folders, matched by file name, two images, or two videos, with the "
        "packaged weights, your own, or a compared method. Fused images are PNG files with the name, size, colour and "
        "bit depth of the visible ones. Results of the same sources and settings are not computed again: after an "
        f"interrupt, the same command continues. {PATTERN}--ir 'recordings/*_ir.png'.",
        epilog=f"Exit code: 0 if every pair was fused; {SOME_FAILED}; 1 if nothing could be fused.")  # fmt: skip
    add_sides(parser, "folder of {} images, or a file", required=True)
    parser.add_argument("--out", required=True, metavar="DIR", help="output folder, or a .png file for two images, or "
                        "an .mp4 file for two videos; nothing else is written")
    parser.add_argument("--instruction", metavar="TEXT", help="what to change, such as 'brighten the image', or auto "
                        "for advice on the damages that are found in a pair; default: stage 1 only")
    parser.add_argument("--method", metavar="NAME", help="a compared method in place of this package's networks: "
                        "mean, maximum, laplacian, laplacian-max, DATFuse, ...; 'peers list' lists all")
    parser.add_argument("--weights", metavar="FILE", nargs="+", help="the method's files or folder, as 'peers list' "
                        "says; without --method, a run's weights of stage 1 (02_fusion_network/last.safetensors), for "
                        "instructions with those of Text-DFH (04_text_dfh/last.safetensors), or a folder of "
                        "save_pretrained")
    parser.add_argument("--device", help="such as cpu, cuda or cuda:1; default: the best one")
    add_reading(parser)
    parser.set_defaults(function=fuse)


@termination_as_interrupt()
def fuse(arguments) -> int:
    """Fuse, and say how many."""
    from fusionlib.inference.folder import fuse_files

    problems, fuser = [], _fuser(arguments)
    made = fuse_files(arguments.ir, arguments.visible, arguments.out, arguments.instruction, fuser=fuser,
                      problems=problems, **reading_of(arguments))  # fmt: skip
    print(f"{len(made)} fused, in {arguments.out}; left out: {len(problems)}")
    return 3 if problems else 0


def _fuser(arguments):
    """What fuses in place of the packaged weights, on the best device; None for these."""
    if not (arguments.method or arguments.weights or arguments.device):
        return None
    from fusionlib.experiments import fusers

    weights, instruction = arguments.weights or [], arguments.instruction
    if arguments.method:
        return fusers.of_method(arguments.method, weights, arguments.device, instruction)
    return fusers.of_networks(weights, arguments.device, instruction)


def add_advise(commands) -> None:
    """Add the parser of advise."""
    parser = commands.add_parser(
        "advise", help="print the advice that --instruction auto follows",
        description="Print, for each pair, the advice on its damages that 'fuse --instruction auto' follows. With "
        "--out, fuse by it, and keep the advice beside the results, as advice.csv in the folder or NAME.advice.csv "
        "beside NAME.png.", epilog=f"Exit code: 0 if all went well; {SOME_FAILED}; 1 if there is no advice at all.",
    )  # fmt: skip
    parser.add_argument("ir", metavar="IR", help="infrared image, or a folder or pattern")
    parser.add_argument("visible", metavar="VISIBLE", help="visible image, or a folder or pattern")
    parser.add_argument("--out", metavar="DIR", help="also fuse, into this folder or .png file")
    add_reading(parser)
    parser.set_defaults(function=advise)


@termination_as_interrupt()
def advise(arguments) -> int:
    """Print the advice about each pair; fuse by it and keep it, if asked to."""
    from fusionlib.inference.advising import advise_files
    from fusionlib.inference.folder import fuse_files

    problems, files, reading = [], (arguments.ir, arguments.visible), reading_of(arguments)
    found = advise_files(*files, arguments.out, problems=problems, **reading)
    found = {name: advice or NO_ADVICE for name, advice in found.items()}
    for name, advice in found.items():
        print(f"{name}: {advice}" if len(found) > 1 else advice)
    if arguments.out:
        made = fuse_files(*files, arguments.out, "auto", problems=problems, **reading)
        print(f"{len(made)} fused, in {arguments.out}; the advice is kept in {_keep_advice(arguments.out, found)}")
    return 3 if problems else 0


def _keep_advice(out, found):
    """Write the advice beside the results in a folder, or beside the result of this name; returns the file."""
    import pandas as pd

    from fusionlib.utils.files import write_atomically
    from fusionlib.visualization.table_export import csv_text

    path = Path(out) / "advice.csv" if Path(out).is_dir() else Path(out).with_suffix(".advice.csv")
    table = csv_text(pd.DataFrame(found.items(), columns=ADVICE_COLUMNS), index=False).encode()
    if path.exists() and path.read_bytes().partition(b"\n")[0] != table.partition(b"\n")[0]:
        raise FusionError(f"{path}: expected no file of this name, or an earlier one with advice, found another one; "
                          "move it away, or choose another folder")
    write_atomically(path, table)
    return path


def add_export(commands) -> None:
    """Add the parser of export."""
    parser = commands.add_parser("export", help="write the stage-1 network as a file that runs without this package")
    parser.add_argument("--out", required=True, metavar="FILE", help="ends in .pt2 (torch.export) or .onnx")
    parser.set_defaults(function=export)


def export(arguments) -> None:
    """Write the network, and print the file."""
    from fusionlib.inference.export import export

    print(export(arguments.out))
