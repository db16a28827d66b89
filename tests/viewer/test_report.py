"""The report shows all results of a run, runs no script, loads nothing from the network, and lists unreadable files."""

import base64
import io
import json
import os
import re

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from nbformat import v4
from PIL import Image

import fusionlib
from fusionlib import visualization
from fusionlib.__main__ import main
from fusionlib.config import PROFILES
from fusionlib.utils.errors import FusionError
from fusionlib.viewer import report
from fusionlib.viewer.report import contents, headline, pages

ATTACK = '<script>alert("x")</script><img src="http://evil.example/a.png" onerror="alert(1)">'
HOSTILE = "05_a'&b" if os.name == "nt" else "05_a\"><script>alert('x')<&#x27;?%41"  # the worst that a file name can be
LOADS = {"src", "srcset", "data", "poster", "background"}


def png(width=40, height=20, value=200):
    buffer = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def output(**data):
    return v4.new_output("execute_result", {k.replace("_", "/"): v for k, v in data.items()}, execution_count=1)


def notebook(folder, name, *made, heading="Data", markdown="## The pairs\n\nThe loss is $L_f < 1$."):
    code = [v4.new_code_cell(f"print({i})", outputs=[out], execution_count=i + 1) for i, out in enumerate(made)]
    words = [v4.new_markdown_cell(f"# {name[:2]} {heading}"), v4.new_markdown_cell(markdown)]
    book = v4.new_notebook(cells=words + code)
    book.metadata["papermill"] = {"duration": 75.2, "end_time": "2026-11-26T01:38:00.17+00:00", "exception": None}
    nbformat.write(book, folder / f"{name}.ipynb")


def stage(folder, notebook_name, **changed):
    (folder / notebook_name).mkdir(parents=True, exist_ok=True)
    settings = dict(vars(PROFILES["small"])) | changed
    record = {"fingerprint": "ab" * 16, "date": "2026-11-26", "profile": settings, "facts": {"answers": 251},
              "versions": {"torch": "2.14.1"}, "inputs": {"model": "rules-1 (stand-in for LLaVA)", "code": "c0de"}}
    for file in ("fingerprint", "provenance"):
        (folder / notebook_name / f"{file}.json").write_text(json.dumps(record))


def pair(dataset, size, classes):
    boxes = None if classes is None else [[0, 0, 1, 1]] * len(classes)
    return {"dataset": dataset, "size": size, "boxes": boxes, "classes": classes}


@pytest.fixture
def run(tmp_path):
    """The folder of a run with two notebooks, a table, a figure and two stages."""
    folder = tmp_path / "runs" / "small"
    stage(folder, "01_data")
    stage(folder, "03_mllm_feedback")
    manifest = {"train": [pair("LLVIP", [1024, 1280], ["person", "person"]), pair("MSRS", [480, 640], None)],
                "test": [pair("MSRS", [480, 640], ["person", "car"]), pair("MSRS", [512, 640], None)],
                "left_out": []}  # fmt: skip
    (folder / "01_data" / "manifest.json").write_text(json.dumps(manifest))
    image = output(image_png=base64.b64encode(png()).decode())
    notebook(folder, "01_data", image, v4.new_output("stream", text="264 pairs\n"))
    notebook(folder, "03_mllm_feedback", output(text_html="<table><tr><td>0.53</td></tr></table>"), heading="Feedback")
    rows = [{"notebook": "01_data", "state": "done", "seconds": 27.2, "peak MiB": 1163, "message": ""},
            {"notebook": "03_mllm_feedback", "state": "done", "seconds": 3700.0, "peak MiB": 1561, "message": ""}]
    (folder / "summary.json").write_text(json.dumps(rows))
    (folder / "figures").mkdir()
    (folder / "figures" / "01_pairs.png").write_bytes(png(1800, 900))
    (folder / "figures" / "01_pairs.pdf").write_bytes(b"%PDF-1.4")
    cells = {"a": {"SSIM": {"mean": 0.5}}, "b": {"SSIM": {"mean": 0.7}}}
    table = visualization.build(cells, {"a": 4, "b": 4}, "Quality on LLVIP, profile small. Best in red.")
    visualization.save_table(table, folder / "figures" / "03_table_LLVIP")
    return folder


