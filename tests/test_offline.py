"""The network guard of all tests: it blocks and records connections to other machines, and allows local ones."""

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

CALL = "import urllib.request; urllib.request.urlopen('http://example.org')"


def test_other_machines_are_out_of_reach_and_noted(tmp_path, monkeypatch):
    note = tmp_path / "note"
    monkeypatch.setenv("FUSIONLIB_CONNECTIONS", str(note))
    with pytest.raises(urllib.error.URLError, match="the tests go nowhere"):
        urllib.request.urlopen("http://example.org")
    for address in (("192.0.2.1", 80), ("2001:db8::1", 80)):
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        with socket.socket(family) as plain, pytest.raises(OSError, match="the tests go nowhere"):
            plain.connect(address)
    child = subprocess.run([sys.executable, "-c", CALL], capture_output=True, text=True)  # as kernels are started
    assert child.returncode and "the tests go nowhere" in child.stderr
    assert note.read_text().split() == ["example.org", "192.0.2.1", "2001:db8::1", "example.org"]


def test_this_machine_is_not():
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(("localhost", server.getsockname()[1]))
    assert not Path(os.environ["FUSIONLIB_CONNECTIONS"]).is_file()
