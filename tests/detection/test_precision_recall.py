import contextlib
import io
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from random_boxes import BOX, EMPTY, NONE, scenes
from torchvision.ops import box_iou

from fusionlib.detection import HEIGHTS, average_precision, measure, miss_rate_curve
from fusionlib.utils.errors import FusionError

pytestmark = pytest.mark.filterwarnings("error")

NAMES = ("mAP@.5", "mAP@.75", "mAP@.5:.95")
OVERLAPS = np.linspace(0.5, 0.95, 10)


def decisions(predictions, truths, overlap=0.5, low=0, high=math.inf, ignore=None):
    """COCO's matching, written plainly: [score, hit] of what counts, best first, and the number of true boxes."""
    rows, total = [], 0
    for found, boxes, regions in zip(predictions, truths, ignore or [EMPTY] * len(truths)):
        inside = [low <= (box[3] - box[1]).item() < high for box in boxes]
        total += sum(inside)
        taken = set()
        for row in found[found[:, 4].argsort(descending=True, stable=True)][:100]:
            ious = box_iou(row[None, :4], boxes)[0].tolist() if len(boxes) else []
            free = [j for j, iou in enumerate(ious) if j not in taken and iou >= overlap]
            best = max(free, key=lambda j: (inside[j], ious[j]), default=None)
            x1, y1, x2, y2 = row[:4].tolist()
            inner = [max(0, min(x2, c) - max(x1, a)) * max(0, min(y2, d) - max(y1, b))
                     for a, b, c, d in regions.tolist()]
            if (best is None or not inside[best]) and max(inner, default=0) >= overlap * (x2 - x1) * (y2 - y1):
                continue
            taken.add(best)
            if inside[best] if best is not None else low <= (row[3] - row[1]).item() < high:
                rows.append((row[4].item(), best is not None))
    return sorted(rows, key=lambda row: -row[0]), total


def plain_precision(rows, total):
    """The mean over 101 recalls of the best precision at that recall or above."""
    hits, points = 0, []
    for n, (_, hit) in enumerate(rows, start=1):
        hits += hit
        points.append((hits / total, hits / n))
    return np.mean([max((p for r, p in points if r >= recall), default=0) for recall in np.linspace(0, 1, 101)])


def plain_miss_rate(rows, total, images):
    rates = []
    for allowed in np.logspace(-2, 0, 9):
        hits = false = 0
        for _, hit in rows:
            hits, false = hits + hit, false + (not hit)
            if false / images > allowed:
                hits -= hit
                break
        rates.append(max(1 - hits / total, 1e-10))
    return math.exp(np.log(rates).mean())


def plain_recall(rows, total):
    """The largest share of people found at which nine of ten alarms or more are right."""
    hits, best = 0, 0
    for n, (_, hit) in enumerate(rows, start=1):
        hits += hit
        if Fraction(hits, n) >= Fraction(9, 10):
            best = hits / total
    return best


def coco_precision(predictions, truths, heights):
    """pycocotools from beginning to end: [ranges, overlaps], all heights first."""
    coco, number = COCO(), range(len(truths))
    coco.dataset = {"images": [{"id": i} for i in number], "categories": [{"id": 1}], "annotations": [
        {"image_id": i, "category_id": 1, "iscrowd": 0, "area": y2 - y1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        for i in number for x1, y1, x2, y2 in truths[i].double().tolist()]}
    for i, annotation in enumerate(coco.dataset["annotations"]):
        annotation["id"] = i + 1
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        found = coco.loadRes([
            {"image_id": i, "category_id": 1, "score": score, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            for i in number for x1, y1, x2, y2, score, _ in predictions[i].double().tolist()])
        for annotation in found.dataset["annotations"]:
            annotation["area"] = annotation["bbox"][3]
        run = COCOeval(coco, found, "bbox")
        run.params.areaRng = [[0, 1e10]] + [[low, min(high, 1e10) - 1e-9] for low, high in heights.values()]
        run.params.maxDets = [100]
        run.evaluate()
        run.accumulate()
    return run.eval["precision"][:, :, 0, :, 0].mean(1).T


def test_average_precision_by_hand():
    truths = [torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40]]), torch.tensor([[5.0, 5, 25, 45]])]
    predictions = [
        # right; nothing there; overlap of 20 * 16 / 20 * 20 = .8
        torch.tensor([[0, 0, 10, 10, 0.9, 0], [50, 50, 60, 60, 0.8, 0], [20, 20, 40, 36, 0.7, 0]]),
        NONE,
    ]
    # Two of three people found, the second after one false alarm: precision 1 up to recall 1/3 (34 of 101 recalls), 2/3
    # up to recall 2/3 (33 more). Above an overlap of .8, at .85, .9 and .95, only the first remains.
    loose, tight = (34 + 33 * 2 / 3) / 101, 34 / 101
    result = average_precision(predictions, truths)
    assert list(result) == [*NAMES, "images", "boxes"]
    assert [result[name] for name in NAMES] == pytest.approx([loose, loose, (7 * loose + 3 * tight) / 10])
    assert (result["images"], result["boxes"]) == (2, 3)


