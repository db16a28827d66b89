"""Training: it learns, resumes as if it had never stopped, and leaves what is frozen as it was, bit for bit."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from fusionlib import models
from fusionlib.config import OUR_FUSION, PROFILES, profile
from fusionlib.data import Pair, load, write_image
from fusionlib.data.datasets import DetectionDataset, FusionDataset, collate, letterbox, people
from fusionlib.detection import YOLOv5
from fusionlib.models import FusionNetwork, TextGuidedFusion
from fusionlib.training import fusion, text_dfh, trainer
from fusionlib.utils.errors import FusionError

OURS = replace(
    PROFILES["quick"], fusion_crop=32, fusion_batch=2, fusion_epochs=3, detect_size=(64, 96), dfh_batch=2, dfh_epochs=3
)
# The paper's stage 1, whose BatchNorm learns, at the rates that a toy needs.
SETTINGS = replace(
    OURS, **PROFILES["paper"].part("freeze_bn_fraction", *OUR_FUSION) | {"fusion_lr": 5e-3, "dfh_lr": 5e-3}
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Six pairs of 64x96 with a warm figure each; the last has no labels."""
    folder, random = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    made = []
    for i in range(6):
        visible = random.integers(0, 120, (64, 96, 3), dtype=np.uint8)
        ir = random.integers(0, 60, (64, 96), dtype=np.uint8)
        x = 10 + 10 * i
        ir[20:50, x : x + 12] += 150
        write_image(folder / f"{i}.png", ir)
        write_image(folder / f"v{i}.png", visible)
        boxes = np.float32([[x, 20, x + 12, 50]])
        labels = (boxes, ("person",)) if i < 5 else (None, None)
        made.append(Pair("Toy", "train", str(i), folder / f"{i}.png", folder / f"v{i}.png", *labels))
    return made


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    detector = YOLOv5(2, depth=0.33, width=0.125, names=["car", "Person"])
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
    texts = [torch.randn(3 + i, 16) for i in range(6)]
    return FusionNetwork().eval(), detector, texts


def stage_2(pairs, parts, folder, settings=SETTINGS, scenes=()):
    network, detector, texts = parts
    train, validation = (pairs[:3], texts[:3]), (pairs[3:5], texts[3:5])
    return text_dfh.train_text_dfh(network, detector, train, validation, folder, settings, scenes)


def test_our_stage_1_learns(pairs, tmp_path):
    network = fusion.train_fusion_network(pairs[:4], pairs[4:], tmp_path, replace(OURS, fusion_epochs=20))
    curves = pd.read_csv(tmp_path / "curves.csv")
    assert curves["validation total"].iloc[-1] < 0.85 * curves["validation total"].iloc[0]
    assert network.config["block"] == 2 and {"intensity", "edge", "structure"} <= set(curves.columns)


def test_stage_1_learns_and_says_how(pairs, tmp_path):
    settings = replace(SETTINGS, fusion_epochs=100)
    network = fusion.train_fusion_network(pairs[:4], pairs[4:], tmp_path, settings)
    curves = pd.read_csv(tmp_path / "curves.csv")
    assert list(curves.epoch) == list(range(1, 101))
    assert curves["validation total"].iloc[-1] < 0.6 * curves["validation total"].iloc[0]
    assert not network.training
    best = models.load(tmp_path / "best.safetensors")
    assert best.config == network.config
    assert list(tmp_path.rglob("events.out.tfevents*"))


