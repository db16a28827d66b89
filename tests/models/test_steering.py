"""Instructions: what they ask for is what they say, and a batch with some of them has the loss that it should have."""

import numpy as np
import pytest
import torch

from fusionlib.data import Pair, scenes
from fusionlib.data.pairs import as_tensor, split_luma, write_image
from fusionlib.data.samples import DetectionSamples, collate
from fusionlib.detection import YOLOv5
from fusionlib.errors import FusionError
from fusionlib.feedback.encode import DIM, encode
from fusionlib.feedback.rules import measure
from fusionlib.models import FusionNetwork, TextGuidedFusion, sobel
from fusionlib.models.detection_loss import DetectionLosses, refine
from fusionlib.models.steering import INSTRUCTIONS, SteeredLosses, encoded_instructions

TOLD = {name: [torch.full((2, 8), float(number))] for number, name in enumerate(INSTRUCTIONS, 1)}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("steered"), np.random.default_rng(0)
    write_image(folder / "ir.png", random.integers(0, 255, (64, 64), dtype=np.uint8))
    write_image(folder / "vi.png", random.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    boxes = np.float32([[10, 10, 30, 50]]), ("person",)
    return [Pair("Toy", "train", str(i), folder / "ir.png", folder / "vi.png", *boxes) for i in range(4)]


@pytest.fixture(scope="module")
def stage_2():
    torch.manual_seed(0)
    model = TextGuidedFusion(FusionNetwork().eval(), 8).eval()
    for harmonise in model.harmonise.values():
        torch.nn.init.normal_(harmonise.layers[-1].weight, std=0.05)
    return model, DetectionLosses(YOLOv5(1, depth=0.33, width=0.125, names=["person"]), fidelity=1.0)


def samples(pairs, steer, **options):
    text = [torch.zeros(3, 8)] * len(pairs)
    return DetectionSamples(pairs, (64, 64), text, steer=steer, instructions=TOLD, **options)


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
        before, after = (getattr(measure(image), told.measure) for image in (luma, changed))
        right += told.sign * (after - before) > 0
    assert right >= (5 if told.measure == "warm_contrast" else 8)  # some scenes have no warm region


def test_the_share_of_instructions_and_their_choice_come_from_the_seed(pairs):
    few = samples(pairs * 100, 0.25)
    names = [few[index]["instruction"] for index in range(400)]
    assert names == [few[index]["instruction"] for index in range(400)]
    assert 60 < sum(map(bool, names)) < 140  # 100 expected
    assert set(names) == {"", *INSTRUCTIONS}
    few.epoch = 1
    assert names != [few[index]["instruction"] for index in range(400)]
    for index in range(20):
        sample = few[index]
        expected = TOLD[sample["instruction"]][0] if sample["instruction"] else torch.zeros(3, 8)
        assert torch.equal(sample["text"], expected)
    assert not any(samples(pairs, 0.0)[index]["instruction"] for index in range(4))


def test_without_instructions_the_loss_is_that_of_detection(pairs, stage_2):
    model, detection = stage_2
    batch = collate([samples(pairs, 0.0)[index] for index in range(2)])
    plain, parts = detection(model, batch)
    steered, more = SteeredLosses(detection, model.network, 4.0)(model, batch)
    assert steered.item() == pytest.approx(plain.item(), rel=1e-6)
    assert more.pop("steering") == 0
    assert {key: value.item() for key, value in more.items()} == pytest.approx({k: v.item() for k, v in parts.items()})


def test_a_mixed_batch_adds_both_losses(pairs, stage_2):
    model, detection = stage_2
    told, answered = samples(pairs, 1.0), samples(pairs, 0.0)
    mixed = [told[0], answered[1], told[2]]
    total, parts = SteeredLosses(detection, model.network, 4.0)(model, collate(mixed))
    with torch.no_grad():
        expected = detection(model, collate(mixed[1:2]))[0]
        steering = []
        for sample in (mixed[0], mixed[2]):
            batch = collate([sample])
            refined, fused = refine(model, batch), model.network(batch["ir"], split_luma(batch["visible"])[0])
            target = INSTRUCTIONS[sample["instruction"]].change(fused[0], batch["ir"][0])[None].clamp(0, 1)
            steering.append((refined - target).abs().mean() + (sobel(refined) - sobel(target)).abs().mean())
    assert total.item() == pytest.approx(expected.item() + 4.0 * sum(steering).item(), rel=1e-4)
    assert parts["steering"].item() == pytest.approx(sum(steering).item() / 3, rel=1e-4)
    assert list(parts) == ["steering", *DetectionLosses.PARTS]
    _, alone = SteeredLosses(detection, model.network, 4.0)(model, collate([told[0]]))
    assert list(alone) == list(parts) and alone["detection"] == 0  # processes that train together add these up


def test_instructions_reach_text_dfh_and_nothing_frozen(pairs, stage_2):
    model, detection = stage_2
    total, _ = SteeredLosses(detection, model.network, 1.0)(model, collate([samples(pairs, 1.0)[0]]))
    total.backward()
    assert all(parameter.grad is None for parameter in model.network.parameters())
    assert sum(p.grad.abs().sum() for p in model.harmonise.parameters() if p.grad is not None) > 0
    model.zero_grad()


def test_one_wording_of_each_is_kept_out_of_the_training():
    encoded = encoded_instructions(DIM)
    assert {name: len(ways) for name, ways in encoded.items()} == {
        name: len(told.texts) - 1 for name, told in INSTRUCTIONS.items()}  # fmt: skip
    last = encode([INSTRUCTIONS["darker"].texts[-1]])[0]
    assert not any(way.shape == last.shape and torch.allclose(way, last) for ways in encoded.values() for way in ways)
    with pytest.raises(FusionError, match=r"the answers have 4096: set steer to 0"):
        encoded_instructions(4096)
