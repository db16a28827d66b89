"""A small complete run of the quick profile, for the tests of the viewer and of its page."""

from dataclasses import replace

import pytest
import torch

import fusionlib as fl
from benchmarks.browser import CHROMIUM
from fusionlib import experiments, feedback, models
from fusionlib.feedback.text_encoder import DIM, encode
from fusionlib.inference import network as inference
from fusionlib.inference import pair as fusing
from fusionlib.training.detector import SCENE_DETECTOR

MARKUP = '<script>window.hacked = 1</script> & "brighten" the <b>image</b>'


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Synthetic scenes, the packaged stage 1, a random Text-DFH, answers (one with markup), one other method,
    and a held-out detector.
    """
    folder = str(tmp_path_factory.mktemp("runs") / "tiny")
    judge = tmp_path_factory.mktemp("weights") / "judge.safetensors"  # looks at half of the features of the other
    taught = fl.detection.load_yolov5(SCENE_DETECTOR)
    taught.model[-1].m[0].weight.data[:, ::2] = 0
    fl.detection.save_yolov5(taught, judge)
    run = fl.experiments.run.open_run("quick", out=folder, scenes_train=2, scenes_test=6, held_out_detector=str(judge),
                                         instruction_steps=1)  # as if its Text-DFH had learned instructions
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
    features = encode([MARKUP])[0]
    marked = replace(answers[0], model="<i>nobody</i>", text=MARKUP, tokens=len(features), kept=features)
    answers = [*store.put([marked]).values(), *answers[1:]]
    feedback_stage = run.stage("03_mllm_feedback", encoder=responder.encoder)
    feedback.write_assignment(feedback_stage.folder / "assigned.json", answers)
    feedback_stage.finish()

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


@pytest.fixture
def chromium():
    """Chromium, driven by Playwright; tests are skipped where either is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if not CHROMIUM:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def quoted(tmp_path_factory):
    """Two folders of images, one of them named with quotes and markup, and this name."""
    folder, name = tmp_path_factory.mktemp("pictures"), "it's \"<img src=x onerror='window.hacked=1'>\" & co"
    for index, pane in enumerate(("ir", "vi")):
        fl.data.write_image(folder / pane / f"{name}.png", torch.full((3, 24, 32), 0.25 + index / 2))
        fl.data.write_image(folder / pane / "plain.png", torch.full((3, 24, 32), 0.25 + index / 2))
    return folder, name