def test_a_compiled_network_trains_and_is_kept_as_the_plain_one(pairs, tmp_path, monkeypatch):
    """As `accelerate launch --dynamo_backend` asks for it; a compiler in C++ needs half a minute, this one none."""
    plain = fusion.train_fusion_network(pairs[:4], pairs[4:], tmp_path / "plain", SETTINGS)
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "EAGER")
    monkeypatch.setitem(torch._dynamo.utils.counters["stats"], "unique_graphs", 0)
    compiled = fusion.train_fusion_network(pairs[:4], pairs[4:], tmp_path / "compiled", SETTINGS)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    torch.testing.assert_close(compiled.state_dict(), plain.state_dict(), rtol=1e-5, atol=1e-6)
    monkeypatch.delenv("ACCELERATE_DYNAMO_BACKEND")
    for folder in tmp_path.iterdir():  # plain trainings go on from a compiled one
        (folder / "last.safetensors").unlink()
        fusion.train_fusion_network(pairs[:4], pairs[4:], folder, replace(SETTINGS, fusion_epochs=4))
    one, two = (models.load(folder / "last.safetensors").state_dict() for folder in tmp_path.iterdir())
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", trainer.OPTIMIZERS)
@pytest.mark.parametrize("stage", ["fusion", "dfh"])
def test_a_resumed_run_equals_an_uninterrupted_one(stage, optimizer, pairs, parts, tmp_path, monkeypatch):
    settings = replace(SETTINGS, optimizer=optimizer)

    def train(folder):
        folder.mkdir(exist_ok=True)
        if stage == "dfh":
            return stage_2(pairs, parts, folder, settings).state_dict()
        return fusion.train_fusion_network(pairs[:4], pairs[4:], folder, settings).state_dict()

    def kill_after_first(accelerator, folder, rows):
        checkpoint(accelerator, folder, rows)
        (folder / "checkpoint" / "epoch-0002").mkdir()  # as a kill amid the second checkpoint leaves it
        raise KeyboardInterrupt

    whole, checkpoint = train(tmp_path / "whole"), trainer.checkpoint
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer, "checkpoint", kill_after_first)
        train(tmp_path / "parts")
    resumed = train(tmp_path / "parts")
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    curves = [pd.read_csv(tmp_path / n / "curves.csv").drop(columns="seconds") for n in ("whole", "parts")]
    pd.testing.assert_frame_equal(*curves)


def test_optimisers_hold_what_is_to_be_trained_and_soap_has_two_bases_for_a_kernel():
    layer = torch.nn.Sequential(torch.nn.Conv2d(4, 16, 3), torch.nn.Conv2d(16, 1, 1))
    layer[1].bias.requires_grad_(False)
    layer(torch.rand(1, 4, 5, 5)).sum().backward()
    for name in trainer.OPTIMIZERS:
        optimizer = trainer.new_optimizer(layer, name, 0.01)
        assert sum(len(group["params"]) for group in optimizer.param_groups) == 3
        optimizer.step()
    bases = [[len(base) for base in optimizer.state[p]["Q"]] for p in layer.parameters() if p.requires_grad]
    assert bases == [[16, 36], [16], [1, 16, 1, 1]]
    with pytest.raises(FusionError, match="optimizer must be one of adam, soap, but is 'sgd'"):
        trainer.new_optimizer(layer, "sgd", 0.01)


def test_settled_statistics_stay_as_they_are(pairs, tmp_path):
    """In the second of two epochs BatchNorm's statistics no longer move; weights do."""
    def state(folder, **settings):
        network = fusion.train_fusion_network(pairs[:4], pairs[4:], tmp_path / folder, replace(SETTINGS, **settings))
        return network.state_dict()

    whole = state("settled", freeze_bn_fraction=0.5, fusion_epochs=2, schedule="constant")
    half = state("half", fusion_epochs=1, schedule="constant")
    statistics = [name for name in whole if "running" in name]
    assert len(statistics) == 16 and all(torch.equal(whole[name], half[name]) for name in statistics)
    weights = [name for name in whole if name.endswith("weight")]
    assert not any(torch.equal(whole[name], half[name]) for name in weights)
    moving = state("moving", fusion_epochs=2, schedule="constant")
    assert not any(torch.equal(moving[name], half[name]) for name in statistics)


