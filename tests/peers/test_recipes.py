"""Training of the compared methods: losses by hand, gradients everywhere, and the command from pairs to weights."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torchvision.models import vgg16

from fusionlib import peers
from fusionlib.__main__ import main
from fusionlib.config import PROFILES
from fusionlib.data.synthetic import scene
from fusionlib.experiments.peer_training import Objective, helper, plan, train_peer
from fusionlib.peers import losses
from fusionlib.peers.recipes import ARCHITECTURE_ONLY, RECIPES
from fusionlib.peers.sources import SOURCES
from fusionlib.training import trainer
from fusionlib.utils.errors import FusionError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Embedded scenes as a data root: six pairs to train and to validate on."""
    return scene.write(tmp_path_factory.mktemp("root") / "Scenes", 6, 1, size=(64, 80)).parent


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What users bring, with random numbers in it: VGG16 without its classifier, and a vector for a prompt."""
    folder = tmp_path_factory.mktemp("files")
    with torch.device("meta"):
        shapes = vgg16().features.state_dict()
    draw = torch.Generator().manual_seed(0)
    state = {f"features.{k}": torch.randn(v.shape, generator=draw) / v[:1].numel() ** 0.5 for k, v in shapes.items()}
    torch.save(state, folder / "vgg16.pth")
    save_file({"text": torch.randn(1, 512, generator=draw)}, folder / "prompt.safetensors")
    return {"": None, "vgg": folder / "vgg16.pth", "text": folder / "prompt.safetensors"}


@pytest.fixture(scope="module")
def batch():
    draw = torch.Generator().manual_seed(1)
    ir, visible = torch.rand(2, 1, 32, 32, generator=draw), torch.rand(2, 3, 32, 32, generator=draw)
    return {"ir": ir, "visible": visible, "y": visible.mean(1, keepdim=True)}


@pytest.mark.parametrize("name", RECIPES)
def test_every_trained_parameter_has_a_gradient(name, files, batch):
    side = -(-14 // peers.PEERS[name].multiple) * peers.PEERS[name].multiple
    batch = {key: value[..., :side, :side] for key, value in batch.items()}
    recipe = RECIPES[name]
    objective = Objective(peers.build(name), helper(name, files[recipe.needs])).train()
    for phase in filter(None, (recipe.first, recipe)):
        optimizer = objective.begin(phase)
        objective.zero_grad()
        total, parts = objective(batch)
        total.backward()
        assert torch.isfinite(total) and all(torch.isfinite(part) and not part.requires_grad for part in parts.values())
        trained = {name: p for name, p in objective.named_parameters() if p.requires_grad}
        assert sum(p.numel() for p in trained.values()) == sum(
            p.numel() for group in optimizer.param_groups for p in group["params"]
        )
        assert [n for n, p in trained.items() if p.grad is None or not torch.isfinite(p.grad).all()] == []
        still = [n for n, p in trained.items() if not p.grad.any()]
        assert len(still) < 0.1 * len(trained), still  # a unit can be dead from the start
    idle = [n for n, p in objective.named_parameters() if n.startswith("peer.") and p.grad is not None]
    assert not any(part in n for n in idle for part in recipe.idle)


def test_every_network_has_a_recipe_or_is_architecture_only():
    with torch.device("meta"):
        networks = {name for name in peers.PEERS if list(peers.PEERS[name]().parameters())}
    assert {*RECIPES, *ARCHITECTURE_ONLY} == networks and not {*RECIPES} & {*ARCHITECTURE_ONLY}
    settings = PROFILES["paper"]
    assert settings.train_peers == tuple(name for name in settings.methods if name in RECIPES)


def test_terms_by_hand():
    flat = [torch.full((1, 1, 16, 16), value) for value in (0.2, 0.6)]
    c1 = 0.01**2  # of flat images SSIM compares the means alone
    assert losses.ssim(*flat).item() == pytest.approx((2 * 0.12 + c1) / (0.04 + 0.36 + c1), rel=1e-4)
    ramp = (torch.arange(16.0) / 16).expand(1, 1, 16, 16)
    assert losses.weighted_ssim(ramp, ramp, flat[0]).item() == pytest.approx(1, abs=1e-4)  # a flat source has no weight
    expected = 2 / 3 + losses.ssim(ramp, ramp / 2) / 3  # edges of half the strength weigh half as much
    assert losses.weighted_ssim(ramp, ramp, ramp / 2).item() == pytest.approx(expected.item(), rel=1e-5)
    # Sobel of a slope 1/16 is 8/16 within and half of that in the two columns at the edge, where values repeat.
    assert losses.directed_edges(flat[0], ramp, flat[1]).item() == pytest.approx(0.5 * (14 + 1) / 16 / 2, rel=1e-5)
    x = torch.rand(2, 3, 8, 8)
    assert losses.correlation(x, 3 - 2 * x).item() == pytest.approx(-1, abs=1e-5)
    assert losses.correlation(x, torch.ones_like(x)).item() == 0
    assert losses.decomposition((x, x), (x, -x)).item() == pytest.approx(1 / 2.01, rel=1e-5)
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 2, 1, 2)
    assert losses.gram(features).tolist() == [[[5 / 4, 11 / 4], [11 / 4, 25 / 4]]]
    value, parts = losses.total(a=(2, torch.tensor(3.0)), b=(10, torch.tensor(0.5)))
    assert value.item() == 11 and parts == {"a": 3, "b": 0.5}


def test_losses_are_the_weighted_sums_of_the_papers():
    """With a network that returns infrared as it is."""
    class Fixed(peers.Peer):
        def forward(self, ir, visible):
            return ir

    ramp, flat = (torch.arange(16.0) / 16).expand(1, 1, 16, 16), torch.full((1, 1, 16, 16), 0.25)
    both = {"ir": flat, "y": ramp, "visible": ramp.expand(-1, 3, -1, -1)}
    squared = ((ramp - flat) ** 2).mean()
    structure = 1 - losses.ssim(flat, torch.maximum(flat, ramp))
    expected = squared + 10 * structure + 100 * 0.5 * 15 / 16
    assert RECIPES["DATFuse"].loss(Fixed(), both, None)[0].item() == pytest.approx(expected.item(), rel=1e-5)
    intensity = (torch.maximum(flat, ramp) - flat).mean()
    expected = 20 * intensity + 20 * 0.5 * 15 / 16 + 10 * (1 - losses.ssim(flat, ramp))
    assert RECIPES["SwinFusion"].loss(Fixed(), both, None)[0].item() == pytest.approx(expected.item(), rel=1e-4)


def test_vgg_gives_what_torchvision_gives(files):
    state = torch.load(files["vgg"], weights_only=True)
    with torch.device("meta"):
        whole = vgg16().features
    whole.load_state_dict({k.removeprefix("features."): v for k, v in state.items()}, assign=True)
    image = torch.rand(1, 1, 32, 32)
    maps = losses.VGG16(files["vgg"])(image)
    assert [list(m.shape[1:]) for m in maps] == [[64, 32, 32], [128, 16, 16], [256, 8, 8], [512, 4, 4]]
    for tap, ours in zip((4, 9, 16, 23), maps):
        torch.testing.assert_close(ours, whole[:tap](image.expand(-1, 3, -1, -1)))


def test_the_budget_is_shared_among_phases_and_the_rate_drops():
    parts, fuse = plan("CDDFuse", {"batch": 3, "steps": 30})
    assert (parts.steps, fuse.steps) == (10, 20) and (parts.batch, fuse.batch) == (3, 3)
    assert [phase.epochs for phase in plan("CDDFuse", {"epochs": 12})] == [4, 8]
    assert plan("CDDFuse", {}) == [RECIPES["CDDFuse"].first, RECIPES["CDDFuse"]]
    rates = [parts.learning_rate * parts.schedule(s, 40) for s in (0, 19, 20, 39)]
    rates += [fuse.learning_rate * fuse.schedule(s, 80) for s in (0, 19, 20, 40, 79)]
    assert rates == pytest.approx([1e-4 / 2 ** (s // 20) for s in (0, 19, 20, 39, 40, 59, 60, 80, 119)])
    recipe = RECIPES["AUIF"]
    optimizer = Objective(peers.build("AUIF")).begin(recipe)
    groups = {group["lr"]: sum(p.numel() for p in group["params"]) for group in optimizer.param_groups}
    assert groups == pytest.approx({1e-2: 5810 + 11, 1e-3: 5810})
    assert [recipe.schedule(s, 80) for s in (0, 39, 40, 79)] == pytest.approx([1, 1, 0.1, 0.1])


def test_the_command_trains_and_the_weights_load(root, tmp_path, capsys):
    out = tmp_path / "mine.safetensors"
    settings = ["--set", "batch=2", "--set", "crop=32", "--set", "crops=2", "--set", "threads=1"]
    assert main(["train-peer", "datfuse", "--data-root", str(root), "--steps", "3", "--out", str(out), *settings]) == 0
    assert capsys.readouterr().out.splitlines() == [f"DATFuse, phase 1 of 1: {RECIPES['DATFuse'].note}", str(out)]
    with safe_open(out, framework="pt") as file:
        metadata = file.metadata()
    (phase,) = json.loads(metadata["recipe"])
    assert metadata["peer"] == "DATFuse" and (phase["batch"], phase["learning_rate"], phase["steps"]) == (2, 1e-3, 3)
    trained = peers.build("DATFuse", weights=out)
    assert trained.state_dict()["convolutional.bn.num_batches_tracked"] == 3
    assert trained.fuse(torch.rand(1, 20, 20), torch.rand(3, 20, 20)).isfinite().all()
    assert (tmp_path / "mine" / "provenance.json").is_file()


def test_a_resumed_training_equals_an_uninterrupted_one(root, tmp_path, monkeypatch):
    """Two phases of two epochs each, killed after the first epoch of the second."""
    checkpoint, calls = trainer.checkpoint, []

    def killed(accelerator, folder, rows):
        checkpoint(accelerator, folder, rows)
        calls.append(folder.name)
        if len(calls) == 3:
            raise KeyboardInterrupt

    settings = {"epochs": 4, "batch": 4, "crop": 16, "threads": 1}
    recipe = replace(RECIPES["DATFuse"], clip=0.1)
    monkeypatch.setitem(RECIPES, "DATFuse", replace(recipe, first=replace(recipe, trains=("fem.",))))
    whole = train_peer("DATFuse", root, tmp_path / "whole.safetensors", **settings)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer, "checkpoint", killed)
        train_peer("DATFuse", root, tmp_path / "parts.safetensors", **settings)
    assert calls == ["phase-1", "phase-1", "phase-2"] and not (tmp_path / "parts.safetensors").exists()
    resumed = train_peer("DATFuse", root, tmp_path / "parts.safetensors", **settings)
    whole, resumed = load_file(whole), load_file(resumed)
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    curves = [pd.read_csv(tmp_path / n / "phase-2" / "curves.csv").drop(columns="seconds") for n in ("whole", "parts")]
    pd.testing.assert_frame_equal(*curves)


def test_two_folders_in_place_of_a_data_root(root, tmp_path):
    settings = {"steps": 1, "batch": 2, "crop": 16, "threads": 1}
    whole = train_peer("DATFuse", root, tmp_path / "root.safetensors", **settings)
    sides = {"ir": root / "Scenes" / "infrared", "visible": root / "Scenes" / "visible"}
    given = train_peer("DATFuse", out=tmp_path / "given.safetensors", **sides, **settings)
    given, whole = load_file(given), load_file(whole)
    assert all(torch.equal(value, given[key]) for key, value in whole.items())
    with pytest.raises(FusionError, match="expected either a folder with data sets or both ir and visible"):
        train_peer("DATFuse", root, tmp_path / "w.safetensors", **sides)


@pytest.mark.parametrize(("arguments", "message"), [
    (["FusionGAN"], "there is no recipe to train 'FusionGAN': choose among AUIF, DATFuse"),
    (["mean"], "there is no recipe to train 'mean'"),
    (["ivfwsr"], "IVFWSR is architecture only: its release has no training code, and its loss is not known to us, so "
     f"there is no recipe to train it; the official weights are at {SOURCES['IVFWSR'].weights}"),
    (["LRRNet"], "the loss of LRRNet needs torchvision's state dict of vgg16"),
    (["LRRNet", "--vgg", "nowhere.pth"], "nowhere.pth: "),
    (["TextIF"], "or the folder of CLIP ViT-B/32: give it by --text"),
    (["DATFuse", "--set", "lr=1"], "no setting of a training is called 'lr'; there are batch, crop"),
    (["DATFuse", "--set", "batch=0"], "batch must be at least 1 and finite, but is 0"),
    (["DATFuse", "--steps", "-1"], "steps must be at least 1 and finite, but is -1"),
    (["TextIF", "--set", "crop=40"], "TextIF takes sides in multiples of 16: crop must be one, but is 40"),
    (["DATFuse", "--out", "weights.pth"],
     "weights.pth: expected the name of a file that ends in .safetensors, found .pth; rename it"),
])
def test_what_is_wrong_is_told(root, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    more = [] if "--out" in arguments else ["--out", "weights.safetensors"]
    assert main(["train-peer", *arguments, "--data-root", str(root), *more]) == 1
    assert message in capsys.readouterr().err


def test_files_of_the_wrong_kind_are_refused(files, tmp_path):
    with pytest.raises(FusionError, match="expected torchvision's state dict of vgg16, found no fitting features"):
        losses.VGG16(files["text"])
    with pytest.raises(FusionError, match=r"expected one tensor \[1,512\]"):
        helper("TextIF", files["vgg"])
    with pytest.raises(FusionError, match="expected data sets with folders"):
        train_peer("DATFuse", tmp_path, tmp_path / "w.safetensors")


def test_two_folders_of_the_working_folder_and_what_is_not_used(root, tmp_path, monkeypatch, capsys):
    (tmp_path / "cam1").symlink_to(root / "Scenes" / "infrared")
    first, *others = sorted((root / "Scenes" / "visible" / "train").iterdir())
    (tmp_path / "cam2" / "train").mkdir(parents=True)
    for path in others:
        (tmp_path / "cam2" / "train" / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    settings = ["--set", "batch=2", "crop=16", "threads=1", "--steps", "1", "--out", "w.safetensors"]
    assert main(["train-peer", "DATFuse", "--ir", "cam1", "--visible", "./cam2", *settings]) == 0
    said = capsys.readouterr()
    assert said.out.endswith("w.safetensors\n") and (tmp_path / "w.safetensors").is_file()
    assert "not used: 2\n" in said.err and f"found none called train/{first.stem}; add it or remove this" in said.err
