"""Figures: pixels and gray values as they are, boxes where they belong, the same file from run to run."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from PIL import Image

from fusionlib import visualization
from fusionlib.utils.errors import FusionError


@pytest.fixture(autouse=True)
def _style():
    with plt.rc_context():
        visualization.set_style()
        yield


def render(figure):
    """The saved picture as an array [H, W, 3], uint8."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=visualization.DPI)
    return np.asarray(Image.open(buffer).convert("RGB"))


def cells(figure):
    """The pixels of each image on a sheet, in order."""
    picture = render(figure)
    height, width = picture.shape[:2]
    for axes in figure.axes:
        x0, y0, x1, y1 = axes.get_position().extents * [width, height, width, height]
        yield picture[round(height - y1):round(height - y0), round(x0):round(x1)]


def test_a_sheet_shows_every_pixel_with_its_value():
    gray = torch.randint(60, 120, (1, 150, 220), dtype=torch.uint8)  # a low contrast that a stretch would change
    colour = torch.randint(0, 256, (3, 150, 220), dtype=torch.uint8)
    sheet = visualization.contact_sheet([{"float": gray / 255, "colour": colour, "array": gray[0].numpy()}])
    for shown, image in zip(cells(sheet), (gray.expand(3, -1, -1), colour, gray.expand(3, -1, -1))):
        np.testing.assert_array_equal(shown, image.permute(1, 2, 0))


def test_a_note_extends_the_saved_figure_and_moves_no_pixel(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (150, 220), dtype=np.uint8)
    chart = visualization.miss_rates({"ours": ([0, 1], [1, 0])}, "ours")
    for figure in (visualization.contact_sheet([{"a": image}]), chart):
        before, size = render(figure), figure.get_size_inches().tolist()
        visualization.annotate(figure, "LLVIP, profile small, n = 3 image pairs at $5")
        assert figure.get_size_inches().tolist() == size
        saved = np.asarray(Image.open(visualization.save(figure, tmp_path / "a.png")).convert("RGB"))
        np.testing.assert_array_equal(saved[:-36], before)
        assert saved[-36:].min() < 150 and (saved[-3:] == 255).all()


def test_small_images_are_enlarged_by_whole_pixels():
    image = np.random.default_rng(0).integers(0, 256, (60, 80), dtype=np.uint8)
    (shown,) = cells(visualization.contact_sheet([{"": image}]))
    np.testing.assert_array_equal(shown[..., 0], image.repeat(3, 0).repeat(3, 1))


def test_sixteen_bits_are_divided_by_their_range():
    (shown,) = cells(visualization.contact_sheet([{"": np.full((200, 200), 32768, np.uint16)}]))
    assert (shown == 128).all()


def test_rows_of_different_shape_and_missing_cells():
    wide, square = np.zeros((100, 200)), np.zeros((200, 200, 3))
    figure = visualization.contact_sheet([{"a": wide, "b": wide}, {"b": square}], labels=["first", "second"])
    assert [shown.shape for shown in cells(figure)] == [(100, 200, 3)] * 2 + [(200, 200, 3)]
    assert {text.get_text() for text in figure.texts} == {"a", "b", "first", "second"}
    x = [axes.get_position().x0 for axes in figure.axes]
    assert x[1] == x[2] > x[0]


