import math

import numpy as np
import pandas as pd
import pytest
import torch
from random_boxes import BOX, EMPTY, NONE, scenes
from scipy.stats import norm

from fusionlib.detection import HEIGHTS, intervals, measure, paired
from fusionlib.metrics.statistics import holm
from fusionlib.utils.errors import FusionError

pytestmark = pytest.mark.filterwarnings("error")


def drawn(images, seed, resamples=1):
    """The images of each bootstrap sample."""
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(images, np.full(images, 1 / images), size=resamples)
    return [np.repeat(np.arange(images), times) for times in draws]


def measured(predictions, truths, **settings):
    """What `measure` finds on each of 60 samples of seed 2, as lists with images repeated and left out."""
    return [measure([predictions[i] for i in images], [truths[i] for i in images], **settings)
            for images in drawn(len(truths), seed=2, resamples=60)]


def test_resampling_is_measuring_the_drawn_images():
    """SeededSampling without matching again is measuring a list with images repeated and left out."""
    predictions, truths = scenes(5, counts=(4, 0, 7, 1, 9, 0, 3, 5) * 2)
    for found in predictions:  # scores that other images have as well
        found[:, 4] = found[:, 4].argsort().argsort() / 20
    for seed in range(5):
        (images,) = drawn(len(truths), seed)
        chosen = [predictions[i] for i in images], [truths[i] for i in images]
        frame = intervals(predictions, truths, resamples=1, seed=seed)
        expected = measure(*chosen)
        assert frame["low"].equals(frame["high"])
        assert frame["low"].tolist() == pytest.approx([expected[name] for name in frame.index], abs=1e-12)


def test_intervals():
    predictions, truths = scenes(6, counts=(4, 0, 7, 1, 9, 0, 3, 5) * 2)
    before = np.random.get_state()[1].copy()
    frame = intervals(predictions, truths, resamples=200)
    assert (np.random.get_state()[1] == before).all()
    assert frame.equals(intervals(predictions, truths, resamples=200))
    assert not frame.equals(intervals(predictions, truths, resamples=200, seed=1))
    result = measure(predictions, truths)
    assert frame["value"].to_dict() == {name: result[name] for name in frame.index}
    assert ((frame["low"] <= frame["value"]) & (frame["value"] <= frame["high"])).all()
    assert (frame["low"] < frame["high"])[["mAP@.5", "mAP@.75", "mAP@.5:.95", "R@P.9", "LAMR"]].all()
    assert frame.attrs["images"] == 16 and frame.loc["LAMR", "boxes"] == 58
    assert [frame.loc[f"AP@.5 {name}", "boxes"] for name in HEIGHTS] == [result[f"boxes {name}"] for name in HEIGHTS]

    alone = intervals(predictions[:1], truths[:1], heights={}, resamples=20)
    for end in ("low", "high"):
        assert alone[end].tolist() == pytest.approx(alone["value"].tolist(), abs=1e-12)
    # In half of the draws, or nearly, there is nobody; the rest all give 1.
    lonely = intervals([torch.tensor([[*BOX[0], 1, 0]]), NONE], [BOX, EMPTY], heights={}, resamples=50)
    assert lonely.loc["mAP@.5", ["value", "low", "high"]].tolist() == pytest.approx([1, 1, 1])


def test_intervals_are_corrected_for_bias():
    predictions, truths = scenes(9)
    frame = intervals(predictions, truths, heights={}, resamples=60, seed=2)
    samples = pd.DataFrame(measured(predictions, truths, heights={}))[frame.index]
    for name, column in samples.items():
        share = ((column < frame["value"][name]).sum() + (column == frame["value"][name]).sum() / 2) / 60
        assert 0 < share < 1
        levels = norm.cdf(2 * norm.ppf(share) + norm.ppf([0.025, 0.975]))
        assert frame.loc[name, ["low", "high"]].tolist() == pytest.approx(np.quantile(column, levels), abs=1e-12)
    assert (frame["low"] < samples.quantile(0.025)).any()


def test_intervals_hold_the_truth():
    """People found with the chance .8, scores u^.5; false alarms with the chance .4 in an image, scores u^2.

    At a threshold t the recall is .8 (1 - t^2) and there are .4 (1 - t^.5) false alarms per image, so both measures are
    known for an endless number of images.
    """
    q, f = 0.8, 0.4
    recall = np.linspace(0, q, 81)[1:]
    false = f * (1 - (1 - recall / q) ** 0.25)
    precision = [2 * q / (2 * q + f / 2), *recall / (recall + false)]  # the first is the limit at recall 0
    points = np.minimum(np.logspace(-2, 0, 9) / f, 1)
    truth = np.array([np.sum(precision) / 101, np.exp(np.log(1 - q * (1 - (1 - points) ** 4)).mean())])

    rng, held, images = np.random.default_rng(0), [], 60
    for _ in range(60):
        predictions = []
        for hit, alarm, u, v in rng.random((images, 4)).tolist():
            rows = [[0, 0, 20, 50, u ** 0.5, 0]] * (hit < q) + [[60, 0, 80, 50, v ** 2, 0]] * (alarm < f)
            predictions.append(torch.tensor(rows).reshape(-1, 6))
        frame = intervals(predictions, [BOX] * images, heights={}, resamples=200).loc[["mAP@.5", "LAMR"]]
        held.append((frame["low"] <= truth) & (truth <= frame["high"]))
    share = np.mean(held, axis=0)
    assert (share >= 0.88).all() and (share < 1).all(), share