def soup(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def text(element):
    return " ".join(element.get_text(" ").split())


def test_the_overview_has_all_results_of_the_run(run):
    problems = []
    index = report.write_report(run, problems=problems)
    assert index == run / "report" / "index.html" and problems == []
    page = soup(index)
    rows = [text(row) for row in page.select("#run tbody tr")]
    assert rows == ["01 Data done 27.2 s 1163 2026-11-26 01:38",
                    "03 Feedback done 1 h 1 min 1561 2026-11-26 01:38"]  # fmt: skip
    assert [text(row) for row in page.select("#data tbody tr")] == [
        "LLVIP train 1 1 1 2 person 1280x1024 01_data", "MSRS train 1 1 0 – 640x480 01_data",
        "MSRS test 2 2 1 1 person, 1 car 640x480 to 640x512 01_data"]  # fmt: skip
    assert [text(h) for h in page.select("#tables h3, #figures figcaption b")] == [
        "Quality on LLVIP", "Pairs of the data sets, infrared and visible"]
    best = page.select_one("#tables td.best")
    assert best.get_text() == "0.700"
    assert text(page.select_one("#tables caption")).startswith("Quality on LLVIP, profile small.")
    links = [a["href"] for a in page.select("#tables a.file, #figures a.file")]
    assert links == [f"figures/{name}" for name in ("03_table_LLVIP.csv", "03_table_LLVIP.tex", "03_table_LLVIP.html",
                                                    "01_pairs.png", "01_pairs.pdf")]  # fmt: skip
    assert all((index.parent / link).read_bytes() == (run / link).read_bytes() for link in links)
    about = "profile small, LLVIP, MSRS"
    assert about in text(page.select_one("#figures figcaption")) and about in text(page.select_one("#tables .about"))
    assert "feedback of rules-1 (stand-in for LLaVA)" in text(page.select_one(".about"))
    provenance = text(page.select_one("#provenance"))
    assert "answers 251" in provenance and "torch 2.14.1" in provenance and "ab" * 16 in provenance


def test_figures_are_files_and_images_of_notebooks_are_in_their_pages(run):
    page = soup(report.write_report(run))
    figure = page.select_one("#figures img")
    assert (figure["width"], figure["height"]) == ("1800", "900") and figure["loading"] == "lazy"
    assert figure["src"] == "figures/01_pairs.png" and "base64" not in str(page)
    shown = soup(run / "report" / "01_data.html").select_one("main img")
    assert base64.b64decode(shown["src"].removeprefix("data:image/png;base64,")) == png()


def test_every_link_of_the_report_leads_to_a_file_or_a_section(run):
    report.write_report(run)
    found = 0
    for path in (run / "report").glob("*.html"):
        page = soup(path)
        for element in page.select("[href], [src]"):
            file, _, anchor = (element.get("href") or element.get("src")).partition("#")
            if file.startswith("data:image/png"):
                continue
            target = path.parent / file if file else path
            assert target.is_file(), element
            assert not anchor or soup(target).find(id=anchor), element
            found += 1
    assert found > 30


def test_a_notebook_leads_to_the_overview_its_neighbours_and_its_sections(run):
    report.write_report(run)
    page = soup(run / "report" / "01_data.html")
    links = [(a["href"], text(a)) for a in page.select("nav a")]
    assert links == [("index.html", "Overview"), ("01_data.html", "01 Data"), ("#The-pairs", "The pairs"),
                     ("03_mllm_feedback.html", "03 Feedback")]  # fmt: skip
    assert [text(pre) for pre in page.select(".jp-OutputArea-output pre")] == ["264 pairs"]
    assert page.select_one(".highlight").get_text().strip() == "print(0)"


def test_formulas_are_mathml_and_what_is_no_latex_stays_readable(run):
    notebook(run, "01_data", markdown=r"With $L_f$, $$\frac{1}{2}$$ and $\frac{$.")
    report.write_report(run)
    page = soup(run / "report" / "01_data.html")
    assert [str(m) for m in page.select("math msub")] == ["<msub><mi>L</mi><mi>f</mi></msub>"]
    assert page.select_one("math[display=block] mfrac")
    assert page.select_one(".jp-MarkdownOutput code").get_text() == "\\frac{"


def hostile(run):
    """Give the run a notebook, messages, files and records whose text is HTML that would run or load."""
    error = v4.new_output("error", ename="E", evalue=ATTACK, traceback=[f"\x1b[31mE\x1b[0m: {ATTACK}"])
    bad = '<math><mi href="javascript:alert(1)">x</mi><a xlink:href="javascript:alert(1)">y</a></math>'
    bad += '<table onclick="alert(1)"><tr><td style="background:url(http://evil.example)">cell</td></tr></table>'
    notebook(
        run, HOSTILE, v4.new_output("stream", text=ATTACK), output(text_plain=ATTACK), output(text_html=ATTACK + bad),
        output(application_javascript="alert(2)", text_plain="a script"), error, heading=ATTACK,
        markdown=f"## {ATTACK}\n\n{ATTACK}\n\n[go](javascript:alert(1)) ![](http://evil.example/b.png) ${ATTACK}$",
    )  # fmt: skip
    (run / "figures" / f"{HOSTILE}.png").write_bytes(png())
    (run / "figures" / f"{HOSTILE}.html").write_text(f"<body>{bad}{ATTACK}<style>a{{b:url(http://evil.example)}}</style>")
    (run / "figures" / f"{HOSTILE}x.html").write_text(ATTACK)
    rows = [{"notebook": HOSTILE, "state": ATTACK, "seconds": "?", "message": f"cell 3: {ATTACK}"}]
    (run / "summary.json").write_text(json.dumps(rows))
    stage(run, HOSTILE, name=ATTACK, held_out_detector=ATTACK)
    manifest = {"train": [pair(ATTACK, [2, 2], [ATTACK])], "test": [], "left_out": [ATTACK]}
    (run / HOSTILE / "manifest.json").write_text(json.dumps(manifest))


def test_hostile_text_is_shown_as_text(run):
    hostile(run)
    problems = []
    index = report.write_report(run, problems=problems)
    assert len(problems) == 1 and "expected a page with a table" in problems[0]
    page, body = soup(index), soup(run / "report" / f"{HOSTILE}.html")
    for shown in (page.select_one("#run pre"), page.select_one("#data"), page.select_one("#settings"),
                  page.select_one("#provenance"), page.select_one("main .failure"), body.select_one(".failure pre"),
                  body.select_one("#failure"), body.select_one(".jp-OutputArea-output pre"),
                  body.select_one("nav .here")):  # fmt: skip
        assert "<script>alert" in shown.get_text()
    assert [td.get_text() for td in body.select("main td")] == ["cell"]  # the table stays, its traps go
    assert not any(soup(path).find_all("script") for path in (run / "report").glob("*.html"))


def test_nothing_is_loaded_from_the_network_and_nothing_runs(run):
    hostile(run)
    report.write_report(run)
    for path in (run / "report").glob("*.html"):
        page = soup(path)
        assert not page.select("script, iframe, object, embed, link, base, form, svg, video, audio")
        for element in page.find_all(True):
            for name, value in element.attrs.items():
                assert not name.startswith("on"), element
                assert name not in LOADS or not re.match(r"\s*(https?:)?//", str(value)), element
                assert "javascript:" not in str(value) and not (name == "style" and "url(" in str(value)), element
        assert not any(re.search(r"url\((?!data:image/)|@import", style.get_text()) for style in page.select("style"))
        policy = page.select_one("meta[http-equiv=Content-Security-Policy]")["content"]
        assert "default-src 'none'" in policy and "http" not in policy and "script-src" not in policy


def test_chromium_runs_no_script_and_asks_the_network_nothing(run, chromium):
    hostile(run)
    report.write_report(run)
    asked, alerts = [], []
    page = chromium.new_page(viewport={"width": 390, "height": 800})
    page.set_default_timeout(120_000)
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
    for path in sorted((run / "report").glob("*.html")):
        page.goto(path.as_uri())
        decoded = "image => { image.loading = 'eager'; return image.decode(); }"  # fails for a broken image
        page.evaluate(f"Promise.all([...document.images].map({decoded}))")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    assert alerts == [] and asked and all(url.startswith(("file:", "data:")) for url in asked)


def test_a_notebook_that_is_not_as_expected_has_not_failed(run):
    rows = json.loads((run / "summary.json").read_text())
    rows[0]["message"] = "not as expected: 1; the loss falls"
    (run / "summary.json").write_text(json.dumps(rows))
    report.write_report(run)
    said = text(soup(run / "report" / "01_data.html").select_one(".failure"))
    assert said == "This notebook ran to its end, but not all is as expected. not as expected: 1; the loss falls"


def test_failures_and_notebooks_that_did_not_run_are_shown(run):
    error = v4.new_output("error", ename="ValueError", evalue="the lamp is broken", traceback=["ValueError: the lamp"])
    notebook(run, "04_text_dfh", error, heading="Text-DFH")
    rows = [{"notebook": "04_text_dfh", "state": "failed", "seconds": 8, "peak MiB": 9, "message": "cell 1: E"},
            {"notebook": "05_compare", "state": "not run", "message": ""},
            {"notebook": "03_mllm_feedback", "state": "failed", "seconds": 9, "peak MiB": 9, "message": "a time-out"}]
    (run / "summary.json").write_text(json.dumps(rows))
    (run / "04_text_dfh").mkdir()
    (run / "04_text_dfh" / "fingerprint.json").write_text('{"fingerprint": "1"}')
    page = soup(report.write_report(run))
    assert "1 of 4 notebooks done" in text(page.select_one("#run p"))
    rows = [text(row) for row in page.select("#run tbody tr")]
    assert rows[0].startswith("01 Data done 1 min 15 s –")  # the summary is of another run: the notebook's own record
    assert rows[1:3] == ["03 Feedback failed 9.0 s 9 2026-11-26 01:38", "a time-out"]
    assert rows[3:] == ["04 Text-DFH failed 8.0 s 9 2026-11-26 01:38", "cell 1: E", "05_compare not run – – –"]
    body = soup(run / "report" / "04_text_dfh.html")
    assert "cell 1: E" in text(body.select_one(".failure")) and body.find(id="failure")
    late = soup(run / "report" / "03_mllm_feedback.html")  # stopped from outside: no cell has an error
    assert text(late.select_one(".failure")) == "This notebook failed. a time-out" and not late.select(".failure a")
    assert "04_text_dfh not finished" in text(page.select_one("#provenance"))


def test_only_settings_that_the_user_gave_are_shown_as_changed(run):
    stage(run, "04_text_dfh", dfh_epochs=99, channels=[4, 8, 12])  # by the notebook, not by the user
    stage(run, "04_text_dfh@0123456789ab", dfh_epochs=1)  # kept aside, so not of this run
    usual = PROFILES["small"]
    assert contents.changed_rows(contents.read(run)) == []
    assert "Settings that were given, other than those of the profile small: none." in text(
        soup(report.write_report(run)).select_one("#settings"))  # fmt: skip
    given = {"profile": "small", "out": "x", "channels": list(usual.channels), "fusion_epochs": 3, "seed": ATTACK}
    for name in ("01_data", "03_mllm_feedback"):
        book = nbformat.read(run / f"{name}.ipynb", 4)
        book.metadata["papermill"]["parameters"] = given if name == "01_data" else {"fusion_epochs": 3}
        nbformat.write(book, run / f"{name}.ipynb")
    page = soup(report.write_report(run))
    assert [[td.get_text() for td in row.select("td")] for row in page.select("#changed tbody tr")] == [
        ["fusion_epochs", "3", str(usual.fusion_epochs), "01_data, 03_mllm_feedback"], ["seed", ATTACK, "0", "01_data"]]
    every = {row.td.get_text(): text(row.select("td")[1]) for row in page.select("#settings details tbody tr")}
    others = "(01_data, 03_mllm_feedback)"
    assert every["dfh_epochs"] == f"{usual.dfh_epochs} {others}; 99 (04_text_dfh)"
    assert every["channels"] == f"16, 32, 32 {others}; 4, 8, 12 (04_text_dfh)" and every["dfh_lr"] == "0.001"
    assert "@" not in text(page.select_one("#provenance"))


def tables_of_results(run):
    """The tables of notebooks 05 and 06, with our method and others, and a strip."""
    rows = ["method,weights,n,Q_AB/F mean,Q_CV mean", "mean,,24,0.5,700", "max,,24,0.7,300", "AUIF,,0,,",
            "ours,,24,0.62,250.4"]  # fmt: skip
    (run / "figures" / "05_table_LLVIP.csv").write_text("\n".join(rows))
    rows = ["method,n,mAP@.5 mean", "infrared,24,0.74", '"ours, retrained",24,0.9', "ours,24,0.745"]
    (run / "figures" / "06_table4.csv").write_text("\n".join(rows))
    (run / "figures" / "04_refined.png").write_bytes(png(1600, 300, 90))


def test_the_overview_begins_with_the_result(run):
    page = soup(report.write_report(run))
    assert text(page.select_one("#result p")) == "No numbers yet: run notebooks 05 and 06."
    assert page.select_one("#result img")["src"] == "figures/01_pairs.png"
    tables_of_results(run)
    page = soup(report.write_report(run))
    assert page.select_one("main section")["id"] == "result"
    assert [text(h) for h in page.select("#result h3")] == ["Fusion quality on LLVIP, 24 images",
                                                            "Detection of people, 24 images"]  # fmt: skip
    assert [text(li) for li in page.select("#result li")] == [
        "0.62 Q_AB/F↑ number 2 of 3 methods", "250 Q_CV↓ best of 3 methods", "0.745 mAP@.5↑ best of 2 methods"]
    strip = page.select_one("#result figure")
    assert strip.img["src"] == "figures/04_refined.png" and text(strip.figcaption).startswith("A test pair, fused")
    (run / "figures" / "06_table4.csv").write_text("method,n\nours,many")
    assert list(headline.numbers(run / "figures")) == ["Fusion quality on LLVIP"]


def test_the_still_picture_of_a_widget_is_in_its_page(run):
    shown = {"application/vnd.jupyter.widget-view+json": {"model_id": "0", "version_major": 2, "version_minor": 1},
             "image/png": base64.b64encode(png(600, 400)).decode(), "text/plain": "runs: 24 entries"}  # fmt: skip
    hidden = {name: value for name, value in shown.items() if name != "image/png"}
    outputs = [v4.new_output("execute_result", data, execution_count=1) for data in (shown, hidden)]
    notebook(run, "09_browse", *outputs)
    report.write_report(run)
    page = soup(run / "report" / "09_browse.html")
    [image] = page.select("main img")
    assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == png(600, 400)
    assert "model_id" not in str(page) and page.select_one("label.picture img") == image


def test_pictures_open_large_in_chromium(run, chromium):
    tables_of_results(run)
    index = report.write_report(run)
    page = chromium.new_page(viewport={"width": 1000, "height": 700})
    page.set_default_timeout(120_000)
    page.goto(index.as_uri())
    assert page.locator("#result").bounding_box()["y"] < 250
    strip = page.locator("#result img")
    assert page.evaluate("image => image.decode().then(() => image.naturalWidth)", strip.element_handle()) == 1600
    assert strip.bounding_box()["width"] < 800
    strip.click()
    assert strip.bounding_box()["width"] == 1600
    strip.click(position={"x": 100, "y": 100})
    assert strip.bounding_box()["width"] < 800
    page.goto((run / "report" / "01_data.html").as_uri())
    picture = page.locator("main label.picture")
    picture.locator("input").focus()
    page.keyboard.press("Space")
    assert picture.bounding_box() == {"x": 0, "y": 0, "width": 1000, "height": 700}


def test_a_notebook_with_a_manifest_of_its_own_has_its_own_data(run):
    (run / "08_medical" / "data").mkdir(parents=True)
    (run / "08_medical" / "data" / "manifest.json").write_text(json.dumps({"train": [pair("Phantom", [9, 8], None)]}))
    read = contents.read(run)
    assert read.about("08") == "profile small, Phantom (synthetic)" and read.about("05") == "profile small, LLVIP, MSRS"


def test_files_that_cannot_be_read_are_named_and_the_rest_is_shown(run, capsys):
    (run / "figures" / "01_half.png").write_bytes(png()[:60])
    (run / "02_half.ipynb").write_text('{"cells": [')
    (run / "01_data" / "provenance.json").write_text("[]")
    assert main(["report", "--run", str(run)]) == 3
    said = capsys.readouterr()
    assert said.out.strip() == str(run / "report" / "index.html") and "not shown: 3" in said.err
    page = soup(run / "report" / "index.html")
    for name in ("01_half.png", "02_half.ipynb", "provenance.json"):
        assert name in text(page.select_one(".failure")) and name in said.err
    assert len(page.select("#figures img")) == 1 and not (run / "report" / "02_half.html").exists()


def test_an_earlier_report_is_replaced_and_other_files_stay(run):
    report.write_report(run)
    notebook(run, "04_text_dfh")
    for name in ("notes.txt", "notes.html"):
        (run / "report" / name).write_text("mine")
    report.write_report(run)
    assert (run / "report" / "04_text_dfh.html").is_file()
    (run / "04_text_dfh.ipynb").unlink()
    report.write_report(run)
    assert not (run / "report" / "04_text_dfh.html").exists()
    assert all((run / "report" / name).read_text() == "mine" for name in ("notes.txt", "notes.html"))


def test_the_same_run_gives_the_same_report_anywhere(run, tmp_path):
    def files(folder):
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    here, there = report.write_report(run).parent, report.write_report(run, tmp_path / "sent").parent
    assert files(here) == files(there) and len(files(here)) == 8
    assert not any(str(tmp_path).encode() in page for name, page in files(here).items() if name.endswith(".html"))


def test_a_folder_without_a_run_or_with_other_things_is_refused(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fusionlib, "ROOT", tmp_path)
    assert main(["report"]) == 1
    said = capsys.readouterr().err
    assert "expected the executed notebooks of a run, found none" in said and "run --profile quick" in said
    assert str(tmp_path / "data" / "runs" / "quick") in said
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "index.html").write_text("my photos")
    assert main(["report", "--run", str(run), "--out", str(tmp_path / "photos")]) == 1
    assert "photos: expected a new or empty folder, or one with an earlier report" in capsys.readouterr().err
    assert (tmp_path / "photos" / "index.html").read_text() == "my photos"
    assert main(["report", "--run", str(run), "--out", str(run / "summary.json")]) == 1
    assert main(["report", "--run", str(run), "--out", str(run / "summary.json" / "new")]) == 1
    assert capsys.readouterr().err.count("error: ") == 2


