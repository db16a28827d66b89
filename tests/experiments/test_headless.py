"""A notebook's training without the notebook."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from fusionlib.__main__ import main
from fusionlib.experiments import headless, run, suite
from fusionlib.utils.errors import FusionError


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A notebook 02 that writes down what it was given, and must not be run to its end."""
    cells = [
        new_markdown_cell("# Title"),
        new_code_cell('profile = "quick"\ndata_root = ""\nout = ""\nepochs = 1', metadata={"tags": ["parameters"]}),
        new_code_cell("import fusionlib as fl\nrun = fl.runs.begin(profile, data_root, out)"),
        new_code_cell("stage = run.stage('02_toy', epochs=epochs)\n"
                      "if not stage.finished:\n    stage.finish(told=f'{epochs} epochs')"),
        new_code_cell("raise RuntimeError('after the training')"),
    ]  # fmt: skip
    folder = tmp_path / "notebooks"
    folder.mkdir()
    nbformat.write(new_notebook(cells=cells), folder / "02_toy.ipynb")
    monkeypatch.setattr(suite, "NOTEBOOKS", folder)
    return folder


def test_the_cells_run_up_to_the_training(notebook, tmp_path, capsys):
    command = ["train", "02", "--out", str(tmp_path / "run"), "--set", "epochs=3"]
    assert main(command) == 0
    assert f"trained: {tmp_path / 'run' / '02_toy'}" in capsys.readouterr().out
    stage = run.begin("quick", "", str(tmp_path / "run")).stage("02_toy", epochs=3)
    assert stage.provenance["facts"] == {"told": "3 epochs"}
    assert main(command) == 0
    assert "loaded" in capsys.readouterr().out  # the notebook will say the same


def test_what_cannot_be_trained(notebook, tmp_path, capsys):
    with pytest.raises(FusionError, match="takes 02 or 04"):
        headless.train("05")
    assert main(["train", "02", "--set", "epoch=3"]) == 1
    assert "no notebook has the parameter epoch" in capsys.readouterr().err


@pytest.mark.parametrize("number", headless.TRAIN)
def test_the_real_notebooks_say_what_is_missing(number, tmp_path):
    with pytest.raises(FusionError, match="run notebook 01_data with the same profile first"):
        headless.train(number, out=str(tmp_path))
