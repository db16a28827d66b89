"""A small run of the quick profile that has everything: for the viewer's Python side, and for the page."""

from dataclasses import replace

import pytest
import torch

import fusionlib as fl
from fusionlib import experiments, feedback, models
from fusionlib.feedback.text_encoder import DIM, encode
from fusionlib.inference import network as inference
from fusionlib.inference import pair as fusing

EVIL = '<script>window.hacked = 1</script> & "brighten" the <b>image</b>'


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Embedded scenes, the shipped stage 1, a random Text-DFH, answers of the rules (the first one evil), one peer."""
    folder = str(tmp_path_factory.mktemp("runs") / "tiny")
    run = fl.experiments.run.open_run("quick", out=folder, scenes_train=2, scenes_test=6)
    fl.data.synthetic.scene.write(run.data_root / "Scenes", 2, 6, 0)
    data = run.stage("01_data")
    split = fl.data.choose(fl.data.read(run.data_root).pairs)
    fl.data.write_manifest(data.folder / "manifest.json", split, run.data_root)
    data.finish()

    test, fusion = split["test"], run.stage("02_fusion_network")
    network = models.load(fusing.WEIGHTS / fusing.STAGE_1)
    models.save(network, fusion.folder / "last.safetensors")
    inference.fuse_pairs(network, test, fusion.folder / "fused")
    fusion.finish()

    store = feedback.open_store(run.folder / "answers")
    responder = feedback.make("rules")
    names = [pair.label for pair in test]
    images = inference.read_fused(fusion.folder / "fused", test)
    answers = feedback.ask(images, responder, feedback.QUESTION, store, names=names)
    features = encode([EVIL])[0]
    evil = replace(answers[0], model="<i>nobody</i>", text=EVIL, tokens=len(features), kept=features)
    answers = [*store.put([evil]).values(), *answers[1:]]
    said = run.stage("03_mllm_feedback", encoder=responder.encoder)
    feedback.write_assignment(said.folder / "assigned.json", answers)
    said.finish()

    torch.manual_seed(0)
    refined, stage = models.TextGuidedFusion(network, DIM), run.stage("04_text_dfh")
    for harmonise in refined.harmonise.values():
        torch.nn.init.normal_(harmonise.layers[-1].weight, std=0.3)
    models.save(refined, stage.folder / "last.safetensors")
    inference.fuse_pairs(refined.eval(), test, stage.folder / "fused", feedback.LazyFeatures(answers))
    stage.finish()

    [mean] = experiments.find_methods(run, ["mean"])
    experiments.fuse_method(mean, test)
    experiments.measure_method(mean, test)
    return run


@pytest.fixture(scope="session")
def quoted(tmp_path_factory):
    """Two folders of pictures whose names are nasty, and the name."""
    folder, name = tmp_path_factory.mktemp("pictures"), "it's \"<img src=x onerror='window.hacked=1'>\" & co"
    for index, pane in enumerate(("ir", "vi")):
        fl.data.write_image(folder / pane / f"{name}.png", torch.full((3, 24, 32), 0.25 + index / 2))
        fl.data.write_image(folder / pane / "plain.png", torch.full((3, 24, 32), 0.25 + index / 2))
    return folder, name
