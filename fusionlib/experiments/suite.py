"""The notebooks as a batch: `python -m fusionlib run`, through papermill."""

import ast
import base64
import io
import os
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import psutil
from PIL import Image

import fusionlib
from fusionlib.config import PROFILES, Profile
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import folder_lock, write_json

NOTEBOOKS = fusionlib.ROOT / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
EXPORTED = (".png", ".pdf", ".csv", ".tex", ".html")
TIME_LIMIT = {"quick": 900, "small": 5400, "shipped": 14400, "paper": 14 * 86400}  # seconds for one cell
# glibc gives memory back to the system at every training step unless told otherwise, which nearly doubles CPU time.
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(16 << 30), "MALLOC_TOP_PAD_": str(512 << 20)}


def run(
    profile: str = "quick",
    data_root: str = "",
    only: Sequence[str] = (),
    settings: dict | None = None,
    out: str = "",
) -> pd.DataFrame:
    """Execute the notebooks in order; the executed copies lie in the run's folder.

    A notebook loads results of its own that are finished with the same fingerprint, so a second run is quick. Tables
    and figures are copied to figures/<profile>/, unless the run has a folder of its own.

    Args:
        profile: quick, small or paper.
        data_root: folder with the data sets; empty: the embedded scenes or data/.
        only: numbers of the notebooks to run, such as ("02", "04"); empty: all.
        settings: values for the notebooks' parameters cells.
        out: folder of the run; empty: data/runs/<profile>.

    Returns:
        One row per notebook: state ("done", "failed" or "not run"), seconds, peak memory in MiB, and the message of the
        cell that failed. After a failure the notebooks behind it do not run.

    Raises:
        FusionError: unknown profile, notebook or setting, or another run works in the folder.
    """
    notebooks = select(only)
    given = settings_of(notebooks, profile, data_root, out, settings)
    folder = run_folder(profile, out)
    rows = []
    with folder_lock(folder):
        for notebook in notebooks:
            if any(r["state"] == "failed" for r in rows):
                rows.append({"notebook": notebook.stem, "state": "not run", "message": ""})
                continue
            print(f"{notebook.stem} ...", flush=True)
            rows.append(execute(notebook, folder / notebook.name, given, TIME_LIMIT[profile]))
            print(f"  {rows[-1]['state']} in {rows[-1]['seconds']:.0f} s, {rows[-1]['peak MiB']:.0f} MiB", flush=True)
            write_json(folder / "summary.json", rows)
    if not out:
        copy_figures(folder, profile)
    return pd.DataFrame(rows, columns=["notebook", "state", "seconds", "peak MiB", "message"])


def execute(notebook: Path, copy: Path, settings: dict, time_limit: int) -> dict:
    """Execute one notebook with the settings that its parameters cell knows; the copy is kept whatever happens."""
    own = parameters(notebook).keys() | {field.name for field in fields(Profile)}
    os.environ.update(MALLOC)
    began, message = time.perf_counter(), ""
    with PeakMemory() as memory:
        try:
            papermill.execute_notebook(
                str(notebook), str(copy), {k: v for k, v in settings.items() if k in own}, cwd=str(NOTEBOOKS),
                execution_timeout=time_limit, iopub_timeout=120, progress_bar=False, kernel_name="python3",
                extra_arguments=["--log-level=ERROR"],  # of the kernel, which warns that it listens to this machine
                shutdown_kernel="immediate",  # all is kept when a cell ends; to tear torch down takes two seconds
            )  # fmt: skip
        except papermill.PapermillExecutionError as error:
            message = f"cell {error.exec_count}: {error.ename}: {error.evalue}"
        except Exception as error:  # a dead kernel or a time-out must not take the summary with it
            message = f"{type(error).__name__}: {error}"
    return {
        "notebook": notebook.stem, "state": "failed" if message else "done",
        "seconds": round(time.perf_counter() - began, 1), "peak MiB": round(memory.peak / 2**20), "message": message,
    }  # fmt: skip


