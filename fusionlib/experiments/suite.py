"""Batch execution of the notebooks by papermill: `python -m fusionlib run`."""

import ast
import base64
import contextlib
import io
import logging
import os
import shutil
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
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
PROFILE_SETTINGS = {field.name for field in fields(Profile)}
# By default glibc returns memory to the system at every training step, which nearly doubles CPU time.
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(16 << 30), "MALLOC_TOP_PAD_": str(512 << 20)}


def run(profile: str = "quick", data_root: str = "", only: Sequence[str] = (), settings: dict | None = None,
        out: str = "") -> pd.DataFrame:
    """Execute the notebooks in order; the executed copies are written to the run's folder.

    Each notebook loads the results that are finished for the same fingerprint, so a second run is quick. Tables and
    figures are copied to figures/<profile>/, unless `out` is given.

    Args:
        profile: quick, small or paper.
        data_root: folder with the data sets; empty: the embedded scenes or data/.
        only: numbers of the notebooks to run, such as ("02", "04"); empty: all.
        settings: values for the notebooks' parameters cells.
        out: folder of the run; empty: data/runs/<profile>.

    Returns:
        One row per notebook: state ("done", "failed" or "not run"), seconds, peak memory in MiB, and the message of the
        cell that failed. After a failure the remaining notebooks are not run.

    Raises:
        FusionError: unknown profile, notebook or setting, or another process works in the folder.
    """
    notebooks = select(only)
    settings, folder, rows = settings_of(notebooks, profile, data_root, out, settings), run_folder(profile, out), []
    with folder_lock(folder):
        for notebook in notebooks:
            if rows and rows[-1]["state"] != "done":
                rows.append({"notebook": notebook.stem, "state": "not run", "message": ""})
                continue
            print(f"{notebook.stem} ...", flush=True)
            rows.append(execute(notebook, folder / notebook.name, settings, TIME_LIMIT[profile]))
            print(f"  {rows[-1]['state']} in {rows[-1]['seconds']:.0f} s, {rows[-1]['peak MiB']:.0f} MiB", flush=True)
            write_json(folder / "summary.json", rows)
    if not out:
        copy_figures(folder, profile)
    return pd.DataFrame(rows, columns=["notebook", "state", "seconds", "peak MiB", "message"])


def execute(notebook: Path, copy: Path, settings: dict, time_limit: int) -> dict:
    """Execute one notebook with the settings among its parameters; the copy is written whatever happens."""
    names = PROFILE_SETTINGS.union(parameters(notebook))
    settings = {name: value for name, value in settings.items() if name in names}
    os.environ.update(MALLOC)
    logging.getLogger("papermill").setLevel(logging.ERROR)  # its parser warns of every a = b = None
    start, message, ended = time.perf_counter(), "", threading.Event()
    with ThreadPoolExecutor() as pool:
        peak = pool.submit(peak_memory, ended)
        try:
            papermill.execute_notebook(
                str(notebook), str(copy), settings, cwd=str(NOTEBOOKS), execution_timeout=time_limit, iopub_timeout=120,
                progress_bar=False, kernel_name="python3",
                extra_arguments=["--log-level=ERROR"],  # of the kernel, which warns that it listens to this machine
                shutdown_kernel="immediate",  # results are written when a cell ends; torch takes two seconds to exit
            )
        except papermill.PapermillExecutionError as error:
            message = f"cell {error.exec_count}: {error.ename}: {error.evalue}"
        except Exception as error:  # a dead kernel or a time-out must not take the summary with it
            message = f"{type(error).__name__}: {error}"
        finally:
            ended.set()
    return {"notebook": notebook.stem, "state": "failed" if message else "done",
            "seconds": round(time.perf_counter() - start, 1), "peak MiB": round(peak.result() / 2**20),
            "message": message}


def peak_memory(ended: threading.Event) -> int:
    """Maximum resident memory in bytes of this process's children until an event, sampled four times a second."""
    peak = 0
    while not ended.wait(0.25):
        total = 0
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it has ended
                total += child.memory_info().rss
        peak = max(peak, total)
    return peak


def select(only: Sequence[str]) -> list[Path]:
    """The notebooks with these numbers, in order; without numbers, all of them."""
    notebooks = {path.name[:2]: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}
    if not notebooks:
        raise FusionError(f"no notebooks in {NOTEBOOKS}: run from a checkout of the suite")
    if unknown := [number for number in only if number not in notebooks]:
        stems = ", ".join(path.stem for path in notebooks.values())
        raise FusionError(f"no notebook has the number {', '.join(unknown)}; there are {stems}")
    return [path for number, path in notebooks.items() if not only or number in only]


def parameters(notebook: Path) -> dict:
    """Names and defaults in the parameters cell of a notebook."""
    cells = nbformat.read(notebook, as_version=4).cells
    source = next((c.source for c in cells if "parameters" in c.metadata.get("tags", [])), "")
    nodes = [n for n in ast.parse(source).body if isinstance(n, ast.Assign)]
    return {target.id: ast.literal_eval(node.value) for node in nodes for target in node.targets}


def settings_of(notebooks: Sequence[Path], profile: str, data_root: str = "", out: str = "",
                settings: dict | None = None) -> dict:
    """Values for the parameters cells, from the arguments of `run`; FusionError for an unknown profile or setting."""
    if profile not in PROFILES:
        raise FusionError(f"profile must be one of {', '.join(PROFILES)}, but is {profile!r}")
    settings = dict(settings or {})
    settings |= {k: v for k, v in {"data_root": absolute(data_root), "out": absolute(out)}.items() if v}
    settings |= {} if profile == "quick" else {"profile": profile}
    names = PROFILE_SETTINGS.union(*map(parameters, notebooks))
    if unknown := [name for name in settings if name not in names]:
        raise FusionError(f"no notebook has the parameter {', '.join(unknown)}; there are {', '.join(sorted(names))}")
    return settings


def run_folder(profile: str, out: str = "") -> Path:
    """The folder of a run's results."""
    return Path(absolute(out)) if out else fusionlib.ROOT / "data" / "runs" / profile


def absolute(folder: str) -> str:
    """A folder relative to this process as an absolute path, since notebooks run in their own folder."""
    return str(Path(folder).expanduser().resolve()) if folder else ""


def publish(folder: Path) -> None:
    """Copy the executed notebooks of a quick run to notebooks/, its tables and figures to figures/quick/.

    Outputs stay, since nbval compares them; progress bars, widgets and volatile metadata are removed. Large images
    become jpg, as the repository keeps every version of them.
    """
    for path in sorted(Path(folder).glob("[0-9][0-9]_*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
        notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
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
    """Whether an output can be shown without a kernel; removes a widget, and keeps the image that comes with it."""
    data = output.get("data", {})
    return data.pop(WIDGET, None) is None or "image/png" in data


def copy_figures(folder: Path, profile: str) -> None:
    """Copy the tables (csv, tex, html) and figures (png, pdf) of a run to figures/<profile>/."""
    target = NOTEBOOKS.parent / "figures" / profile
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted((Path(folder) / "figures").glob("*")):
        if path.suffix in EXPORTED:
            shutil.copy(path, target / path.name)


def shrink_picture(data: dict, limit: int = 200_000) -> None:
    """Replace a png output of more than `limit` base64 characters by a jpg."""
    if len(data.get("image/png", "")) > limit:
        buffer = io.BytesIO()
        image = Image.open(io.BytesIO(base64.b64decode(data.pop("image/png"))))
        image.convert("RGB").save(buffer, "JPEG", quality=88)
        data["image/jpeg"] = base64.b64encode(buffer.getvalue()).decode()
