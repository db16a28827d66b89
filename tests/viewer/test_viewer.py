"""The Python side of the widget: replies, problems, and the display without a front end."""

import base64
import io
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fusionlib as fl
from fusionlib import feedback, metrics, models
from fusionlib.data.datasets import letterbox
from fusionlib.data.degradation import degrade
from fusionlib.feedback.text_encoder import encode, encoder_name
from fusionlib.inference import network as inference
from fusionlib.inference import pair as fusing
from fusionlib.viewer import session
from fusionlib.viewer.encoding import LONGEST, heat
from fusionlib.viewer.session import token_spans

pytestmark = pytest.mark.usefixtures("one_thread")


class Page:
    """Stands in for the page: sends requests and collects the replies."""

    def __init__(self, viewer, monkeypatch):
        self.viewer, self.answers = viewer, []
        monkeypatch.setattr(viewer, "send", lambda content, buffers=None: self.answers.append((content, buffers)))

    def ask(self, count=1, **request):
        """Send a request and wait for `count` replies."""
        self.answers.clear()
        self.viewer._receive(None, {"gallery": self.viewer.gallery["number"], **request}, [])
        until = time.monotonic() + 120
        while len(self.answers) < count and time.monotonic() < until:
            time.sleep(0.01)
        assert len(self.answers) == count
        return list(self.answers)


@pytest.fixture
def page(run, monkeypatch):
    viewer = fl.browse(run.folder)
    yield Page(viewer, monkeypatch)
    viewer.close()


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_images_are_sent_as_jpg_and_losslessly_as_png(page):
    [(content, [data])] = page.ask(kind="image", entry=0, pane="visible", exact=False)
    truth = fl.data.read_image(page.viewer._handler.gallery.entries[0].images["visible"])
    assert content["mime"] == "image/jpeg" and (content["width"], content["height"]) == (320, 256)
    assert abs(decoded(data).astype(int) - truth).mean() < 6  # the scene is full of noise
    np.testing.assert_allclose(decoded(data).mean((0, 1)), truth.mean((0, 1)), atol=0.5)
    [(content, [data])] = page.ask(kind="image", entry=0, pane="visible", exact=True)
    assert content["mime"] == "image/png"
    np.testing.assert_array_equal(decoded(data), truth)


def test_large_and_16_bit_images_are_reduced(tmp_path, monkeypatch):
    image = np.full((30, 2 * LONGEST), 257 * 100, np.uint16)
    viewer = fl.compare(image, image)
    [(content, [data])] = Page(viewer, monkeypatch).ask(kind="image", entry=0, pane="a")
    assert decoded(data).shape == (15, LONGEST) and content["width"] == 2 * LONGEST
    assert abs(decoded(data).astype(int) - 100).max() <= 1


def test_people_are_those_of_notebook_04(page, run):
    answers = page.ask(2, kind="people", entry=1, panes=["visible", "refined"])
    assert [content["pane"] for content, _ in answers] == ["visible", "refined"]
    yolo = fl.detection.load_detector(run.weights(run.profile.detector))
    entry = page.viewer._handler.gallery.entries[1]
    pair = fl.data.read_manifest(run.folder / "01_data" / "manifest.json", run.data_root)["test"][1]
    _, image, _ = letterbox(*fl.data.load(pair), run.profile.detect_size)
    expected = fl.detection.detect(yolo, [image], conf=session.MIN_SCORE)[0][:, :5]
    assert len(expected) and entry.name == pair.label
    np.testing.assert_allclose(answers[0][0]["boxes"], expected, atol=2e-3)


def test_people_of_the_held_out_detector_can_be_chosen(page, run):
    assert page.viewer.gallery["detectors"] == ["scene_detector", "judge"] and page.viewer.gallery["finds"]
    entry, replies = page.viewer._handler.gallery.entries[1], {}
    image = torch.from_numpy(fl.data.read_image(entry.images["visible"])).permute(2, 0, 1) / 255
    for name, weights in (("scene_detector", run.profile.detector), ("judge", run.profile.held_out_detector)):
        [(content, _)] = page.ask(kind="people", entry=1, panes=["visible"], detector=name)
        yolo = fl.detection.load_detector(run.weights(weights))
        expected = fl.detection.detect(yolo, [image], conf=session.MIN_SCORE)[0][:, :5]
        assert content["detector"] == name and len(expected)
        np.testing.assert_allclose(content["boxes"], expected, atol=2e-3)
        replies[name] = content["boxes"]
        [(content, _)] = page.ask(kind="sweep", what="people", pane="visible", entries=[1], detector=name)
        assert content["boxes"] == replies[name] and content["detector"] == name
    assert replies["judge"] != replies["scene_detector"]
    [(content, _)] = page.ask(kind="people", entry=1, panes=["visible"], detector="neither")
    assert content["kind"] == "problem"