class PeakMemory(threading.Thread):
    """Largest resident memory of this process's children, sampled four times a second."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak, self._stop_now = 0, threading.Event()

    def run(self):
        """Sample until told to stop."""
        while not self._stop_now.wait(0.25):
            total = 0
            for child in psutil.Process().children(recursive=True):
                try:
                    total += child.memory_info().rss
                except psutil.Error:  # it ended meanwhile
                    continue
            self.peak = max(self.peak, total)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._stop_now.set()
        self.join()


def select(only: Sequence[str]) -> list[Path]:
    """The notebooks with these numbers, in order; all of them when none is named."""
    there = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    if not there:
        raise FusionError(f"no notebooks in {NOTEBOOKS}: run from a checkout of the suite")
    unknown = [n for n in only if n not in {p.name[:2] for p in there}]
    if unknown:
        known = ", ".join(p.stem for p in there)
        raise FusionError(f"no notebook has the number {', '.join(unknown)}; there are {known}")
    return [p for p in there if not only or p.name[:2] in only]


def parameters(notebook: Path) -> dict:
    """Names and defaults in the parameters cell of a notebook."""
    cells = nbformat.read(notebook, as_version=4).cells
    source = next((c.source for c in cells if "parameters" in c.metadata.get("tags", [])), "")
    nodes = [n for n in ast.parse(source).body if isinstance(n, ast.Assign)]
    return {target.id: ast.literal_eval(node.value) for node in nodes for target in node.targets}


def settings_of(
    notebooks: Sequence[Path], profile: str, data_root: str = "", out: str = "", settings: dict | None = None
) -> dict:
    """Values for the parameters cells, from what `run` is given.

    Raises:
        FusionError: unknown profile, or a setting that no notebook knows: a typo would otherwise be ignored for hours.
    """
    if profile not in PROFILES:
        raise FusionError(f"profile must be one of {', '.join(PROFILES)}, but is {profile!r}")
    given = dict(settings or {})
    given |= {k: v for k, v in {"data_root": absolute(data_root), "out": absolute(out)}.items() if v}
    given |= {} if profile == "quick" else {"profile": profile}
    known = {field.name for field in fields(Profile)}.union(*map(parameters, notebooks))
    unknown = [name for name in given if name not in known]
    if unknown:
        raise FusionError(f"no notebook has the parameter {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return given


def run_folder(profile: str, out: str = "") -> Path:
    """Where a run keeps its results."""
    return Path(absolute(out)) if out else fusionlib.ROOT / "data" / "runs" / profile


def absolute(folder: str) -> str:
    """A folder as seen from here, since notebooks run in their own."""
    return str(Path(folder).expanduser().resolve()) if folder else ""


def publish(folder: Path) -> None:
    """Copy the executed notebooks of a quick run to notebooks/, its tables and figures to figures/quick/.

    Outputs stay, since nbval compares them; progress bars, widgets and volatile metadata go. Large pictures inside of
    notebooks become jpg: they are there to be looked at, and the repository keeps every version of them.
    """
    for path in sorted(Path(folder).glob("[0-9][0-9]_*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        notebook.metadata = {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
        notebook.cells = [c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", [])]
        for index, cell in enumerate(notebook.cells):
            cell.id = f"cell-{index:02d}"
            cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
            if cell.cell_type == "code":
                cell.outputs = [output for output in cell.outputs if is_still(output)]
                for output in cell.outputs:
                    shrink_picture(output.get("data", {}))
        nbformat.write(notebook, NOTEBOOKS / path.name)
    copy_figures(folder, "quick")


def is_still(output: dict) -> bool:
    """Whether an output shows anything without its kernel; of a widget that brings a picture, the picture is left."""
    data = output.get("data", {})
    widget = data.pop(WIDGET, None)
    return widget is None or "image/png" in data


def copy_figures(folder: Path, profile: str) -> None:
    """Copy the tables (csv, tex, html) and figures (png, pdf) of a run to figures/<profile>/."""
    target = NOTEBOOKS.parent / "figures" / profile
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted((Path(folder) / "figures").glob("*")):
        if path.suffix in EXPORTED:
            shutil.copy(path, target / path.name)


def shrink_picture(data: dict, limit: int = 200_000) -> None:
    """Replace a png output of more than so many base64 characters by a jpg."""
    if len(data.get("image/png", "")) > limit:
        buffer = io.BytesIO()
        picture = Image.open(io.BytesIO(base64.b64decode(data.pop("image/png"))))
        picture.convert("RGB").save(buffer, "JPEG", quality=88)
        data["image/jpeg"] = base64.b64encode(buffer.getvalue()).decode()
