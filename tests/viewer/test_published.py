"""RESULTS.md has every table of a run, what its claims' rule says, and nothing of the machine or of the time."""

import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat import v4

from fusionlib import visualization
from fusionlib.__main__ import main
from fusionlib.config import PROFILES
from fusionlib.experiments import OURS, OURS_STAGE_1
from fusionlib.experiments.claims import CLAIMS
from fusionlib.metrics.conventions import PAPER
from fusionlib.utils.errors import FusionError
from fusionlib.viewer.report import published

NOTEBOOKS = ("01_data", "02_fusion_network", "03_mllm_feedback", "05_compare_fusion", "06_compare_detection",
             "07_ablations", "08_medical_fusion")  # fmt: skip
MEASURES = ("mAP@.5", "mAP@.75", "mAP@.5:.95", "R@P.9", "LAMR")
FUSED, ABLATED = ("mean", "AUIF", "TIMFusion", OURS_STAGE_1), ("stage 1", "no MLLM", "no Text-DFH", "CA1", "CA2")
FOUND = ("infrared", "visible", "AUIF", OURS_STAGE_1, "AUIF, retrained")


def save(run, name, metrics, others, reference, caption, lost=()):
    """A table in which the reference is better than the others in the first metric, worse in the last, by .1 each."""
    rows = {other: {metric: {"mean": 0.3 + number / 9, "low": 0.1, "high": 0.9, "difference": 0.1 * (-1, 1)[number > 0],
                             "difference low": -0.2, "difference high": 0.3,
                             "p": 0.01 if number in (0, len(metrics) - 1) else 1.0}
                    for number, metric in enumerate(metrics)} for other in others if other not in lost}  # fmt: skip
    rows = {other: rows.get(other) for other in others} | {reference: {metric: {"mean": 0.6} for metric in metrics}}
    notes = {other: "no weights" for other in lost}
    table = visualization.build(rows, {other: 8 for other, row in rows.items() if row}, caption, reference, notes)
    visualization.save_table(table, run / "figures" / name)


def detection(run, judges=()):
    measures = [*MEASURES, *(f"{measure} {judge}" for judge in judges for measure in MEASURES)]
    save(run, "06_table4", measures, FOUND, OURS, "Detection, n = 8 images of 3 scenes with 20 people.")
    save(run, "07_table7", measures, ABLATED, "full", "Ablations, n = 8 images of 3 scenes with 20 people.")


@pytest.fixture
def run(tmp_path):
    """The folder of a finished run of the profile small, with all tables but that of M3FD, and one of a user's set."""
    folder = tmp_path / "home" / "me" / "runs" / "mine"
    for name in NOTEBOOKS:
        (folder / name).mkdir(parents=True)
        book = v4.new_notebook(cells=[v4.new_markdown_cell(f"# {name}")])
        book.metadata["papermill"] = {"parameters": {
            "held_out_detector": str(tmp_path / "yolox nano.onnx"), "fusion_epochs": 7, "out": str(folder),
            "backend_options": f"model={tmp_path}/llava|x,device=cpu"}}  # fmt: skip
        nbformat.write(book, folder / f"{name}.ipynb")
        record = {"fingerprint": "0123456789abcdef", "date": "2031-05-06", "profile": vars(PROFILES["small"]),
                  "facts": {}, "versions": {"torch": "2.14.1", "numpy": "9.1"}, "data_root": str(tmp_path),
                  "inputs": {"model": "rules-1 (stand-in for LLaVA)"}}  # fmt: skip
        for file in ("fingerprint", "provenance"):
            (folder / name / f"{file}.json").write_text(json.dumps(record))
    pairs = [{"dataset": "LLVIP", "name": str(n), "size": [32, 40], "boxes": [[0, 0, 1, 1]], "classes": ["person"],
              "scene": scene} for n, scene in enumerate(("a", "a", "b", ""))]  # fmt: skip
    manifest = {"train": pairs[:1], "test": pairs, "left_out": ["one"]}
    (folder / "01_data" / "manifest.json").write_text(json.dumps(manifest))
    rows = [{"notebook": name, "state": "done", "seconds": 4.25, "peak MiB": 7, "message": ""} for name in NOTEBOOKS]
    rows[1]["message"] = "the loss falls from 2 to 3"
    (folder / "summary.json").write_text(json.dumps(rows))
    for dataset in ("LLVIP", "MSRS", "MSRS_my.own"):
        save(folder, f"05_table_{dataset}", PAPER, FUSED, OURS, f"Fusion on {dataset}.", lost=["TIMFusion"])
    save(folder, "07_table6", PAPER, ABLATED, "full", "Quality of the ablations.")
    save(folder, "08_table5_BraTS2020", PAPER, ("mean", "ALMFnet", "[85]"), OURS, "Heads.", lost=["ALMFnet", "[85]"])
    detection(folder)
    return folder