def test_instructions_are_learned_after_the_detector(pairs, parts, tmp_path):
    """On pairs without labels, too; what the detector taught is where it begins, and all of it is resumed."""
    network, detector, _ = parts
    texts = [torch.randn(3, 384) for _ in range(6)]
    train, validation = (pairs[:3], texts[:3]), (pairs[3:5], texts[3:5])

    def learn(folder, scenes=pairs[4:], **changes):
        settings = replace(SETTINGS, instruction_crop=32, instruction_batch=4, dfh_epochs=2, **changes)
        model = text_dfh.train_text_dfh(network, detector, train, validation, tmp_path / folder, settings, scenes)
        return model.harmonise.state_dict()

    taught = learn("taught")
    instructed = learn("instructed", instruction_steps=7)
    curves = pd.read_csv(tmp_path / "instructed" / "instructions" / "curves.csv")
    assert len(curves) == 2 and (curves["instruction"] > 0).all()  # 6 steps an epoch
    pd.testing.assert_frame_equal(
        *(pd.read_csv(tmp_path / folder / "curves.csv").drop(columns="seconds") for folder in ("taught", "instructed"))
    )
    assert any(not torch.equal(taught[name], instructed[name]) for name in taught)
    still = learn("still", instruction_steps=7, instruction_lr=0.0)
    assert all(torch.equal(taught[name], still[name]) for name in taught)
    (tmp_path / "instructed" / "last.safetensors").unlink()  # as if killed before the last word
    again = learn("instructed", instruction_steps=7)
    assert all(torch.equal(again[name], instructed[name]) for name in instructed)
    with pytest.raises(FusionError, match="no scenes were given"):
        learn("none", scenes=(), instruction_steps=7)
    with pytest.raises(FusionError, match="the answers have 16"):
        stage_2(pairs, parts, tmp_path / "other", replace(SETTINGS, instruction_steps=7), pairs)


def test_stage_2_trains_text_dfh_and_moves_nothing_frozen(pairs, parts, tmp_path):
    network, detector, _ = parts
    frozen = {**network.state_dict(prefix="network."), **detector.state_dict(prefix="detector.")}
    before = {name: value.clone() for name, value in frozen.items()}
    model = stage_2(pairs, parts, tmp_path)
    after = {**network.state_dict(prefix="network."), **detector.state_dict(prefix="detector.")}
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(p.grad is None for part in (network, detector) for p in part.parameters())
    assert model.harmonise["ir"].layers[-1].weight.abs().sum() > 0
    curves = pd.read_csv(tmp_path / "curves.csv")
    assert {"detection", "fidelity", "box", "obj", "cls", "validation detection"} <= set(curves.columns)


def test_stage_2_keeps_the_epoch_with_the_lowest_validation_loss(pairs, parts, tmp_path, monkeypatch):
    class SecondIsBest(text_dfh.DetectionObjective):
        """Whose loss of validation pairs is 3, 1, 2 and 4 in the four epochs."""

        epoch, learned = -1, False

        def __call__(self, model, batch):
            total, terms = super().__call__(model, batch)
            self.epoch += self.learned and not model.training
            self.learned = model.training
            return (total if model.training else torch.tensor((3.0, 1.0, 2.0, 4.0)[self.epoch])), terms

    monkeypatch.setattr(text_dfh, "DetectionObjective", SecondIsBest)
    settings = replace(SETTINGS, dfh_epochs=4, schedule="constant", freeze_bn_fraction=0.0)
    model = stage_2(pairs, parts, tmp_path, settings)
    assert list(pd.read_csv(tmp_path / "curves.csv")["validation total"]) == [3, 1, 2, 4]
    best, last = (load_file(tmp_path / f"{name}.safetensors") for name in ("best", "last"))
    state = model.harmonise.state_dict()
    assert all(torch.equal(best[name], last[name]) and torch.equal(best[name], state[name].cpu()) for name in best)
    for epochs, same in ((2, True), (1, False)):  # the rate is constant, so a shorter training takes the same steps
        shorter = stage_2(pairs, parts, tmp_path / str(epochs), replace(settings, dfh_epochs=epochs))
        assert all(torch.equal(shorter.harmonise.state_dict()[name], state[name]) for name in state) == same