def test_boxes_surround_their_pixels_in_their_colours():
    figure = visualization.detections(np.zeros((200, 300)), torch.tensor([[50.0, 40, 90, 120]]),
                              torch.tensor([[200.0, 60, 240, 140, 0.9, 0], [10, 150, 20, 180, 0.1, 0]]))
    (shown,) = cells(figure)
    for colour, inside in ((visualization.TRUTH, (50, 40, 90, 120)), (visualization.PREDICTION, (200, 60, 240, 140))):
        y, x = np.nonzero((np.abs(shown - 255 * np.array(to_rgb(colour))) < 2).all(2))
        assert (x.min(), x.max(), y.max()) == pytest.approx((inside[0], inside[2], inside[3]), abs=4)
    assert shown[145:185, 5:25].max() == 0  # the second prediction's score is too low
    assert [text.get_text() for text in figure.axes[0].texts] == [".90"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["truth", "prediction (score ≥ 0.25)"]


def test_no_labels_and_no_predictions_are_not_the_same_as_none_found():
    image, predictions = np.zeros((50, 60)), torch.zeros(0, 6)
    assert [len(visualization.detections(image, truth, predictions).legends[0].get_texts())
            for truth in (None, np.zeros((0, 4)))] == [1, 2]
    assert not visualization.contact_sheet([{"": image}], boxes=[None], predictions=[None]).legends


@pytest.mark.parametrize("columns", [1, 7])
def test_the_same_region_is_enlarged_below_every_image(columns):
    image = np.random.default_rng(0).integers(0, 256, (160, 200, 3), dtype=np.uint8)
    row = {f"method {i}": image // (i + 1) for i in range(columns)}
    box, prediction = np.array([[30, 40, 60, 90]]), np.array([[30, 40, 60, 90, 0.8]])
    figure = visualization.contact_sheet([row], [box], [dict.fromkeys(row, prediction)], [(20, 30, 120, 110)])
    assert len(figure.axes) == 2 * columns
    for (axes, part), shown in zip(zip(figure.axes[::2], figure.axes[1::2]), row.values()):
        np.testing.assert_array_equal(part.images[0].get_array(), shown[30:110, 20:120])
        above, below = axes.get_position(), part.get_position()
        assert (below.x0, below.x1, below.y1) == pytest.approx((above.x0, above.x1, above.y0))
        assert len(axes.patches) == 3 and len(part.patches) == 2  # the frame, and the boxes in both
        assert not axes.texts and [text.get_text() for text in part.texts] == [".80"]  # a score is read where it is big
        x0, y0 = part.patches[0].get_xy()
        assert (x0, y0) == (29.5, 39.5) and part.get_xlim()[0] <= x0 and part.get_ylim()[1] <= y0


def test_the_region_is_a_quarter_of_the_image_or_as_large_as_the_tallest_person_needs():
    size = 200, 400
    assert visualization.region_of([], size) == (150, 75, 250, 125)
    assert visualization.region_of(torch.tensor([[90.0, 60, 110, 100], [0, 0, 9, 9]]), size) == (50, 55, 150, 105)
    left, top, right, bottom = visualization.region_of(torch.tensor([[190.0, 50, 210, 150]]), size)
    assert (top, bottom) == pytest.approx((40, 160)) and (right - left) / 400 == pytest.approx(0.6)
    assert visualization.region_of(torch.tensor([[0.0, 0, 10, 199]]), size) == (0, 0, 400, 200)
    cut_off, whole = [350.0, 20, 400, 120], [90.0, 60, 110, 100]
    assert visualization.region_of(torch.tensor([cut_off, whole]), size) == (50, 55, 150, 105)


def test_scores_are_outlined_and_leave_the_person_to_be_seen():
    image = np.full((400, 400), 0.5)
    predictions = np.array([[100, 150, 200, 300, 0.9], [300, -20, 350, 80, 0.8], [390, 300, 450, 390, 0.7]])
    figure = visualization.contact_sheet([{"": image}], None, [{"": predictions}])
    texts = figure.axes[0].texts
    assert [text.get_text() for text in texts] == [".90", ".80"]  # the third lies mostly outside
    assert all(text.get_bbox_patch() is None and text.get_path_effects() for text in texts)
    assert texts[0].get_position() == (100, 150) and texts[1].get_position()[1] > 0  # inside the image
    (shown,) = cells(figure)
    assert (shown[155:295, 105:195] == 128).all()  # inside of the first box
    near = np.array([[106, 152, 206, 300, 0.6], [100, 150, 200, 300, 0.9], [108, 154, 200, 296, 0.5]])
    (axes,) = visualization.contact_sheet([{"": image}], None, [{"": near}]).axes
    assert [text.get_text() for text in axes.texts] == [".90", ".60"]  # no room for the third
    assert axes.texts[0].get_position() == (100, 150) and axes.texts[1].get_position()[1] > 300  # below its box
    small = visualization.contact_sheet([{"": image[:200, :200]}], None, [{"": np.array([[10, 50, 60, 90, 0.9]])}])
    assert not small.axes[0].texts  # no room for scores


def test_differences_have_one_scale_in_gray_levels_and_a_bar():
    first, second = np.full((200, 200, 3), 100, np.uint8), np.full((200, 200, 3), 90, np.uint8)
    rows, (scale, label) = visualization.with_differences(
        [{"a": first, "b": second}, {"a": second, "b": second}, {"a": first}], {"a - b": ("a", "b")})
    assert [list(row) for row in rows] == [["a", "b", "a - b"], ["a", "b", "a - b"], ["a"]]
    assert scale.get_clim() == pytest.approx((-12.75, 12.75)) and label.endswith("gray levels of 255, drawn ×20")
    expected = scale.to_rgba(10.0, bytes=True)[:3]
    assert (rows[0]["a - b"] == expected).all() and expected[0] > expected[2]  # red where the first is brighter
    assert (np.ptp(rows[1]["a - b"].astype(int), axis=2) <= 1).all() and rows[1]["a - b"].min() > 240  # white
    figure = visualization.contact_sheet(rows, bar=(scale, label))
    *sheet, bar = figure.axes
    assert len(sheet) == 7 and bar.get_xlabel() == label
    figure.draw_without_rendering()
    assert bar.get_tightbbox().y0 >= 0 and bar.get_tightbbox().y1 <= sheet[-1].get_window_extent().y0
    with pytest.raises(FusionError, match="No row has both images of c - d"):
        visualization.with_differences(rows, {"c - d": ("c", "d")})
    with pytest.raises(FusionError, match="a and b have 200x200 and 100x200 pixels"):
        visualization.with_differences([{"a": first, "b": second[:, :100]}], {"a - b": ("a", "b")})


def test_answers_stand_below_their_images_and_fill_the_page():
    images = [np.full((60, 80), 0.2 * i) for i in range(4)]
    texts = ["one $a_b$", "two " * 60, "three", "four"]
    figure = visualization.answers(images, texts, "asked")
    figure.draw_without_rendering()
    places = {axes.texts[0].get_text().split()[0]: axes for axes in figure.axes if axes.texts}
    pictures = [axes for axes in figure.axes if axes.images]
    assert [axes.images[0].get_array()[0, 0, 0] for axes in pictures] == [0, 51, 102, 153]
    assert list(places) == ["one", "two", "three", "four"] and places["one"].texts[0].get_text() == r"one \$a_b\$"
    for picture, text in zip(pictures, places.values()):
        above, written = picture.get_window_extent(), text.texts[0].get_window_extent()
        assert above.x0 - 1 <= written.x0 and written.x1 <= above.x1 + 1 and written.y1 <= above.y0 + 1
        assert written.y0 >= 0
    assert sum(axes.get_position().width for axes in pictures[:3]) > 0.95


def test_the_diagram_has_every_part_and_no_text_leaves_its_block():
    figure = visualization.method_diagram()
    figure.draw_without_rendering()
    (axes,) = figure.axes
    texts = {text.get_text(): text.get_window_extent() for text in axes.texts if text.get_text()}
    assert {"IR-Encoder", "VI-Encoder", "F-Decoder", "language\nmodel", "Text-DFH", "YOLOv5"} <= set(texts)
    blocks = [patch.get_window_extent() for patch in axes.patches]
    for text, extent in texts.items():
        assert text in ("query", "key, value") or any(
            block.x0 <= extent.x0 and extent.x1 <= block.x1 and block.y0 <= extent.y0 and extent.y1 <= block.y1
            for block in blocks), text  # fmt: skip
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "trained", "frozen", "data", "open in the paper, our choice"]


def test_no_legend_lies_over_a_curve():
    frame = pd.DataFrame({"epoch": range(1, 6), "total": 1.0, "validation total": [1.0, 2, 3, 4, 5]})
    rates = {name: (np.array([0.02, 1]), np.array([1.0, 0.9])) for name in ("ours", "mean, retrained")}
    responses = pd.DataFrame({"instruction": ["a", "b"] * 2, "property": "p", "wording": ["seen", "unseen"] * 2,
                              "change": [50.0, -3, 45, -4]})
    for figure in (visualization.curves(frame, ["total"]), visualization.miss_rates(rates, "ours"),
                   visualization.instruction_responses(responses)):  # fmt: skip
        figure.draw_without_rendering()
        (axes,) = figure.axes
        assert axes.get_legend() is None
        assert figure.legends[0].get_window_extent().x0 >= axes.get_window_extent().x1
        assert figure.bbox.x1 + 1 >= figure.legends[0].get_window_extent().x1


def test_columns_beyond_what_fits_follow_below_with_all_rows():
    rows = [{f"m{i}": np.full((40, 50), i / 10) for i in range(5)} for _ in range(2)]
    figure = visualization.contact_sheet(rows, labels=["first", "second"], columns=3)
    assert [axes.images[0].get_array()[0, 0, 0] for axes in figure.axes] == [0, 26, 51] * 2 + [76, 102] * 2
    corners = np.round([axes.get_position().p0 for axes in figure.axes], 6)
    np.testing.assert_array_equal(corners[6:8, 0], corners[:2, 0])
    assert (np.diff(corners[[0, 3, 6, 8], 1]) < 0).all()
    assert [text.get_text() for text in figure.texts].count("first") == 2


@pytest.mark.parametrize("columns", [1, 4, 12])
def test_titles_are_legible_in_print_and_stay_in_their_column(columns):
    image = np.zeros((480, 640))
    names = ["SwinFusion", "ours (stage 1 + Text-DFH)", "$a_b", *(f"method {i}" for i in range(9))][:columns]
    figure = visualization.contact_sheet([dict.fromkeys(names, image)], labels=["LLVIP 010001"])
    figure.draw_without_rendering()
    printed = min(1, 180 / 25.4 / figure.get_figwidth())
    room = figure.axes[0].get_window_extent().width
    for text in figure.texts:
        assert text.get_fontsize() * printed >= 6.5
        assert text.get_window_extent().width <= room * 1.01
        assert figure.bbox.contains(*text.get_window_extent().p0) and figure.bbox.contains(*text.get_window_extent().p1)


@pytest.mark.parametrize(("arguments", "message"), [
    (dict(rows=[]), "at least one row"),
    (dict(rows=[{"a": np.zeros((5, 5))}], columns=0), "and one column"),
    (dict(rows=[{"a": np.zeros((2, 5, 5))}]), "must be a tensor .* but this is a ndarray of shape \\(2, 5, 5\\)"),
    (dict(rows=[{"a": torch.zeros(1, 3, 5, 5)}]), "must be a tensor .* but this is a Tensor of shape \\(1, 3, 5, 5\\)"),
    (dict(rows=[{"a": np.zeros((5, 5))}], labels=["x", "y"]), "1 rows of images but 2 labels"),
    (dict(rows=[{"a": np.zeros((5, 5))}], zoom=[(7, 7, 9, 9)]), "lies outside the image of 5x5"),
])
def test_bad_sheets_are_refused(arguments, message):
    with pytest.raises(FusionError, match=message):
        visualization.contact_sheet(**arguments)


def test_curves_draw_the_values_and_their_running_mean(tmp_path):
    frame = pd.DataFrame({"step": np.arange(100), "total": np.tile([1.0, 3.0], 50)})
    frame.to_csv(tmp_path / "curves.csv", index=False)
    (axes,) = visualization.curves(tmp_path / "curves.csv", ["total"], log=True).axes
    raw, smooth = (line.get_ydata() for line in axes.lines)
    np.testing.assert_array_equal(raw, frame["total"])
    assert np.abs(smooth[3:-3] - 2).max() == pytest.approx(0.2)  # five alternating values: 1.8 or 2.2
    assert axes.get_yscale() == "log" and axes.get_xlabel() == "step"


def test_short_curves_are_not_smoothed_and_validation_joins_its_column():
    frame = pd.DataFrame({"epoch": [1, 2, 3], "edge": [3.0, 1, 2], "validation edge": [4.0, 2, 3], "total": 1.0})
    edge, total = visualization.curves(frame, ["edge", "total"]).axes
    assert [list(line.get_ydata()) for line in edge.lines] == [[3, 1, 2], [4, 2, 3]] and len(total.lines) == 1
    with pytest.raises(FusionError, match="no column 'loss', only epoch, edge"):
        visualization.curves(frame, ["loss"])


def test_seeds_are_a_band_around_their_mean():
    rows = [(name, seed, epoch, base + 0.1 * seed - 0.2 * epoch)
            for name, base in (("full", 2), ("no text", 3)) for seed in range(3) for epoch in (1, 2)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["experiment", "seed", "epoch", "total"])
    figure = visualization.seeds(table, ["total"], "experiment")
    (axes,) = figure.axes
    np.testing.assert_allclose([line.get_ydata() for line in axes.lines[:2]], [[1.9, 1.7], [2.9, 2.7]])
    bands = [band.get_paths()[0].vertices[:, 1] for band in axes.collections]
    np.testing.assert_allclose([(band.min(), band.max()) for band in bands], [(1.6, 2.0), (2.6, 3.0)])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["full", "no text"]
    with pytest.raises(FusionError, match="no column 'loss', only experiment"):
        visualization.seeds(table, ["loss"], "experiment")


def test_attention_maps_cover_the_image_in_one_scale():
    maps = torch.linspace(0, 1, 2 * 4 * 5).view(2, 4, 5)
    figure = visualization.attention(torch.rand(3, 40, 50), maps, ["brighter", "people"])
    panels = figure.axes[:3]
    assert [axes.get_title() for axes in panels] == ["image", "brighter", "people"]
    for axes, weights in zip(panels[1:], maps):
        heat = axes.images[1]
        np.testing.assert_allclose(heat.get_array(), weights * 20)  # 1: every pixel alike
        assert heat.get_extent() == [-0.5, 49.5, 39.5, -0.5] and heat.get_clim() == (0, 20)
    with pytest.raises(FusionError, match="1 words and maps \\(2, 4, 5\\)"):
        visualization.attention(torch.rand(3, 40, 50), maps, ["brighter"])


def test_confusion_is_a_heat_map_of_each_modality_with_the_damages_that_are_found():
    rows = pd.MultiIndex.from_tuples([("ir", "none", 0.0), ("ir", "stripes", 0.5), ("visible", "none", 0.0),
                                      ("visible", "haze", 0.4)], names=["modality", "damage", "level"])  # fmt: skip
    table = pd.DataFrame({"stripes": [0.0, 0.8, 0, 0], "haze": [0, 0, 0.1, 0.6], "any": [0, 0.8, 0.1, 0.6],
                          "estimate": np.nan}, rows)  # fmt: skip
    assert visualization.confusion(table).axes[2].get_ylabel() == "fraction of images (0 is left blank)"
    table.attrs["pairs"] = 4
    infrared, visible, bar = visualization.confusion(table).axes  # one bar for both
    assert bar.get_ylabel() == "fraction of 4 images (0 is left blank)"
    assert infrared.get_title().startswith("infrared") and visible.get_title().startswith("visible")
    assert [label.get_text() for label in infrared.get_yticklabels()] == ["none", "stripes 0.5"]
    assert [label.get_text() for label in visible.get_xticklabels()] == ["haze", "any"]
    assert [text.get_text() for text in visible.texts] == ["0.1", "0.1", "0.6", "0.6"]
    assert [text.get_text() for text in infrared.texts] == ["", "", "0.8", "0.8"]


def test_heights_are_shares_of_each_data_set():
    figure = visualization.height_histogram({"LLVIP": [50, 70, 120, 220], "MSRS": [80], "TNO": []})
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["LLVIP (n = 4)", "MSRS (n = 1)", "TNO (n = 0)"]
    highest = sorted(area.get_paths()[0].vertices[:, 1].max() for area in figure.axes[0].collections)
    np.testing.assert_allclose(highest, [25, 100])


def test_many_data_sets_have_their_own_colours_and_leave_the_chart_its_room():
    figure = visualization.height_histogram({f"set {index}": [50, 60 + index] for index in range(7)})
    figure.draw_without_rendering()
    assert len({patch.get_edgecolor() for patch in figure.legends[0].get_patches()}) == 7
    assert figure.legends[0].get_window_extent().x0 >= figure.axes[0].get_window_extent().x1
    assert figure.axes[0].get_position().height > 0.6


def test_people_of_one_height_and_no_people_at_all():
    for heights in ({"one": [100, 100]}, {"none": []}):
        render(visualization.height_histogram(heights))


def test_a_tradeoff_shows_every_run_the_means_and_where_it_is_better():
    frame = pd.DataFrame({"fidelity": [1.0, 1.0, 0.0, 0.0], "mAP@.5": [0.8, 0.9, 0.9, np.nan],
                          "Q_CV": [400.0, 500, 900, 1]})
    figure = visualization.tradeoff(frame, "Q_CV", "mAP@.5", "fidelity")
    (axes,) = figure.axes
    np.testing.assert_allclose([dots.get_offsets().mean(0) for dots in axes.collections],
                               [[900, 0.9], [900, 0.9], [450, 0.85], [450, 0.85]])
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[900, 0.9], [450, 0.85]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Q_CV (better ←)", "mAP@.5 (better →)")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0", "1"]
    assert figure.legends[0].get_title().get_text() == "fidelity\n3 runs"
    frame["variant"] = ["full", "CA1", "b", "a"]
    named = visualization.tradeoff(frame.rename(columns={"Q_CV": "loss"}), "loss", "mAP@.5", "variant", {"loss": False})
    assert [text.get_text() for text in named.legends[0].get_texts()] == ["full", "CA1", "b"]
    assert not named.axes[0].lines and named.axes[0].get_xlabel() == "loss (better ←)"


