"""How long a notebook takes to begin: its first cells in a new process, beside the imports from others alone."""

import subprocess
import sys
from functools import partial

import numpy as np

from benchmarks.timing import Case

BARE = "import torch, torchvision, pandas, matplotlib.pyplot, seaborn"
WAYS = {
    "imports of what a notebook needs from others": BARE,
    "the first cells of notebook 02": "import fusionlib as fl; fl.experiments.open_run(); fl.training",
    "the first cells of notebook 09": "import fusionlib as fl; fl.browse",
    "the first line of a script: fusionlib.fuse": "import fusionlib as fl; fl.fuse",
}  # fmt: skip


def inputs() -> dict[str, np.ndarray]:
    """Nothing is needed."""
    return {}


def cases(arrays: dict[str, np.ndarray]) -> list[Case]:
    """Each way is a new Python."""
    return [Case("begin", way, partial(_run, code)) for way, code in WAYS.items()]


def _run(code):
    subprocess.run([sys.executable, "-c", code], check=True)