def written(run, problems=None):
    return published.write_results(run, problems=problems).read_text(encoding="utf-8")


def section(text, title):
    return re.search(rf"^##+ {re.escape(title)}\n\n(.*?)\n?(?=^##|\Z)", text, re.M | re.S)[1]


def rows_of(text):
    """The tables of a text, each as lists of cells with the header first."""
    tables = re.findall(r"(?:^\|.*\n?)+", text, re.M)
    return [[line[2:-2].split(" | ") for line in table.splitlines() if "---" not in line] for table in tables]


def test_every_table_is_there_with_every_row(run):
    problems = []
    text = written(run, problems)
    assert problems == [] and text.startswith(published.MARK) and text.endswith("\n") and "](" not in text
    titles = re.findall(r"^## (.*)$", text, re.M)
    assert titles == ["In short", "The paper's claims, and what was found", "Data",
                      *(title for title, *_ in published.TABLES), "Methods without numbers", "Settings and versions"]
    for title, rows in {"Table 1: fusion on LLVIP": (*FUSED, OURS), "Table 3: fusion on MSRS": (*FUSED, OURS),
                        "Fusion on other data sets": (*FUSED, OURS), "Table 4: detection of people": (*FOUND, OURS),
                        "Table 5: medical images": ("mean", "ALMFnet", "[85]", OURS),
                        "Table 6: fusion in the ablations": (*ABLATED, "full"),
                        "Table 7: detection in the ablations": (*ABLATED, "full")}.items():  # fmt: skip
        (table,) = rows_of(section(text, title))
        assert [row[0] for row in table] == ["method", *rows], title
    row = rows_of(section(text, "Table 1: fusion on LLVIP"))[0][2]
    assert row[:4] == ["AUIF", "", "8", "_0.300_<br>[0.100, 0.900]<br>−0.100, p = .010"]
    assert "Fusion on MSRS_my.own." in section(text, "Fusion on other data sets")
    assert section(text, "Table 2: fusion on M3FD").strip() == (
        "Not in this run. Made from test pairs of M3FD by "
        "`python -m fusionlib run --profile small --data-root DIR --only 05`.")


def test_claims_are_judged_by_rule_with_their_intervals(run):
    text, counted, last = written(run), {}, ""
    for number, _, by, *rest in rows_of(section(text, "The paper's claims, and what was found"))[0][1:]:
        last = number.strip() or last
        counted[int(last), by] = rest
    assert [by for number, by in counted if number == 1] == ["LLVIP", "MSRS", "MSRS_my.own"]
    assert counted[1, "LLVIP"] == ["1", "1", "3", "mixed", "the paper's"]
    assert counted[6, "–"] == ["–", "–", "–", "nothing to compare", "the paper's"]
    in_loss = "people, by yolov5n (in the loss)"
    assert counted[5, in_loss] == ["4", "0", "6", "better", "the paper's"]  # LAMR: lower is better
    assert counted[2, in_loss][:4] == ["2", "0", "3", "better"] and counted[7, in_loss][3:] == ["better", "ours"]
    assert {number for number, _ in counted} == set(range(1, len(CLAIMS) + 1))
    for number, claim in enumerate(CLAIMS, 1):
        assert f"### {number}. {claim.words}\n" in text
    assert "\nfull minus the other, people:\n\n| against |" in text
    assert "| no MLLM | better<br>+0.100 [−0.300, +0.200], p = .010 | inconclusive<br>−0.100 [" in text


def test_a_held_out_detector_has_its_columns_and_answers(run):
    short = section(written(run), "In short")
    assert "people are found in 8 images of 3 scenes with 20 people, with" in short
    assert short.count("\n- ") == 2 and "that was in no loss is in this run: `--set held_out_detector=FILE`" in short
    detection(run, ["yolox_nano"])
    text = written(run)
    short = section(text, "In short")
    assert re.findall(r"^- (\S+) by (.*?):", short, re.M) == [
        (name, by) for by in ("yolov5n (in the loss)", "yolox_nano (in no loss)") for name in ("mAP@.5:.95", "R@P.9")]
    assert "held_out_detector" not in short
    assert ("- R@P.9 by yolov5n (in the loss): 0.600 in the refined images, 0.633 in infrared alone, the better "
            "source: inconclusive (−0.100 [−0.300, +0.200], p = 1)") in short  # fmt: skip
    head = rows_of(section(text, "Table 4: detection of people"))[0][0]
    assert head[3:] == [f"{name} {'↓' if 'LAMR' in name else '↑'}" for name in
                        (*MEASURES, *(f"{name} yolox_nano" for name in MEASURES))]  # fmt: skip
    claims = section(text, "The paper's claims, and what was found")
    assert "\n| 7 | " in claims and "\n|  |  | people, by yolox_nano (in no loss) | " in claims


