"""The Python side of the widget: replies, problems, and the display without a front end."""

import base64
import io
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
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
from fusionlib.utils.errors import FusionError
from fusionlib.viewer import ratings, session, uploads, widget
from fusionlib.viewer.encoding import LONGEST, heat
from fusionlib.viewer.gallery import Gallery, file_name
from fusionlib.viewer.session import token_spans
from fusionlib.visualization import contact_sheets


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
    image, _ = letterbox(fl.data.load(pair)[1], run.profile.detect_size)
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
    [(content, _)] = page.ask(kind="instruct", entry=1, text="auto")
    assert fusing.advice(*clean) is None and content["advice"] == "no damage found"
    assert abs(work.pixels(1, "instruction").astype(int) - work.pixels(1, "fused")).max() <= 1
    monkeypatch.setattr(work, "sources", lambda index: degrade(*clean, [("stripe noise", "ir", 0.9)], 3))
    pixels = []
    for text in ("auto", fusing.advice(*work.sources(1))):
        [(content, _)] = page.ask(kind="instruct", entry=1, text=text)
        pixels.append(work.pixels(1, "instruction").copy())
        assert content.get("advice", text) == fusing.advice(*work.sources(1))
    np.testing.assert_array_equal(*pixels)
    assert page.viewer.gallery["examples"][0] == "auto"


def test_instructions_are_answered_by_the_package_where_the_run_never_learned_them(run, text_dfh_weights):
    learned, pair = session.Networks(run), fl.data.load(run.split["test"][0])
    assert learned.answers_from == "weights of this run"
    untaught = session.Networks(replace(run, profile=replace(run.profile, instruction_steps=0)))
    assert untaught.answers_from == "weights of the package, as this run's never learned instructions"
    assert untaught.instructed is fusing.text_dfh() and session.Networks().answers_from == "weights of the package"
    if encoder_name() != fusing.ENCODER:
        return
    text = "Make the image brighter."
    expected = inference.fuse(fusing.text_dfh(), *pair, encode([text])[0])
    torch.testing.assert_close(untaught.refine(*pair, text), expected)
    assert (learned.refine(*pair, text) - expected).abs().max() > 0.01
    stage_1 = models.load(run.folder / "02_fusion_network" / "last.safetensors")
    torch.testing.assert_close(untaught.fuse(*pair), inference.fuse(stage_1, *pair))  # the run's own


def test_a_plain_folder_of_pairs_shows_the_fused_image(tmp_path, monkeypatch):
    ir, visible = torch.rand(1, 30, 40), torch.rand(3, 30, 40)
    for name, image in (("ir/a", ir), ("vi/a", visible), ("vi/b", visible)):
        fl.data.write_image(tmp_path / f"{name}.png", image)
    page = Page(fl.browse(tmp_path), monkeypatch)
    assert page.viewer.gallery["panes"] == ["infrared", "visible", "fused"]
    assert [entry["panes"] for entry in page.viewer.gallery["entries"]] == [
        ["infrared", "visible", "fused"], ["visible"]]
    [(content, [data])] = page.ask(kind="image", entry=0, pane="fused", exact=True)
    np.testing.assert_array_equal(decoded(data), fl.fuse(tmp_path / "ir/a.png", tmp_path / "vi/a.png"))
    assert content["exact"] and (content["width"], content["height"]) == (40, 30)
    [(content, _)] = page.ask(kind="image", entry=1, pane="fused")
    assert content["kind"] == "problem" and "b has no image fused" in content["text"]
    assert Image.open(io.BytesIO(page.viewer.still())).width > 3 * 200


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