@pytest.mark.parametrize(("frame", "message"), [
    ({"a": [1], "AG": [1.0]}, "no column 'loss', only a, AG"),
    ({"a": [1], "AG": [np.nan], "loss": [1.0]}, "No run has both"),
    ({"a": [1], "AG": [1.0], "loss": [1.0]}, "direction of 'loss' is not known"),
])
def test_bad_tradeoffs_are_refused(frame, message):
    with pytest.raises(FusionError, match=message):
        visualization.tradeoff(pd.DataFrame(frame), "AG", "loss", "a")


def test_saved_figures_are_the_same_files_each_time(tmp_path):
    frame = pd.DataFrame({"epoch": [1, 2], "total": [2.0, 1.0]})
    paths = [visualization.save(visualization.curves(frame, ["total"]), tmp_path / f"new/{i}.png") for i in range(2)]
    for suffix in (".png", ".pdf"):
        first, second = (path.with_suffix(suffix).read_bytes() for path in paths)
        assert first == second and b"matplotlib" not in first.lower()
    assert set(Image.open(paths[0]).info) == {"dpi"}  # no date, no version
    pdf = paths[0].with_suffix(".pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and b"Date" not in pdf and b"/FontFile2" in pdf  # TrueType: text stays text
    with pytest.raises(FusionError, match=r"ends in \.png"):
        visualization.save(visualization.curves(frame, ["total"]), tmp_path / "figure.jpg")


def test_nothing_is_left_open_in_pyplot():
    visualization.contact_sheet([{"": np.zeros((5, 5))}])
    visualization.height_histogram({"LLVIP": [100]})
    assert plt.get_fignums() == []


# The two below are compared with tests/baseline under `pytest --mpl`; the tolerance lets fonts differ.
@pytest.mark.mpl_image_compare(baseline_dir="baseline", style="default", tolerance=8, savefig_kwargs={"dpi": 75})
def test_picture_of_a_sheet():
    visualization.set_style()
    y, x = np.mgrid[:120, :160] / 160
    wave = 0.5 + 0.4 * np.sin(20 * x) * np.cos(15 * y)
    rows = [{"infrared": x, "visible": np.stack([x, y, wave], 2)}, {"infrared": wave, "visible": wave}]
    boxes = np.array([[20, 30, 50, 90]])
    return visualization.contact_sheet(rows, [boxes, None], [None, {"visible": np.array([[60, 20, 90, 80, 0.8]])}],
                               [(15, 25, 55, 55), None], ["LLVIP", "MSRS"])


@pytest.mark.mpl_image_compare(baseline_dir="baseline", style="default", tolerance=8, savefig_kwargs={"dpi": 75})
def test_picture_of_curves():
    visualization.set_style()
    steps = np.arange(200)
    noisy = np.exp(-steps / 50) + 0.1 + 0.03 * np.sin(steps * 1.7)
    frame = pd.DataFrame({"step": steps, "total": noisy, "validation total": noisy + 0.1})
    return visualization.curves(frame, ["total"], log=True)
