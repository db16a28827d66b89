"""The layout: folders import in one direction, faces load on first use, nothing is installed by a name of others."""

import ast
import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import fusionlib
from fusionlib.config import Profile

PACKAGE, ROOT = Path(fusionlib.__file__).parent, Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LOADED = """
import sys
{code}
files = [module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "fusionlib"]
print(len(files), sum(len(open(file, encoding="utf-8").readlines()) for file in files))
"""


def code_cells(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    cells = [cell for cell in cells if cell["cell_type"] == "code"]
    return [("".join(cell["source"]), cell["metadata"].get("tags", [])) for cell in cells]


def test_folders_import_in_one_direction_and_in_no_circle():
    done = subprocess.run([Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kept, 0 broken" in done.stdout


def test_a_layer_that_imports_upwards_is_found(tmp_path):
    """The contract is not vacuous: of a copy in which models import data it is broken."""
    import shutil

    shutil.copytree(PACKAGE, tmp_path / "fusionlib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    losses = tmp_path / "fusionlib" / "models" / "losses.py"
    losses.write_text(losses.read_text() + "\nfrom fusionlib.data.color import split_luma\n")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run([*command, "--no-cache"], cwd=tmp_path, capture_output=True, text=True,
                          env={"PYTHONPATH": str(tmp_path), "PATH": ""})  # fmt: skip
    assert done.returncode == 1 and "fusionlib.models.losses -> fusionlib.data.color" in done.stdout


def test_the_package_has_few_entries():
    entries = [path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len([name for name in entries if name != "__init__.py"]) <= 16, entries


@pytest.mark.parametrize(("code", "modules", "lines"), [
    ("import fusionlib as fl; fl.fuse", 25, 2850), ("import fusionlib.models.text_dfh", 7, 720),
    ("import fusionlib", 1, 60),
])  # fmt: skip
def test_little_is_loaded(code, modules, lines):
    done = subprocess.run([sys.executable, "-c", LOADED.format(code=code)], capture_output=True, text=True, check=True)
    found = [int(number) for number in done.stdout.split()]
    assert found[0] <= modules and found[1] <= lines, found


def test_every_name_that_a_package_passes_on_is_there():
    code = ("import importlib, fusionlib as fl\n"
            "for name in {names!r}:\n"
            "    face = importlib.import_module('fusionlib.' + name)\n"
            "    print(len([getattr(face, each) for each in face.__all__]))")  # fmt: skip
    faces = [path.parent.relative_to(PACKAGE).as_posix().replace("/", ".") for path in PACKAGE.rglob("__init__.py")
             if "lazy_loader" in path.read_text() and path.parent != PACKAGE]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code.format(names=faces)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == len(faces) > 8


def test_nobody_is_told_to_install_what_the_project_does_not_own():
    """The package index has a stranger's distribution called fusionlib, and may get one of any name."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    files = [ROOT / name for name in listed.stdout.split("\n") if name] if listed.returncode == 0 else []
    if not files:
        pytest.skip("not a git checkout")
    by_name = re.compile(r"(?:pip|uv|conda)3? (?:install|add)[^\n]*[\s\"'](?:fusionlib|mllm-fusion)\b(?!\.)", re.I)
    for file in files:
        if file.suffix in (".py", ".md", ".ipynb", ".toml", ".yml", ".j2", ".js") and file != Path(__file__).resolve():
            text = file.read_text(encoding="utf-8")
            assert not by_name.search(text), (file, by_name.search(text))
            assert "fusionlib[" not in text, file


@pytest.mark.parametrize(("number", "names"), [
    ("01", ("split_luma",)),
    ("02", (".encode(ir", ".decode(", "FusionLoss", ".backward()")),
    ("04", ("text_guided", "image_guided", "YOLOv5Loss", "embed(")),
])  # fmt: skip
def test_the_method_is_visible_in_the_notebooks(number, names):
    notebook = next(path for path in NOTEBOOKS if path.name.startswith(number))
    source = "\n".join(cell for cell, _ in code_cells(notebook))
    assert all(name in source for name in names)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_cell_but_the_parameters_assigns_a_setting(notebook):
    """`config.overrides(globals())` would take it for one when the cell above is run again."""
    settings = {field.name for field in fields(Profile)} - {"name"}
    for source, tags in code_cells(notebook):
        if "parameters" not in tags:
            nodes = ast.walk(ast.parse(source))
            assigned = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
            assert not assigned & settings, source
