"""The package as a whole: a light import, no network access, and the command line."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

import fusionlib
import fusionlib as fl
from fusionlib import feedback
from fusionlib.__main__ import main
from fusionlib.data.image_io import read_image, write_image
from fusionlib.experiments import suite
from fusionlib.metrics.conventions import METRICS, PAPER


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_is_light_and_names_are_there():
    assert python("import sys, fusionlib; print('torch' in sys.modules)") == "False\n"
    code = "import fusionlib as fl; print(fl.models.FusionNetwork.__name__, fl.fuse is fl.inference.api.fuse, *dir(fl))"
    words = python(code).split()
    assert words[:2] == ["FusionNetwork", "True"] and {"models", "fuse"} < set(words)
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


@pytest.mark.parametrize("place", ["parse", "execute", "expanduser"])
def test_an_interrupt_at_any_moment_is_a_sentence(monkeypatch, capsys, place):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"fusionlib.__main__.{place}", interrupted)
    assert main(["data", "check", "nowhere", "--json", "a.json"]) == 130
    said = capsys.readouterr()
    assert said.err.startswith("\ninterrupted: what is finished is kept") and "Traceback" not in said.err


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Folders fused, ir and vi with the images 1 to 4 of 48x44 pixels, in the working folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for i in range(1, 5):
        for kind, shape in (("fused", (44, 48)), ("ir", (44, 48)), ("vi", (44, 48, 3))):
            write_image(tmp_path / kind / f"{i}.png", rng.integers(256, size=shape, dtype=np.uint8))
    return ["--fused", "fused", "--ir", "ir", "--visible", "vi"]


@pytest.mark.parametrize(("command", "place", "option"), [
    (["run", "--only", "01"], "checkout/data/runs/quick", "--out"),
    (["train", "02"], "checkout/data/runs/quick", "--out"),
    (["train-peer", "DATFuse", "--data-root", "."], "checkout/data/runs/peers", "--out"),
    (["train-peer", "DATFuse", "--data-root", ".", "--out", "checkout/x/w.safetensors"], "checkout/x", "--out"),
    (["train-detector"], "checkout/data/runs/scene_detector", "--out"),
    (["data", "check", "ir", "--json", "checkout/report.json"], "checkout/report.json", "--json"),
])
def test_a_place_that_cannot_be_written_is_told_in_one_sentence(folders, tmp_path, monkeypatch, capsys, command, place,
                                                                option):
    """As in a read-only checkout, but for root, too: what should be a folder is a file."""
    assert suite.NOTEBOOKS.is_dir()
    (tmp_path / "checkout").touch()
    monkeypatch.setattr(fusionlib, "ROOT", tmp_path / "checkout")
    assert main(command) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    end = rf"make room or mend the permissions, or choose another place by {option}"
    assert re.fullmatch(rf"error: .*{place}: cannot be written \((Not a directory|File exists)\): {end}", said)


def test_other_errors_of_the_system_keep_their_traceback(tmp_path, monkeypatch):
    def vanished(*_, **__):
        raise FileNotFoundError(2, "No such file or directory", "x")

    monkeypatch.setattr("fusionlib.data.check.run_check", vanished)
    with pytest.raises(FileNotFoundError):
        main(["data", "check", str(tmp_path)])


def test_metrics_of_folders(folders, tmp_path, capsys):
    assert main(["metrics", *folders, "--names", "AG, MSE", "--convention", "tang", "--out", "new/table.csv"]) == 0
    table = pd.read_csv("new/table.csv", dtype={"name": str})
    assert list(table.columns) == ["dataset", "name", "AG", "MSE", "convention"] and set(table.convention) == {"tang"}
    assert list(table.name) == ["1", "2", "3", "4", "mean"] and set(table.dataset) == {tmp_path.name}
    np.testing.assert_allclose(table.AG[4], table.AG[:4].mean(), rtol=1e-6)
    said = capsys.readouterr().out
    assert "Measured: 4 images, convention tang: Tang's Evaluation" in said and "rgb2gray" in said
    row = next(line.split() for line in said.splitlines() if line.startswith("MSE "))
    assert float(row[1]) == pytest.approx(table.MSE[4], rel=1e-4) and float(row[2]) < float(row[1]) < float(row[3])
    assert row[4:8] == ["4", "lower", "0..1", "tang"] and row[8] == "Jagalingam"


def test_all_metrics_are_described_and_measured(folders, capsys):
    assert main(["metrics", *folders, "--names", "all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, metric in METRICS.items():
        assert f"{name}: {metric.rules['vifb'].note}" in lines
        assert any(line.startswith(f"{name} ") and line.endswith(f" {metric.reference}") for line in lines)


def test_metrics_of_folders_with_faults(folders, capsys):
    """One missing, one of another size, one unreadable; 16 bit and alpha are no faults."""
    rng = np.random.default_rng(1)
    for i in (5, 6, 7):
        for kind in ("fused", "ir", "vi"):
            write_image(f"{kind}/{i}.png", rng.integers(256, size=(44, 48, 3), dtype=np.uint8))
    assert main(["metrics", *folders, "--out", "whole.csv"]) == 0
    whole = pd.read_csv("whole.csv", index_col="name")
    gray = cv2.imread("fused/1.png", cv2.IMREAD_UNCHANGED)
    write_image("fused/1.png", gray.astype(np.uint16) * 257)
    cv2.imwrite("fused/5.png", np.dstack([cv2.imread("fused/5.png"), gray]))  # gray is its alpha
    write_image("fused/2.png", gray[:10])
    Path("ir/3.png").write_bytes(b"no image")
    Path("fused/4.png").unlink()
    assert main(["metrics", *folders, "--out", "table.csv"]) == 3
    table = pd.read_csv("table.csv", index_col="name")
    assert list(table.index) == ["1", "5", "6", "7", "mean"] and list(table.columns[1:6]) == list(PAPER)
    pd.testing.assert_frame_equal(table[:4], whole.loc[["1", "5", "6", "7"]])
    said = capsys.readouterr().err
    assert "not matched: 1" in said and "not measured: 2" in said
    assert "ir/4.png: expected its partner fused in fused, found none called 4; add it or remove this one" in said
    assert "fused/2.png: expected 48x44 like its infrared source ir/2.png, found 48x10" in said
    assert "ir/3.png: expected a whole png, jpg, bmp or tiff image, found 8 bytes" in said


@pytest.mark.parametrize(("more", "message"), [
    (["--names", "FID"], "Unknown metric 'FID'"),
    (["--names", ""], "Unknown metric ''"),
    (["--convention", "matlab"], "choose one of vifb, tang, cddfuse"),
    (["--out", "results"], "results: expected the name of a file that ends in .csv, found no ending; rename it"),
    (["--out", "a.csv.txt"], "a.csv.txt: expected the name of a file that ends in .csv, found .txt; rename it"),
    (["--ir", "fused"], "the fused and the infrared images are the same files"),
    (["--fused", "nowhere"], "nowhere: expected a folder of images, found nothing"),
])
def test_metrics_refuses(folders, capsys, more, message):
    assert main(["metrics", *folders, *more]) == 1
    assert message in capsys.readouterr().err


def test_metrics_are_printed_where_the_table_cannot_be_written(folders, capsys):
    Path("file").touch()
    assert main(["metrics", *folders, "--names", "AG", "--out", "file/table.csv"]) == 1
    said = capsys.readouterr()
    assert "file/table.csv: cannot be written (" in said.err and "dataset,name,AG,convention\n" in said.out


def test_fuse_takes_a_range_an_inversion_and_a_file(folders, capsys):
    raw = read_image("ir/1.png").astype(np.uint16) * 8 + 7000
    write_image("ir/1.png", raw)
    files = ["--ir", "ir/1.png", "--visible", "vi/1.png"]
    assert main(["fuse", *files, "--out", "new/fused.png", "--ir-range", "7000,9000", "--invert-ir"]) == 0
    expected = fl.fuse("ir/1.png", "vi/1.png", ir_range=(7000, 9000), invert_ir=True)
    np.testing.assert_array_equal(read_image("new/fused.png"), expected)
    assert main(["fuse", *files, "--out", "auto.png", "--ir-range", "auto"]) == 0
    assert "ir/1.png: radiometric values from 7000 to 9040" in capsys.readouterr().err
    for wrong in ("9000,7000", "7000", "1,2,3", "a,b"):
        assert main(["fuse", *files, "--out", "out.png", "--ir-range", wrong]) == 1
        assert 'error: ir_range must be "auto" or two numbers' in capsys.readouterr().err
    assert not Path("out.png").exists()


def test_metrics_say_what_infrared_they_compare_with(folders, capsys):
    for i in range(1, 5):
        write_image(f"ir/{i}.png", read_image(f"ir/{i}.png").astype(np.uint16) * 8 + 7000)
    assert main(["metrics", *folders, "--names", "AG,MSE"]) == 0
    assert "to look at: 1\n  ir: radiometric values: 70" in capsys.readouterr().err


def test_swapped_names_are_said_by_metrics_too(folders, capsys):
    command = ["metrics", *folders[:2], "--ir", "vi", "--visible", "ir", "--names", "AG"]
    assert main(command) == 0
    assert "to look at: 1\n  vi and ir: by their names, infrared and visible are swapped" in capsys.readouterr().err


def test_help(capsys):
    assert main(["--help"]) == 0 and "run" in capsys.readouterr().out


def test_ask_about_a_folder_and_once_more(folders, capsys):
    command = ["ask", "--images", "fused", "--store", "answers", "--backend"]
    assert main([*command, "rules"]) == 0
    assert capsys.readouterr().out.startswith("4 images, 4 new answers of rules-1 (stand-in for LLaVA), stored in")
    assert main([*command, "rules"]) == 0
    assert capsys.readouterr().out.startswith("4 images, 0 new answers")
    assert main([*command, "fixed", "--set", "text=More light."]) == 0
    frame = feedback.open_store("answers").frame()
    assert len(frame) == 8 and sorted(frame.name[:4]) == ["1", "2", "3", "4"]
    assert set(frame.text[4:]) == {"More light."}


@pytest.mark.parametrize("arguments, message", [
    (["--images", "nowhere"], "nowhere: expected a folder of images"),
    (["--backend", "oracle"], "one of rules, llava, server"),
    (["--set", "levle=2"], "takes the options"), (["--set", "levle"], "written as key=value"),
])
def test_ask_tells_what_is_wrong(folders, capsys, arguments, message):
    command = ["ask", "--images", "fused", "--store", "answers", "--backend", "fixed", *arguments]
    assert main(command) == 1
    assert message in capsys.readouterr().err


def test_fuse_folders_twice(folders, capsys, text_dfh_weights):
    command = ["fuse", *folders[2:], "--out", "new"]
    assert main(command) == main(command) == 0
    said = capsys.readouterr()
    assert said.out == "4 fused, in new; left out: 0\n" * 2 and "4 kept" in said.err
    assert main([*command[:-1], "refined", "--instruction", "brighter"]) == 0
    assert Path("new/1.png").read_bytes() != Path("refined/1.png").read_bytes()
    Path("ir/3.png").write_bytes(b"no image")
    assert main([*command[:-1], "rest"]) == 3
    assert "not fused: 1\n  ir/3.png: expected a whole png" in capsys.readouterr().err
    assert sorted(path.name for path in Path("rest").iterdir()) == ["1.png", "2.png", "4.png"]


@pytest.mark.parametrize(("more", "message"), [
    (["--instruction", " "], "instruction must be None"), (["--align", "sift"], "align must be one of features, ecc"),
    (["--ir", "nowhere"], "nowhere: expected a folder of images"), (["--out", "ir"], "never overwritten"),
])  # fmt: skip
def test_fuse_tells_what_is_wrong(folders, capsys, more, message):
    assert main(["fuse", *folders[2:], "--out", "new", *more]) == 1
    assert message in capsys.readouterr().err and not Path("new").exists()


def test_export(tmp_path, capsys):
    assert main(["export", "--out", str(tmp_path / "network.pt2")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'network.pt2'}\n"
    assert main(["export", "--out", str(tmp_path / "network.pth")]) == 1
    assert "expected a file name that ends in .pt2 or .onnx" in capsys.readouterr().err


def test_several_settings_after_one_option(monkeypatch):
    given = []
    monkeypatch.setattr("fusionlib.experiments.run.open_run", lambda *_, **settings: given.append(settings))
    monkeypatch.setattr("fusionlib.experiments.stages.TRAINED", {"02": lambda run: SimpleNamespace(folder="x")})
    assert main(["train", "--set", "seed=1", "02", "--set", "dfh_lr=.5", "channels=[1,2,3]", "--out", "x"]) == 0
    assert given == [{"seed": 1, "dfh_lr": 0.5, "channels": [1, 2, 3]}]


def test_check_two_folders(folders, capsys):
    Path("ir/1.png").rename("ir/one.png")
    assert main(["data", "check", "--ir", "ir", "--visible", "vi/*.png"]) == 3
    said = capsys.readouterr().out
    assert "usable pairs: 3, problems: 2" in said and "found none called one; add it or remove this one" in said
    assert main(["data", "check", ".", "--ir", "ir", "--visible", "vi"]) == 1
    assert "expected either a folder with data sets or both ir and visible" in capsys.readouterr().err
    assert main(["data", "check"]) == 1


def test_ask_about_a_pattern(folders, capsys):
    command = ["ask", "--images", "*/1.png", "--store", "answers", "--backend", "fixed"]
    assert main(command) == 0 and "3 images, 3 new answers" in capsys.readouterr().out
