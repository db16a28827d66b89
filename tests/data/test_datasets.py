"""Which pairs serve what: nothing in two places, and what is missing is told where it is needed."""

from pathlib import Path

import numpy as np
import pytest

from fusionlib.config import Profile
from fusionlib.data import Pair, choose
from fusionlib.data.splits import parts
from fusionlib.utils.errors import FusionError


def pair(dataset, split, i, labelled):
    labels = (np.zeros((1, 4), np.float32), ("person",)) if labelled else (None, None)
    return Pair(dataset, split, str(i), Path(f"{i}.png"), Path(f"{i}.jpg"), *labels)


def settings(detection_dataset, validation, fusion_datasets=()):
    return Profile(detection_dataset=detection_dataset, validation=validation, fusion_datasets=fusion_datasets)


def split(labelled=10, unlabelled=5, test=4):
    return {
        "train": [pair("A", "train", i, i < labelled) for i in range(labelled + unlabelled)],
        "test": [pair("A", "test", i, i < test // 2) for i in range(test)] + [pair("B", "test", 0, True)],
    }


def test_every_pair_has_one_place():
    p = parts(split(), settings("A", 2))
    assert p.counts == {"fusion_train": 13, "fusion_validation": 2, "dfh_train": 8, "dfh_validation": 2, "test": 5,
                        "labelled_test": 2}  # fmt: skip
    assert not set(p.dfh_train) & set(p.dfh_validation) and all(x.boxes is not None for x in p.dfh_train)
    assert p.shown == p.labelled_test
    p.require_labels()


def test_validation_takes_a_fifth_at_most_and_one_at_least():
    assert len(parts(split(), settings("A", 100)).dfh_validation) == 2
    assert len(parts(split(labelled=2), settings("A", 0)).dfh_validation) == 1


@pytest.mark.parametrize("given, dataset", [(split(labelled=0), "A"), (split(labelled=1), "A"), (split(), "C")])
def test_missing_labels_are_told_where_they_are_needed(given, dataset):
    p = parts(given, settings(dataset, 2))
    with pytest.raises(FusionError, match=rf"pairs of {dataset}, found .*labelled data sets: A, B"):
        p.require_labels()


def test_validation_is_spread_over_data_sets_and_stage_1_keeps_to_its_own():
    given = {"train": [pair(name, "train", i, True) for name in "AB" for i in range(10)], "test": []}
    p = parts(given, settings("A", 4))
    assert [x.dataset for x in p.fusion_validation] == ["A", "A", "B", "B"]
    p = parts(given, settings("A", 4, fusion_datasets=("B",)))
    assert {x.dataset for x in p.fusion_train + p.fusion_validation} == {"B"} and len(p.fusion_train) == 8


def test_nothing_at_all():
    p = parts({"train": [], "test": []}, settings("A", 3))
    assert set(p.counts.values()) == {0}
    with pytest.raises(FusionError, match="labelled data sets: none"):
        p.require_labels()


def test_a_folder_without_parts_is_divided_but_an_official_one_is_not():
    own = choose([pair("my_walk", "", i, True) for i in range(10)])
    assert len(own["train"]) == 8 and len(own["test"]) == 2
    assert not {p.name for p in own["train"]} & {p.name for p in own["test"]}
    tno = choose([pair("TNO", "", i, False) for i in range(10)])
    assert len(tno["train"]) == 0 and len(tno["test"]) == 10