def test_radiometric_infrared_is_shown_and_refined_by_the_range_of_its_folder(tmp_path, text_dfh_weights, monkeypatch):
    heat = np.arange(1200).reshape(30, 40)
    for number, start in enumerate((7000, 8000)):
        fl.data.write_image(tmp_path / "ir" / f"{number}.png", (heat + start).astype(np.uint16))
        fl.data.write_image(tmp_path / "vi" / f"{number}.png", (heat + start).astype(np.uint16))
    work = Page(fl.browse(tmp_path), monkeypatch).viewer._handler
    low, high = np.percentile([heat + 7000, heat + 8000], (0.5, 99.5))
    wanted = ((heat + 8000 - low) / (high - low)).clip(0, 1)
    assert np.abs(work.pixels(1, "infrared") - 255 * wanted).max() <= 0.51
    np.testing.assert_allclose(work.sources(1)[0][0], wanted, atol=1e-5)
    assert np.abs(work.pixels(1, "visible") - (heat + 8000) / 257).max() <= 0.51  # as it is


def test_missing_networks_are_reported_with_the_request(tmp_path, monkeypatch):
    for pane in ("ir", "vi"):
        fl.data.write_image(tmp_path / pane / "a.png", torch.rand(1, 20, 30))
    monkeypatch.setattr(fusing, "WEIGHTS", tmp_path)
    page = Page(fl.browse(tmp_path), monkeypatch)
    [(content, _)] = page.ask(kind="instruct", entry=0, text="darker")
    assert content["kind"] == "problem" and content["of"] == "instruct" and "stage 1 alone" in content["text"]
    [(content, _)] = page.ask(kind="people", entry=0, panes=["infrared"])
    assert content["of"] == "people" and content["panes"] == ["infrared"]
    assert "this folder is not a run" in content["text"]


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


def test_a_saved_view_has_overlay_instruction_and_pseudo_colours(page, run, monkeypatch):
    page.ask(kind="instruct", entry=1, text="Make it darker.")
    start = page.viewer._handler.gallery.entries[1].answer.text.index("image")
    page.ask(kind="attend", entry=1, word=[start, start + 5])
    sheets = []
    sheet = contact_sheets.contact_sheet
    monkeypatch.setattr(contact_sheets, "contact_sheet", lambda *args: sheets.append(args) or sheet(*args))
    view = {"entry": 1, "panes": ["infrared", "instruction"], "truth": False, "found": False, "score": 0.25}
    page.ask(kind="save", word=[start, start + 5], palette="turbo", **view)
    page.ask(kind="save", word=[start, start + 4], palette="", **view)  # of a word whose map is not shown
    (overlaid, plain), work = (args[0][0] for args in sheets), page.viewer._handler
    assert list(overlaid) == list(plain) == ["infrared", "“Make it darker.”"]
    assert sheets[0][4] == [f"{work.gallery.entries[1].name}, attention of “image”"]
    np.testing.assert_array_equal(plain["infrared"], work.pixels(1, "infrared"))
    np.testing.assert_array_equal(plain["“Make it darker.”"], work.pixels(1, "instruction"))
    heat = np.asarray(Image.fromarray(work.attended[2]).resize((320, 256), Image.Resampling.BILINEAR)).astype(float)
    alpha = heat[..., 3:] / 255
    expected = plain["“Make it darker.”"] * (1 - alpha) + heat[..., :3] * alpha
    assert abs(overlaid["“Make it darker.”"] - expected).max() <= 2 and alpha.max() > 0.5
    warmest = np.unravel_index(np.where(alpha[..., 0] == 0, work.pixels(1, "infrared"), 0).argmax(), (256, 320))
    value = int(work.pixels(1, "infrared")[warmest])
    table = page.viewer.gallery["palettes"]["turbo"]
    assert len(table) == 256 * 6 and bytes(overlaid["infrared"][warmest]).hex() == table[6 * value : 6 * value + 6]