def test_the_same_run_gives_the_same_bytes_and_nothing_of_the_machine(run, tmp_path):
    first = published.write_results(run).read_bytes()
    assert published.write_results(run).read_bytes() == first  # replaces its own file
    assert published.write_results(run, tmp_path / "deep" / "R.md").read_bytes() == first
    moved = run.rename(tmp_path / "elsewhere")
    for path in moved.rglob("provenance.json"):
        record = json.loads(path.read_text()) | {"date": "2044-01-01", "data_root": "/somewhere"}
        path.write_text(json.dumps(record))
    assert published.write_results(moved).read_bytes() == first
    text = first.decode()
    for secret in (str(tmp_path), tmp_path.name, "2031", "home", "4.25"):
        assert secret not in text


def test_data_settings_and_versions(run):
    text = written(run)
    data = section(text, "Data")
    assert rows_of(data) == [[
        ["data set", "split", "pairs", "scenes", "labelled", "labels", "width x height", "selected by"],
        ["LLVIP", "train", "1", "1", "1", "1 person", "40x32", "01_data"],
        ["LLVIP", "test", "4", "3", "4", "4 person", "40x32", "01_data"]]]  # fmt: skip
    assert "left out: 1 by 01_data." in data
    settings = section(text, "Settings and versions")
    assert [row[:3] for row in rows_of(settings)[0][1:]] == [
        ["backend_options", r"model=llava\|x,device=cpu", "–"], ["fusion_epochs", "7", "60"],
        ["held_out_detector", "yolox nano.onnx", "–"]]  # fmt: skip
    assert "Versions: torch 2.14.1, numpy 9.1." in settings and "02_fusion_network 0123456789ab," in settings
    about = text.partition("## In short")[0]
    assert "Profile small; 7 of 7 notebooks done; answers about the images by rules-1 (stand-in for LLaVA)." in about
    assert "- 02_fusion_network: the loss falls from 2 to 3" in about


def test_methods_without_weights_are_named_with_the_reason(run):
    lines = section(written(run), "Methods without numbers").strip().splitlines()
    assert [line.split(" ")[1].rstrip(":") for line in lines] == ["TIMFusion", "ALMFnet", "[85]"]
    assert lines[0].startswith("- TIMFusion is architecture only: the loss that its release was trained by is not")
    assert lines[2].startswith("- [85]: the paper's reference [85], a medical method whose name is lost in our copy")
    save(run, "05_table_LLVIP", PAPER, FUSED, OURS, "Fusion.", lost=["AUIF"])
    assert "- AUIF: no weights in this run; the official ones are at Zhaozixiang1228/" in written(run)
    path = run / "figures" / "05_table_LLVIP.csv"
    path.write_text(path.read_text().replace("AUIF,no weights", "AUIF,official weights"))
    assert "- AUIF (official weights): not all of the test pairs could be fused\n" in written(run)


@pytest.mark.parametrize(("number", "titles"), [
    ("05", ["Table 1: fusion on LLVIP", "Table 3: fusion on MSRS", "Fusion on other data sets"]),
    ("06", ["Table 4: detection of people", "In short"]), ("08", ["Table 5: medical images"]),
    ("07", ["Table 6: fusion in the ablations", "Table 7: detection in the ablations"]),
])  # fmt: skip
def test_a_notebook_that_is_missing_is_one_line(run, number, titles):
    for path in [*run.glob(f"{number}_*.ipynb"), *(run / "figures").glob(f"{number}_*")]:
        path.unlink()
    rows = json.loads((run / "summary.json").read_text())
    for row in rows:
        row["state"] = "not run" if row["notebook"].startswith(number) else "done"
    (run / "summary.json").write_text(json.dumps(rows))
    problems = []
    text = written(run, problems)
    assert problems == []
    for title in titles:
        (line,) = section(text, title).strip().splitlines()
        assert line.startswith("Not in this run. Made from ") and line.endswith(f"--data-root DIR --only {number}`.")
    assert re.search(rf"^- {number}_\w+: not run$", text, re.M) and "6 of 7 notebooks done" in text
    of_it = [number_ for number_, claim in enumerate(CLAIMS, 1) if claim.tables[0].startswith(number)]
    for one in of_it:
        claim = section(text, f"{one}. {CLAIMS[one - 1].words}")
        assert claim.strip() == "Nothing to compare: the tables are not in this run, or no other row has numbers."


