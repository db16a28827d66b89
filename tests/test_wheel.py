"""The wheel: it holds what every command needs, and says that the notebooks are elsewhere."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest

from fusionlib.data.image_io import write_image

CHECKOUT = Path(__file__).resolve().parents[1]
OFFLINE = CHECKOUT / "tests" / "offline"
SCRIPT = """
import sys
import fusionlib as fl
from fusionlib.__main__ import main

def call(*arguments):
    sys.stdout.flush()
    print("exit code", main([*arguments]), flush=True)

print(fl.__file__)
call("fuse", "--ir", "toy/ir", "--visible", "toy/vi", "--out", "fused")
call("metrics", "--fused", "fused", "--ir", "toy/ir", "--visible", "toy/vi", "--names", "AG", "--out", "table.csv")
call("data", "check", "toy", "--json", "report.json")
call("train-peer", "DATFuse", "--data-root", "toy", "--steps", "2", "--out", "peer.safetensors",
     "--set", "batch=2", "--set", "crop=16", "--set", "crops=1", "--set", "threads=1")
run = fl.experiments.open_run("quick", "toy", "run")  # as notebook 01 begins
fl.experiments.stages.data(run)
print(run.parts.counts["fusion_train"], "pairs to train on")
call("run", "--out", "run")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A new environment with the wheel, without the checkout; what it depends on is that of this environment.

    It is built from a copy: setuptools keeps what it has built before, and puts it in again.
    """
    source, built, environment = (tmp_path_factory.mktemp(name) for name in ("source", "built", "environment"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source)
    shutil.copytree(CHECKOUT / "fusionlib", source / "fusionlib", ignore=shutil.ignore_patterns("__pycache__"))
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, built], cwd=source, check=True, capture_output=True)
    venv.create(environment)
    paths = sysconfig.get_paths("venv", {"base": str(environment), "platbase": str(environment)})
    others = {sysconfig.get_path(name) for name in ("purelib", "platlib")}  # which do not bring an editable install
    Path(paths["purelib"], "others.pth").write_text("\n".join(sorted(others)))
    python = Path(paths["scripts"], Path(sys.executable).name)
    install = ["--python", python, "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed",
               "--disable-pip-version-check", next(built.glob("*.whl"))]  # fmt: skip
    without_checkout = {**os.environ, "PYTHONPATH": str(OFFLINE)}  # which other tests add
    subprocess.run([sys.executable, "-m", "pip", *install], check=True, capture_output=True, env=without_checkout)
    return python


def test_commands_and_notebook_01_run_from_a_wheel(installed, tmp_path):
    random = np.random.default_rng(0)
    for i in range(10):
        write_image(tmp_path / "toy" / "ir" / f"{i}.png", random.integers(256, size=(24, 32), dtype=np.uint8))
        write_image(tmp_path / "toy" / "vi" / f"{i}.png", random.integers(256, size=(24, 32, 3), dtype=np.uint8))
    offline = {**os.environ, "PYTHONPATH": str(OFFLINE)}  # no network, and not the checkout
    done = subprocess.run([installed, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, timeout=300,
                          env=offline)  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert Path(lines[0]).is_relative_to(installed.parents[1]) and "site-packages" in lines[0]
    script = installed.with_name(f"fusionlib{installed.suffix}")
    asked = subprocess.run([script, "--version"], capture_output=True, text=True, env=offline)
    assert asked.stdout.startswith("fusionlib "), asked.stderr
    assert [line for line in lines if line.startswith("exit code")] == ["exit code 0"] * 4 + ["exit code 1"]
    assert "10 fused, in fused; left out: 0" in lines and "7 pairs to train on" in lines
    assert (tmp_path / "peer.safetensors").stat().st_size > 1000 and (tmp_path / "table.csv").is_file()
    assert json.loads((tmp_path / "report.json").read_text())["table"][0]["pairs"] == 10
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: no notebooks in {tmp_path / 'notebooks'}: ") and "git clone" in last
    script = installed.with_name("fusionlib")
    said = subprocess.run([script, "--version"], cwd=tmp_path, capture_output=True, text=True, env=offline, timeout=100)
    assert said.returncode == 0 and "0.1.0" in said.stdout
