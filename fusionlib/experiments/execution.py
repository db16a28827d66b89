"""Execution of one notebook by papermill, with its progress shown and its memory measured."""

import contextlib
import html
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import papermill
import psutil
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

from fusionlib.experiments.checks import NOT_MET
from fusionlib.experiments.progress import Progress
from fusionlib.utils.code import search_path

BAR = "FloatProgressModel"  # of a progress bar in a notebook, between the texts on its left and right


class Client(PapermillNotebookClient):
    """Executes the cells, and tells a `Progress` which one, and how far its newest progress bar is."""

    def __init__(self, nb_man, progress: Progress, **options):
        super().__init__(nb_man, **options)
        self.progress, self.boxes = progress, {}  # the parts of a progress bar by its last one

    def execute_cell(self, cell, cell_index, *args, **options):
        """Execute a cell; where it contains code, it is the next one of the notebook."""
        if cell.cell_type == "code":
            self.progress.begin_cell()
        return super().execute_cell(cell, cell_index, *args, **options)

    def handle_comm_msg(self, outs, msg, cell_index):
        """Pass on what a widget tells its front end; of a progress bar, the text is shown."""
        super().handle_comm_msg(outs, msg, cell_index)
        number, states = msg["content"]["comm_id"], self.widget_state
        children = [child.removeprefix("IPY_MODEL_") for child in states.get(number, {}).get("children") or ()]
        if len(children) == 3 and states.get(children[1], {}).get("_model_name") == BAR:
            self.boxes[children[2]] = children
        if number in self.boxes:
            left, _, right = (states.get(part, {}) for part in self.boxes[number])
            text = html.unescape(f"{left.get('value', '')} {right.get('value', '')}")
            self.progress.bar = " ".join(text.replace("\u2007", " ").split())


class Engine(NBClientEngine):
    """papermill's engine with the client above."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, progress, execution_timeout=None, start_timeout=60,
                                 log_output=False, input_path=None, **options):  # fmt: skip
        """Execute the notebook of a papermill manager."""
        return Client(nb_man, progress, kernel_name=kernel_name, timeout=execution_timeout,
                      startup_timeout=start_timeout, log_output=log_output, **options).execute()


papermill_engines.register("fusionlib", Engine)


def execute(notebook: Path, copy: Path, settings: dict, time_limit: int, progress: Progress) -> dict:
    """Execute one notebook with the settings among its parameters; the copy is written whatever happens.

    Returns its row for the summary, see `suite.run`.
    """
    os.environ["PYTHONPATH"] = search_path()  # of the kernel
    logging.getLogger("papermill").setLevel(logging.ERROR)  # its parser warns of every a = b = None
    cells = nbformat.read(notebook, as_version=4).cells
    progress.begin(notebook.stem, sum(cell.cell_type == "code" for cell in cells) + bool(settings))
    start, message, ended = time.perf_counter(), "", threading.Event()
    with ThreadPoolExecutor() as pool:
        peak = pool.submit(watch, ended, progress)
        try:
            papermill.execute_notebook(
                str(notebook), str(copy), settings, cwd=str(notebook.parent), execution_timeout=time_limit,
                iopub_timeout=120, progress_bar=False, kernel_name="python3", engine_name="fusionlib",
                progress=progress,
                extra_arguments=["--log-level=ERROR"],  # of the kernel, which warns that it listens to this machine
                shutdown_kernel="immediate",  # results are written when a cell ends; torch takes two seconds to exit
            )  # fmt: skip
        except papermill.PapermillExecutionError as error:
            message = f"cell {error.exec_count}: {error.ename}: {error.evalue}"
        except Exception as error:  # a dead kernel or a time-out must not take the summary with it
            message = f"{type(error).__name__}: {error}"
        finally:
            ended.set()
    row = {"notebook": notebook.stem, "state": "failed" if message else "done",
           "seconds": round(time.perf_counter() - start, 1), "peak MiB": round(peak.result() / 2**20),
           "message": message or not_as_expected(copy)}  # fmt: skip
    progress.end(row)
    return row


def not_as_expected(copy: Path) -> str:
    """What `checks.expect` has warned of in an executed notebook, in one line."""
    outputs = [output for cell in nbformat.read(copy, as_version=4).cells for output in cell.get("outputs", ())]
    texts = ["".join(output.text.partition(NOT_MET)[1:]) for output in outputs if output.get("name") == "stderr"]
    return "; ".join(line.strip() for text in texts for line in text.splitlines())


def watch(ended: threading.Event, progress: Progress) -> int:
    """Show the progress four times a second until an event.

    Returns the largest resident memory in bytes of this process's children.
    """
    peak = 0
    while not ended.wait(0.25):
        total = 0
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it has ended
                total += child.memory_info().rss
        peak = max(peak, total)
        progress.show()
    return peak