def test_titles():
    names = {"08_table5_Phantom": "Table 5 Phantom", "05_curves": "Curves", "05": "05", "10_ssim_maps":
             "SSIM of one image, step by step"}  # fmt: skip
    assert {name: headline.caption(name) for name in names} == names
    assert headline.first_words("Quality of\n ours, n = 3, profile a. Best.") == "Quality of ours"


def test_every_committed_figure_has_a_caption():
    figures = {path.stem for path in (fusionlib.ROOT / "figures" / "quick").glob("*.png")}
    assert figures <= headline.CAPTIONS.keys()


@pytest.mark.parametrize(
    "seconds, shown",
    [(0.04, "0.0 s"), (59.4, "59.4 s"), (59.7, "1 min 0 s"), (75, "1 min 15 s"), (3600, "1 h 0 min"), (None, "–"),
     ("?", "–"), (float("nan"), "–")],
)  # fmt: skip
def test_durations(seconds, shown):
    assert pages._duration(seconds) == shown


def problems_of(run):
    problems = []
    index = report.write_report(run, problems=problems)
    assert all("\n" not in problem for problem in problems)
    return soup(index), problems


def contents_of(run):
    """What the pages show, and the problems; the pages themselves are not written."""
    found = contents.read(run)
    shown = [function(found) for function in (contents.data_rows, contents.settings_rows, contents.changed_rows)]
    assert all("\n" not in problem for problem in found.problems)
    return found, shown, found.problems


