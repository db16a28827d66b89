"""People under damage, with a detector that sees people in undamaged images alone and networks that are known."""

import numpy as np
import pytest
import torch

from fusionlib.data import Pair, load
from fusionlib.data.datasets import people
from fusionlib.data.image_io import write_image
from fusionlib.data.synthetic import scene as scenes
from fusionlib.detection.precision_recall import measure
from fusionlib.experiments import people_under_damage as experiment
from fusionlib.experiments.restoration import DAMAGED, NO_TEXT, OTHER, OWN
from fusionlib.feedback.damage_analysis import detect
from fusionlib.feedback.damage_words import describe
from fusionlib.utils.errors import FusionError

SIZE, BOX = (96, 128), [40.0, 20.0, 60.0, 80.0]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("faded"), []
    for index in range(6):
        scene = scenes.render(index, seed=6, size=SIZE)
        files = folder / f"ir{index}.png", folder / f"vi{index}.png"
        for file, image in zip(files, (scene.ir, scene.visible)):
            write_image(file, image)
        made.append(Pair("Toy", "test", str(index), *files, np.float32([BOX]), ("person",)))
    return made


def plain(ir, visible, text):
    return (ir + visible) / 2


@pytest.fixture(scope="module")
def listens(pairs):
    """Gives the undamaged image where the words are those about the damages that are found."""
    known = {}
    for number, pair in enumerate(pairs):
        damaged = experiment.damage(pair, 0, number)
        known[damaged[1].sum().item()] = describe(detect(*damaged)), plain(*load(pair), None)

    def refine(ir, visible, text):
        words, clean = known.get(visible.sum().item(), (None, None))
        return clean if text and text == words else plain(ir, visible, None)

    return refine


class Sees(torch.nn.Module):
    """Finds the person where the image is one of the undamaged ones."""

    names = ["person"]

    def __init__(self, pairs):
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones(1))
        self.images = [plain(*load(pair), None) for pair in pairs]

    def predict(self, images, *_):
        seen = any(torch.allclose(images[0], image, atol=1e-3) for image in self.images)
        return [torch.tensor([[*BOX, 0.9, 0]] if seen else []).reshape(-1, 6)]


def test_both_images_are_damaged_from_the_seed(pairs):
    for number, pair in enumerate(pairs):
        damaged, again = experiment.damage(pair, 0, number), experiment.damage(pair, 0, number)
        assert all(map(torch.equal, damaged, again)) and not any(map(torch.equal, damaged, load(pair)))
    others = [experiment.damage(pair, 1, number) for number, pair in enumerate(pairs)]
    assert any(not torch.equal(experiment.damage(p, 0, n)[0], o[0]) for n, (p, o) in enumerate(zip(pairs, others)))


def test_who_listens_finds_the_people_again(pairs, listens):
    found = experiment.detections(listens, pairs, SIZE, {"sees": Sees(pairs)},
                                  controls={"blind": lambda *images_and_damages: plain(*images_and_damages)})["sees"]
    truths = [people(pair, SIZE) for pair in pairs]
    recall = {way: measure(boxes, truths, heights={})["mAP@.5"] for way, boxes in found.items()}
    assert list(found) == [experiment.CLEAN, DAMAGED, OWN, OTHER, NO_TEXT, "blind"]
    assert recall[experiment.CLEAN] == pytest.approx(1) and recall[OWN] > 0.6  # where the analyst finds something
    assert recall[DAMAGED] == recall[NO_TEXT] == recall["blind"] == 0 and recall[OTHER] < recall[OWN]
    compared = experiment.compare(found, truths, [pair.name for pair in pairs])
    assert set(compared.index.get_level_values(1)) == set(experiment.MEASURES)
    assert (compared.loc["blind"]["verdict"] == "better").all() and (compared.loc["blind"]["low"] > 0).all()
    seeds = experiment.pool([found, found])
    twice = experiment.compare(seeds, truths * 2, [pair.name for pair in pairs] * 2)
    difference = ("blind", "mAP@.5"), "difference"
    assert twice.loc[difference] == pytest.approx(compared.loc[difference])
    # Whole scenes are drawn, so that a second seed on the same scenes does not make the interval narrower.
    widths = [table.loc[("blind", "mAP@.5"), "high"] - table.loc[("blind", "mAP@.5"), "low"]
              for table in (compared, twice)]
    assert widths[1] == pytest.approx(widths[0], rel=0.2)


def test_no_difference_is_called_equivalent(pairs):
    found = experiment.detections(plain, pairs, SIZE, {"sees": Sees(pairs)})["sees"]
    truths = [people(pair, SIZE) for pair in pairs]
    compared = experiment.compare(found, truths, [pair.name for pair in pairs])
    assert (compared.loc[NO_TEXT]["verdict"] == "equivalent").all()
    assert (compared.loc[experiment.CLEAN]["verdict"] == "worse").all()


def test_one_pair_has_no_other(pairs):
    with pytest.raises(FusionError, match="expected two or more labelled pairs, found 1"):
        experiment.detections(plain, pairs[:1], SIZE, {})