def test_miss_rate_by_hand():
    """Four people, two found at once, one after the only false alarm: .25 false alarms per image on four images."""
    false = torch.tensor([60.0, 0, 80, 50])
    hit, alarm = (lambda s: torch.tensor([[*BOX[0], s, 0]])), (lambda s: torch.tensor([[*false, s, 0]]))
    predictions = [hit(0.9), hit(0.8), torch.cat((alarm(0.7), hit(0.6))), NONE]
    fppi, miss = miss_rate_curve(predictions, [BOX] * 4)
    assert fppi.tolist() == [0, 0, 0.25, 0.25] and miss.tolist() == [0.75, 0.5, 0.5, 0.25]
    # Six of the nine points lie below .25; the curve ends there, so its last miss rate holds for the other three.
    assert measure(predictions, [BOX] * 4)["LAMR"] == pytest.approx(0.5 ** (6 / 9) * 0.25 ** (3 / 9))
    # With the false alarm first, the six points lie before the curve begins.
    predictions[0] = torch.cat((hit(0.9), alarm(0.95)))
    predictions[2] = hit(0.6)
    assert measure(predictions, [BOX] * 4)["LAMR"] == pytest.approx(0.25 ** (3 / 9))
    # One false alarm on a hundred images is just allowed at .01, also where the others show nobody.
    result = measure([*predictions, *[NONE] * 96], [BOX] * 4 + [EMPTY] * 96)
    assert result["LAMR"] == pytest.approx(0.25) and result["boxes"] == 4
    assert measure([hit(0.5)], [BOX])["LAMR"] == pytest.approx(1e-10)


def test_regions_to_ignore_by_hand():
    truths = [torch.tensor([[0.0, 0, 10, 20]]), EMPTY]
    regions = [torch.tensor([[0.0, 0, 50, 50]]), torch.tensor([[100.0, 100, 140, 200]])]
    predictions = [
        # nobody's box, though in the region; right; the same person once more, in the region, too
        torch.tensor([[20, 20, 30, 40, 0.9, 0], [0, 0, 10, 20, 0.8, 0], [1, 0, 10, 20, 0.7, 0]]),
        # two in one region; six tenths in it; outside
        torch.tensor([[100, 100, 120, 140, 0.9, 0], [100, 100, 110, 120, 0.85, 0], [136, 100, 146, 120, 0.95, 0],
                      [134, 100, 144, 120, 0.94, 0]]),
    ]
    loose = measure(predictions, truths, ignore=regions)
    assert (loose["boxes"], loose["images"]) == (1, 2)
    # One false alarm before the hit at an overlap of .5, a second one (six tenths) from .65 on
    assert loose["mAP@.5"] == pytest.approx(1 / 2) and loose["mAP@.75"] == pytest.approx(1 / 3)
    assert loose["mAP@.5:.95"] == pytest.approx((3 / 2 + 7 / 3) / 10)
    fppi, miss = miss_rate_curve(predictions, truths, ignore=regions)
    assert fppi.tolist() == [0.5, 0.5] and miss.tolist() == [1, 0]
    assert average_precision(predictions, truths, ignore=regions)["mAP@.75"] == loose["mAP@.75"]
    # an image that is a region from edge to edge: nothing is wrong, and who is there is still to be found
    whole = [torch.tensor([[0.0, 0, 200, 200]])] * 2
    assert measure(predictions, truths, ignore=whole)["mAP@.5:.95"] == pytest.approx(1)
    assert measure([NONE, predictions[1]], truths, ignore=whole)["mAP@.5"] == 0
    assert measure(predictions, truths)["mAP@.5"] == pytest.approx(1 / 6)
    assert measure(predictions, truths, 0, {}, [EMPTY] * 2) == measure(predictions, truths, 0, {})
    assert np.isnan(measure(predictions[1:], [EMPTY], ignore=regions[1:])["mAP@.5"])