BYTES = {"empty": b"", "zeros": bytes(100), "not UTF-8": b'{"a": "\xe9"}', "deep": b"[" * 100_000, "number": b"5",
         "null": b"null", "text": b'"x"'}  # fmt: skip


@pytest.mark.parametrize("content", BYTES.values(), ids=BYTES)
@pytest.mark.parametrize("name", ["summary.json", "01_data/provenance.json", "01_data/manifest.json", "01_data.ipynb",
                                  "figures/01_pairs.png", "figures/03_table_LLVIP.html"])  # fmt: skip
def test_each_damaged_file_is_one_problem(run, name, content):
    (run / name).write_bytes(content)
    found, _, problems = contents_of(run)
    if name.startswith("figures"):
        (run / "report" / "figures").mkdir(parents=True)
        assert pages._exhibit(found, run / name, run / "report") is None
    assert len(problems) == 1 and name.rpartition("/")[2] in problems[0]


@pytest.mark.timeout(60)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_pipes_are_problems(run):
    names = ["summary.json", "01_data/provenance.json", "01_data/manifest.json", "01_data.ipynb",
             "figures/01_pairs.png", "figures/03_table_LLVIP.html"]  # fmt: skip
    for name in names:
        (run / name).unlink()
        os.mkfifo(run / name)
    page, problems = problems_of(run)
    assert len(problems) == len(names) and all("a device, pipe or socket" in problem for problem in problems)
    assert page.select("#run tbody tr")


