"""The report shows all results of a run, runs no script, loads nothing from the network, and lists unreadable files."""

import base64
import io
import json
import os
import re
from pathlib import Path

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
from fusionlib.viewer import report
from fusionlib.viewer.report import contents, pages

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
    table = visualization.build(cells, {"a": 4, "b": 4}, "Quality.")
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
        "LLVIP train 1 1 2 person 1280x1024 01_data", "MSRS train 1 0 – 640x480 01_data",
        "MSRS test 2 1 1 person, 1 car 640x480 to 640x512 01_data"]  # fmt: skip
    assert [text(h) for h in page.select("#tables h3, #figures figcaption b")] == ["Table LLVIP", "Pairs"]
    best = page.select_one("#tables td.best")
    assert best.get_text() == "0.700" and text(page.select_one("#tables caption")).startswith("Quality.")
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
    assert figure["src"] == figure.parent["href"] == "figures/01_pairs.png" and "base64" not in str(page)
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


def test_chromium_runs_no_script_and_asks_the_network_nothing(run):
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    browser = next((p for p in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(p).exists()), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    hostile(run)
    report.write_report(run)
    asked, alerts = [], []
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 390, "height": 800})
        page.set_default_timeout(120_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
        for path in sorted((run / "report").glob("*.html")):
            page.goto(path.as_uri())
            decoded = "image => { image.loading = 'eager'; return image.decode(); }"  # fails for a broken image
            page.evaluate(f"Promise.all([...document.images].map({decoded}))")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        chromium.close()
    assert alerts == [] and asked and all(url.startswith(("file:", "data:")) for url in asked)


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


def test_settings_that_differ_from_the_profile_or_between_stages_are_shown(run):
    stage(run, "04_text_dfh", dfh_epochs=99, channels=[4, 8, 12])
    stage(run, "04_text_dfh@0123456789ab", dfh_epochs=1)  # kept aside, so not of this run
    page = soup(report.write_report(run))
    changed = {text(row.td): [text(td) for td in row.select("td")[1:]] for row in page.select("#changed tbody tr")}
    others, usual = "(01_data, 03_mllm_feedback)", PROFILES["small"].dfh_epochs
    assert changed == {"dfh_epochs": [f"{usual} {others}; 99 (04_text_dfh)", str(usual)],
                       "channels": [f"16, 32, 32 {others}; 4, 8, 12 (04_text_dfh)", "16, 32, 32"]}  # fmt: skip
    assert "@" not in text(page.select_one("#provenance"))


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
    assert [pages._title(n) for n in ("_table5_Phantom", "_curves", "")] == ["Table 5 Phantom", "Curves", ""]


@pytest.mark.parametrize(
    "seconds, shown",
    [(0.04, "0.0 s"), (59.4, "59.4 s"), (59.7, "1 min 0 s"), (75, "1 min 15 s"), (3600, "1 h 0 min"), (None, "–"),
     ("?", "–"), (float("nan"), "–")],
)  # fmt: skip
def test_durations(seconds, shown):
    assert pages._duration(seconds) == shown