def test_the_balance_of_the_stage_2_loss_does_not_depend_on_the_batch(pairs, parts):
    network, detector, texts = parts
    losses = text_dfh.DetectionObjective(detector, fidelity=2.0)
    model = TextGuidedFusion(network, 16).eval()
    samples = DetectionDataset(pairs[:1] * 2, SETTINGS.detect_size, texts[:1] * 2, train=False)
    one, _ = losses(model, collate([samples[0]]))
    two, parts_of_two = losses(model, collate([samples[0], samples[1]]))
    assert two.item() == pytest.approx(2 * one.item(), rel=1e-5)
    expected = 2 * (parts_of_two["detection"] + 2.0 * parts_of_two["fidelity"])
    assert two.item() == pytest.approx(expected.item(), rel=1e-5)


def test_stage_2_is_not_taught_that_nobody_is_in_a_region_to_ignore(pairs, parts):
    network, detector, texts = parts
    losses, model = text_dfh.DetectionObjective(detector, fidelity=0.0), TextGuidedFusion(network, 16).eval()
    height, width = SETTINGS.detect_size
    terms = {}
    for name, region in (("none", []), ("corner", [[0, 0, width / 2, height / 2]]), ("all", [[0, 0, width, height]])):
        batch = collate([DetectionDataset(pairs[:1], SETTINGS.detect_size, texts[:1], train=False)[0]])
        batch["ignore"] = [torch.tensor(region).reshape(-1, 4)]
        terms[name] = losses(model, batch)[1]
    assert terms["all"]["obj"] < terms["corner"]["obj"] < terms["none"]["obj"]
    assert terms["all"]["obj"] > 0 and terms["all"]["box"] == terms["none"]["box"]  # who is known is still learned


def test_mixed_precision(pairs, parts, tmp_path):
    stage_2(pairs, parts, tmp_path, replace(SETTINGS, amp="bf16", dfh_epochs=1))
    assert pd.read_csv(tmp_path / "curves.csv").notna().all(axis=None)


def test_bad_input_is_refused(pairs, parts, tmp_path):
    network, detector, texts = parts
    with pytest.raises(FusionError, match="got 0 and 2"):
        fusion.train_fusion_network([], pairs[4:], tmp_path, SETTINGS)
    with pytest.raises(FusionError, match=r"without labels: \['5'\]"):
        text_dfh.train_text_dfh(network, detector, (pairs, texts), (pairs[:1], texts[:1]), tmp_path, SETTINGS)
    with pytest.raises(FusionError, match="schedule must be one of constant, cosine"):
        fusion.train_fusion_network(pairs[:4], pairs[4:], tmp_path, replace(SETTINGS, schedule="step"))
    with pytest.raises(FusionError, match="the loss became"):
        fusion.train_fusion_network(pairs[:4], pairs[4:], tmp_path, replace(SETTINGS, fusion_lr=float("inf")))


def test_samples_depend_on_seed_epoch_and_index_alone(pairs):
    a, b = (FusionDataset(pairs, 96, 32, seed=1) for _ in range(2))
    assert torch.equal(a[0]["ir"], b[0]["ir"])
    b.epoch = 1
    assert not torch.equal(a[0]["ir"], b[0]["ir"])
    assert a[0]["ir"].shape == a[0]["y"].shape == (1, 32, 32)
    lit = FusionDataset(pairs, 96, 32, seed=1, exposure_augmentation=1.0)
    changed = sum(not torch.equal(a[i]["ir"], lit[i]["ir"]) for i in range(6))
    assert changed >= 4 and torch.equal(lit[0]["y"], lit[0]["y"])
    assert all(0 <= lit[i][what].min() and lit[i][what].max() <= 1 for i in range(6) for what in ("ir", "y"))
    uncached = FusionDataset(pairs, 96, 32, seed=1)
    uncached.memory = 0
    assert torch.equal(a[0]["y"], uncached[0]["y"])