RECORDS = [
    *(("01_data/provenance.json", {key: value}) for key in ("profile", "inputs", "versions", "facts")
      for value in (5, [1], "x")),
    *(("01_data/manifest.json", {key: value}) for key in ("train", "test", "left_out") for value in (5, "x", {})),
    *(("01_data/manifest.json", {"train": [value]}) for value in (None, 5, [], "x")),
    *(("01_data/manifest.json", {"train": [pair("A", size, [])]}) for size in (5, "ab", [1], [1, 2, 3], ["a", "b"])),
    *(("01_data/manifest.json", {"train": [{"classes": value}]}) for value in (5, "x", [None], [[]])),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change"), RECORDS, ids=str)
def test_a_record_of_somebody_else_is_one_problem(run, name, change):
    (run / name).write_text(json.dumps(json.loads((run / name).read_text()) | change))
    *_, problems = contents_of(run)
    assert len(problems) == 1 and "json: expected a record, but it cannot be read (data" in problems[0]


@pytest.mark.parametrize("change", [{"cell_type": "x" * 50_000}, {"source": {"x" * 50_000: 1}}, {"id": "x" * 50_000}],
                         ids=["type", "source", "id"])  # fmt: skip
def test_the_sentence_on_a_damaged_notebook_is_short(run, change):
    content = json.loads((run / "01_data.ipynb").read_text())
    content["cells"][0] |= change
    (run / "01_data.ipynb").write_text(json.dumps(content))
    _, [problem] = problems_of(run)
    assert "01_data.ipynb: expected an executed notebook, found" in problem and len(problem) < 500


@pytest.mark.parametrize("row", [None, 5, [], {"state": "done"}], ids=str)
def test_a_row_of_the_summary_that_is_none(run, row):
    (run / "summary.json").write_text(json.dumps([row]))
    assert len(contents_of(run)[2]) == 1


@pytest.mark.parametrize("change", [
    {"seconds": "?"}, {"seconds": float("nan")}, {"seconds": float("inf")}, {"seconds": 10**400}, {"state": ["\ud800"]},
    {"message": "\ud800"}, {"notebook": "../../\ud800"}, {"peak MiB": {"a": 1}}, {"notebook": None},
    {"notebook": ["01_data"]}, {"notebook": "(?<"}, {"notebook": "*\x1b[2J"}, {"notebook": "+\n# no heading"},
], ids=str)  # fmt: skip
def test_odd_values_of_the_summary_are_shown(run, change):
    rows = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps([rows[0] | change, rows[1]]))
    assert problems_of(run)[1] == []
    assert sorted(path.name for path in run.parent.iterdir()) == ["small"]


