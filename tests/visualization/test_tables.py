"""Tables: the numbers of the statistics, marks by direction and ties, text that no browser or TeX executes."""

import html.parser
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import torch

from fusionlib import detection
from fusionlib import visualization as tables
from fusionlib.metrics import evaluation
from fusionlib.metrics.statistics import holm, mean_interval, sign_flip_test
from fusionlib.utils.errors import FusionError

EVIL = "<script>alert(1)</script> & a_b"
CORNERS = torch.tensor([[10.0, 10, 30, 60]])


def frame(values, dataset="LLVIP", convention="vifb"):
    """A frame as of `evaluate_pairs`; values {metric: one per image}."""
    count = len(next(iter(values.values())))
    index = pd.MultiIndex.from_product([[dataset], map(str, range(count))], names=["dataset", "name"])
    result = pd.DataFrame(values, index)
    result.attrs["convention"] = convention
    return result


@pytest.fixture
def frames():
    """Three methods over 12 images, one without results, and images of another data set that must not count."""
    rng = np.random.default_rng(0)
    base = {"Q_AB/F": rng.uniform(0.4, 0.6, 12), "Q_CV": rng.uniform(300, 900, 12)}
    shifted = {"Q_AB/F": base["Q_AB/F"] + rng.normal(0.1, 0.01, 12), "Q_CV": base["Q_CV"] - rng.normal(0, 50, 12)}
    ours = pd.concat([frame(base), frame({"Q_AB/F": [9.0], "Q_CV": [9.0]}, "TNO")])
    ours.attrs["convention"] = "vifb"
    return {"ours": ours, "peer": frame(shifted), "lost": None, EVIL: frame({k: v * 0.9 for k, v in base.items()})}