@pytest.mark.parametrize(("name", "content"), [
    ("06_table4.csv", b"method,n\nours,many"), ("06_table4.csv", b"\xff"), ("06_table4.html", b"<p>"),
    ("06_table4.html", None), ("06_table4.csv", "link"),
])  # fmt: skip
def test_a_damaged_table_is_one_sentence_and_the_others_are_there(run, tmp_path, capsys, name, content):
    path = run / "figures" / name
    before = path.read_bytes()
    path.unlink()
    if content == "link":
        (tmp_path / "secret.csv").write_bytes(before)
        path.symlink_to(tmp_path / "secret.csv")
    elif content is not None:
        path.write_bytes(content)
    assert main(["results", "--run", str(run), "--out", str(tmp_path / "R.md")]) == 3
    out, error = capsys.readouterr()
    assert out.strip() == str(tmp_path / "R.md")
    assert error.startswith("not shown: 1\n") and name in error and error.count("\n") == 2
    text = (tmp_path / "R.md").read_text()
    sentence = ("Its files in this run cannot be read. Made from labelled pairs by "
                "`python -m fusionlib run --profile small --data-root DIR --only 06`.")  # fmt: skip
    assert section(text, "Table 4: detection of people").strip() == section(text, "In short").strip() == sentence
    assert str(tmp_path) not in text and len(rows_of(section(text, "Table 7: detection in the ablations"))) == 1


def test_damaged_records_are_sentences(run, capsys):
    (run / "01_data" / "manifest.json").write_text("[]")
    (run / "06_compare_detection" / "provenance.json").write_text('{"profile": 5}')
    assert main(["results", "--run", str(run)]) == 3
    error = capsys.readouterr().err
    assert error.startswith("not shown: 2\n") and "manifest.json" in error and "provenance.json" in error
    assert section((run / "RESULTS.md").read_text(), "Data").strip().endswith("Not recorded in this run.")


@pytest.mark.parametrize("name", ["01\x1b[2J\x07", "01\n# Data", "<img src=x>", "[a](b)"])
def test_a_name_in_the_summary_is_text_of_one_line(run, name):
    (run / "summary.json").write_text(json.dumps([{"notebook": name, "state": "failed"}]))
    assert main(["results", "--run", str(run)]) == 0
    text = (run / "RESULTS.md").read_text()
    assert not set("\x1b\x07") & set(text) and "\n# Data" not in text
    assert name in ("01\x1b[2J\x07", "01\n# Data") or f"- {name}" not in text


def test_what_is_no_run_or_no_place_for_results_is_refused(run, tmp_path, capsys):
    assert main(["results", "--run", str(tmp_path)]) == 1
    assert "expected the executed notebooks of a run, found none" in capsys.readouterr().err
    mine = tmp_path / "mine.md"
    mine.write_text("# My results")
    for out in (mine, tmp_path / "results.txt", tmp_path):
        assert main(["results", "--run", str(run), "--out", str(out)]) == 1
        assert "expected the name of a new file that ends in .md, or of one that this" in capsys.readouterr().err
    assert mine.read_text() == "# My results"
    (run / "RESULTS.md").symlink_to(mine)
    with pytest.raises(FusionError, match="leads out of it"):
        published.write_results(run)


def test_the_committed_tables_of_the_quick_run_can_be_published(tmp_path):
    """They may be of an earlier version; numbers in Markdown are those of the csv."""
    root = Path(published.__file__).parents[3]
    for path in [*(root / "figures" / "quick").glob("*.*"), *(root / "notebooks").glob("*.ipynb")]:
        target = tmp_path / ("figures" if path.parent.name == "quick" else "") / path.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    problems = []
    text = written(tmp_path, problems)
    assert problems == []
    assert section(text, "Table 1: fusion on LLVIP").endswith("run --profile small --data-root DIR --only 05`.\n")
    (table,) = rows_of(section(text, "Fusion on other data sets"))
    values = pd.read_csv(root / "figures" / "quick" / "05_table_Scenes.csv", index_col=0)["Q_AB/F mean"]
    for row in table[1:]:
        shown = row[3].partition("<br>")[0].strip("*_")
        assert shown == ("–" if np.isnan(values[row[0]]) else f"{values[row[0]]:.3f}")