NOTEBOOKS = {
    "version 3 without cells": {"nbformat": 3, "worksheets": None}, "version 99": {"nbformat": 99},
    "no version": {"nbformat": None}, "cells are null": {"cells": None}, "cells are a dict": {"cells": {}},
    "a cell is null": {"cells": [None]}, "a cell has no type": {"cells": [{"source": "x", "metadata": {}}]},
    "metadata are a number": {"metadata": 5}, "a kernel is a number": {"metadata": {"kernelspec": 5}},
    "a language is a number": {"metadata": {"language_info": 5}},
}  # fmt: skip
CELLS = {
    "source": [None, 5, ["a", 5]], "metadata": [None, {"tags": 5}], "cell_type": ["evil"], "execution_count": ["x"],
    "outputs": [None, [None], [{"data": {}}], [{"output_type": "error"}], [{"output_type": "stream", "name": "stdout"}],
                *([{"output_type": "display_data", "metadata": {}, "data": data}] for data in
                  (None, {"image/png": 5}, {"text/html": 5}, {"text/plain": None}))],
}  # fmt: skip


@pytest.mark.parametrize("change", [
    *NOTEBOOKS.values(), *({"cell": {key: value}} for key, values in CELLS.items() for value in values)], ids=str)
def test_a_notebook_of_somebody_else_is_one_problem(run, change):
    content = json.loads((run / "01_data.ipynb").read_text())
    content["cells"][-1] |= change.pop("cell", {})
    (run / "01_data.ipynb").write_text(json.dumps(content | change))
    found, _, problems = contents_of(run)
    assert len(problems) == 1 and "01_data.ipynb: expected an executed notebook, " in problems[0]
    assert [bool(each.content) for each in found.notebooks] == [False, True]


