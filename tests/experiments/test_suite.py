"""The batch of notebooks: settings reach them, a failure is told and stops the rest; the committed ones are sound."""

import ast
import base64
import io
import json
import subprocess
import sys

import nbformat
import pytest
from PIL import Image

import fusionlib
from fusionlib.__main__ import main
from fusionlib.experiments import expect, inputs, publishing, suite
from fusionlib.experiments.lookahead import Outlook
from fusionlib.utils.errors import FusionError
from fusionlib.utils.locks import folder_lock

COMMITTED = sorted(suite.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def write(folder, name, *sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "language_info": {"name": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / name)


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """Three notebooks of our own: the first prints its settings, the second fails on demand."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    write(folder, "01_a.ipynb", 'profile = "quick"\nout = ""\nlevel = 1', "print(profile, level)")
    write(folder, "02_b.ipynb", 'fail = False\nout = ""', 'if fail:\n    raise ValueError("the lamp is broken")')
    write(folder, "03_c.ipynb", 'out = ""', "x = bytearray(300 << 20)\nimport time; time.sleep(1)")
    monkeypatch.setattr(suite, "NOTEBOOKS", folder)
    monkeypatch.setattr(suite, "look_ahead", lambda *_: Outlook("three notebooks", {}))  # they need nothing
    monkeypatch.setattr(fusionlib, "ROOT", tmp_path)
    return tmp_path


def test_run_executes_in_order_and_tells_time_and_memory(notebooks):
    table = suite.run("small", settings={"level": 7}, out=str(notebooks / "run"))
    assert list(table.notebook) == ["01_a", "02_b", "03_c"]
    assert (table.state == "done").all() and (table.seconds > 0).all()
    assert table["peak MiB"][2] > table["peak MiB"][0] + 200
    executed = nbformat.read(notebooks / "run" / "01_a.ipynb", 4)
    assert executed.cells[-1].outputs[0].text == "small 7\n"
    assert json.loads((notebooks / "run" / "summary.json").read_text())[0]["state"] == "done"


def test_a_failure_is_told_and_stops_the_rest(notebooks, capsys):
    status = main(["run", "--set", "fail=True", "--out", str(notebooks / "run")])
    printed = capsys.readouterr().out
    assert status == 1
    assert "ValueError: the lamp is broken" in printed and "cell 3" in printed
    assert "03_c not run" in " ".join(printed.split())
    assert f"python -m fusionlib report --run {notebooks / 'run'}" in printed
    failed = nbformat.read(notebooks / "run" / "02_b.ipynb", 4)
    assert any(o.output_type == "error" for c in failed.cells if c.cell_type == "code" for o in c.outputs)


def test_what_is_not_as_expected_is_told_and_stops_nothing(notebooks, capsys):
    write(suite.NOTEBOOKS, "02_b.ipynb", 'out = ""', "from fusionlib.experiments import expect",
          'expect({"the loss falls, from 0.5 to 0.7": 0.7 < 0.5, "there are 3": True})')  # fmt: skip
    table = suite.run(out=str(notebooks / "run"))
    assert list(table.state) == ["done"] * 3
    assert list(table.message) == ["", "not as expected: 1; the loss falls, from 0.5 to 0.7", ""]
    outputs = nbformat.read(notebooks / "run" / "02_b.ipynb", 4).cells[-1].outputs
    assert {output.name: output.text for output in outputs} == {
        "stderr": "not as expected: 1\n  the loss falls, from 0.5 to 0.7\n",
        "stdout": "1 of 2 checks passed; the results are kept\n"}  # fmt: skip


def test_expectations_that_are_met(capsys):
    expect({"there are 3": True})
    expect({})
    assert capsys.readouterr() == ("all checks passed\n" * 2, "")


def test_two_runs_in_one_folder_do_not_get_in_each_others_way(notebooks):
    folder = inputs.run_folder("quick")
    with folder_lock(folder), pytest.raises(FusionError, match="another process works in this folder"):
        suite.run("quick")
    assert not list(folder.glob("*.ipynb"))


def test_the_kernel_imports_the_package_of_the_command(notebooks, monkeypatch):
    (notebooks / "other" / "fusionlib").mkdir(parents=True)
    (notebooks / "other" / "fusionlib" / "__init__.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(notebooks / "other"))
    write(suite.NOTEBOOKS, "04_d.ipynb", 'out = ""', "import fusionlib\nprint(fusionlib.__file__)")
    suite.run(only=["04"], out=str(notebooks / "run"))
    executed = nbformat.read(notebooks / "run" / "04_d.ipynb", 4)
    assert executed.cells[-1].outputs[0].text == f"{fusionlib.__file__}\n"


def test_only_some_notebooks(notebooks):
    assert list(suite.run(only=["01", "03"], out=str(notebooks / "run")).notebook) == ["01_a", "03_c"]


@pytest.mark.parametrize(
    "arguments, message",
    [(["--profile", "huge"], "quick, small, paper"), (["--only", "09"], "no notebook has the number 09"),
     (["--set", "levle=2"], "no notebook has the parameter levle"), (["--set", "level"], "written as key=value"),
     (["--set", "fusion_epochs=.5"], "error: fusion_epochs must be a whole number, but is 0.5\n")],
)  # fmt: skip
def test_bad_arguments_are_told_in_one_sentence(notebooks, capsys, arguments, message):
    assert main(["run", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_paths_are_those_of_the_working_folder(notebooks, monkeypatch):
    parameters = 'data_root = out = ir = visible = labels = ""\ndetector = None'
    write(notebooks / "notebooks", "01_a.ipynb", parameters, "print(ir, visible, detector)")
    (notebooks / "here" / "weights").mkdir(parents=True)
    (notebooks / "here" / "weights" / "own.pt").touch()
    monkeypatch.chdir(notebooks / "here")
    monkeypatch.setenv("HOME", str(notebooks))
    here = f"{notebooks}/here"
    settings = {"ir": "cam/*_ir.png", "visible": "~/v", "detector": "weights/own.pt"}
    assert suite.settings_of("quick", "~/sets", "run", settings) == {
        "ir": f"{here}/cam/*_ir.png", "visible": f"{notebooks}/v", "detector": f"{here}/weights/own.pt",
        "data_root": f"{notebooks}/sets", "out": f"{here}/run"}
    assert suite.settings_of("quick", settings={"detector": "yolov5n.pt", "labels": ""}) == {
        "detector": "yolov5n.pt", "labels": ""}  # a name
    assert main(["run", "--out", "run", "--only", "01", "--set", "ir=a", "visible=b", "--set", "detector=x"]) == 0
    assert nbformat.read("run/01_a.ipynb", 4).cells[-1].outputs[0].text == f"{here}/a {here}/b x\n"
    assert main(["run", "--out", "run", "--only", "02", "--set", "ir=a", "visible=b"]) == 0  # the same, for the rest


def test_publish_keeps_outputs_and_drops_what_changes_from_run_to_run(notebooks):
    suite.run(only=["01"], out=str(notebooks / "run"))
    (notebooks / "run" / "figures").mkdir()
    (notebooks / "run" / "figures" / "01_a.png").write_bytes(b"a picture")
    (notebooks / "run" / "02_edited_since.ipynb").touch()
    publishing.publish(notebooks / "run", ["01_a"])
    published = nbformat.read(suite.NOTEBOOKS / "01_a.ipynb", 4)
    assert published.cells[-1].outputs[0].text == "quick 1\n" and published.cells[-1].execution_count
    assert set(published.metadata) == {"kernelspec", "language_info"}
    assert (notebooks / "figures" / "quick" / "01_a.png").read_bytes() == b"a picture"
    assert [dict(c.metadata) for c in published.cells] == [{"tags": ["parameters"]}, {}]


def test_publish_keeps_the_picture_of_a_widget(notebooks):
    picture = base64.b64encode(b"a picture").decode()
    widget, text = {publishing.WIDGET: {"model_id": "1"}}, {"text/plain": "x"}
    both = widget | text, widget | text | {"image/png": picture}
    notebook = nbformat.read(suite.NOTEBOOKS / "01_a.ipynb", 4)
    notebook.cells[-1].outputs = [nbformat.v4.new_output("display_data", data) for data in both]
    (notebooks / "run").mkdir()
    nbformat.write(notebook, notebooks / "run" / "01_a.ipynb")
    publishing.publish(notebooks / "run", ["01_a"])
    published = nbformat.read(suite.NOTEBOOKS / "01_a.ipynb", 4).cells[-1].outputs
    assert [dict(output.data) for output in published] == [text | {"image/png": picture}]


def test_only_publishing_writes_outside_of_the_run(notebooks):
    """`make run` leaves the checkout as it was."""
    figures = notebooks / "data" / "runs" / "quick" / "figures"
    figures.mkdir(parents=True)
    for name in ("a.png", "a.pdf", "t.csv", "t.tex", "t.html", "notes.txt", "half.png.part"):
        (figures / name).write_text(name)
    before = {path: path.read_bytes() for path in notebooks.rglob("*") if path.is_file()}
    assert main(["run", "--only", "01"]) == 0
    run = notebooks / "data" / "runs" / "quick"
    after = {path: path.read_bytes() for path in notebooks.rglob("*") if path.is_file()}
    assert {path for path in after if after[path] != before.get(path)} - {run / "01_a.ipynb", run / "summary.json",
                                                                          run / ".lock"} == set()  # fmt: skip
    assert main(["run", "--only", "01", "--publish"]) == 0
    copied = {path.name: path.read_text() for path in (notebooks / "figures" / "quick").iterdir()}
    assert copied == {name: name for name in ("a.png", "a.pdf", "t.csv", "t.tex", "t.html")}
    assert nbformat.read(notebooks / "notebooks" / "01_a.ipynb", 4).cells[-1].outputs


def test_large_pictures_inside_of_notebooks_become_jpg():
    buffer = io.BytesIO()
    Image.effect_noise((400, 300), 50).save(buffer, "PNG")
    data = {"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": "<Figure>"}
    small = dict(data)
    publishing.shrink_picture(data, limit=1000)
    assert set(data) == {"image/jpeg", "text/plain"}
    assert Image.open(io.BytesIO(base64.b64decode(data["image/jpeg"]))).size == (400, 300)
    publishing.shrink_picture(small, limit=10**7)
    assert "image/png" in small


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.stem)
def test_committed_notebooks_can_be_compared(path):
    """nbval compares nothing in a cell without an execution count; a parameters cell must hold the quick defaults."""
    notebook = nbformat.read(path, 4)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert all(c.execution_count for c in code)
    assert not any(o.output_type == "error" or o.get("name") == "stderr" for c in code for o in c.outputs)
    assert code[-1].outputs[-1].text == "all checks passed\n" and "NBVAL_IGNORE_OUTPUT" not in code[-1].source
    assert max(len(c.source.splitlines()) for c in code) <= 25
    nodes = [node for c in code for node in ast.walk(ast.parse(c.source))]
    assert all(node.msg for node in nodes if isinstance(node, ast.Assert))  # says what is broken
    assert suite.parameters(path)["profile"] == "quick"
    intro = notebook.cells[0].source
    assert all(f"**{word}**" in intro for word in ("in", "out", "paper", "takes"))


def test_nbval_fails_when_a_number_that_matters_changes(tmp_path):
    """Notebook 01 up to this number, into a run of its own."""
    notebook = nbformat.read(COMMITTED[0], 4)
    parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source += f"\nout = {str(tmp_path / 'run')!r}"
    outputs = [(number, o) for number, c in enumerate(notebook.cells) if c.cell_type == "code" for o in c.outputs]
    number, output = next((number, o) for number, o in outputs if "labelled" in o.get("text", ""))
    del notebook.cells[number + 1 :]
    output.text = output.text.replace("56 pairs", "55 pairs", 1)
    nbformat.write(notebook, tmp_path / "changed.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider", "changed.ipynb"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 1 and "1 failed" in result.stdout, result.stdout[-3000:]