def test_crops_at_the_own_size_show_a_part_and_reduced_ones_more(pairs):
    samples = {share: FusionDataset(pairs, 24, 16, own_size=share) for share in (0.0, 1e-9, 1.0)}
    height, width = load(pairs[0])[0].shape[1:]
    assert max(height, width) > 2 * 24
    ir = {share: each[0]["ir"] for share, each in samples.items()}
    assert all(image.shape == (1, 16, 16) for image in ir.values())
    whole = load(pairs[0])[0]
    turned = [torch.rot90(flipped, k, (1, 2)) for flipped in (whole, whole.flip(2)) for k in range(4)]
    windows = torch.cat([t.unfold(1, 16, 1).unfold(2, 16, 1).reshape(-1, 16, 16) for t in turned])
    assert (windows - ir[1.0]).abs().amax((1, 2)).min() < 1 / 254  # a window of the file itself
    assert (windows - ir[1e-9]).abs().amax((1, 2)).min() > 0.02


def test_flat_crops_are_two_gray_levels(pairs):
    samples = [FusionDataset(pairs, 96, 32, crops=10, flat=1.0)[i] for i in range(60)]
    assert all(sample[side].std() < 1e-6 for sample in samples for side in ("ir", "visible"))
    levels = [(sample["ir"][0, 0, 0].item(), sample["visible"][0, 0, 0].item()) for sample in samples]
    equal, black = sum(a == b for a, b in levels), sum(a != b and 0 in (a, b) for a, b in levels)
    assert 14 <= equal <= 34 and 14 <= black <= 34
    assert FusionDataset(pairs, 96, 32, flat=1.0, train=False)[0]["ir"].std() > 0.01


def test_a_new_network_is_as_the_profile_says():
    for name in ("quick", "small", "shipped"):
        network = fusion.new_network(profile(name))
        ir, y = torch.rand(2, 1, 1, 16, 16)
        both = torch.stack([network.eval()(ir, y).flatten(), torch.maximum(ir, y).flatten()])
        assert network.config == {"channels": [16, 32, 32], "block": 2, "merge": "max-min", "norm": "none",
                                  "output": "clip"}
        assert torch.corrcoef(both)[0, 1] > 0.98
    torch.manual_seed(0)
    papers = fusion.new_network(profile("paper"))
    torch.manual_seed(0)
    identity = FusionNetwork((4, 8, 8))
    identity.init_identity(1.0)
    assert all(torch.equal(value, identity.state_dict()[name]) for name, value in papers.state_dict().items())
    with pytest.raises(FusionError, match="fusion_init must be one of identity, maximum, random, but is 'zero'"):
        fusion.new_network(profile("quick", fusion_init="zero"))


def test_whole_images_keep_their_aspect_ratio_and_their_boxes(pairs, parts):
    samples = DetectionDataset(pairs[:5], (128, 224), parts[2], train=False)
    sample = samples[0]
    assert sample["ir"].shape == (1, 128, 224)
    x0, y0, x1, y1 = (2 * people(pairs[0])[0]).int().tolist()
    assert sample["boxes"].tolist() == [[x0, y0, x1, y1]]
    assert sample["ir"][0, y0 + 2 : y1 - 2, x0 + 2 : x1 - 2].min() > 0.5 > sample["ir"][0, :, x1 + 3 :].max()
    assert torch.equal(sample["ir"][..., 192:], sample["ir"][..., 191:192].expand(-1, -1, 32))
    _, scale = letterbox(torch.rand(4, 100, 50), (64, 96))
    assert scale == 0.64


def test_texts_of_different_length_share_a_batch(pairs, parts):
    samples = DetectionDataset(pairs[:3], SETTINGS.detect_size, parts[2][:3], train=False)
    batch = collate([samples[i] for i in range(3)])
    assert batch["text"].shape == (3, 5, 16)
    assert batch["mask"].sum(1).tolist() == [3, 4, 5]
    assert len(batch["boxes"]) == 3


class Stumbling:
    """The loss of stage 1, but NaN at these calls."""

    def __init__(self, *calls):
        self.calls, self.count, self.loss = calls, 0, models.FusionLoss()

    def __call__(self, model, batch):
        self.count += 1
        total, parts = self.loss(model(batch["ir"], batch["y"]), batch["ir"], batch["y"])
        return total * (float("nan") if self.count in self.calls else 1), parts