@pytest.mark.parametrize("papermill", [None, 5, "abc", [], {"duration": "x", "end_time": {}}, {"parameters": 5},
                                       {"parameters": {"seed": ["\ud800"]}}], ids=str)  # fmt: skip
def test_odd_records_of_papermill_are_no_problem(run, papermill):
    (run / "summary.json").unlink()
    content = json.loads((run / "01_data.ipynb").read_text())
    content["metadata"]["papermill"] = papermill
    (run / "01_data.ipynb").write_text(json.dumps(content))
    found, _, problems = contents_of(run)
    assert problems == [] and found.notebooks[0].title == "Data"


@pytest.mark.parametrize("picture", ["QUJD" * 60_000, "%%%" * 80_000, "QUJDA" * 60_001])
def test_a_large_output_that_is_no_picture(run, picture):
    notebook(run, "01_data", output(image_png=picture, text_plain="what it would be"))
    assert problems_of(run)[1] == [] and "what it would be" in (run / "report" / "01_data.html").read_text()


def test_an_old_notebook_is_shown(run):
    cell = {"cell_type": "heading", "level": 1, "source": "Old", "metadata": {}}
    old = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{"cells": [cell]}]}
    (run / "01_data.ipynb").write_text(json.dumps(old))
    assert problems_of(run)[1] == [] and "Old" in text(soup(run / "report" / "01_data.html").h1)


