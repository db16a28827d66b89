"""Tables are read back as they were written, damaged files are refused, and Markdown shows texts as they are."""

import numpy as np
import pandas as pd
import pytest

from fusionlib import visualization as tables
from fusionlib.utils.errors import FusionError
from fusionlib.visualization import saved_tables

CELL = {"mean": 0.5, "low": 0.4, "high": 0.6}


@pytest.fixture
def table():
    """Ours, a method that it is compared with, and one without numbers; two detectors."""
    worse = CELL | {"mean": 0.25, "difference": -0.25, "difference low": -0.3, "difference high": -0.1, "p": 0.0004}
    cells = {"ours": {"mAP@.5": CELL, "LAMR": CELL, "LAMR yolox nano": CELL}, "x": {"mAP@.5": worse, "LAMR": worse},
             "[85]": None}  # fmt: skip
    return tables.build(cells, {"ours": 8, "x": 7}, "People, n = 8 & 7.", "ours", {"[85]": "no weights"})


def test_a_saved_table_is_read_back_with_caption_and_reference(table, tmp_path):
    tables.save_table(table, tmp_path / "06_my.table")
    read = saved_tables.read_table(tmp_path / "06_my.table")
    pd.testing.assert_frame_equal(read, table, check_dtype=False, check_index_type=False, check_column_type=False)
    assert read.attrs == table.attrs and read.attrs["caption"].endswith("p after Holm's correction.")
    assert tables.show_table(read).to_html() == tables.show_table(table).to_html()


def test_a_table_of_an_earlier_version_has_no_intervals_of_differences(table, tmp_path):
    csv, _, _ = tables.save_table(table, tmp_path / "a")
    old = pd.read_csv(csv, index_col=0)
    old.drop(columns=[name for name in old if "difference " in name]).to_csv(csv)
    read = saved_tables.read_table(tmp_path / "a")
    assert read["mAP@.5"].loc["x", ["difference low", "difference high"]].isna().all()
    assert read.loc["x", ("mAP@.5", "difference")] == -0.25 and list(read.columns) == list(table.columns)


HEAD = "method,weights,n,AG mean,AG low\n"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("content", [
    b"", b"\xff\xfe", b"method,n\na,1\n", HEAD.encode(), HEAD.encode() + b"a,b,8,x,0.1\n", HEAD.encode() + b"a,b,8,1\n",
    HEAD.encode() + b"a,b,,1,1\n", HEAD.encode() + b'a,"b,8,1,1\n', (HEAD + "a,b,8,1,1\n" * 2).encode(),
    b"method,weights,n,AG mean,AG mean\na,b,8,1,1\n", b"method,weights,n,AG median\na,b,8,1\n",
    b"method,weights,n,unheard mean\na,b,8,1\n", b"method,weights,n\na,b,8\n", None,
    HEAD.encode() + b"other,b,8,1,1\n", HEAD.encode() + b"o\0urs,b,8,1,1\n",
], ids=lambda content: str(content)[-25:])  # fmt: skip
def test_a_damaged_table_is_one_sentence(table, tmp_path, content):
    csv, _, _ = tables.save_table(table, tmp_path / "a")
    csv.unlink()
    if content is not None:
        csv.write_bytes(content)
    with pytest.raises(FusionError, match=r"a\.csv: expected a table.* run its notebook again$") as caught:
        saved_tables.read_table(tmp_path / "a")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"<table><tr><td>no caption</table>"])
def test_a_table_without_its_page_is_one_sentence(table, tmp_path, content):
    *_, page = tables.save_table(table, tmp_path / "a")
    page.unlink()
    if content is not None:
        page.write_bytes(content)
    with pytest.raises(FusionError, match=r"a\.html: expected the page of a table.* run its notebook again$"):
        saved_tables.read_table(tmp_path / "a")


def test_a_table_in_markdown(table):
    assert saved_tables.markdown_table(table).split("\n") == [
        "People, n = 8 & 7. No numbers: [85] (no weights). Below: difference to ours on the same data, p after Holm's "
        "correction. Best in bold, second best in italics.", "",
        "| method | weights | n | mAP@.5 ↑ | LAMR ↓ | LAMR yolox nano ↓ |", "|---|---|--:|--:|--:|--:|",
        "| ours |  | 8 | **0.500**<br>[0.400, 0.600] | _0.500_<br>[0.400, 0.600] | 0.500<br>[0.400, 0.600] |",
        "| x |  | 7 | _0.250_<br>[0.400, 0.600]<br>−0.250, p < .001 | **0.250**<br>[0.400, 0.600]<br>−0.250, p < .001 "
        "| – |", "| [85] | no weights | – | – | – | – |"]  # fmt: skip
    with pytest.raises(FusionError, match="no table of the suite"):
        saved_tables.markdown_table(pd.DataFrame({"a": [1]}))


def test_a_comparison_in_markdown(table):
    index = pd.MultiIndex.from_tuples([("x", "LAMR"), ("x", "mAP@.5"), ("y", "LAMR")])
    rows = [(-0.2, -0.3, -0.1, 0.001, "better"), (0.0001, np.nan, np.nan, 1, "inconclusive"),
            (0.1, 0, 0.3, 0.04, "worse")]  # fmt: skip
    compared = pd.DataFrame(rows, index, ["difference", "low", "high", "p_holm", "verdict"])
    assert saved_tables.markdown_comparison(compared, table).split("\n") == [
        "| against | mAP@.5 ↑ | LAMR ↓ |", "|---|--:|--:|",
        "| x | inconclusive<br>0.000, p = 1 | better<br>−0.200 [−0.300, −0.100], p = .001 |",
        "| y | – | worse<br>+0.100 [0.000, +0.300], p = .040 |"]  # fmt: skip


@pytest.mark.parametrize(("text", "shown"), [
    ("<img src=x> | a*b `c` $x$", r"&lt;img src=x> \| a\*b \`c\` &#36;x&#36;"),
    ("~~d~~ &lt; R&D, p < .001 </a> <!--", "&#126;&#126;d&#126;&#126; &amp;lt; R&D, p < .001 &lt;/a> &lt;!--"),
    ("[here](http://evil) [a][b] [c]: d [85], [0.1, 0.2]", r"[here\](http://evil) [a\][b] [c\]: d [85], [0.1, 0.2]"),
    ("Q_AB/F _x_ a_b", r"Q_AB/F \_x\_ a_b"), ("a\nb\u202e", r"a\\nb\\u202e"), ("back\\slash", r"back\\slash"),
])  # fmt: skip
def test_text_is_never_markup(text, shown):
    assert saved_tables.escape(text) == shown
