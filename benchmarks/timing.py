"""Time several ways to do one task side by side, and measure the memory that each of them takes.

A benchmark is a module of this package with `inputs() -> dict of arrays`, which also checks that the ways agree, and
`cases(inputs) -> list of Case`. Cases are built again in every child process that measures memory, so they should cost
little to build.
"""

import importlib
import multiprocessing
import os
import platform
import re
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes: what ru_maxrss counts in


@dataclass(frozen=True)
class Case:
    """One way to do a task; the first way of a task is the one that the others are compared with."""

    task: str
    way: str
    run: Callable[[], object]


def interleaved(
    runs: Sequence[Callable[[], object]], seconds: float = 2.0, least: int = 5, most: int = 50, long: float = 8.0
) -> np.ndarray:
    """Call all of them in turn, again and again: seconds of each call, [rounds, len(runs)].

    A first round warms up and is not counted. It also sets the number of rounds: as many as fit in `seconds`, but
    between `least` and `most`. Every other round runs backwards, so that none always follows the same neighbour.

    What takes more than `long` seconds is called once, in the first round, as warming up is little beside it; its later
    rounds are nan.
    """
    first = np.array([_seconds(run) for run in runs])
    short = np.flatnonzero(first <= long)
    rounds = int(np.clip(seconds / max(first[short].sum(), 1e-9), least, most))
    times = np.full((rounds, len(runs)), np.nan)
    times[0] = first
    for number in range(rounds):
        for i in short[:: -1 if number % 2 else 1]:
            times[number, i] = _seconds(runs[i])
    return times


def _seconds(run):
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _peak(module, arrays, number):
    cases = importlib.import_module(module).cases(arrays)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cases[number].run()
    added = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return (added + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) * RSS_UNIT / 1e6


def peak_memory(module: str, arrays: dict[str, np.ndarray], count: int) -> list[float]:
    """Megabytes that the first call of each of the `count` cases of a module adds to the peak of a fresh process.

    Where the call starts processes, the peak of the largest of them is a part of it.

    The process has imported the module and built the cases by then; its peak before the call is taken off. The
    processes are forks of a server that has done no more than import the module: one started from here would count
    this process's own peak as its own, because Linux hands ru_maxrss on to the program that replaces a fork.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    with context.Pool(1, maxtasksperchild=1) as pool:
        return pool.starmap(_peak, [(module, arrays, number) for number in range(count)], chunksize=1)


def table(cases: Sequence[Case], seconds: float = 2.0) -> pd.DataFrame:
    """Time the cases task by task: one row per case, in their order.

    Columns: task, way, rounds; ms, ms_low, ms_high: median and quartiles of a call; speedup, speedup_low, speedup_high:
    the same of the ratio, within a round, of the time of the task's first way to this one's.
    """
    rows = []
    tasks = {case.task: [other for other in cases if other.task == case.task] for case in cases}
    for task, ways in tqdm(tasks.items(), desc="timing", unit="task", leave=False, disable=None):
        times = interleaved([case.run for case in ways], seconds)
        for i, case in enumerate(ways):
            row = {"task": task, "way": case.way, "rounds": np.isfinite(times[:, i]).sum()}
            for name, values in (("ms", times[:, i] * 1000), ("speedup", times[:, 0] / times[:, i])):
                row[f"{name}_low"], row[name], row[f"{name}_high"] = np.nanpercentile(values, (25, 50, 75))
            rows.append(row)
    return pd.DataFrame(rows)


def measure(module: str, seconds: float = 2.0) -> pd.DataFrame:
    """Time and memory of all cases of a benchmark module: `table` with the columns benchmark and peak_mb."""
    benchmark = importlib.import_module(module)
    arrays = benchmark.inputs()
    cases = benchmark.cases(arrays)
    rows = table(cases, seconds)
    memory = {(case.task, case.way): peak for case, peak in zip(cases, peak_memory(module, arrays, len(cases)))}
    rows["peak_mb"] = [memory[row.task, row.way] for row in rows.itertuples()]
    rows.insert(0, "benchmark", module.rpartition(".")[2])
    return rows


def markdown(rows: pd.DataFrame) -> str:
    """The rows of `measure` as one Markdown table."""
    def spread(row, name):
        return "{} ({}..{})".format(*(f"{row[key]:.3g}" if row[key] < 100 else f"{row[key]:.0f}"
                                      for key in (name, f"{name}_low", f"{name}_high")))

    lines = ["| benchmark | task | way | ms (quartiles) | times faster (quartiles) | peak memory, MB |",
             "|---|---|---|--:|--:|--:|"]
    for (_, row), compared in zip(rows.iterrows(), rows.duplicated(["benchmark", "task"])):
        cells = (row.benchmark, row.task, row.way, spread(row, "ms"), spread(row, "speedup") if compared else "",
                 f"{row.peak_mb:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def machine(threads: int) -> str:
    """The machine in words: processor, cores, versions and threads."""
    processor, information = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if information.is_file():
        found = re.search(r"^model name\s*: *(.+)$", information.read_text(), re.MULTILINE)
        processor = found.group(1).strip() if found else processor
    versions = [f"{name} {metadata.version(name)}" for name in ("torch", "numpy", "scipy")]
    return ", ".join([f"{processor}, {os.cpu_count()} cores", platform.system(), f"Python {platform.python_version()}",
                      *versions, f"{threads} thread{'s' * (threads > 1)}"])