def test_a_held_out_detector_can_be_named(run, tmp_path):
    copy = Path(shutil.copy(run.profile.held_out_detector, tmp_path / "other.safetensors"))
    viewer = fl.browse(run.folder, held_out_detector=copy)
    assert viewer.gallery["detectors"] == ["scene_detector", "other"]
    viewer.close()


def test_a_sweep_reports_its_progress(page):
    answers = page.ask(3, kind="sweep", what="people", pane="fused", entries=[0, 1, 7])
    assert [content.get("done") for content, _ in answers] == [1, 2, 3]
    assert answers[2][0]["kind"] == "problem" and "has no image fused" in answers[2][0]["text"]


def test_a_newer_request_cancels_the_older_one(page):
    page.ask(kind="people", entry=0, panes=["fused"])  # the detector is now loaded
    page.answers.clear()
    number = page.viewer.gallery["number"]
    sweep = {"gallery": number, "kind": "sweep", "pane": "fused"}
    page.viewer._receive(None, {**sweep, "what": "measures", "entries": [0, 1, 2, 3, 4, 5] * 20}, [])
    page.viewer._receive(None, {**sweep, "what": "people", "entries": [1]}, [])
    page.viewer._worker.submit(int).result(120)
    until = time.monotonic() + 60
    while not any(content["kind"] == "people" for content, _ in page.answers) and time.monotonic() < until:
        time.sleep(0.01)
    assert [content["kind"] for content, _ in page.answers][-1] == "people" and len(page.answers) <= 2


def test_metrics_are_those_on_record_or_computed(page):
    answers = page.ask(2, kind="measures", entry=1, panes=["mean", "fused"])
    work = page.viewer._handler
    assert answers[0][0]["values"] == work.gallery.entries[1].metrics["mean"]
    fused = fl.data.read_image(work.gallery.entries[1].images["fused"])
    images = torch.from_numpy(fused).permute(2, 0, 1)[None] / 255, *(image[None] for image in work.sources(1))
    expected = {name: value.item() for name, value in metrics.evaluate(*images).items()}
    assert answers[1][0]["values"] == pytest.approx(expected, rel=1e-4)


def test_an_instruction_refines_by_the_run_s_text_dfh(page, run):
    [(content, [data])] = page.ask(kind="instruct", entry=2, text="Make the image brighter.")
    assert content["pane"] == "instruction" and content["last"] and content["milliseconds"] > 0
    network = models.load(run.folder / "02_fusion_network" / "last.safetensors")
    refined = models.load(run.folder / "04_text_dfh" / "last.safetensors", network)
    text = encode(["Make the image brighter."])[0]
    expected = inference.fuse(refined, *page.viewer._handler.sources(2), text).mul(255).permute(1, 2, 0).numpy()
    assert abs(page.viewer._handler.pixels(2, "instruction") - expected).max() <= 1
    assert abs(decoded(data).astype(float) - expected).mean() < 4
    [(content, _)] = page.ask(kind="people", entry=2, panes=["instruction"])
    assert content["kind"] == "people"


def test_auto_is_the_advice_of_the_rules_on_damages(page, monkeypatch):
    work = page.viewer._handler
    clean = work.sources(1)
    page.ask(kind="instruct", entry=1, text="auto")
    assert fusing.advice(*clean) is None
    assert abs(work.pixels(1, "instruction").astype(int) - work.pixels(1, "fused")).max() <= 1
    monkeypatch.setattr(work, "sources", lambda index: degrade(*clean, [("stripe noise", "ir", 0.9)], 3))
    pixels = []
    for text in ("auto", fusing.advice(*work.sources(1))):
        page.ask(kind="instruct", entry=1, text=text)
        pixels.append(work.pixels(1, "instruction").copy())
    np.testing.assert_array_equal(*pixels)
    assert page.viewer.gallery["examples"][0] == "auto"


def test_a_large_image_has_a_preview(tmp_path, text_dfh_weights, monkeypatch):
    for pane in ("ir", "vi"):
        fl.data.write_image(tmp_path / pane / "a.png", torch.rand(1, 40, 1280))
    page = Page(fl.browse(tmp_path), monkeypatch)
    if encoder_name() != fusing.ENCODER:
        [(content, _)] = page.ask(kind="instruct", entry=0, text="darker")
        assert "sentence encoder" in content["text"]
        return
    answers = page.ask(2, kind="instruct", entry=0, text="darker")
    assert [(c["width"], c["height"], c["last"]) for c, _ in answers] == [(640, 20, False), (1280, 40, True)]