def test_a_notebook_that_nbconvert_cannot_show_is_a_problem(run, monkeypatch):
    page = pages.cells.page
    monkeypatch.setattr(pages.cells, "page", lambda book, *texts: page(book, *texts) if len(book.cells) < 3 else 1 / 0)
    notebook(run, "04_text_dfh", v4.new_output("stream", text="1"))
    _, problems = problems_of(run)
    assert any("04_text_dfh.ipynb: expected an executed notebook, found division by zero" in each for each in problems)
    assert soup(run / "report" / "04_text_dfh.html").select("nav")


@pytest.mark.parametrize("name", ["figures/01_pairs.csv", "figures/02_x.html", "07_x.ipynb", "summary.json", "figures",
                                  "01_data/manifest.json"])  # fmt: skip
def test_no_link_brings_files_of_others_into_a_report(run, tmp_path, name):
    """A report is sent; what a link in a run of somebody else leads to is not in it."""
    secret, path = tmp_path / "secret", run / name
    secret.mkdir()
    (secret / "01_key.html").write_text("<table><tr><td>SECRET</td></tr></table>")
    nbformat.write(v4.new_notebook(cells=[v4.new_markdown_cell("# 07 SECRET")]), secret / "x.ipynb")
    (secret / "x.json").write_text('{"train": [], "test": [], "left_out": ["SECRET"], "notebook": "SECRET"}')
    if path.is_dir():
        path.rename(tmp_path / "moved")
    path.unlink(missing_ok=True)
    target = {".ipynb": "x.ipynb", ".json": "x.json", "": ""}.get(path.suffix, "01_key.html")
    path.symlink_to(secret / target if target else secret)
    _, problems = problems_of(run)
    assert problems and all("leads out of it" in problem for problem in problems)
    assert not any(b"SECRET" in file.read_bytes() for file in (run / "report").rglob("*") if file.is_file())


def test_no_link_leads_a_report_elsewhere(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (run / "report").symlink_to(tmp_path / "mine")
    with pytest.raises(FusionError, match=r"'report': expected the name of a file below .* leads out of it"):
        report.write_report(run)
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("content", [
    b"", b"\xff", b"method,n\n", b'method,n\nours,"' + b"x" * 200_000, b"method,n\nours,x", None,
], ids=lambda content: str(content)[:20])  # fmt: skip
def test_a_table_of_numbers_that_is_damaged(run, content):
    path = run / "figures" / "05_table_LLVIP.csv"
    if content is None:
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(content)
    assert headline.numbers(run / "figures") == {}
