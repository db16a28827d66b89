"""Infrared and visible image fusion on the command line: python -m fusionlib, or the script fusionlib."""

import sys
from contextlib import nullcontext, redirect_stdout
from os.path import expanduser

from fusionlib.commands.parser import parse
from fusionlib.utils.allocator import keep_freed_memory
from fusionlib.utils.errors import FusionError, is_main_process, one_line
from fusionlib.utils.files import writing
from fusionlib.utils.terminal import CLOSED_PIPE, flush_output, printable_output

PATHS = ("data_root", "out", "run", "store", "json", "vgg", "text")  # options that are paths, but not places
INTERRUPTED = 130  # exit code of a program that Ctrl-C ends


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code: that of the command's function, 0 if it has none, or argparse's.

    Without arguments, the help is printed.
    """
    code = 0
    keep_freed_memory()
    with printable_output():
        try:
            if arguments := parse(sys.argv[1:] if argv is None else argv):
                given = vars(arguments)
                given.update({k: expanduser(v) for k, v in given.items() if k in PATHS and isinstance(v, str)})
                code = execute(arguments)
        except FusionError as error:  # of the help, on a full disk
            print(f"error: {error}", file=sys.stderr)
            code = 1
        except SystemExit as end:  # of argparse, when it has printed the help or what is wrong with an option
            code = end.code
        except KeyboardInterrupt:  # also while the arguments are parsed
            print("\ninterrupted: what is finished is kept, and the same command goes on from there", file=sys.stderr)
            code = INTERRUPTED
        except BrokenPipeError:  # its reader, such as head, has seen enough
            code = CLOSED_PIPE
        finally:
            code = flush_output(code)
    return code


def execute(arguments) -> int:
    """Call the function of a parsed command; its errors become sentences and exit codes."""
    option = "--json" if arguments.command == "data" else "--out"
    try:
        with writing(option=option), nullcontext() if is_main_process() else redirect_stdout(None):
            code = arguments.function(arguments) or 0
        return code if is_main_process() else 0  # if another process failed, the launcher would stop the main one
    except FusionError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