def test_paired_differences():
    predictions, truths = scenes(7)
    worse, other = scenes(7, jitter=0.2)[0], scenes(7, jitter=0.11)[0]
    table = paired({"worse": worse, "ours": predictions, "other": other}, "worse", truths, resamples=60, seed=2)
    assert list(table.index.unique("method")) == ["ours", "other"] and table.attrs["images"] == 8
    assert table["p_holm"].to_numpy() == pytest.approx(holm(table["p"]))
    frame = table.loc["ours"]

    # the same by measuring both on every draw
    one, two = (pd.DataFrame(measured(found, truths))[frame.index].to_numpy() for found in (predictions, worse))
    differences = one - two
    assert frame["low"].to_numpy() == pytest.approx(np.nanpercentile(differences, 2.5, axis=0), abs=1e-12)
    assert frame["high"].to_numpy() == pytest.approx(np.nanpercentile(differences, 97.5, axis=0), abs=1e-12)
    for p, column in zip(frame["p"], differences.T):
        column = column[~np.isnan(column)]
        rarer = min(sum(column <= 1e-12), sum(column >= -1e-12))
        assert p == pytest.approx(min(1, 2 * (rarer + 1) / (len(column) + 1)))
    one, two = measure(predictions, truths), measure(worse, truths)
    assert frame["difference"].tolist() == pytest.approx([one[name] - two[name] for name in frame.index])
    assert [frame.loc[f"AP@.5 {name}", "boxes"] for name in HEIGHTS] == [one[f"boxes {name}"] for name in HEIGHTS]
    best = frame.loc["mAP@.5:.95"]
    assert best["p"] == pytest.approx(2 / 61) and best["low"] > 0 and best["difference"] > 0
    assert frame.loc["LAMR", "difference"] < 0 and (table["verdict"] == "inconclusive").all()  # 60 draws, 22 numbers
    settled = {"truths": truths, "heights": {}, "resamples": 1000, "seed": 2}
    verdicts = paired({"worse": worse, "ours": predictions}, "worse", **settled)["verdict"].loc["ours"]
    assert verdicts[["mAP@.5:.95", "LAMR"]].tolist() == ["better"] * 2  # for LAMR, lower is better
    swapped = paired({"ours": predictions, "worse": worse}, "ours", **settled)["verdict"].loc["worse"]
    assert swapped.tolist() == verdicts.replace("better", "worse").tolist()

    swapped = paired({"ours": predictions, "worse": worse}, "ours", truths, resamples=60, seed=2).loc["worse"]
    assert swapped["low"].to_numpy() == pytest.approx(-frame["high"].to_numpy()) and swapped["p"].equals(frame["p"])


def test_many_comparisons_get_the_resamples_that_their_correction_needs():
    """2000 give no p below 2 / 2001, and none below .05 after the correction for 65 comparisons."""
    predictions, truths = scenes(7, counts=(4, 0, 7, 1, 9, 0, 3, 5) * 2)
    many = {"ours": predictions} | {f"bad {number}": [NONE] * 16 for number in range(13)}
    table, short = (paired(many, "ours", truths, heights={}, resamples=resamples) for resamples in (None, 2000))
    measured = table.index.get_level_values("measure").isin(["mAP@.5", "mAP@.5:.95"])
    assert len(table) == 65 and (table["verdict"][measured] == "worse").all()
    assert (short["verdict"] == "inconclusive").all() and short["p_holm"].min() == pytest.approx(65 * 2 / 2001)
    two = {name: many[name] for name in ("ours", "bad 1")}
    pd.testing.assert_frame_equal(paired(two, "ours", truths, heights={}),
                                  paired(two, "ours", truths, heights={}, resamples=2000))


def test_a_method_does_not_differ_from_itself():
    predictions, truths = scenes(8)
    table = paired({"one": predictions, "two": predictions}, "two", truths, resamples=30)
    assert (table[["difference", "low", "high"]] == 0).all(axis=None) and (table["verdict"] == "inconclusive").all()
    assert (table[["p", "p_holm"]] == 1).all(axis=None)