def test_missing_networks_are_reported_with_the_request(tmp_path, monkeypatch):
    for pane in ("ir", "vi"):
        fl.data.write_image(tmp_path / pane / "a.png", torch.rand(1, 20, 30))
    monkeypatch.setattr(fusing, "WEIGHTS", tmp_path)
    page = Page(fl.browse(tmp_path), monkeypatch)
    [(content, _)] = page.ask(kind="instruct", entry=0, text="darker")
    assert content["kind"] == "problem" and content["of"] == "instruct" and "stage 1 alone" in content["text"]
    [(content, _)] = page.ask(kind="people", entry=0, panes=["ir"])
    assert content["of"] == "people" and content["panes"] == ["ir"] and "this folder is not a run" in content["text"]


def test_an_unreadable_image_is_reported_and_the_viewer_continues(tmp_path, monkeypatch):
    fl.data.write_image(tmp_path / "a.png", torch.rand(1, 20, 30))
    (tmp_path / "b.png").write_bytes(b"no image")
    page = Page(fl.browse(tmp_path), monkeypatch)
    [(content, _)] = page.ask(kind="image", entry=1, pane="image")
    assert content["kind"] == "problem" and "b.png: expected a whole png" in content["text"]
    [(content, _)] = page.ask(kind="thumbs", entries=[1, 0], pane="image")
    assert content["kind"] == "thumb" and content["entry"] == 0
    assert "image/png" not in page.viewer._repr_mimebundle_()[0]


def test_attention_of_a_word_is_that_of_its_tokens(page, run):
    entry = page.viewer._handler.gallery.entries[1]
    start = entry.answer.text.index("image")  # a word of every answer
    [(content, [data])] = page.ask(kind="attend", entry=1, word=[start, start + len("image")])
    assert content["word"] == [start, start + 5] and decoded(data).shape[2] == 4
    model = page.viewer._handler.networks.text_dfh
    rows = [row for row, token in enumerate(feedback.tokens(entry.answer.text)) if token == "image"][:1]
    expected = inference.word_attention(model, *page.viewer._handler.sources(1), entry.answer.features[rows])[0]
    np.testing.assert_array_equal(decoded(data), heat(expected))


def test_heat_is_transparent_up_to_the_mean():
    weights = torch.full((8, 10), 0.5)
    assert not heat(weights)[..., 3].any()
    weights[2, 3], weights[4, 4] = 1.5, 0.7
    colours = heat(weights)
    assert colours.shape == (8, 10, 4) and colours.dtype == np.uint8
    assert colours[2, 3, 3] == 217 and 0 < colours[4, 4, 3] < 217 and (colours[..., 3] > 0).sum() == 2


def test_tokens_are_found_in_the_text():
    text = 'Ünïted "Pedestrians", glaring: x²!'
    words = [text[span[0] : span[1]] for span in token_spans(text) if span]
    assert "".join(words).replace(" ", "") in text.replace(" ", "") and words[0].startswith("Ü") and words[-1] == "!"
    assert len(token_spans(text)) == len(feedback.tokens(text))


def test_a_view_is_saved_as_a_figure_and_nothing_is_overwritten(page, run):
    view = {"entry": 0, "panes": ["infrared", "fused"], "truth": True, "found": True, "score": 0.25}
    for path in run.figures.glob("09_view_*"):
        path.unlink()
    for number in ("", "_2"):
        [(content, _)] = page.ask(kind="save", region=[10, 10, 60, 50], **view)
        name = page.viewer.gallery["entries"][0]["name"].replace("/", "_")
        assert content["path"] == str(run.figures / f"09_view_{name}{number}.png")
    assert Image.open(content["path"]).width > 400 and (run.figures / f"09_view_{name}.pdf").is_file()


def test_another_run_is_opened_and_old_requests_are_ignored(page, run, monkeypatch):
    assert page.viewer.gallery["runs"] == ["tiny"]
    page.viewer._open_run = lambda name: (page.viewer._handler.gallery, page.viewer._handler.networks)
    before = page.viewer.gallery["number"]
    page.ask(0, kind="open", run="tiny")
    assert page.viewer.gallery["number"] == before + 1
    page.viewer._receive(None, {"gallery": before, "kind": "image", "entry": 0, "pane": "fused"}, [])
    page.viewer._receive(None, {"gallery": before + 1, "kind": "_open", "entry": 0}, [])  # no kind of request
    assert page.answers == []


def test_without_a_front_end_there_is_a_contact_sheet(page):
    data, _ = page.viewer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/plain"] == "tiny: 8 entries with infrared, visible, fused, refined, mean"
    image = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert image.format == "PNG" and image.width > 5 * 200


def test_a_closed_viewer_does_not_reply(page):
    page.viewer.close()
    page.ask(0, kind="people", entry=0, panes=["fused"])
