"""The viewer as a page outside notebooks, served on this computer by Voila: `python -m fusionlib browse FOLDER`."""

import importlib.util
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import webbrowser
from pathlib import Path

import nbformat

from fusionlib.utils.code import search_path
from fusionlib.utils.errors import FusionError
from fusionlib.utils.terminal import termination_as_interrupt

START = 120  # seconds for the server to start, which takes five on an idle machine
ADDRESS = "127.0.0.1"


def serve(folder: str | Path, port: int = 0, open_page: bool = False) -> None:
    """Serve the viewer of a folder until Ctrl+C, and print its address once it answers.

    Args:
        folder: as for `fusionlib.browse`.
        port: of this computer; 0: a free one.
        open_page: open it in the web browser, too.

    Figures and ratings are saved as by `browse`, in the current folder or the run's. Only who knows the address, which
    holds a random token, can open the page. Raises FusionError for a folder that is missing, without Voila, and if the
    server does not start.
    """
    path = Path(os.path.realpath(os.path.expanduser(folder)))  # also of a circular link
    if not path.is_dir() and "*" not in str(path):
        raise FusionError(f"{folder}: expected a folder of a run or of images, found "
                          f"{'a file' if path.exists() else 'nothing'}; check the path")
    if not 0 <= port < 1 << 16:
        raise FusionError(f"port must be from 0 to {(1 << 16) - 1}, but is {port}")
    if importlib.util.find_spec("voila") is None:
        raise FusionError("The viewer outside notebooks needs Voila, which is not installed: pip install voila, or use "
                          f"fusionlib.browse({str(folder)!r}) in a notebook")
    port, token = port or _free_port(), secrets.token_urlsafe(16)
    with tempfile.TemporaryDirectory(prefix="fusionlib-") as place:
        notebook, log = Path(place) / "fusionlib.ipynb", Path(place) / "log"
        nbformat.write(_notebook(path), notebook)
        command = [sys.executable, "-m", "voila", str(notebook), "--no-browser", f"--port={port}", f"--token={token}",
                   f"--Voila.ip={ADDRESS}", "--Voila.port_retries=0", "--show_tracebacks=True"]  # fmt: skip
        with open(log, "w") as output, termination_as_interrupt():  # so that the server ends, too
            environment = {**os.environ, "PYTHONPATH": search_path()}  # of the server and its kernel
            server = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
            try:
                _wait(server, port, log)
                address = f"http://{ADDRESS}:{port}/?token={token}"
                print(f"The viewer: {address}\nCtrl+C ends it.", flush=True)
                if open_page and (sys.platform != "linux" or os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}):
                    webbrowser.open(address)  # not one in the terminal, which would take the place of this text
                server.wait()
            except KeyboardInterrupt:
                pass
            finally:
                server.terminate()
                server.wait()


def _notebook(folder: Path) -> nbformat.NotebookNode:
    """One cell: the viewer, in the current folder, where it saves."""
    source = f"import os\nos.chdir({os.getcwd()!r})\nimport fusionlib\nfusionlib.browse({str(folder)!r})"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)], metadata=kernel)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return probe.getsockname()[1]


def _wait(server: subprocess.Popen, port: int, log: Path) -> None:
    """Wait until the server accepts connections. Raises FusionError if it does not."""
    until = time.monotonic() + START
    while server.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection((ADDRESS, port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    last = (log.read_text(errors="replace").strip().splitlines() or ["nothing was said"])[-1]
    raise FusionError(f"Voila does not start: {last}")