def test_one_image_proves_nothing():
    predictions, truths = scenes(8)
    table = paired({"one": predictions[:1], "two": [NONE]}, "two", truths[:1], heights={}, resamples=30)
    assert (table["low"] == table["high"]).all() and (table["p"] == 1).all()
    assert ((table["difference"] > 0) == (table.index.get_level_values("measure") != "LAMR")).all()
    assert (table["verdict"] == "inconclusive").all()


def by_scene(of_image, seed):
    """The images of one bootstrap sample of scenes."""
    names = list(dict.fromkeys(of_image))
    (numbers,) = drawn(len(names), seed)
    return [i for number in numbers for i, scene in enumerate(of_image) if scene == names[number]]


def test_scenes_are_drawn_with_all_their_images():
    predictions, truths = scenes(5, counts=(4, 0, 7, 1, 9, 0, 3, 5) * 2)
    other, _ = scenes(5, counts=(4, 0, 7, 1, 9, 0, 3, 5) * 2, jitter=0.3)
    _, regions = scenes(6, counts=(1, 0, 2, 3) * 4)
    of_image = [*"aabcadbbbeeecfaa"]
    for seed in range(5):
        images = by_scene(of_image, seed)
        expected, others = (measure([found[i] for i in images], [truths[i] for i in images], 0, {},
                                    [regions[i] for i in images]) for found in (predictions, other))
        options = {"heights": {}, "resamples": 1, "seed": seed, "ignore": regions, "scenes": of_image}
        frame = intervals(predictions, truths, **options)
        assert frame["low"].tolist() == pytest.approx([expected[name] for name in frame.index], abs=1e-12)
        table = paired({"one": predictions, "two": other}, "two", truths, **options).loc["one"]
        assert table["low"].tolist() == pytest.approx([expected[n] - others[n] for n in table.index], abs=1e-12)
        assert frame.attrs["over"] == table.attrs["over"] == "16 images of 6 scenes"


def test_unknown_or_single_scenes_are_as_images():
    predictions, truths = scenes(6, counts=(4, 0, 7, 1, 9, 0, 3, 5))
    plain = intervals(predictions, truths, resamples=50)
    assert plain.attrs["over"] == "8 images"
    for of_image, over in (("abcdefgh", "8 images"), ("a" * 8, "8 images of 1 scene")):
        frame = intervals(predictions, truths, resamples=50, scenes=[*of_image])
        assert frame.equals(plain) and frame.attrs["over"] == over
    # images alike in a scene are less than so many independent ones
    repeated = [4 * predictions, 4 * truths]
    wide, narrow = (intervals(*repeated, resamples=400, heights={}, scenes=of_image).loc["mAP@.5"]
                    for of_image in ([*"abcdefgh"] * 4, None))
    assert wide["high"] - wide["low"] > 1.5 * (narrow["high"] - narrow["low"])
    assert wide["value"] == narrow["value"]


def test_p_values_of_equal_methods_are_uniform():
    """Two detectors with the same chances: p < .2 comes in a fifth of all cases (20 +- 4 of 100)."""
    rng = np.random.default_rng(1)
    truths, p = [BOX] * 40, []
    for _ in range(100):
        one, two = ([torch.tensor([[*BOX[0], score, 0]]) if score > 0.3 else NONE for score in scores]
                    for scores in rng.random((2, 40)))
        table = paired({"one": one, "two": two}, "two", truths, heights={}, resamples=100)
        p.append(table.loc[("one", "mAP@.5"), "p"])
    assert 8 <= sum(value < 0.2 for value in p) <= 32


@pytest.mark.parametrize("truths", [[], [EMPTY]])
def test_nobody_there(truths):
    predictions = [torch.tensor([[0, 0, 10, 10, 0.9, 0]])] * len(truths)
    table = paired({"one": predictions, "two": predictions}, "two", truths, resamples=9)
    assert table[["difference", "low", "high"]].isna().all(axis=None) and (table["verdict"] == "inconclusive").all()
    table = intervals(predictions, truths, resamples=9)
    assert table[["value", "low", "high"]].isna().all(axis=None) and (table["boxes"] == 0).all()


def test_bad_input():
    with pytest.raises(FusionError, match="found 1 for 2 images"):
        intervals([NONE], [BOX, BOX])
    with pytest.raises(FusionError, match=r"ours: predictions of image 0: .*found NaN"):
        paired({"theirs": [NONE], "ours": [torch.tensor([[0, 0, 20, 50, math.nan, 0]])]}, "theirs", [BOX])
    for found in ({"ours": [NONE]}, {"ours": [NONE], "theirs": [NONE]}):
        with pytest.raises(FusionError, match=r"Expected other and .* found ours"):
            paired(found, "other", [BOX])
    with pytest.raises(FusionError, match="scene of each of 2 images, found 1"):
        intervals([NONE] * 2, [BOX] * 2, scenes=["a"])
    with pytest.raises(FusionError, match="resamples = 0"):
        intervals([NONE], [BOX], resamples=0)