def fit_stumbling(pairs, folder, losses, nan_retries=0, schedule=None):
    settings = replace(SETTINGS, nan_retries=nan_retries, schedule="constant")
    torch.manual_seed(0)
    network = FusionNetwork((2, 2, 2))
    samples = FusionDataset(pairs[:4], 96, 32), FusionDataset(pairs[4:5], 96, 32, train=False)
    trainer.fit(network, losses, *samples, folder, settings, optimizer=trainer.new_optimizer(network, "adam", 0.01),
                save=models.save, epochs=3, batch=2, schedule=schedule)
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.mark.parametrize("call", [1, 5])  # an epoch has two steps and one validation: in the first and in the second
def test_a_training_that_becomes_nan_steps_back_as_configured(pairs, tmp_path, call):
    with pytest.warns(UserWarning, match=rf"the loss became nan at Toy.*Epoch {1 + call // 3} begins again, at half"):
        got = fit_stumbling(pairs, tmp_path / "back", Stumbling(call), nan_retries=1)
    first = 0 if call == 1 else 2  # steps at the whole rate
    wanted = fit_stumbling(pairs, tmp_path / "plain", Stumbling(), schedule=lambda step, steps: 1 - (step >= first) / 2)
    assert torch.equal(got, wanted)
    assert list(pd.read_csv(tmp_path / "back" / "curves.csv")["epoch"]) == [1, 2, 3]


def test_a_training_that_becomes_nan_again_stops(pairs, tmp_path):
    with pytest.warns(UserWarning, match="begins again"), pytest.raises(trainer.Diverged, match="the loss became nan"):
        fit_stumbling(pairs, tmp_path, Stumbling(4, 6), nan_retries=1)
    kept = (tmp_path / "last.safetensors").read_bytes()
    with pytest.raises(trainer.Diverged):  # as it is where nothing is configured, and nothing that was kept is lost
        fit_stumbling(pairs, tmp_path, Stumbling(1))
    assert (tmp_path / "last.safetensors").read_bytes() == kept


@pytest.mark.parametrize("parts_of_a_batch", [2, 3])  # equal ones; of two and one
def test_a_batch_in_parts_teaches_what_the_whole_does(pairs, parts, tmp_path, parts_of_a_batch):
    """With statistics kept (`freeze_bn_fraction`), and one person an image; the toy's rates, as in test_distributed."""
    settings = replace(
        SETTINGS, freeze_bn_fraction=1.0, fusion_batch=4 if parts_of_a_batch == 2 else 3, dfh_batch=3, dfh_lr=1e-4
    )
    for name, count in {"whole": 1, "parts": parts_of_a_batch}.items():
        chosen = replace(settings, gradient_accumulation_steps=count)
        fusion.train_fusion_network(pairs[:4], pairs[4:], tmp_path / name / "1", chosen)
        stage_2(pairs, parts, tmp_path / name / "2", chosen)
    for stage, tolerance in (("1", 1e-5), ("2", 1e-4)):
        whole, taken = (load_file(tmp_path / name / stage / "last.safetensors") for name in ("whole", "parts"))
        torch.testing.assert_close(taken, whole, rtol=tolerance, atol=tolerance)
        whole, taken = (pd.read_csv(tmp_path / name / stage / "curves.csv") for name in ("whole", "parts"))
        columns = ["validation total", "total"] if stage == "1" else ["validation total", "fidelity", "obj"]
        pd.testing.assert_frame_equal(taken[columns], whole[columns], rtol=1e-4)


def test_parts_of_a_batch():
    batch = {"ir": torch.arange(5), "name": list("abcde")}
    assert [p["name"] for p in trainer.split_batch(batch, 2)] == [["a", "b", "c"], ["d", "e"]]
    assert [p["ir"].tolist() for p in trainer.split_batch(batch, 9)] == [[0], [1], [2], [3], [4]]
    assert trainer.split_batch(batch, 1)[0]["name"] == batch["name"]