class Cells(html.parser.HTMLParser):
    """Text and classes of the body's cells by row, and every tag that was opened."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.tags, self.inside = [], set(), False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        self.inside = tag in ("td", "th")
        if self.inside:
            self.rows[-1].append(["", dict(attrs).get("class", "")])

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1][0] += data


def marks(table, metric_column):
    """{method: "best", "second" or ""} in a column of the HTML."""
    rows = Cells(tables.show_table(table).to_html()).rows[1:]
    return {row[0][0]: "".join(set(row[metric_column][1].split()) & {"best", "second"}) for row in rows}


def test_fusion_tables_hold_what_the_statistics_say(frames):
    table = tables.fusion_table(frames, "LLVIP", "ours", {"peer": "official weights", "lost": "no weights"}, "small")
    assert list(table.index) == list(frames) and list(table["", "n"]) == [12, 12, 0, 12]
    assert list(table["", "weights"]) == ["", "official weights", "no weights", ""]
    there = {method: rows.loc[["LLVIP"]] for method, rows in frames.items() if rows is not None}
    for rows in there.values():
        rows.attrs["convention"] = "vifb"
    compared = evaluation.paired(there, "ours").loc["LLVIP"]
    for method, rows in there.items():
        for metric in rows:
            low, high = evaluation.summary(rows).loc[("LLVIP", metric), ["low", "high"]]
            assert table.loc[method, (metric, "mean")] == pytest.approx(rows[metric].mean(), rel=1e-12)
            assert tuple(table.loc[method, metric][["low", "high"]]) == (low, high)
            if method != "ours":
                expected = compared.loc[(method, metric), ["difference", "low", "high", "p_holm"]]
                fields = ["difference", "difference low", "difference high", "p"]
                assert tuple(table.loc[method, metric][fields]) == tuple(expected)
    assert table.loc["lost"].drop("", level=0).isna().all() and np.isnan(table.loc["ours", ("Q_CV", "p")])
    assert table.attrs["higher_is_better"] == {"Q_AB/F": True, "Q_CV": False} and table.attrs["reference"] == "ours"
    for said in ("on LLVIP", "profile small", "n = 12 image pairs,", "convention vifb", "difference to ours", "Holm",
                 "interval over images."):  # fmt: skip
        assert said in table.attrs["caption"]
    assert table.attrs["units"] == 12


@pytest.mark.parametrize(("of_image", "said", "over", "units"), [
    ("aaabbbcccddd", "n = 12 image pairs of 4 scenes,", "scenes", 4),
    ("a" * 12, "n = 12 image pairs of 1 scene,", "images", 12),
    ("abcdefghijkl", "n = 12 image pairs,", "images", 12),
])  # fmt: skip
def test_the_intervals_of_fusion_tables_are_over_scenes(frames, of_image, said, over, units):
    known = {f"LLVIP/{number}": scene for number, scene in enumerate(of_image)}
    for rows in filter(lambda rows: rows is not None, frames.values()):
        rows.attrs["scenes"] = known
    table = tables.fusion_table(frames, "LLVIP", "ours")
    assert said in table.attrs["caption"] and f"interval over {over}." in table.attrs["caption"]
    assert table.attrs["units"] == units
    values = frames["ours"].loc["LLVIP", "Q_AB/F"].to_numpy()
    scenes = None if over == "images" else [*of_image]
    assert tuple(table.loc["ours", "Q_AB/F"][["mean", "low", "high"]]) == mean_interval(values, scenes=scenes)
    differences = frames["peer"]["Q_AB/F"].to_numpy() - values
    row = table.loc["peer", "Q_AB/F"]
    assert tuple(row[["difference", "difference low", "difference high"]]) == mean_interval(differences, scenes=scenes)
    p = [sign_flip_test((frames[method] - frames["ours"].loc[["LLVIP"]])[metric], scenes=scenes)
         for method in ("peer", EVIL) for metric in ("Q_AB/F", "Q_CV")]
    found = [table.loc[method, (metric, "p")] for method in ("peer", EVIL) for metric in ("Q_AB/F", "Q_CV")]
    np.testing.assert_allclose(found, holm(p), rtol=1e-12)


def test_the_rows_of_several_data_sets_are_taken_together(frames):
    """As if they were one data set; scenes of the same name in two of them are two scenes where they are named so."""
    every = {method: rows for method, rows in frames.items() if rows is not None}
    for rows in every.values():
        rows.attrs["scenes"] = {f"LLVIP/{number}": f"LLVIP/{scene}" for number, scene in enumerate("aaabbbcccddd")}
    names = [*dict.fromkeys(next(iter(every.values())).index.get_level_values("dataset"))]
    assert len(names) > 1
    table = tables.fusion_table(every, names, "ours", what="Quality")
    counts = {method: len(rows) for method, rows in every.items()}
    assert dict(table["", "n"]) == counts and table.attrs["caption"].startswith(f"Quality on {', '.join(names)}, n = ")
    for method, rows in every.items():
        assert table.loc[method, ("Q_AB/F", "mean")] == pytest.approx(rows["Q_AB/F"].mean(), rel=1e-12)
    alone = max(counts.values()) - 12  # images of other data sets, each a scene of its own
    assert table.attrs["units"] == 4 + alone
    one = tables.fusion_table(every, "LLVIP", "ours")
    pd.testing.assert_frame_equal(tables.fusion_table(every, ("LLVIP",), "ours"), one)


def test_images_that_a_metric_does_not_define_are_counted_in_the_caption():
    values = frame({"SCD": [1.0, np.nan, 2, 3], "AG": [1.0, 2, 3, 4]})
    table = tables.fusion_table({"a": values}, "LLVIP", "a")
    assert table.loc["a", ("SCD", "mean")] == 2 and "(SCD on up to 1)" in table.attrs["caption"]


def test_without_a_measured_reference_nothing_is_compared(frames):
    table = tables.fusion_table(frames, "LLVIP", "lost")
    assert table.attrs["reference"] == "" and "difference" not in table.attrs["caption"]
    assert table.xs("difference", axis=1, level=1).isna().all(axis=None)
    assert "p =" not in tables.show_table(table).to_html()


def test_detection_tables_hold_what_the_statistics_say():
    generator = torch.Generator().manual_seed(0)

    def detections(noise):
        boxes = [CORNERS + noise * torch.randn(1, 4, generator=generator) for _ in range(8)]
        return [torch.cat([box, torch.tensor([[0.9, 0]])], 1) for box in boxes]

    truths = [CORNERS] * 8
    found = {"visible": detections(3), "lost": None, "ours": detections(1)}
    table = tables.detection_table(found, truths, "ours", {"lost": "no weights"}, "LLVIP", "quick", "Stock yolov5n.pt")
    expected = detection.intervals(found["visible"], truths, heights={})
    compared = detection.paired({k: v for k, v in found.items() if v}, "ours", truths, heights={}).loc["visible"]
    for metric in ("mAP@.5", "mAP@.75", "mAP@.5:.95", "R@P.9", "LAMR"):
        assert tuple(table.loc["visible", metric]) == (
            *expected.loc[metric, ["value", "low", "high"]],
            *compared.loc[metric, ["difference", "low", "high", "p_holm"]])
    assert list(table.attrs["higher_is_better"].items()) == [
        ("mAP@.5", True), ("mAP@.75", True), ("mAP@.5:.95", True), ("R@P.9", True), ("LAMR", False)]
    assert table.attrs["caption"].startswith("Stock yolov5n.pt on LLVIP, profile quick, n = 8 images with 8 people.")
    assert list(table["", "n"]) == [8, 0, 8]


def test_a_held_out_detector_has_columns_of_its_own():
    generator = torch.Generator().manual_seed(1)

    def detections(noise):
        boxes = [CORNERS + noise * torch.randn(1, 4, generator=generator) for _ in range(8)]
        return [torch.cat([box, torch.tensor([[0.9, 0]])], 1) for box in boxes]

    truths = [CORNERS] * 8
    found = {"visible": detections(3), "lost": None, "ours": detections(1), "ours, retrained": detections(0.5)}
    judged = {"visible": detections(1), "lost": None, "ours": detections(3)}
    both = tables.detection_table(found, truths, "ours", held_out={"yolox nano": judged})
    plain, other = (tables.detection_table(each, truths, "ours") for each in (found, judged))
    measures = list(plain.attrs["higher_is_better"])
    assert list(both.attrs["higher_is_better"]) == measures + [f"{name} yolox nano" for name in measures]
    for name in measures:
        pd.testing.assert_frame_equal(both[name], plain[name])
        pd.testing.assert_frame_equal(both[f"{name} yolox nano"].loc[list(judged)], other[name])
        assert both.loc["ours, retrained", f"{name} yolox nano"].isna().all()
        assert both.attrs["higher_is_better"][f"{name} yolox nano"] == plain.attrs["higher_is_better"][name]
    assert "with the name yolox nano: by a detector that was in no loss" in both.attrs["caption"]
    assert "no loss" not in plain.attrs["caption"]
    heads = [cell[0] for cell in Cells(tables.show_table(both).to_html()).rows[0]]
    assert heads[-1] == "LAMR yolox nano ↓" and len(heads) == 3 + 2 * len(measures)


def test_best_and_second_follow_the_direction_and_what_is_seen():
    values = {"a": 0.50004, "b": 0.49996, "c": 0.4, "d": 0.3, "e": np.nan}
    higher = tables.build({m: {"SSIM": {"mean": v}} for m, v in values.items()}, {}, "")
    lower = tables.build({m: {"Q_CV": {"mean": v}} for m, v in values.items()}, {}, "")
    assert marks(higher, 3) == {"a": "best", "b": "best", "c": "second", "d": ""}  # both are shown as 0.500
    assert marks(lower, 3) == {"a": "", "b": "", "c": "second", "d": "best"}
    assert marks(tables.build({"only": {"AG": {"mean": 3.0}}}, {}, ""), 3) == {"only": ""}


@pytest.mark.parametrize(("cell", "text"), [
    ({"mean": 0.5234}, "0.523"), ({"mean": 581.23}, "581.2"), ({"mean": 12345.6}, "12346"),
    ({"mean": 0.01234}, "0.0123"), ({"mean": -1.5}, "−1.500"), ({"mean": 0.0}, "0.000"), ({"mean": np.inf}, "∞"),
    ({"mean": np.nan}, "–"),
    ({"mean": 0.5, "low": 0.4, "high": 0.6}, "0.500\n[0.400, 0.600]"),
    ({"mean": 0.5, "difference": 0.02, "p": 0.0312}, "0.500\n+0.020, p = .031"),
    ({"mean": 0.5, "difference": -0.0001, "p": 1.0}, "0.500\n0.000, p = 1"),
    ({"mean": 0.5, "difference": -0.2, "p": 0.0002}, "0.500\n−0.200, p < .001"),
])
def test_cells_read(cell, text):
    rows = Cells(tables.show_table(tables.build({"a": {"SSIM": cell}}, {"a": 5}, "")).to_html()).rows
    assert [entry[0] for entry in rows[0]] == ["method", "weights", "n", "SSIM ↑"]
    assert [entry[0] for entry in rows[1]] == ["a", "", "5", text]


def test_text_is_never_markup(frames, tmp_path):
    notes = {EVIL: "50 % <b onclick='x'>", "lost": "$x^2$ {\\input{/etc/passwd}} #~|[\"]"}
    table = tables.fusion_table(frames, "LLVIP", EVIL, notes, "<i>", note="<u>")
    csv, tex, page = tables.save_table(table, tmp_path / "deep/05_<b>_x")
    cells = Cells(page.read_text("utf-8"))
    assert not {"script", "b", "i", "u"} & cells.tags
    assert [row[0][0] for row in cells.rows[1:]] == ["ours", "peer", EVIL] and cells.rows[3][1][0] == notes[EVIL]
    assert table.attrs["caption"].count(f"No numbers: lost ({notes['lost']}).") == 1
    text = tex.read_text("utf-8")
    assert r"\textless{}script\textgreater{}alert(1)\textless{}/script\textgreater{} \& a\_b" in text
    assert r"\$x\textasciicircum{}2\$ \{\textbackslash{}input\{/etc/passwd\}\} \#\textasciitilde{}\textbar{}" in text
    assert list(pd.read_csv(csv)["method"]) == list(frames)


def test_the_caption_names_methods_without_numbers_by_reason():
    cells = {"a": {"AG": {"mean": 1.0}}, "b": None, "b, retrained": None, "c": None, "a, retrained": None, "d": None}
    notes = {"b": "no weights", "b, retrained": "no weights", "c": "no weights"}
    table = tables.build(cells, {"a": 1}, "AG.", notes=notes)
    assert table.attrs["caption"] == "AG. No numbers: b, c (no weights); a, retrained, d (no results)."
    assert len(Cells(tables.show_table(table).to_html()).rows) == 2 and len(table) == 6


def test_csv_holds_every_number(frames, tmp_path):
    table = tables.fusion_table(frames, "LLVIP", "ours")
    read = pd.read_csv(tables.save_table(table, tmp_path / "t.1")[0], index_col=0, float_precision="round_trip")
    assert (tmp_path / "t.1.csv").is_file()  # a dot in a name is no suffix
    for metric, field in table.columns[2:]:
        np.testing.assert_array_equal(read[f"{metric} {field}"], table[metric, field])


def test_latex_is_a_whole_table(frames, tmp_path):
    table = tables.fusion_table(frames, "LLVIP", "ours", {"peer": "trained by the suite"})
    text = tables.save_table(table, tmp_path / "05_table 1")[1].read_text("utf-8")
    assert re.findall(r"\\(begin|end)\{table\}", text) == ["begin", "end"] and r"\label{tab:05-table-1}" in text
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    rows = re.sub(r"\\begin\{tabular\}.*?\\end\{tabular\}", "cell", body).split(r"\\\addlinespace")
    assert [row.count(" & ") for row in rows] == [4] * 3 and rows[-1].rstrip().endswith(r"\\")
    best = table["Q_AB/F", "mean"].max()
    assert rf"\textcolor[HTML]{{E03131}}{{\textbf{{{best:.3f}}}}}" in text and r"{\underline{" in text
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\caption{") == 1


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex on this machine")
def test_latex_compiles(frames, tmp_path):
    notes = {"lost": "$x^2$ {\\input{none}} #~|[\"] ±−∞≥↑", EVIL: "[optional]"}
    tables.save_table(tables.fusion_table(frames, "LLVIP", "ours", notes), tmp_path / "t")
    document = r"\documentclass{article}\usepackage{booktabs,xcolor}\begin{document}\input{t}\end{document}"
    (tmp_path / "main.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "main"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert result.returncode == 0, result.stdout[-2000:]


def test_what_a_notebook_keeps_is_the_same_each_time(frames):
    shown = [tables.show_table(tables.fusion_table(frames, "LLVIP", "ours")) for _ in range(2)]
    assert shown[0].to_html() == shown[1].to_html() and repr(shown[0]) == repr(shown[1])
    assert "0x" not in repr(shown[0]) and EVIL in repr(shown[0])  # an address would be another in the next process


def test_one_method_and_no_reference_beside_it():
    table = tables.fusion_table({"ours": frame({"AG": [3.0]})}, "LLVIP", "ours")
    assert table.loc["ours", "AG"].tolist()[:3] == [3, 3, 3] and table.attrs["reference"] == ""


@pytest.mark.parametrize(("call", "message"), [
    (lambda f: tables.fusion_table(f, "LLVIP", "us"), "'us' is none of the methods ours, peer, lost"),
    (lambda f: tables.fusion_table({}, "LLVIP", "us"), r"none of the methods \(none\)"),
    (lambda f: tables.fusion_table(f, "M3FD", "ours"), "has results on M3FD: measure at least one"),
    (lambda f: tables.fusion_table(f | {"lost": frame({"AG": [1.0]}, convention="tang")}, "LLVIP", "lost"),
     "different conventions .* ours vifb, .*lost tang"),
    (lambda f: tables.fusion_table(f | {"lost": frame({"AG": [1.0]})}, "LLVIP", "ours"), "shares no metric with ours"),
    (lambda f: tables.detection_table({"a": None}, [], "a"), "None of a has results of detection"),
    (lambda f: tables.build({"a": {"loss": {"mean": 1}}}, {}, ""), "direction of 'loss' is not known"),
    (lambda f: tables.build({"a": None}, {}, ""), "at least one method with at least one metric"),
    (lambda f: tables.build({"a": {"AG": {"mean": 1, "median": 2}}}, {}, ""), "found 'median'"),
    (lambda f: tables.show_table(pd.DataFrame({"a": [1]})), "no table of the suite"),
    (lambda f: tables.save_table(tables.fusion_table(f, "LLVIP", "ours"), "table.csv"), "without .csv"),
])
def test_bad_input_is_told_in_one_sentence(frames, call, message):
    with pytest.raises(FusionError, match=message):
        call(frames)
