"""The package at the door: light to import, quiet on the network, a command line that answers."""

import subprocess
import sys

import pytest

from fusionlib.__main__ import main


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_is_light_and_names_are_there():
    assert python("import sys, fusionlib; print('torch' in sys.modules)") == "False\n"
    assert python("import fusionlib as fl; print(fl.models.FusionNetwork.__name__, 'models' in dir(fl))") == (
        "FusionNetwork True\n"
    )
    with pytest.raises(subprocess.CalledProcessError):
        python("import fusionlib as fl; fl.nothing")


def test_nothing_phones_home(tmp_path):
    """The whole import of the detector, with every attempt to open a connection turned into an error."""
    code = """
import socket
def refuse(*_): raise AssertionError("a connection was tried")
socket.socket.connect = socket.create_connection = refuse
import fusionlib as fl, os
fl.detection.YOLOv5(1, width=.125)
fl.feedback.encode(["quiet"])
from PIL import Image
from ultralytics.utils import AUTOINSTALL, ONLINE, SETTINGS
assert Image.open.__module__ == "PIL.Image" and not AUTOINSTALL
print(ONLINE, SETTINGS["sync"], os.environ["HF_HUB_DISABLE_TELEMETRY"])
"""
    assert python(code).splitlines()[-1] == "False False 1"


def test_data_check(tmp_path, capsys):
    assert main(["data", "check", str(tmp_path / "nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_help(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "run" in capsys.readouterr().out
