"""Instructions: what they ask for is what they say, and a batch with some of them has the targets that it should."""

import numpy as np
import pytest
import torch

from fusionlib.data import Pair
from fusionlib.data.color import merge_luma, split_luma
from fusionlib.data.datasets import collate
from fusionlib.data.image_io import as_tensor, write_image
from fusionlib.data.synthetic import scene as scenes
from fusionlib.feedback.rules import image_statistics
from fusionlib.feedback.text_encoder import DIM, encode
from fusionlib.models import FusionNetwork, TextGuidedFusion, sobel
from fusionlib.training.instructions import INSTRUCTIONS, InstructionDataset, encoded_instructions
from fusionlib.training.objectives import InstructionObjective, refine
from fusionlib.utils.errors import FusionError

TOLD = {name: [torch.full((2, 8), float(number))] for number, name in enumerate(INSTRUCTIONS, 1)}
ANSWERS = [torch.full((3, 8), -1.0), torch.full((4, 8), -2.0)]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("instructed"), np.random.default_rng(0)
    write_image(folder / "ir.png", random.integers(0, 255, (64, 64), dtype=np.uint8))
    write_image(folder / "vi.png", random.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    boxes = np.float32([[10, 10, 30, 50]]), ("person",)
    return [Pair("Toy", "train", str(i), folder / "ir.png", folder / "vi.png", *boxes) for i in range(4)]


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = TextGuidedFusion(FusionNetwork().eval(), 8).eval()
    for harmonise in model.harmonise.values():
        torch.nn.init.normal_(harmonise.layers[-1].weight, std=0.05)
    return model


def samples(pairs, keep, **options):
    given = {"instructions": TOLD, "answers": ANSWERS, "answer_fraction": keep}
    return InstructionDataset(pairs, **given, resize=64, crop=32, **options)


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_a_target_has_more_or_less_of_what_it_is_about(name):
    """`rules.measure` knows nothing of the targets."""
    told, right = INSTRUCTIONS[name], 0
    for index in range(8):
        scene = scenes.render(index, seed=5, size=(128, 160))
        ir, y = as_tensor(scene.ir), split_luma(as_tensor(scene.visible))[0]
        luma = torch.maximum(ir, y)
        changed = told.change(luma, ir).clamp(0, 1)
        assert changed.shape == luma.shape and changed.isfinite().all()
        before, after = (getattr(image_statistics(image), told.measure) for image in (luma, changed))
        right += told.sign * (after - before) > 0
    assert right >= (5 if told.measure == "warm_contrast" else 8)  # some scenes have no warm region


def test_the_share_of_instructions_and_their_choice_come_from_the_seed(pairs):
    few = samples(pairs * 100, 0.75)
    names = [few[index]["instruction"] for index in range(400)]
    assert names == [few[index]["instruction"] for index in range(400)]
    assert 60 < sum(map(bool, names)) < 140  # 100 expected
    assert set(names) == {"", *INSTRUCTIONS}
    few.epoch = 1
    assert names != [few[index]["instruction"] for index in range(400)]
    for index in range(20):
        sample = few[index]
        ways = TOLD[sample["instruction"]] if sample["instruction"] else ANSWERS
        assert any(torch.equal(sample["text"], way) for way in ways)
    assert all(samples(pairs, 0.0)[index]["instruction"] for index in range(4))
    assert not any(samples(pairs, 1.0)[index]["instruction"] for index in range(4))


def test_targets_are_about_the_image_that_the_words_gave_before(pairs, model):
    told, answered = samples(pairs, 0.0), samples(pairs, 1.0)
    mixed = [told[0], answered[1], told[2]]
    losses = InstructionObjective(model)
    torch.nn.init.normal_(model.harmonise["vi"].layers[-1].weight, std=0.2)  # it goes on learning; the targets stay
    batch = collate(mixed)
    total, parts = losses(model, batch)
    expected = []
    for sample in mixed:
        one = collate([sample])
        with torch.no_grad():
            luma, refined = refine(losses.before, one), refine(model, one)
        name = sample["instruction"]
        target = INSTRUCTIONS[name].change(luma[0], one["ir"][0])[None].clamp(0, 1) if name else luma
        torch.testing.assert_close(losses.targets(one), target)
        edges = (sobel(refined) - sobel(target)).abs().mean()
        expected.append((refined - target).abs().mean() + losses.loss.edge * edges)
    assert total.item() == pytest.approx(sum(expected).item() / 3, rel=1e-4) == parts["instruction"].item()
    assert sum(expected) > 0 and list(parts) == ["instruction"]


def test_the_detector_looks_at_labelled_crops_alone(pairs, model):
    class Looks:
        """In place of the detector's loss: the sum of the images that it was shown, once per person."""

        def detection(self, images, boxes, ignore):
            self.seen, self.ignore = len(images), ignore
            return sum(len(each) * image.sum() for image, each in zip(images, boxes)), {}

    batch = collate([samples(pairs, 0.0)[index] for index in range(3)])
    assert batch["boxes"] == [None] * 3
    plain = InstructionObjective(model)(model, batch)[0]
    objective = InstructionObjective(model, detection=(looks := Looks()), weight=0.01)
    assert objective(model, batch)[0] == plain
    batch["boxes"], batch["ignore"][2] = [None, torch.rand(2, 4), torch.zeros(0, 4)], torch.rand(1, 4)
    total, parts = objective(model, batch)
    shown = merge_luma(refine(model, batch)[1:2], split_luma(batch["visible"][1:2])[1]).sum()
    assert looks.seen == 2 and [len(each) for each in looks.ignore] == [0, 1]
    assert parts["detection"].item() == pytest.approx(2 * shown.item() / 3, rel=1e-5)
    assert (total - plain).item() == pytest.approx(0.01 * 2 * shown.item() / 3, rel=1e-3)


def test_a_model_that_keeps_to_answers_has_no_loss(pairs, model):
    total, _ = InstructionObjective(model)(model, collate([samples(pairs, 1.0)[index] for index in range(3)]))
    assert total.item() < 1e-6


def test_instructions_reach_text_dfh_and_nothing_frozen(pairs, model):
    losses = InstructionObjective(model)
    losses(model, collate([samples(pairs, 0.0)[0]]))[0].backward()
    assert all(parameter.grad is None for parameter in (*model.network.parameters(), *losses.before.parameters()))
    assert sum(p.grad.abs().sum() for p in model.harmonise.parameters() if p.grad is not None) > 0


def test_one_wording_of_each_is_kept_out_of_the_training():
    encoded = encoded_instructions(DIM)
    assert {name: len(ways) for name, ways in encoded.items()} == {
        name: len(told.texts) - 1 for name, told in INSTRUCTIONS.items()}  # fmt: skip
    last = encode([INSTRUCTIONS["darker"].texts[-1]])[0]
    assert not any(way.shape == last.shape and torch.allclose(way, last) for ways in encoded.values() for way in ways)
    with pytest.raises(FusionError, match=r"the answers have 4096: set instruction_steps to 0"):
        encoded_instructions(4096)
