"""Metrics over pairs and folders: every way to give images, what is refused, left out and said; and the tables."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fusionlib.data.pairs import Pair
from fusionlib.metrics import evaluate
from fusionlib.metrics.conventions import PAPER
from fusionlib.metrics.evaluation import evaluate_folder, evaluate_pairs, paired, scenes_of, side_by_side, summary
from fusionlib.metrics.statistics import holm, mean_interval, sign_flip_test
from fusionlib.utils.errors import FusionError


@pytest.fixture
def sources():
    """Infrared [3, 1, 20, 26] and visible [3, 3, 20, 26], uint8."""
    return [torch.randint(0, 256, (3, channels, 20, 26), dtype=torch.uint8) for channels in (1, 3)]


@pytest.fixture
def pairs(sources, tmp_path):
    pairs = []
    for dataset, name, ir, visible in zip(("LLVIP", "LLVIP", "MSRS"), "abc", *sources):
        paths = [tmp_path / f"{name}_{kind}.png" for kind in ("ir", "visible")]
        Image.fromarray(ir[0].numpy()).save(paths[0])
        Image.fromarray(visible.permute(1, 2, 0).numpy()).save(paths[1])
        pairs.append(Pair(dataset, "test", name, *paths, None, None))
    return pairs


@pytest.fixture
def fused(sources):
    return torch.maximum(*sources)


def test_one_row_per_pair_with_the_values_of_evaluate(pairs, sources, fused):
    frame = evaluate_pairs(fused, pairs)
    assert list(frame.index) == [("LLVIP", "a"), ("LLVIP", "b"), ("MSRS", "c")]
    assert frame.index.names == ["dataset", "name"] and tuple(frame.columns) == PAPER
    assert frame.attrs["convention"] == "vifb"
    for name, values in evaluate(fused, *sources).items():
        np.testing.assert_allclose(frame[name], values, rtol=1e-6)


def test_images_come_by_name_or_one_after_the_other(pairs, fused):
    expected = evaluate_pairs(list(fused), pairs, ("AG", "SCD"))
    by_name = {"c": fused[2], "a": fused[0], "b": fused[1], "not asked for": None}
    pd.testing.assert_frame_equal(evaluate_pairs(by_name, pairs, ("AG", "SCD")), expected)
    pd.testing.assert_frame_equal(evaluate_pairs((image / 255 for image in fused), pairs, ("AG", "SCD")), expected)


@pytest.mark.parametrize(("change", "message"), [
    (lambda fused, pairs: (fused, []), "no pairs to evaluate"),
    (lambda fused, pairs: ({"a": fused[0]}, pairs), "no fused image for 2 of 3 pairs, the first is b"),
    (lambda fused, pairs: ({"a": fused[0]}, pairs[:1] * 2), "Several pairs have the same name"),
    (lambda fused, pairs: (fused[:2], pairs), "only 2 fused images for 3 pairs"),
    (lambda fused, pairs: (fused, pairs[:2]), "more fused images than the 2 pairs"),
    (lambda fused, pairs: (fused[..., :20], pairs), "LLVIP a: The infrared images are 1x1x20x26 and the fused ones"),
])
def test_images_that_do_not_fit_the_pairs_are_named(pairs, fused, change, message):
    with pytest.raises(FusionError, match=message):
        evaluate_pairs(*change(fused, pairs))


@pytest.fixture
def folders(sources, fused, tmp_path):
    """Folders fused, ir and vi of the three images a, b, c; gray fused ones, in three formats."""
    images = {"fused": fused[:, 0], "ir": sources[0][:, 0], "vi": sources[1].permute(0, 2, 3, 1)}
    for kind, batch in images.items():
        (tmp_path / "TNO" / kind).mkdir(parents=True)
        for name, image in zip("abc", batch):
            Image.fromarray(image.numpy()).save(tmp_path / "TNO" / kind / f"{name}.png")
    (tmp_path / "TNO/fused/b.png").rename(tmp_path / "TNO/fused/b.PNG")
    Image.fromarray(fused[2, 0].numpy()).save(tmp_path / "TNO/fused/c.bmp")
    (tmp_path / "TNO/fused/c.png").unlink()
    return [tmp_path / "TNO" / kind for kind in images]


def test_a_folder_is_measured_as_its_pairs_are(folders, sources, fused, capfd):
    frame = evaluate_folder(*folders, ("AG", "SCD"), "tang")
    assert list(frame.index) == [("TNO", name) for name in "abc"] and frame.index.names == ["dataset", "name"]
    assert frame.attrs == {"convention": "tang"} and "not m" not in capfd.readouterr().err
    for name, values in evaluate(fused[:, :1], *sources, ("AG", "SCD"), "tang").items():
        np.testing.assert_allclose(frame[name], values, rtol=1e-6)


def test_16_bit_alpha_and_palette_are_read(folders, sources, fused):
    expected = evaluate_folder(*folders, ["AG"])["AG"]
    gray = fused[:, 0].numpy()
    Image.fromarray(gray[0].astype(np.uint16) * 257).save(folders[0] / "a.png")
    (folders[0] / "b.PNG").unlink()
    Image.fromarray(np.stack([gray[1]] * 3 + [gray[0]], -1)).save(folders[0] / "b.png")
    palette = Image.fromarray(gray[2]).convert("P")
    palette.save(folders[0] / "c.bmp")
    pd.testing.assert_series_equal(evaluate_folder(*folders, ["AG"])["AG"], expected)


def test_what_cannot_be_measured_is_named_and_the_rest_is_measured(folders, capfd):
    fused, ir, vi = folders
    expected = evaluate_folder(*folders)
    for name in "defgh":
        for folder in folders:
            Image.open(folder / "a.png").save(folder / f"{name}.png")
    (fused / "d.png").write_bytes((fused / "d.png").read_bytes()[:60])
    Image.new("L", (10, 12)).save(fused / "e.png")
    Image.new("L", (10, 12)).save(vi / "f.png")
    (ir / "g.png").unlink()
    (fused / "h.png").unlink()
    (fused / "x.png").write_bytes(b"not asked for")
    (fused / "notes.txt").write_text("no picture")
    Image.new("L", (26, 20)).save(fused / "a.bmp")
    problems = []
    frame = evaluate_folder(*folders, problems=problems)
    pd.testing.assert_frame_equal(frame, pd.concat([evaluate_folder(*folders).iloc[:1], expected.iloc[1:]]))
    assert [problem.partition(";")[0].replace(str(fused.parent), "") for problem in problems] == [
        "/fused/a.png: expected one file of this name, also found a.bmp, which is used",
        "/fused/g.png: expected its partner infrared in /ir, found none called g",
        "/ir/h.png: expected its partner fused in /fused, found none called h",
        "/fused/x.png: expected its partner infrared in /ir and visible in /vi, found none called x",
        "TNO d: /fused/d.png: expected a whole png, jpg, bmp or tiff image, found 60 bytes that are truncated, "
        "damaged or something else",
        "TNO e: /fused/e.png: expected 26x20 like its infrared source /ir/e.png, found 10x12",
        "TNO f: /vi/f.png: expected 26x20 like its infrared partner /ir/f.png, found 10x12",
    ]
    said = capfd.readouterr().err
    assert "not matched: 4" in said and "not measured: 3" in said and all(problem in said for problem in problems)


def test_a_long_list_of_problems_is_cut_on_the_screen_only(folders, capfd):
    for i in range(25):
        (folders[1] / f"more{i:02}.png").touch()
    problems = []
    evaluate_folder(*folders, ["AG"], problems=problems)
    assert len(problems) == 25
    said = capfd.readouterr().err
    assert "more19.png" in said and "more20.png" not in said and "... and 5 more" in said


def test_nothing_to_measure_is_an_error(folders):
    for path in folders[0].iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(FusionError, match=r"found none among 3, the first problem being: TNO a: .*6 bytes that are"):
        evaluate_folder(*folders)
    with pytest.raises(FusionError, match="Unknown metric 'FID'"):
        evaluate_folder(*folders, ["FID"])
    with pytest.raises(FusionError, match="Unknown metric convention 'matlab'"):
        evaluate_folder(*folders, convention="matlab")


def frame_of(values, dataset="LLVIP", metric="AG", convention="vifb"):
    index = pd.MultiIndex.from_tuples([(dataset, str(i)) for i in range(len(values))], names=["dataset", "name"])
    frame = pd.DataFrame({metric: values}, index=index, dtype=float)
    frame.attrs["convention"] = convention
    return frame


def test_the_summary_has_mean_and_interval_per_data_set_and_metric():
    values = np.random.default_rng(3).gamma(4, size=(2, 40))
    frame = pd.concat([frame_of(values[0]), frame_of(values[1], "MSRS")]).assign(EN=1.0)
    result = summary(frame)
    assert list(result.index) == [(d, m) for d in ("LLVIP", "MSRS") for m in ("AG", "EN")]
    for dataset, row in zip(("LLVIP", "MSRS"), values):
        assert tuple(result.loc[dataset, "AG"]) == (*mean_interval(row), 40)
        assert tuple(result.loc[dataset, "EN"]) == (1, 1, 1, 40)


def test_the_summary_is_reproducible_and_seeded():
    frame = frame_of(np.random.default_rng(3).normal(size=30))
    pd.testing.assert_frame_equal(summary(frame), summary(frame))
    assert (summary(frame, seed=1)["low"] != summary(frame)["low"]).all()


def test_intervals_and_tests_are_over_the_scenes_of_the_pairs(pairs, fused, tmp_path):
    """Known from the pairs, kept by a selection of rows, and aligned with the values that are defined."""
    known = [replace(pair, scene=scene) for pair, scene in zip(pairs, ("s", "s", ""))]
    assert evaluate_pairs(fused, known, ("AG",)).attrs == {
        "convention": "vifb", "scenes": {"LLVIP/a": "s", "LLVIP/b": "s"}}  # fmt: skip
    values = np.array([1, 5, np.nan, 2, 9, 4.0])
    frame, other = frame_of(values), frame_of([0.0] * 6)
    for each in (frame, other):
        each.attrs["scenes"] = {f"LLVIP/{number}": scene for number, scene in enumerate("aabbc")}  # 5 is its own
    assert scenes_of(frame[1:]).tolist() == [*"abbc", "LLVIP/5"]
    finite, scenes = values[[0, 1, 3, 4, 5]], [*"aabcd"]
    assert tuple(summary(frame).loc["LLVIP", "AG"]) == (*mean_interval(finite, scenes=scenes), 5)
    row = paired({"base": other, "ours": frame}, "base").loc["LLVIP", "ours", "AG"]
    assert tuple(row[["difference", "low", "high"]]) == mean_interval(finite, scenes=scenes)
    assert row["p"] == sign_flip_test(finite, scenes=scenes) == 2 / 16 and row["n"] == 5


def test_undefined_values_are_left_out_and_counted():
    frame = pd.concat([frame_of([1, np.nan, 3, np.inf]), frame_of([np.nan], "MSRS"), frame_of([5], "TNO")])
    result = summary(frame)
    assert list(result.index) == [("LLVIP", "AG"), ("MSRS", "AG"), ("TNO", "AG")] and list(result["n"]) == [2, 0, 1]
    assert list(result.loc[("LLVIP", "AG")]) == [2, 1, 3, 2]
    assert result.loc[("MSRS", "AG"), ["mean", "low", "high"]].isna().all()
    assert list(result.loc[("TNO", "AG"), ["mean", "low", "high"]]) == [5, 5, 5]


def test_paired_differences_over_the_same_images():
    """Against a computation by hand: images 1 to 29 are shared, image 5 is undefined for one method."""
    rng = np.random.default_rng(4)
    base, easy = rng.normal(size=30), rng.normal(0, 5, size=30)
    ours = base + rng.normal(0.5, 0.5, size=30)
    frames = {name: frame_of(x + easy).assign(Q_CV=x + easy)
              for name, x in (("ours", ours), ("base", base), ("same", base))}
    frames["ours"].iloc[5] = np.nan
    frames["ours"] = frames["ours"].iloc[::-1].iloc[:29]
    table = paired(frames, "base")
    assert list(table.index) == [("LLVIP", method, metric) for method in ("ours", "same") for metric in ("AG", "Q_CV")]
    assert list(table.columns) == ["difference", "low", "high", "p", "p_holm", "n", "verdict"]
    assert table.attrs["convention"] == "vifb"

    row = table.loc["LLVIP", "ours", "AG"]
    differences = np.delete(ours - base, [0, 5])
    assert row["n"] == 28 and row["difference"] == pytest.approx(differences.mean())
    error = differences.std() / np.sqrt(28)
    normal = differences.mean() + 1.96 * error * np.array([-1, 1])
    assert (row["low"], row["high"]) == pytest.approx(normal, abs=error / 3)
    assert row["p"] == pytest.approx(sign_flip_test(differences), abs=2e-4) and row["p"] < 0.01
    assert list(table["verdict"]) == ["better", "worse", *["inconclusive"] * 2]  # for Q_CV, lower is better
    assert list(table.loc["LLVIP", "same", "AG"]) == [0, 0, 0, 1, 1, 30, "inconclusive"]
    np.testing.assert_array_equal(table["p_holm"], holm(table["p"]))
    pd.testing.assert_frame_equal(paired(frames, "base"), table)


def test_p_values_are_corrected_within_a_data_set():
    ones = {"LLVIP": np.arange(1, 7), "TNO": np.arange(1, 6), "MSRS": [1.0], "M3FD": [np.nan]}
    zero = pd.concat([frame_of(np.zeros(len(values)), name) for name, values in ones.items()])
    more = pd.concat([frame_of(values, name) for name, values in ones.items()])
    table = paired({"zero": zero, "more": more, "less": -more}, "zero")
    assert [dataset for dataset, *_ in table.index] == [name for name in ones for _ in range(2)]
    np.testing.assert_allclose(table["p"], [2 / 64] * 2 + [2 / 32] * 2 + [1, 1] + [np.nan] * 2)
    np.testing.assert_allclose(table["p_holm"], [4 / 64] * 2 + [4 / 32] * 2 + [1, 1] + [np.nan] * 2)
    assert list(table["n"]) == [6, 6, 5, 5, 1, 1, 0, 0]
    assert list(table["difference"] > 0) == [True, False] * 3 + [False] * 2
    assert (table["verdict"] == "inconclusive").all()  # 4 / 64 is no evidence
    assert tuple(table.loc["MSRS", "more", "AG"][["difference", "low", "high"]]) == (1, 1, 1)


@pytest.mark.parametrize(("frames", "message"), [
    ({"ours": frame_of([1])}, "Expected base and at least one method to compare it with, found ours"),
    ({"base": frame_of([1])}, "Expected base and at least one method to compare it with, found base"),
    ({"base": frame_of([1]), "ours": frame_of([1], convention="tang")}, "not comparable, found base vifb, ours tang"),
    ({"base": frame_of([1]), "ours": frame_of([1], "TNO")}, "ours shares no image with base"),
    ({"base": frame_of([1]), "ours": frame_of([1], metric="EN")}, "ours shares no metric with base"),
    ({"base": frame_of([1]), "ours": pd.concat([frame_of([1])] * 2)}, "ours has the image LLVIP 0 twice"),
])
def test_what_cannot_be_compared_is_refused(frames, message):
    with pytest.raises(FusionError, match=message):
        paired(frames, "base")


def test_side_by_side_tells_direction_and_convention():
    frames = {"a": pd.concat([frame_of([1, 1]), frame_of([1000, 1000], "TNO")]), "b": frame_of([0.01234, np.nan])}
    table = side_by_side({name: frame.assign(Q_CV=0.0, PSNR=np.inf) for name, frame in frames.items()})
    assert list(table.index) == [("LLVIP", "a"), ("LLVIP", "b"), ("TNO", "a")] and table.attrs["convention"] == "vifb"
    assert list(table.columns) == ["n", "AG ↑", "Q_CV ↓", "PSNR ↑"]
    assert list(table["AG ↑"]) == ["1.00 [1.00, 1.00]", "0.0123 [0.0123, 0.0123]", "1000 [1000, 1000]"]
    assert list(table["Q_CV ↓"]) == ["0.00 [0.00, 0.00]"] * 3 and list(table["PSNR ↑"]) == ["nan [nan, nan]"] * 3
    with pytest.raises(FusionError, match="not comparable"):
        side_by_side({"a": frame_of([1]), "b": frame_of([1], convention="tang")})
    with pytest.raises(FusionError, match="nothing to compare"):
        side_by_side({})