def test_recall_at_precision_by_hand():
    """Twenty people, one an image; detections by falling score, of which some find nobody."""
    false = torch.tensor([60.0, 0, 80, 50])

    def recall(hits):
        scores = torch.linspace(1, 0.1, len(hits))
        rows = [torch.tensor([[*(BOX[0] if hit else false), score, 0]]) for hit, score in zip(hits, scores)]
        return measure([*rows, *[NONE] * 30][:30], [BOX] * 20 + [EMPTY] * 10, heights={})["R@P.9"]

    assert recall([1] * 9) == pytest.approx(9 / 20)
    assert recall([1] * 9 + [0]) == pytest.approx(9 / 20)  # 9 of 10 is just enough, and 9 people are as many as before
    assert recall([1] * 8 + [0, 1]) == pytest.approx(9 / 20)  # 8 of 9 is too little, 9 of 10 enough again
    assert recall([1] * 8 + [0, 0] + [1] * 9) == pytest.approx(8 / 20)  # 17 of 19 is too little
    assert recall([1] * 8 + [0, 0] + [1] * 10) == pytest.approx(18 / 20)
    assert recall([0] + [1] * 8) == 0 and recall([0]) == 0
    assert recall([0] + [1] * 9) == pytest.approx(9 / 20)


def test_recall_at_precision_agrees_with_its_plain_definition():
    values = []
    for seed in range(8):
        predictions, truths = scenes(seed, counts=(4, 0, 7, 1, 9, 0, 3, 5) * 4, false=1)
        values.append(measure(predictions, truths, heights={})["R@P.9"])
        assert values[-1] == pytest.approx(plain_recall(*decisions(predictions, truths)), abs=1e-12)
    assert 0 < min(values) < max(values) < 1 and len(set(values)) > 4


def test_heights_by_hand():
    # far 29, medium 30 and 50, near 100 pixels tall
    truths = [torch.tensor([[0.0, 0, 10, 29], [50, 0, 60, 30], [100, 0, 120, 50], [200, 0, 240, 100]])]
    predictions = [torch.tensor([
        [0, 0, 10, 31, 0.9, 0],  # finds the far one, though it is of medium height itself
        [300, 0, 310, 25, 0.8, 0],  # nobody, of far height
        [50, 0, 60, 30, 0.7, 0],
        [300, 0, 340, 90, 0.6, 0],  # nobody, of near height
        [200, 0, 240, 100, 0.5, 0],
    ])]
    result = measure(predictions, truths)
    assert [result[f"boxes {name}"] for name in HEIGHTS] == [1, 2, 1]
    # far: found before its false alarm; medium: one of two, nothing false; near: found after its false alarm
    assert [result[f"AP@.5 {name}"] for name in HEIGHTS] == pytest.approx([1, 51 / 101, 0.5])
    # 29 of 31 rows are an overlap of .935: at .95 the first detection finds nobody, a false alarm of medium height.
    medium = (9 * 51 / 101 + 51 / 101 / 2) / 10
    assert [result[f"AP@.5:.95 {name}"] for name in HEIGHTS] == pytest.approx([0.9, medium, 0.5])
    other = measure(predictions, truths, heights={"any": (0, math.inf)})
    assert other["AP@.5 any"] == other["mAP@.5"] and "AP@.5 far" not in other


@pytest.mark.parametrize("tied", [False, True])
def test_agrees_with_plain_definitions_and_with_pycocotools(tied, capsys):
    predictions, truths = scenes(3, counts=(4, 0, 7, 1, 9, 0, 3, 5) * 4)
    if tied:
        for found in predictions:
            found[:, 4] = (found[:, 4] * 8).round() / 8
    result = measure(predictions, truths)
    assert 0.3 < result["mAP@.5"] < 0.9 and 0.3 < result["LAMR"] < 0.9
    ranges = {"": (0, math.inf), **HEIGHTS}
    coco = coco_precision(predictions, truths, HEIGHTS)
    for (name, limits), by_coco in zip(ranges.items(), coco):
        plain = [plain_precision(*decisions(predictions, truths, overlap, *limits)) for overlap in OVERLAPS]
        names = (f"AP@.5 {name}", f"AP@.5:.95 {name}") if name else ("mAP@.5", "mAP@.5:.95")
        for values in (plain, by_coco):
            assert [result[n] for n in names] == pytest.approx([values[0], np.mean(values)], abs=1e-12)
    assert result["mAP@.75"] == pytest.approx(coco[0, 5], abs=1e-12)
    rows, total = decisions(predictions, truths)
    assert result["LAMR"] == pytest.approx(plain_miss_rate(rows, total, len(truths)), abs=1e-12)
    assert result["R@P.9"] == pytest.approx(plain_recall(rows, total), abs=1e-12)
    assert capsys.readouterr().out == ""


