"""Metrics over pairs: rows in the pairs' order, every way to give images, what is refused, and the summary."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fusionlib.data.pairs import Pair
from fusionlib.errors import FusionError
from fusionlib.evaluation import evaluate_pairs, summary
from fusionlib.metrics import PAPER, evaluate


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


def frame_of(values, dataset="LLVIP"):
    index = pd.MultiIndex.from_tuples([(dataset, str(i)) for i in range(len(values))], names=["dataset", "name"])
    return pd.DataFrame({"AG": values}, index=index)


def test_the_interval_is_that_of_the_mean():
    """For many values the bootstrap must agree with the normal interval, mean +- 1.96 standard errors."""
    values = np.random.default_rng(3).gamma(4, size=400)
    row = summary(frame_of(values)).loc[("LLVIP", "AG")]
    error = values.std() / 20
    assert row["mean"] == pytest.approx(values.mean()) and row["n"] == 400
    assert row["low"] == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert row["high"] == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_the_summary_is_reproducible_and_seeded():
    frame = frame_of(np.random.default_rng(3).normal(size=30))
    pd.testing.assert_frame_equal(summary(frame), summary(frame))
    assert (summary(frame, seed=1)["low"] != summary(frame)["low"]).all()


def test_undefined_values_are_left_out_and_counted():
    frame = pd.concat([frame_of([1.0, np.nan, 3.0]), frame_of([np.nan], "MSRS"), frame_of([5.0], "TNO")])
    result = summary(frame)
    assert list(result.index) == [("LLVIP", "AG"), ("MSRS", "AG"), ("TNO", "AG")] and list(result["n"]) == [2, 0, 1]
    assert list(result.loc[("LLVIP", "AG")]) == [2, 1, 3, 2]
    assert result.loc[("MSRS", "AG"), ["mean", "low", "high"]].isna().all()
    assert list(result.loc[("TNO", "AG"), ["mean", "low", "high"]]) == [5, 5, 5]
