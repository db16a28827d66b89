"""Which pairs serve what: nothing in two places, and what is missing is told where it is needed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fusionlib.config import Profile
from fusionlib.data import Pair, choose, write_image
from fusionlib.data.datasets import DetectionDataset, collate, ignored, people
from fusionlib.data.splits import parts
from fusionlib.utils.errors import FusionError


def pair(dataset, split, i, labelled):
    labels = (np.zeros((1, 4), np.float32), ("person",)) if labelled else (None, None)
    return Pair(dataset, split, str(i), Path(f"{i}.png"), Path(f"{i}.jpg"), *labels)


def settings(detection_datasets, validation, fusion_datasets=()):
    return Profile(detection_datasets=detection_datasets, validation=validation, fusion_datasets=fusion_datasets)


def split(labelled=10, unlabelled=5, test=4):
    return {
        "train": [pair("A", "train", i, i < labelled) for i in range(labelled + unlabelled)],
        "test": [pair("A", "test", i, i < test // 2) for i in range(test)] + [pair("B", "test", 0, True)],
    }


def test_every_pair_has_one_place():
    p = parts(split(), settings(("A",), 2))
    assert p.counts == {"fusion_train": 13, "fusion_validation": 2, "dfh_train": 8, "dfh_validation": 2, "test": 5,
                        "labelled_test": 2}  # fmt: skip
    assert not set(p.dfh_train) & set(p.dfh_validation) and all(x.boxes is not None for x in p.dfh_train)
    assert p.shown == p.labelled_test
    p.require_labels()


def test_validation_takes_a_fifth_at_most_and_one_at_least():
    assert len(parts(split(), settings(("A",), 100)).dfh_validation) == 2
    assert len(parts(split(labelled=2), settings(("A",), 0)).dfh_validation) == 1


@pytest.mark.parametrize("given, dataset", [(split(labelled=0), "A"), (split(labelled=1), "A"), (split(), "C")])
def test_missing_labels_are_told_where_they_are_needed(given, dataset):
    p = parts(given, settings((dataset,), 2))
    with pytest.raises(FusionError, match=rf"pairs of {dataset}, found .*labelled data sets: A, B"):
        p.require_labels()


def test_validation_is_spread_over_data_sets_and_stage_1_keeps_to_its_own():
    given = {"train": [pair(name, "train", i, True) for name in "AB" for i in range(10)], "test": []}
    p = parts(given, settings(("A",), 4))
    assert [x.dataset for x in p.fusion_validation] == ["A", "A", "B", "B"]
    p = parts(given, settings(("A",), 4, fusion_datasets=("B",)))
    assert {x.dataset for x in p.fusion_train + p.fusion_validation} == {"B"} and len(p.fusion_train) == 8


def test_nothing_at_all():
    p = parts({"train": [], "test": []}, settings(("A",), 3))
    assert set(p.counts.values()) == {0}
    with pytest.raises(FusionError, match="labelled data sets: none"):
        p.require_labels()


def test_a_folder_without_parts_is_divided_but_an_official_one_is_not():
    own = choose([pair("my_walk", "", i, True) for i in range(10)])
    assert len(own["train"]) == 8 and len(own["test"]) == 2
    assert not {p.name for p in own["train"]} & {p.name for p in own["test"]}
    tno = choose([pair("TNO", "", i, False) for i in range(10)])
    assert len(tno["train"]) == 0 and len(tno["test"]) == 10


def test_pairs_of_unknown_scenes_are_held_out_at_equal_steps():
    for n in range(5, 120, 7):
        train = [pair("A", "train", i, True) for i in range(n)]
        for count in (1, 3, 8, 100):
            step = n // max(1, min(count, n // 5))
            assert [x.name for x in parts({"train": train, "test": []}, settings((), count)).dfh_validation] == [
                str(i) for i in range(n)][step - 1 :: step][:count]


def test_validation_shares_no_scene_with_training():
    sizes = {"a": 1, "b": 9, "c": 2, "d": 1, "e": 2, "f": 20, "g": 1}  # 36 pairs: a fifth are 7
    train = [replace(pair(scene, "train", i, True), scene=scene) for scene, size in sizes.items() for i in range(size)]
    p = parts({"train": train, "test": []}, settings((), 100))
    assert {x.scene for x in p.dfh_validation} == set("acdeg") and len(p.dfh_validation) == 7
    assert not {x.scene for x in p.dfh_train} & set("acdeg") and len(p.dfh_train) == 29
    # no scene is small enough: the smallest
    p = parts({"train": [x for x in train if x.scene in "bf"], "test": []}, settings((), 2))
    assert {x.scene for x in p.dfh_validation} == {"b"} and {x.scene for x in p.dfh_train} == {"f"}
    # one scene alone cannot be kept apart: as where scenes are unknown
    p = parts({"train": [x for x in train if x.scene == "f"], "test": []}, settings((), 2))
    assert [x.name for x in p.dfh_validation] == ["9", "19"] and len(p.dfh_train) == 18


def test_detection_learns_from_several_data_sets():
    given = {"train": [pair(name, "train", i, name != "U") for name in "ABCU" for i in range(5)],
             "test": [pair(name, "test", 0, name != "U") for name in "ACU"]}
    for asked, found in (((), {"A", "B", "C"}), (("A", "C"), {"A", "C"}), (("B",), {"B"})):
        p = parts(given, settings(asked, 1))
        assert {x.dataset for x in p.dfh_train + p.dfh_validation} == found == set(p.detection_datasets)
        assert {x.dataset for x in p.labelled_test} == found - {"B"}
        assert {x.dataset for x in p.fusion_train} == set("ABCU")
    with pytest.raises(FusionError, match=r"test pairs of B, found 5 and 0: .*set detection_datasets .*: A, B, C"):
        p.require_labels()


def test_regions_to_ignore_are_no_people_and_move_with_the_image(tmp_path):
    boxes = np.float32([[1, 2, 11, 22], [0, 0, 40, 30], [20, 2, 30, 22]])
    for name in ("ir", "vi"):
        write_image(tmp_path / f"{name}.png", np.zeros((30, 40), np.uint8))
    one = Pair("A", "train", "1", tmp_path / "ir.png", tmp_path / "vi.png", boxes, ("person", "ignore", "car"))
    assert people(one).tolist() == [[1, 2, 11, 22]] and ignored(one).tolist() == [[0, 0, 40, 30]]
    assert ignored(one, (60, 96)).tolist() == [[0, 0, 80, 60]]  # by the factor of the letterbox
    samples = DetectionDataset([one], (60, 96), [torch.zeros(1, 4)])
    flipped = plain = 0
    for samples.epoch in range(20):
        batch = collate([samples[0]])
        assert len(batch["boxes"][0]) == len(batch["ignore"][0]) == 1
        flipped += batch["boxes"][0].tolist() == [[74, 4, 94, 44]] and batch["ignore"][0].tolist() == [[16, 0, 96, 60]]
        plain += batch["boxes"][0].tolist() == [[2, 4, 22, 44]] and batch["ignore"][0].tolist() == [[0, 0, 80, 60]]
    assert flipped + plain == 20 and flipped and plain


def test_crops_of_stage_2_show_people_where_their_boxes_are(tmp_path):
    """At .5 to 1.5 times the pair's own size, turned a little; the same in the same epoch, others in the next one."""
    ir = np.zeros((200, 300), np.uint8)
    ir[80:140, 200:230] = 255  # a person
    ir[20:60, 20:60] = 128  # a region to ignore
    write_image(tmp_path / "ir.png", ir)
    write_image(tmp_path / "vi.png", ir)
    boxes = np.float32([[20, 20, 60, 60], [200, 80, 230, 140]])
    one = Pair("A", "train", "1", tmp_path / "ir.png", tmp_path / "vi.png", boxes, ("ignore", "person"))
    samples = DetectionDataset([one], (96, 128), [torch.zeros(1, 4)], crops=1.0)
    heights = []
    for epoch in range(40):
        samples.epoch = epoch
        sample = samples[0]
        assert sample["ir"].shape == (1, 96, 128) and sample["visible"].shape == (3, 96, 128)
        for kind, level in (("boxes", 1.0), ("ignore", 128 / 255)):
            for x, y, right, bottom in sample[kind].tolist():
                middle = sample["ir"][0, int((y + bottom) / 2), int((x + right) / 2)]
                assert middle.item() == pytest.approx(level, abs=0.02)
        bright = (sample["ir"][0] > 0.9).nonzero()
        if len(sample["boxes"]):
            x, y, right, bottom = sample["boxes"][0].tolist()
            assert bright[:, 0].min() >= y - 1 and bright[:, 0].max() <= bottom + 1
            assert bright[:, 1].min() >= x - 1 and bright[:, 1].max() <= right + 1
            if 0 < y and bottom < 96:
                heights.append(bottom - y)
    assert len(heights) > 10 and min(heights) < 45 and max(heights) > 66  # 60 pixels in the pair
    assert torch.equal(samples[0]["ir"], sample["ir"])
    samples.epoch += 1
    assert not torch.equal(samples[0]["ir"], sample["ir"])


def test_pairs_with_sides_are_never_cropped_nor_are_validation_pairs(tmp_path):
    for name in ("ir", "vi"):
        write_image(tmp_path / f"{name}.png", np.arange(1200, dtype=np.uint8).reshape(30, 40))
    one = Pair("A", "train", "1", tmp_path / "ir.png", tmp_path / "vi.png", np.zeros((0, 4), np.float32), ())
    plain = DetectionDataset([one], (60, 96), [torch.zeros(1, 4)], train=False)[0]
    for given in ({"sided": ["A/train/1"]}, {"train": False}):
        samples = DetectionDataset([one], (60, 96), [torch.zeros(1, 4)], crops=1.0, **given)
        assert one.label == "A/train/1"
        torch.testing.assert_close(samples[0]["ir"], plain["ir"], atol=1 / 254, rtol=0)
