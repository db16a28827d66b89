"""Damaged pairs with words: what is damaged, what is said about it, and what the target then is."""

from random import Random

import numpy as np
import pytest
import torch

from fusionlib.data import Pair
from fusionlib.data.color import split_luma
from fusionlib.data.degradation import KINDS
from fusionlib.data.image_io import write_image
from fusionlib.data.synthetic import scene as scenes
from fusionlib.feedback.controls import UNRELATED, as_numbers
from fusionlib.feedback.damage_words import PHRASES, describe
from fusionlib.feedback.text_encoder import DIM, encode
from fusionlib.models import FusionNetwork, TextGuidedFusion
from fusionlib.training.instructions import RESTORE, InstructionDataset
from fusionlib.training.objectives import InstructionObjective
from fusionlib.training.restoration import DamagedPair, RestorationSamples, damage_pairs
from fusionlib.utils.errors import FusionError


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("damaged"), []
    for index in range(3):
        scene = scenes.render(index, seed=4, size=(128, 160))
        files = write_image(folder / f"ir{index}.png", scene.ir), write_image(folder / f"vi{index}.png", scene.visible)
        made.append(Pair("Toy", "train", str(index), folder / f"ir{index}.png", folder / f"vi{index}.png"))
        assert files is not None
    return made


@pytest.fixture(scope="module")
def damaged(pairs):
    return damage_pairs(pairs, 40, seed=1, crop=64)


def test_damaged_pairs_come_from_the_seed_and_are_what_they_are_said_to_be(pairs, damaged):
    again = damage_pairs(pairs, 3, seed=1, crop=64)
    for one, other in zip(damaged, again):
        assert torch.equal(one.damaged, other.damaged) and (one.damages, one.found) == (other.damages, other.found)
    assert not torch.equal(damaged[0].damaged, damage_pairs(pairs, 1, seed=2, crop=64)[0].damaged)
    for pair in damaged:
        assert pair.clean.dtype == pair.damaged.dtype == torch.uint8 and pair.clean.shape == pair.damaged.shape
        assert torch.equal(pair.clean, pair.damaged) == (not pair.damages)
        touched = {modality for _, modality, _ in pair.damages}
        assert torch.equal(pair.clean[:1], pair.damaged[:1]) or "ir" in touched
        assert torch.equal(pair.clean[1:], pair.damaged[1:]) or "visible" in touched
    assert 0 < sum(not pair.damages for pair in damaged) < 12  # a tenth is expected


def test_no_side_is_smaller_than_the_crop(pairs):
    wide = Pair("Toy", "train", "wide", pairs[0].ir, pairs[0].visible)
    assert all(min(pair.clean.shape[1:]) >= 120 for pair in damage_pairs([wide], 8, seed=0, crop=120))


def test_words_fit_or_the_target_is_the_damaged_image(damaged):
    samples, random, kinds = RestorationSamples(damaged, 64), Random(0), set()
    for number in range(600):
        pair = damaged[number % len(damaged)]
        text, fits = samples.words(pair, random)
        if text == "" or text in UNRELATED:
            assert not fits or (text == "" and not pair.damages)
            assert text not in UNRELATED[-4:]
            kinds.add("unrelated")
        elif text == describe(pair.found):
            assert fits == bool(pair.found)
            kinds.add("analyst")
        elif fits:
            assert all(any(look in text for look in PHRASES[name][1]) for name, *_ in pair.damages)
            kinds.add("own")
        else:
            kinds.add("wrong")
    assert kinds == {"unrelated", "analyst", "own", "wrong"}


def test_a_sample_is_a_crop_of_both_pairs_at_one_place(damaged):
    pair = DamagedPair("toy", torch.arange(4 * 80 * 90).view(4, 80, 90).remainder(251).byte(),
                       torch.arange(4 * 80 * 90).view(4, 80, 90).remainder(251).byte() + 1, [("rain", "visible", 0.5)],
                       [])  # fmt: skip
    samples, fitting = RestorationSamples([pair], 64), 0
    for seed in range(30):
        sample = samples.sample(seed)
        assert sample["ir"].shape == sample["clean_ir"].shape == (1, 64, 64)
        assert sample["visible"].shape == sample["clean_visible"].shape == (3, 64, 64)
        away = {round(value, 2) for value in (255 * (sample["ir"] - sample["clean_ir"])).unique().tolist()}
        assert away in ({0.0}, {1.0})
        fitting += away == {1.0}
        assert torch.equal(samples.sample(seed)["visible"], sample["visible"])
    assert 10 < fitting < 30


