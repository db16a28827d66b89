"""Run the benchmarks, print one table, write figures/bench.csv and bench.md: python -m benchmarks [module ...]."""

import argparse
import os
import sys
from datetime import date

MODULES = ("metrics", "feedback", "peers", "fusion", "folder", "training", "starting")

HOW = """\
The ways to do a task take turns in one process, so caches are warm. Times are medians over the rounds, with quartiles
in brackets; "times faster" compares a way with the first one of its task within a round. What takes more than 8 seconds
is called once. Peak memory is what the first call adds to the peak (ru_maxrss) of a fresh process that has imported the
benchmark and made its inputs, and the peak of a process that the call starts."""


def main(argv: list[str] | None = None) -> None:
    """Measure the benchmarks named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="How fast the suite is on this machine.")
    parser.add_argument("modules", nargs="*", metavar="module", help=f"of {', '.join(MODULES)}; all by default")
    parser.add_argument("--threads", type=int, default=1, help="threads for torch and NumPy (1)")
    parser.add_argument("--seconds", type=float, default=2.0, help="about how long to time one task (2)")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.modules) - set(MODULES):
        parser.error(f"unknown benchmark {min(unknown)}: choose from {', '.join(MODULES)}")
    # The libraries read these when they are imported.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(arguments.threads)

    import pandas as pd

    from benchmarks import timing
    from fusionlib import ROOT
    from fusionlib.utils.allocator import keep_freed_memory

    def write(measured):
        rows, described = pd.concat(measured.values(), ignore_index=True), timing.machine(arguments.threads)
        subjects = "\n".join(f"- {name}: {sys.modules[f'benchmarks.{name}'].__doc__.splitlines()[0]}"
                             for name in measured)  # fmt: skip
        report = "\n\n".join(("# Benchmarks", f"{date.today()}. {described}.", HOW, subjects, timing.markdown(rows)))
        print(report)
        figures = ROOT / "figures"
        figures.mkdir(exist_ok=True)
        rows = rows.assign(date=date.today(), machine=described)
        rows.to_csv(figures / "bench.csv", index=False, float_format="%.4g")
        (figures / "bench.md").write_text(report + "\n", encoding="utf-8")

    keep_freed_memory()  # as the command line does
    measured = {}
    try:
        for name in arguments.modules or MODULES:
            measured[name] = timing.measure(f"benchmarks.{name}", arguments.seconds)
    finally:  # where one fails, what was measured before is kept
        if measured:
            write(measured)


if __name__ == "__main__":
    main()