def test_images_are_downloaded_at_full_size(page, run):
    entry = page.viewer._handler.gallery.entries[0]
    [(content, [data])] = page.ask(kind="download", entry=0, pane="fused")
    assert data == Path(entry.images["fused"]).read_bytes()
    assert content["name"] == f"{file_name(entry.name)}_fused.png"
    page.ask(kind="instruct", entry=0, text="darker")
    [(content, [data])] = page.ask(kind="download", entry=0, pane="instruction")
    np.testing.assert_array_equal(decoded(data), page.viewer._handler.pixels(0, "instruction"))
    [(content, _)] = page.ask(kind="download", entry=7, pane="fused")
    assert content["kind"] == "problem" and "has no image fused" in content["text"]


def test_a_gif_swipes_between_two_images(tmp_path, monkeypatch):
    for pane, level in (("a", 50), ("b", 200)):
        fl.data.write_image(tmp_path / pane / "x.png", np.full((100, 160), level, np.uint8))
    page = Page(fl.compare(tmp_path / "a", tmp_path / "b"), monkeypatch)
    [(content, [data])] = page.ask(kind="swipe", entry=0, panes=["a", "b"], region=[0, 10, 120, 70])
    gif = Image.open(io.BytesIO(data))
    assert content["name"] == "x_a_b.gif" and gif.size == (120, 60) and gif.n_frames == 32 and gif.info["loop"] == 0
    shares = []
    for number in (0, 8, 16, 24):
        gif.seek(number)
        shares.append((np.asarray(gif.convert("L"))[5] > 190).mean())  # of the right image, and the line
    assert shares[0] == 0 and shares[2] == 1 and shares[1] == shares[3] == pytest.approx(0.5, abs=0.03)


def upload(page, *files, part=7000):
    """Send two files in parts as the page does: the last replies."""
    page.answers.clear()
    for number, (_, data) in enumerate(files):
        for start in range(0, max(1, len(data)), part):
            about = {"gallery": page.viewer.gallery["number"], "kind": "upload", "file": number,
                     "last": number == 1 and start + part >= len(data),
                     "names": [name for name, _ in files] if not number and not start else None}  # fmt: skip
            page.viewer._receive(None, about, [memoryview(data[start : start + part])])
    return list(page.answers)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_pair_of_one_s_own_is_opened_and_fused(page):
    draw = np.random.default_rng(0)
    ir, visible = (draw.integers(256, size=size, dtype=np.uint8) for size in ((60, 80), (60, 80, 3)))
    before = len(page.viewer.gallery["entries"])
    assert upload(page, ("<b>one</b>.png", png(visible)), ("two.png", png(ir))) == []  # colours say which is which
    assert upload(page, ("a_vis.png", png(visible)), ("a_ir.png", png(visible[::-1]))) == []  # names say it
    assert len(page.viewer.gallery["entries"]) == before + 2 and page.viewer.entry == "own/a_vis"
    assert [each["name"] for each in page.viewer.gallery["entries"][before:]] == ["own/<b>one<_b>", "own/a_vis"]
    [(content, [data])] = page.ask(kind="image", entry=before, pane="fused", exact=True)
    pair = (fl.data.image_io.as_tensor(image) for image in (ir, visible))
    expected = inference.fuse(page.viewer._handler.networks.fusion_network, *pair)
    np.testing.assert_array_equal(decoded(data), fl.data.image_io.to_uint8(expected))
    [(_, [data])] = page.ask(kind="image", entry=before + 1, pane="infrared", exact=True)
    np.testing.assert_array_equal(decoded(data), visible[::-1])
    [(content, _)] = page.ask(kind="measures", entry=before, panes=["fused"])
    assert content["kind"] == "measures"