def test_numbers_stand_for_the_words(damaged):
    rows = as_numbers([("rain", "visible", 0.25), ("stripe noise", "ir", 0.75)])
    assert rows.shape == (len(KINDS), DIM) and torch.equal(rows[:, : len(KINDS)], torch.eye(len(KINDS)))
    expected = [0.25 * (kind == ("rain", "visible")) + 0.75 * (kind == ("stripe noise", "ir")) for kind in KINDS]
    assert rows[:, len(KINDS) : 2 * len(KINDS)].diag().tolist() == expected and rows.sum() == len(KINDS) + 1
    words, numbers = RestorationSamples(damaged, 64), RestorationSamples(damaged, 64, "numbers")
    fitting = 0
    for seed in range(60):  # the same pairs, half of the time their own numbers
        sample, random = numbers.sample(seed), Random(seed)
        pair = random.choice(damaged)
        assert sample["name"] == words.sample(seed)["name"] == pair.name
        said = [rows for rows in (pair.damages, pair.found, []) if torch.equal(sample["text"], as_numbers(rows))]
        fitting += bool(said and said[0])
    assert 30 < fitting < 60
    with pytest.raises(FusionError, match="restoration_reads must be one of words, numbers, nothing, but is 'digits'"):
        RestorationSamples(damaged, 64, "digits")


def test_people_are_where_the_crop_shows_them_upright(pairs):
    ir = torch.zeros(128, 160, dtype=torch.uint8)
    ir[40:80, 60:80] = 255  # one bright person
    folder = pairs[0].ir.parent
    write_image(folder / "ir-person.png", ir.numpy())
    person = Pair("Toy", "train", "p", folder / "ir-person.png", pairs[0].visible, np.float32([[60, 40, 80, 80]]),
                  ("person",))  # fmt: skip
    made = damage_pairs([person], 12, seed=3, crop=64)
    samples, shown = RestorationSamples(made, 64), 0
    for seed in range(60):
        sample = samples.sample(seed)
        undamaged = torch.equal(sample["clean_ir"], sample["ir"]) and torch.equal(sample["clean_visible"],
                                                                                  sample["visible"])  # fmt: skip
        assert sample["boxes"] is not None or undamaged  # words that do not fit: the target is the damaged image
        for x1, y1, x2, y2 in (sample["boxes"].tolist() if sample["boxes"] is not None else ()):
            inside = sample["clean_ir"][0, round(y1) : round(y2), round(x1) : round(x2)]
            assert inside.mean() > 0.99 and abs(sample["clean_ir"].sum() - inside.sum()) < 1
            assert min(x1, y1, 64 - x2, 64 - y2) < 0.1 or y2 - y1 == pytest.approx(2 * (x2 - x1), abs=0.1)  # or cut
            shown += 1
    assert shown > 5
    assert all(RestorationSamples(made, 64, "nothing").sample(seed)["boxes"] is not None for seed in range(5))


def test_the_target_is_the_stage_1_image_of_the_undamaged_pair(pairs, damaged):
    torch.manual_seed(0)
    model = TextGuidedFusion(FusionNetwork(), DIM, "wide").eval()
    told = {"instructions": {"darker": encode(["Darker."])}, "answers": encode(["Fine."]), "answer_fraction": 0.5}
    dataset = InstructionDataset(pairs, **told, resize=128, crop=64, crops=20,
                                 restoration=RestorationSamples(damaged, 64), restoration_fraction=0.5)  # fmt: skip
    samples = [dataset[index] for index in range(12)]
    batch = dataset.collate(samples)
    restored = np.array(batch["instruction"]) == RESTORE
    assert 2 < restored.sum() < 10
    targets = InstructionObjective(model).targets(batch)
    for sample, target, is_restored in zip(samples, targets, restored):
        images = [sample[f"clean_{name}"] for name in ("ir", "visible")] if is_restored else None
        if images:
            with torch.no_grad():
                expected = model.network(images[0][None], split_luma(images[1])[0][None])[0].clamp(0, 1)
            torch.testing.assert_close(target, expected)
    total, _ = InstructionObjective(model)(model, batch)
    total.backward()
    assert all(parameter.grad is None for parameter in model.network.parameters())


def test_a_mixture_without_damaged_pairs_draws_as_before(pairs):
    told = {"instructions": {"darker": encode(["Darker."])}, "answers": encode(["Fine."]), "answer_fraction": 0.5}
    plain = InstructionDataset(pairs, **told, resize=128, crop=64)
    with_fraction = InstructionDataset(pairs, **told, resize=128, crop=64, restoration_fraction=0.7)
    for index in range(3):
        assert torch.equal(plain[index]["ir"], with_fraction[index]["ir"])
