"""The viewer outside notebooks: what is refused, and the page in Chromium where Voila is installed."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest

import fusionlib as fl
from fusionlib.__main__ import main
from fusionlib.viewer import app


def test_without_voila_or_a_folder_there_is_one_sentence(tmp_path, monkeypatch, capsys):
    assert main(["app", str(tmp_path / "nowhere")]) == 1
    assert "expected a folder of a run or of images, found nothing" in capsys.readouterr().err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["app", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "pip install voila" in said and len(said.strip().splitlines()) == 1


def test_a_server_that_does_not_start_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(fl.utils.errors.FusionError, match="Voila does not start: nothing was said"):
        app.serve(tmp_path)


def test_the_page_shows_the_viewer_to_who_knows_the_address(tmp_path, chromium):
    if importlib.util.find_spec("voila") is None:
        pytest.skip("Voila is not installed: pip install voila")
    for pane, level in (("ir", 60), ("vi", 180)):
        fl.data.write_image(tmp_path / "pairs" / pane / "a.png", np.full((24, 32), level, np.uint8))
    command = [sys.executable, "-m", "fusionlib", "app", str(tmp_path / "pairs")]
    environment = {**os.environ, "PYTHONPATH": str(fl.ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment)
    try:
        address = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", process.stdout.readline())[0]
        server = HTTPConnection(address.split("/")[2], timeout=60)
        server.request("GET", "/api/kernels")  # without the token
        assert server.getresponse().status in (302, 403)  # to the page of the login, or refused
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(120_000)
        page.route(re.compile("^https:"), lambda route: route.abort())  # fonts of Voila's template
        page.goto(address)
        page.wait_for_selector(".fl-viewer[data-shown='pairs/a']")
        page.wait_for_function("document.querySelectorAll('.fl-frame').length === 3")
        page.locator(".fl-viewer").focus()
        page.locator(".fl-window").nth(1).hover()
        page.keyboard.press("Shift+Digit5")
        page.wait_for_selector(".fl-stars[data-score='5']")
        ratings = (tmp_path / "ratings.csv").read_text()  # where the command was given
        assert ratings.endswith("pairs,pairs/a,visible,,5\n")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


class StandIn:
    """A server that is up at once, and ends when it is asked to; notes its environment, and what SIGTERM would do."""

    def __init__(self, *_, env, **__):
        self.made.append((env["PYTHONPATH"], signal.getsignal(signal.SIGTERM)))

    def wait(self):
        pass

    terminate = poll = wait


@pytest.mark.parametrize(("display", "platform", "opened"), [("", "linux", 0), (":0", "linux", 1), ("", "darwin", 1)])
def test_the_page_is_opened_where_there_is_a_screen(tmp_path, monkeypatch, capsys, display, platform, opened):
    pages, before = [], signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(StandIn, "made", [], raising=False)
    monkeypatch.setattr(app.subprocess, "Popen", StandIn)
    monkeypatch.setattr(app, "_wait", lambda *_: None)
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setattr(fl, "ROOT", tmp_path)  # the working folder of an installed package
    monkeypatch.setattr(app.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(app.webbrowser, "open", pages.append)
    monkeypatch.setattr(app.sys, "platform", platform)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    if display:
        monkeypatch.setenv("DISPLAY", display)
    assert main(["browse", str(tmp_path)]) == main(["app", str(tmp_path)]) == 0
    addresses = [line.removeprefix("The viewer: ") for line in capsys.readouterr().out.splitlines() if "http" in line]
    assert len(addresses) == 2 and pages == addresses[:1] * opened
    package = Path(fl.__file__).resolve().parents[1]
    assert StandIn.made == [(f"{package}{os.pathsep}elsewhere", signal.default_int_handler)] * 2
    assert signal.getsignal(signal.SIGTERM) is before