def test_regions_to_ignore_agree_with_the_plain_definition():
    predictions, truths = scenes(3, counts=(4, 0, 7, 1, 9, 0, 3, 5) * 4)
    _, regions = scenes(5, counts=(1, 0, 2, 3) * 8)
    result, without = (measure(predictions, truths, 0, {}, ignore) for ignore in (regions, None))
    plain = [plain_precision(*decisions(predictions, truths, overlap, ignore=regions)) for overlap in OVERLAPS]
    assert [result[n] for n in NAMES] == pytest.approx([plain[0], plain[5], np.mean(plain)], abs=1e-12)
    rows, total = decisions(predictions, truths, ignore=regions)
    assert result["LAMR"] == pytest.approx(plain_miss_rate(rows, total, len(truths)), abs=1e-12)
    assert result["boxes"] == without["boxes"] and result["mAP@.5"] > without["mAP@.5"] + 0.001


def test_the_hundred_best_boxes_of_an_image_count():
    predictions, truths = scenes(4, counts=(5, 2), false=120)
    result = measure(predictions, truths, heights={})
    assert result["mAP@.5"] == pytest.approx(coco_precision(predictions, truths, {})[0, 0], abs=1e-12)
    assert len(miss_rate_curve(predictions, truths)[0]) == 100 + 2


def test_only_one_class_counts():
    truths = [torch.tensor([[0.0, 0, 10, 10]])]
    predictions = [torch.tensor([[30, 30, 40, 40, 0.9, 1], [0, 0, 10, 10, 0.5, 0]])]
    assert average_precision(predictions, truths)["mAP@.5:.95"] == pytest.approx(1)
    assert average_precision(predictions, truths, class_index=1)["mAP@.5"] == 0


def test_nothing_found_and_nothing_there():
    box, found = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[0, 0, 10, 10, 0.9, 0]])
    result = measure([NONE], [box])
    assert [result[name] for name in (*NAMES, "R@P.9", "LAMR", "AP@.5 far")] == [0, 0, 0, 0, 1, 0]
    assert math.isnan(result["AP@.5 near"]) and result["boxes near"] == 0
    for predictions, truths in (([NONE], [EMPTY]), ([found], [EMPTY]), ([], []), ([[]], [[]])):
        result = measure(predictions, truths)
        assert all(math.isnan(result[name]) for name in (*NAMES, "R@P.9", "LAMR", "AP@.5 far"))
        assert (result["images"], result["boxes"], result["boxes far"]) == (len(truths), 0, 0)
        assert np.isnan(miss_rate_curve(predictions, truths)[1]).all()
    # A detection on an image without people is a false alarm: precision 1/2 at the only recall, 1/2 per image.
    strong = torch.tensor([[0, 0, 10, 10, 0.95, 0]])
    result = measure([found, strong], [box, EMPTY])
    assert result["mAP@.5"] == pytest.approx(0.5)
    assert result["LAMR"] == pytest.approx(1e-10 ** (2 / 9))  # nothing found below .5, all at .56 and 1


@pytest.mark.parametrize("found, boxes, message", [
    ([NONE], [BOX, BOX], "found 1 for 2 images"),
    ([NONE], [BOX[:, [2, 1, 0, 3]]], "truths of image 0: expected corners.*found 20, 0, 0, 50"),
    ([NONE, NONE], [BOX, torch.tensor([[5.0, 5, 5, 9]])], "truths of image 1: expected corners.*found 5, 5, 5, 9"),
    ([torch.tensor([[0, 50, 20, 0, 0.5, 0]])], [BOX], "predictions of image 0: expected corners"),
    ([torch.tensor([[0, 0, 20, 50, math.nan, 0]])], [BOX], "predictions of image 0: .*found NaN"),
    ([NONE], [torch.tensor([[0, 0, math.inf, 50]])], "truths of image 0: .*infinity"),
    ([BOX], [BOX], r"predictions of image 0: expected \[n, 6\].*found the shape \[1, 4\]"),
    ([NONE], [BOX[0]], r"truths of image 0: expected \[n, 4\].*found the shape \[4\]"),
])  # fmt: skip
def test_bad_boxes(found, boxes, message):
    for function in (average_precision, measure, miss_rate_curve):
        with pytest.raises(FusionError, match=message):
            function(found, boxes)


def test_bad_regions_to_ignore():
    with pytest.raises(FusionError, match="one list of regions to ignore per image, found 2 for 1 images"):
        measure([NONE], [BOX], ignore=[EMPTY, EMPTY])
    with pytest.raises(FusionError, match="regions to ignore of image 0: expected corners"):
        measure([NONE], [BOX], ignore=[torch.tensor([[5.0, 5, 1, 9]])])


def test_bad_heights():
    for heights in ({"far": (30, 30)}, {"far": (-1, 30)}, {"far": (0, math.nan)}, {"": (0, 30)}):
        with pytest.raises(FusionError, match=r"heights.*0 <= low < high"):
            measure([NONE], [BOX], heights=heights)
