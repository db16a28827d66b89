"""How time and memory grow with the number of pairs: index, split, store and tables, up to 100,000 simulated pairs.

python -m benchmarks.growth writes figures/bench_growth.csv and bench_growth.png. Each point is measured once, in a
process of its own; memory is what the task adds to the peak of the process. The pictures are hard links to small ones.
"""

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch

from benchmarks.timing import RSS_UNIT
from fusionlib import ROOT, data, feedback, visualization
from fusionlib.data import manifests, splits
from fusionlib.feedback.store import Answer
from fusionlib.metrics.conventions import PAPER

LINKS = 30_000  # to one file, of which some file systems allow no more than 65,000
READS = 1000
BATCH = 100  # answers that are stored at a time


def prepare(count: int, folder: Path) -> None:
    """A data set of so many pairs of 20x16 pixels, as data/ in the folder."""
    for side, shape in (("infrared", (16, 20)), ("visible", (16, 20, 3))):
        (folder / "data" / "D" / side).mkdir(parents=True)
        for index in range(count):
            if index % LINKS == 0:
                data.write_image(picture := folder / f"{side}-{index}.png", np.zeros(shape, np.uint8))
            os.link(picture, folder / "data" / "D" / side / f"{index:06d}.png")


def index(count: int, folder: Path) -> Callable:
    """Find all pairs below a folder, with the sizes of their pictures."""
    return lambda: data.read(folder / "data")


def split(count: int, folder: Path) -> Callable:
    """Choose training and test pairs."""
    pairs = data.read(folder / "data").pairs
    return lambda: splits.choose(pairs)


def manifest(count: int, folder: Path) -> Callable:
    """Write the manifest, for which every picture is decoded and hashed, and read it."""
    chosen, path = splits.choose(data.read(folder / "data").pairs), folder / "manifest.json"

    def run():
        manifests.write_manifest(path, chosen, folder)
        manifests.read_manifest(path, folder)

    return run


def _answer(number: int) -> Answer:
    return Answer(f"D/test/{number:06d}", f"{number:064x}", feedback.QUESTION, "Raise the contrast.", "x", "x", "1",
                  "{}", "x", 0.0, 8, "2026-01-01T00:00:00+00:00", torch.full((8, 32), number % 7).half())  # fmt: skip


def fill(count: int, folder: Path) -> Callable:
    """Put answers with features [8,32] into a store, 100 at a time."""
    store = feedback.open_store(folder / "store")
    starts = range(0, count, BATCH)
    return lambda: [store.put(map(_answer, range(first, min(first + BATCH, count)))) for first in starts]


def read(count: int, folder: Path) -> Callable:
    """Read the features of 1,000 answers of the filled store, at random."""
    fill(count, folder)()
    store = feedback.open_store(folder / "store")
    lazy = feedback.LazyFeatures(list(store.find(store.frame().key).values()))
    order = np.random.default_rng(0).integers(count, size=READS)
    return lambda: [lazy[number] for number in order]


def table(count: int, folder: Path) -> Callable:
    """Compare two methods in five metrics: means, bootstrap intervals, sign-flip tests."""
    names = pd.MultiIndex.from_product([["D"], [f"{number:06d}" for number in range(count)]], names=["dataset", "name"])
    values = np.random.default_rng(0).random((2, count, 5))
    frames = {name: pd.DataFrame(rows, names, list(PAPER))
              for name, rows in zip(("ours", "other"), values)}  # fmt: skip
    for frame in frames.values():
        frame.attrs["convention"] = "vifb"
    return lambda: visualization.fusion_table(frames, "D", "ours")


TASKS = {task.__name__: task for task in (index, split, manifest, fill, read, table)}
LABELS = {"index": "find pairs", "split": "choose pairs", "manifest": "write manifest", "fill": "store answers",
          "read": "read 1,000 answers", "table": "compare in a table"}  # fmt: skip
NEED_PICTURES = ("index", "split", "manifest")


def measure(task: str, count: int) -> tuple[float, float]:
    """(seconds, MB) of a task; called in a fresh process."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if task in NEED_PICTURES:
            prepare(count, Path(folder))
        run = TASKS[task](count, Path(folder))
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        run()
        seconds = time.perf_counter() - began
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * RSS_UNIT / 1e6


def main(argv: list[str] | None = None) -> None:
    """Measure all tasks for growing numbers of pairs, print the table and draw it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.partition("\n")[0])
    parser.add_argument("--most", type=int, default=100_000, help="pairs, at most (100000)")
    most = parser.parse_args(argv).most
    counts = [most // 10 ** (places / 2) for places in range(4, -1, -1)]
    rows = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for task in TASKS:
            for count in map(int, counts):
                seconds, megabytes = pool.apply(measure, (task, count))
                rows.append({"task": task, "pairs": count, "seconds": seconds, "MB": megabytes})
                print("{task:8} {pairs:7,} pairs {seconds:8.3f} s {MB:7.1f} MB".format(**rows[-1]), flush=True)
    frame = pd.DataFrame(rows)
    frame.to_csv(ROOT / "figures" / "bench_growth.csv", index=False, float_format="%.4g")
    visualization.save(draw(frame), ROOT / "figures" / "bench_growth.png")


def draw(frame: pd.DataFrame):
    """Seconds and megabytes over the number of pairs; what is linear is parallel to the gray line."""
    visualization.set_style()
    long = frame.assign(task=frame["task"].map(LABELS)).melt(["task", "pairs"], ["seconds", "MB"], var_name="what")
    long = long[long["value"] > 0]  # the least tasks add nothing to the peak, which no logarithm shows
    grid = sns.relplot(long, x="pairs", y="value", col="what", col_order=["seconds", "MB"], hue="task", style="task",
                       kind="line", markers=True, dashes=False, palette="colorblind", height=3,
                       facet_kws={"sharey": False})  # fmt: skip
    plt.close(grid.figure)  # what is drawn is saved, not shown
    grid.set(xscale="log", yscale="log", xlabel="number of pairs", ylabel="")
    for axes, name in zip(grid.axes.flat, ("time in seconds", "memory in MB")):
        axes.set(title=name)
        ends, low = np.array(axes.get_xlim()), axes.get_ylim()[0]
        axes.plot(ends, low * ends / ends[0], color="#999999", linewidth=1, zorder=0)
        axes.annotate("linear", (ends[0], low), (14, 1), textcoords="offset points", color="#666666", fontsize=8)
    return grid.figure


if __name__ == "__main__":
    main()