def test_uploads_are_bounded_and_refused_in_one_sentence(page, monkeypatch):
    small, other = png(np.zeros((8, 10), np.uint8)), png(np.zeros((9, 10), np.uint8))
    count = len(page.viewer.gallery["entries"])
    cases = [((("a.png", small),), "expected two images, an infrared and a visible one, found 1"),
             ((("a.png", b"text"), ("b.png", small)), "a.png: expected a png, jpg, bmp or tiff image"),
             ((("a.png", small), ("b.png", small[:-20])), "b.png: expected a whole png"),
             ((("a.png", small), ("../../b.png", other)), "expected 10x8")]  # fmt: skip
    for files, sentence in cases:
        [(content, _)] = upload(page, *files)
        assert content["of"] == "upload" and sentence in content["text"] and "\n" not in content["text"]
    monkeypatch.setattr(uploads, "MAX_PIXELS", 79)
    assert "at most 0 million pixels" in upload(page, ("a.png", small), ("b.png", small))[0][0]["text"]
    monkeypatch.setattr(uploads, "MAX_BYTES", 100)
    [(content, _)] = upload(page, ("a.png", bytes(300)), ("b.png", small), part=60)  # the rest is ignored
    assert "a.png: expected an image file of at most 0 MB" in content["text"]
    monkeypatch.undo()
    assert len(page.viewer.gallery["entries"]) == count


def test_own_pairs_are_limited_and_named_apart():
    gallery = Gallery("a", [], ["a", "b"])
    image = np.zeros((8, 10), np.uint8)
    names = [uploads.add_entry(gallery, image, image, "x").name for _ in range(uploads.MAX_PAIRS)]
    assert names[:3] == ["own/x", "own/x 2", "own/x 3"] and len(set(names)) == uploads.MAX_PAIRS
    assert gallery.panes == ["a", "b", "infrared", "visible", "fused"] and gallery.sources == ("infrared", "visible")
    with pytest.raises(FusionError, match="at most 10 pairs of your own"):
        uploads.add_entry(gallery, image, image, "x")


def test_ratings_are_rows_of_a_csv_and_are_read_again(page, run, monkeypatch):
    name = page.viewer.gallery["entries"][1]["name"]
    for score, pane, text in ((2, "fused", ""), (4, "fused", ""), (5, "instruction", 'say "brighter", please')):
        [(content, _)] = page.ask(kind="rate", entry=1, pane=pane, score=score, instruction=text)
        assert content["kind"] == "rated" and content["score"] == score
    rows = pd.read_csv(content["path"], keep_default_na=False)
    assert Path(content["path"]) == run.figures / "ratings.csv"
    assert rows.iloc[:, 1:].values.tolist() == [["tiny", name, "fused", "", 2], ["tiny", name, "fused", "", 4],
                                                ["tiny", name, "instruction", 'say "brighter", please', 5]]  # fmt: skip
    assert fl.browse(run.folder).gallery["entries"][1]["ratings"] == {"fused": 4}
    [(content, _)] = page.ask(kind="rate", entry=1, pane="fused", score=6)
    assert "from 1 to 5" in content["text"]
    damaged = Path(run.figures / "ratings.csv")
    damaged.write_bytes(b"\xff\x00 no table")
    assert ratings.read(damaged, "tiny") == {}
    damaged.unlink()


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


def test_jupyterlab_is_told_what_it_may_lack_until_the_page_answers(page, monkeypatch):
    """JupyterLab of another environment shows the widget as "Click to show javascript error" and never answers."""
    shown, updated = [], []

    class Handle:
        update = staticmethod(updated.append)

    def display(content, display_id=None, **_):
        shown.append(content)
        return Handle if display_id else None

    monkeypatch.setattr(widget, "display", display)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    with pytest.raises(NotImplementedError):  # papermill, say: IPython displays the bundle alone
        page.viewer._ipython_display_()
    assert not shown
    monkeypatch.setenv("JPY_SESSION_NAME", "09_browse.ipynb")
    page.viewer._ipython_display_()
    note, bundle = shown
    assert "install it there by <code>pip install anywidget</code>" in note.data and bundle["image/png"] in note.data
    assert not updated
    page.ask(kind="image", entry=0, pane="visible", exact=False)
    page.ask(kind="image", entry=1, pane="visible", exact=False)
    assert [each.data for each in updated] == [""]


def test_a_closed_viewer_does_not_reply(page):
    page.viewer.close()
    page.ask(0, kind="people", entry=0, panes=["fused"])
