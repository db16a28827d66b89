"""From arrow key to new images in JupyterLab, and whether memory stays flat over many steps, in headless Chromium.

python -m benchmarks.browser writes figures/bench_browser.csv. Three panes of 1280x1024, embedded scenes and their mean,
in a folder. A step is over when the page has painted all panes. Memory after a collection of garbage: objects of the
page's scripts, what the page's process and the kernel have to themselves. The browser keeps a record for whoever drives
it, of some 60 kB a step: without a driver the page grew by 53 MB in 2,000 steps, before any collection. Needs a
Chromium, and the package playwright.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import psutil

from fusionlib import ROOT
from fusionlib.data import write_image
from fusionlib.data.synthetic import scene as scenes
from fusionlib.utils.errors import FusionError

SIZE = (1024, 1280)
PAIRS = 24
OWN = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTERLAB_SETTINGS_DIR",
       "JUPYTERLAB_WORKSPACES_DIR")  # fmt: skip
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
START = 240  # seconds for JupyterLab to start, which takes two on an idle machine
VIEWER = "document.querySelector('.fl-viewer')"


def pictures(folder: Path) -> None:
    """Infrared, visible and mean of the scenes, in folders called so."""
    for index in range(PAIRS):
        scene = scenes.render(index, size=SIZE)
        mean = (scene.ir[..., None].astype(np.uint16) + scene.visible) // 2
        for pane, image in {"infrared": scene.ir, "visible": scene.visible, "mean": mean.astype(np.uint8)}.items():
            write_image(folder / pane / f"{index:02d}.png", image)


def server(folder: Path) -> tuple[subprocess.Popen, dict]:
    """JupyterLab on a free port, with settings of its own: its process, and its address and token.

    It serves the folder "notebooks" in `folder`, where its log and settings lie.
    """
    root = folder / "notebooks"
    root.mkdir()
    places = {name: str(folder / name) for name in OWN}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
               "--ServerApp.port=0", f"--ServerApp.root_dir={root}", "--LabApp.news_url=None",
               "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]  # fmt: skip
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, env={**os.environ, **places, "PYTHONPATH": path}, stdout=log, stderr=log)
    until = time.monotonic() + START
    while not (files := list((folder / "JUPYTER_RUNTIME_DIR").glob("jpserver-*.json"))):
        if process.poll() is not None or time.monotonic() > until:
            raise FusionError(f"JupyterLab does not start: {(folder / 'log').read_text()[-500:]}")
        time.sleep(0.1)
    time.sleep(0.2)  # the file is there before its last byte
    return process, json.loads(files[0].read_text())


def own_memory(told: str) -> float:
    """Megabytes that child processes with these words in their command have to themselves."""
    total = 0
    for child in psutil.Process().children(recursive=True):
        try:
            total += child.memory_full_info().uss if told in " ".join(child.cmdline()) else 0
        except psutil.Error:
            continue
    return total / 1e6


def visit(page, about: dict, folder: Path, steps: int, pause: float) -> list[dict]:
    """Open a notebook that browses the folder, and press the arrows: a row for each hundred steps."""
    cell = nbformat.v4.new_code_cell(f"import fusionlib as fl\nfl.browse({str(folder / 'pictures')!r})")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), folder / "notebooks" / "browse.ipynb")
    page.set_default_timeout(120_000)
    page.goto(f"{about['url']}lab/tree/browse.ipynb?token={about['token']}")
    page.wait_for_selector("#jp-main-statusbar >> text=| Idle")
    page.click(".jp-Notebook .jp-Cell >> nth=0")
    page.keyboard.press("Shift+Enter")
    page.wait_for_selector(".fl-viewer[data-shown]")
    page.locator(".fl-viewer .fl-name").first.click()
    rows, times, at, way = [], [], 0, 1
    for step in range(1, steps + 1):
        way = way if 0 <= at + way < PAIRS else -way
        at, before = at + way, page.evaluate(f"{VIEWER}.dataset.shown")
        page.keyboard.press("ArrowRight" if way > 0 else "ArrowLeft")
        page.wait_for_function(f"before => {VIEWER}.dataset.shown !== before", arg=before, polling=5)
        times.append(float(page.evaluate(f"{VIEWER}.dataset.ms")))
        time.sleep(pause)
        if step % 100 == 0 or step == steps:
            page.evaluate("window.gc()")
            scripts = page.evaluate("performance.memory.usedJSHeapSize") / 1e6
            spent = {"ms": float(np.median(times)), "ms_90": float(np.quantile(times, 0.9)), "ms_most": max(times)}
            memory = {"page_mb": own_memory("--type=renderer"), "kernel_mb": own_memory("ipykernel")}
            rows.append({"steps": step, **spent, "scripts_mb": scripts, **memory})
            print({name: round(value, 1) for name, value in rows[-1].items()}, flush=True)
            times = []
    return rows


def main(argv: list[str] | None = None) -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.browser", description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=500, help="arrow keys to press (500)")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds to look at each (0.3)")
    arguments = parser.parse_args(argv)
    if CHROMIUM is None:
        print("no Chromium here: the browser is not measured")
        return
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder:
        pictures(Path(folder) / "pictures")
        process, about = server(Path(folder))
        try:
            with sync_playwright() as play:
                options = ["--no-sandbox", "--disable-dev-shm-usage", "--js-flags=--expose-gc",
                           "--enable-precise-memory-info"]  # fmt: skip
                browser = play.chromium.launch(executable_path=CHROMIUM, args=options)
                page = browser.new_page(viewport={"width": 1600, "height": 1000})
                rows = visit(page, about, Path(folder), arguments.steps, arguments.pause)
                browser.close()
        finally:
            process.terminate()
            process.wait(60)
    pd.DataFrame(rows).to_csv(ROOT / "figures" / "bench_browser.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
