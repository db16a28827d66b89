"""End-to-end test of notebook 09 in JupyterLab and Chromium: what the page shows.

The tests share one page, and each continues where the one before stopped.
"""

import base64
import io
import itertools
import json
import re
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import nbformat
import numpy as np
import pytest
from jupyter_server.serverapp import ServerApp
from PIL import Image
from torchvision.ops import box_iou

import fusionlib as fl
from benchmarks.browser import CHROMIUM
from benchmarks.browser import server as jupyterlab
from fusionlib.experiments.suite import NOTEBOOKS, parameters
from tests.viewer.conftest import MARKUP

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright.expect  # waits for what it asserts

WAIT = 240_000  # ms for what takes a second or two on an idle machine
PIXELS = """canvas => { const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let sum = [0, 0, 0]; for (let i = 0; i < data.length; i += 4) for (let c of [0, 1, 2]) sum[c] += data[i + c];
  return sum.map(each => each / canvas.width / canvas.height); }"""  # mean R, G, B
ACTIVE = "index => document.querySelectorAll('.jp-Notebook .jp-Cell')[index]?.classList.contains('jp-mod-active')"
SHOWN = "document.querySelectorAll('.fl-viewer[data-shown]').length === 3"
BOXES = """nodes => nodes.map(node => node.getBoundingClientRect()).filter(box => box.width)
  .map(box => ({x: box.x, y: box.y, width: box.width, height: box.height}))"""  # of what is visible, at one moment
LISTED = """labels => JSON.stringify([...document.querySelector('.fl-viewer').querySelectorAll('.fl-thumb')]
  .map(each => each.title)) === JSON.stringify(labels)"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """JupyterLab on a free port, with separate settings and runtime files: (address, token, notebook folder)."""
    folder = tmp_path_factory.mktemp("lab")
    process, about = jupyterlab(folder)
    yield about["url"], about["token"], folder / "notebooks"
    process.terminate()
    process.wait(60)


@pytest.fixture(scope="module")
def page(server, run, quoted):
    """The notebook executed on a small run, with another viewer of images whose names contain markup."""
    if not CHROMIUM:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    address, token, folder = server
    notebook = nbformat.read(NOTEBOOKS / "09_browse.ipynb", 4)
    assert parameters(NOTEBOOKS / "09_browse.ipynb")["out"] == ""
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source += f"\nout = {str(run.folder)!r}"
    for each in notebook.cells:
        if each.cell_type == "code":
            each.outputs, each.execution_count = [], None
    notebook.cells.append(nbformat.v4.new_code_cell(f"fl.browse({str(quoted[0])!r})"))
    nbformat.write(notebook, folder / "09_browse.ipynb")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(WAIT)
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.goto(f"{address}lab/tree/09_browse.ipynb?token={token}")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.wait_for_selector("#jp-main-statusbar >> text=| Idle")  # cells run before the kernel is connected are lost
        for last in (False, True):  # cells run at the moment in which the kernel connects are lost
            page.click(".jp-Notebook .jp-Cell >> nth=0")
            for index in range(len(notebook.cells)):
                page.wait_for_function(ACTIVE, arg=index)  # a key that comes too early is lost
                page.keyboard.press("Shift+Enter")
            try:
                page.wait_for_function(SHOWN, timeout=WAIT if last else WAIT / 3)
                break
            except playwright.TimeoutError:
                if last:
                    raise
        page.set_default_timeout(WAIT / 8)
        expect.set_options(timeout=WAIT / 8)
        yield page
        browser.close()


@pytest.fixture(scope="module")
def viewer(page):
    """The first viewer, of the run."""
    viewer = page.locator(".fl-viewer").first
    viewer.scroll_into_view_if_needed()
    return viewer


@pytest.fixture(scope="module")
def pairs(run):
    return fl.data.read_manifest(run.folder / "01_data" / "manifest.json", run.data_root)["test"]


@pytest.fixture(scope="module")
def crowd(pairs):
    """A pair with people, not the first one."""
    return next(pair for pair in pairs[1:] if len(pair.boxes))


def canvas(viewer, pane):
    return viewer.locator(f".fl-frame[data-panes='{pane}'] .fl-stage canvas")


def shows(page, label):
    page.wait_for_function("label => document.querySelector('.fl-viewer').dataset.shown === label", arg=label)


def has_mean(canvas, expected, atol):
    """Wait until the mean colour of a canvas is this: it is drawn when its image, or one without loss, has come."""
    until = time.monotonic() + WAIT / 8000
    while not np.allclose(found := canvas.evaluate(PIXELS), expected, rtol=0, atol=atol) and time.monotonic() < until:
        time.sleep(0.1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def found_by(run, pair, pane, score, detector=""):
    """Boxes of a detector of the run in an image, [n,4]."""
    networks = fl.viewer.session.Networks(run)
    stage = {"fused": "02_fusion_network", "refined": "04_text_dfh"}[pane]
    boxes = networks.detect_people(fl.inference.network.read_fused(run.folder / stage / "fused", [pair])[0], detector)
    return boxes[boxes[:, 4] >= score]


def test_jupyterlab_serves_localhost_and_requires_the_token(server):
    url, token, _ = server
    command = next(line for line in (fl.ROOT / "Makefile").read_text().splitlines() if " jupyter lab" in line)
    assert command.split(" -m ")[1] == "jupyter lab notebooks"  # the rest of this test is about its defaults
    assert ServerApp().ip == "localhost"
    with pytest.raises(HTTPError, match="403"):
        urlopen(f"{url}api/contents", timeout=60)
    assert urlopen(f"{url}api/contents?token={token}", timeout=60).status == 200


def test_the_notebook_runs_and_shows_the_images(page, viewer, pairs):
    expect(page.locator(".jp-OutputArea-output >> text=all checks passed")).to_have_count(1)  # of the last cells
    expect(viewer.locator("[data-role=name]")).to_have_text(pairs[0].label)
    expect(viewer.locator(".fl-frame")).to_have_count(4)
    expect(viewer.locator(".fl-thumb")).to_have_count(len(pairs))
    for pane, image in zip(("infrared", "visible"), fl.data.load(pairs[0])):
        assert canvas(viewer, pane).evaluate("c => [c.width, c.height]") == [320, 256]
        has_mean(canvas(viewer, pane), 255 * image.expand(3, -1, -1).mean((1, 2)).numpy(), 2)


def test_an_answer_with_markup_is_shown_as_text(page, viewer):
    expect(viewer.locator(".fl-answer")).to_have_text(MARKUP)
    expect(viewer.locator(".fl-source").first).to_contain_text("<i>nobody</i>")
    assert viewer.locator("script, .fl-answer b, .fl-source i").count() == 0


def test_arrow_keys_step(page, viewer, pairs):
    before = canvas(viewer, "visible").evaluate(PIXELS)
    viewer.focus()
    page.keyboard.press("ArrowRight")
    shows(page, pairs[1].label)
    expected = 255 * fl.data.load(pairs[1])[1].mean((1, 2)).numpy()
    has_mean(canvas(viewer, "visible"), expected, 2)
    assert np.abs(expected - before).max() > 4
    expect(viewer.locator("[aria-selected=true]")).to_have_attribute("title", pairs[1].label)
    expect(page.locator(".jp-Notebook .jp-Cell")).to_have_count(10)  # no key has reached JupyterLab
    page.keyboard.press("End")
    shows(page, pairs[-1].label)
    page.keyboard.press("ArrowRight")  # already the last
    page.keyboard.press("ArrowLeft")
    shows(page, pairs[-2].label)
    page.keyboard.press("Home")
    shows(page, pairs[0].label)
    page.keyboard.press("ArrowRight")
    shows(page, pairs[1].label)


def test_there_is_a_box_for_each_person(page, viewer, crowd):
    viewer.locator(f"[title='{crowd.label}']").click()
    shows(page, crowd.label)
    frame = viewer.locator(".fl-frame[data-panes=fused]")
    people = fl.data.datasets.people(crowd)
    assert len(people)
    expect(frame.locator("rect.fl-truth")).to_have_count(len(people))
    viewer.focus()
    page.keyboard.press("t")
    expect(frame.locator("rect")).to_have_count(0)
    viewer.locator("[data-role=truth]").click()
    expect(frame.locator("rect.fl-truth")).to_have_count(len(people))


def test_the_threshold_hides_detections_with_lower_scores(page, viewer, run, crowd):
    viewer.locator("[data-role=found]").click()
    frame = viewer.locator(".fl-frame[data-panes=fused]")
    counts = {score: len(found_by(run, crowd, "fused", score)) for score in (0.05, 0.25, 0.6)}
    assert counts[0.05] > counts[0.6]
    for score, count in counts.items():
        viewer.locator("[data-role=score]").fill(str(score))
        expect(frame.locator("rect.fl-found")).to_have_count(count)


def test_the_held_out_detector_can_be_chosen(page, viewer, run, crowd):
    frame = viewer.locator(".fl-frame[data-panes=fused]")
    counts = {name: len(found_by(run, crowd, "fused", 0.05, name)) for name in ("judge", "scene_detector")}
    assert counts["judge"] != counts["scene_detector"]
    viewer.locator("[data-role=score]").fill("0.05")
    for name, count in counts.items():
        viewer.locator("[data-role=detector]").select_option(name)
        expect(frame.locator("rect.fl-found")).to_have_count(count)
    viewer.locator("[data-role=score]").fill("0.6")


def test_missed_pedestrians_are_filtered(page, viewer, run, pairs):
    score = 0.6
    missed = {}
    for pair in pairs:
        people, boxes = fl.data.datasets.people(pair), found_by(run, pair, "refined", score)
        free = list(range(len(people)))
        for box in boxes:  # best score first
            overlaps = {index: box_iou(people[index : index + 1], box[None, :4]).item() for index in free}
            if overlaps and max(overlaps.values()) >= 0.5:
                free.remove(max(overlaps, key=overlaps.get))
        missed[pair.label] = len(free)
    assert 0 < sum(map(bool, missed.values()))
    viewer.locator("[data-role=filter]").select_option("missed")
    expected = [label for label, count in missed.items() if count]
    page.wait_for_function(LISTED, arg=expected)
    viewer.locator("[data-role=order]").select_option("missed")
    expected.sort(key=lambda label: -missed[label])
    page.wait_for_function(LISTED, arg=expected)
    for name in ("filter", "order"):
        viewer.locator(f"[data-role={name}]").select_option("")
    expect(viewer.locator(".fl-thumb")).to_have_count(len(pairs))


def test_search(page, viewer, pairs):
    viewer.focus()
    page.keyboard.press("/")
    page.keyboard.type("script")
    page.wait_for_function("document.querySelector('.fl-viewer').querySelectorAll('.fl-thumb').length === 1")
    shows(page, pairs[0].label)
    viewer.locator(".fl-search").fill("")
    expect(viewer.locator(".fl-thumb")).to_have_count(len(pairs))
    expect(viewer.locator("[aria-selected=true]")).to_have_attribute("title", pairs[0].label)


def test_the_help_aligns_keys_and_texts(page, viewer):
    viewer.focus()
    page.keyboard.press("?")
    help_panel = viewer.locator(".fl-help")
    expect(help_panel).to_be_visible()
    boxes = help_panel.locator("dt, dd").evaluate_all(BOXES)  # in turn
    assert len(boxes) > 20 and len(boxes) % 2 == 0
    for key, text in zip(boxes[::2], boxes[1::2]):  # JupyterLab's style of definition lists would shift them
        assert abs(key["y"] - text["y"]) < 8 and 0 < text["x"] - (key["x"] + key["width"]) < 40
    page.keyboard.press("?")
    expect(help_panel).to_be_hidden()


@pytest.fixture
def swipe(page, viewer):
    """The layout of two images with a slider, which ends with the test even if that fails."""
    viewer.focus()
    page.keyboard.press("s")
    yield
    viewer.focus()
    page.keyboard.press("s")
    expect(viewer.locator(".fl-frame")).to_have_count(4)


def test_the_slider_swipes(page, viewer, swipe):
    viewer.locator("[data-role=score]").fill("0.05")
    viewer.locator("[data-role=found]").check()
    frame, handle = viewer.locator(".fl-frame"), viewer.locator(".fl-handle")
    expect(frame).to_have_count(1)
    expect(frame).to_have_attribute("data-panes", "fused|refined")
    expect(viewer.locator(".fl-layer").first.locator("text:visible").first).to_be_visible()
    scores = viewer.locator(".fl-layer").first.locator("text").evaluate_all(BOXES)
    for a, b in itertools.combinations(scores, 2):  # none lies over another, by more than its outline
        assert min(a["x"] + a["width"], b["x"] + b["width"]) - max(a["x"], b["x"]) < 3 or abs(a["y"] - b["y"]) > 10
    viewer.locator("[data-role=score]").fill("0.25")
    box = viewer.locator(".fl-window").bounding_box()
    handle.hover()
    page.mouse.down()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    expect(handle).to_have_attribute("aria-valuenow", re.compile("^2[456]$"))
    left, right = viewer.locator(".fl-layer").evaluate_all("layers => layers.map(each => each.style.clipPath)")
    assert float(re.search(r"([\d.]+)%\)? 0(px)? 0(px)?\)$", left)[1]) == pytest.approx(75, abs=1) or "25" in left
    assert float(re.search(r"([\d.]+)%\)$", right)[1]) == pytest.approx(25, abs=1)
    handle.focus()
    page.keyboard.press("ArrowRight")
    expect(handle).to_have_attribute("aria-valuenow", re.compile("^2[678]$"))


def test_captions_are_level_and_whole_and_images_fit_the_page(page, viewer):
    tops = viewer.locator(".fl-frame").evaluate_all("""frames => frames.map(frame => [frame,
      ...['.fl-line', '.fl-window', '.fl-badges'].map(each => frame.querySelector(each))]
      .map(each => Math.round(each.getBoundingClientRect().y)))""")
    frames, *parts = map(set, zip(*tops))
    assert [len(part) for part in parts] == [len(frames)] * 3
    whole = "all => all.map(node => node.scrollWidth <= node.clientWidth)"
    assert all(viewer.locator(".fl-facts").evaluate_all(whole))
    height = "document.querySelector('.fl-window').clientHeight"
    before = page.evaluate(height)
    page.set_viewport_size({"width": 1280, "height": 760})
    page.wait_for_function(f"{height} < {before}")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.wait_for_function(f"{height} === {before}")


def test_stars_hide_no_caption(page, viewer):
    """They appear under the pointer, also where what was found fills the caption."""
    for size in ({"width": 1600, "height": 1000}, {"width": 1280, "height": 900}):
        page.set_viewport_size(size)
        for pane in ("infrared", "visible", "fused", "refined"):
            frame = viewer.locator(f".fl-frame[data-panes={pane}]")
            frame.locator(".fl-window").hover()
            expect(frame.locator(".fl-stars")).to_have_css("opacity", "1")
            line, stars = frame.evaluate("""frame => ['.fl-line', '.fl-stars'].map(part => {
              const box = frame.querySelector(part).getBoundingClientRect();
              return {left: box.left, top: box.top, right: box.right, bottom: box.bottom}; })""")
            assert stars["top"] >= line["bottom"] and stars["right"] - line["right"] < 1 <= stars["left"] - line["left"]


def test_zoom_is_linked(page, viewer):
    window = viewer.locator(".fl-frame[data-panes=visible] .fl-window")
    transforms = "each => [...each.querySelectorAll('.fl-stage')].map(stage => stage.style.transform)"
    before = viewer.evaluate(transforms)
    assert len(set(before)) == 1
    viewer.focus()
    window.hover(position={"x": 10, "y": 10})
    page.mouse.wheel(0, -600)
    page.wait_for_function("before => document.querySelector('.fl-stage').style.transform !== before", arg=before[0])
    after = viewer.evaluate(transforms)
    assert len(set(after)) == 1
    scale = [float(re.search(r"scale\(([\d.]+)\)", each)[1]) for each in (before[0], after[0])]
    assert scale[1] == pytest.approx(scale[0] * np.exp(1.2), rel=0.01)
    page.keyboard.press("0")
    page.wait_for_function(f"before => JSON.stringify(({transforms})(document.querySelector('.fl-viewer'))) === before",
                           arg=json.dumps(before, separators=(",", ":"), ensure_ascii=False))  # fmt: skip


def test_an_instruction_refines_the_image(page, viewer, run, pairs):
    shown = next(pair for pair in pairs if pair.label == viewer.get_attribute("data-shown"))
    viewer.locator("[data-role=instruction]").fill("Make the image brighter.")
    page.keyboard.press("Enter")
    took = viewer.locator("[data-role=took]")
    expect(took).to_have_text(re.compile(r"^refined in \d+ ms at 320×256 by weights of this run$"))
    expected = fl.viewer.session.Networks(run).refine(*fl.data.load(shown), "Make the image brighter.")
    # Of the random network's noise, which is clipped at black, a jpg has another mean.
    jpg = fl.viewer.encoding.encode(fl.viewer.encoding.read(expected, "expected"))[0]
    has_mean(canvas(viewer, "instruction"), np.asarray(Image.open(io.BytesIO(jpg))).mean((0, 1)), 0.2)
    fused, refined = (canvas(viewer, pane).evaluate(PIXELS) for pane in ("fused", "instruction"))
    assert max(abs(a - b) for a, b in zip(fused, refined)) > 0.5
    viewer.locator("[data-role=instruction]").fill("")
    page.keyboard.press("Enter")
    expect(viewer.locator(".fl-frame")).to_have_count(4)


def test_a_word_shows_its_attention_map(page, viewer):
    viewer.locator(".fl-word >> text=brighten").click()
    page.wait_for_function("[...document.querySelector('.fl-viewer').querySelectorAll('.fl-heat')].every("
                           "heat => heat.naturalWidth > 0)")  # fmt: skip
    expect(viewer.locator(".fl-heat:visible")).to_have_count(4)
    status = viewer.locator(".fl-status")
    expect(status).to_have_text("attention: purple a little, yellow the most")
    viewer.focus()
    page.keyboard.press("Escape")
    expect(viewer.locator(".fl-heat:visible")).to_have_count(0)
    expect(status).to_have_text("")


def test_metrics_are_shown_and_the_best_is_marked(page, viewer):
    for metric, down in (("Q_AB/F", False), ("Q_CV", True), ("SSIM", False)):
        badges = viewer.locator(f".fl-badge[data-metric='{metric}']")
        expect(badges.filter(has_text=re.compile(r"\d"))).to_have_count(2)
        expect(badges.filter(has_text="…")).to_have_count(0)
        shown = badges.evaluate_all("all => all.map(each => [each.querySelector('b').textContent, each.className])")
        values = [float(text) for text, _ in shown]
        best = [float(text) for text, name in shown if "fl-best" in name]
        assert len(set(values)) == 1 or best == [min(values) if down else max(values)]


def saved_view(viewer, before=""):
    """Save the view; returns the file, which is another than the one before."""
    status = viewer.locator(".fl-status")
    viewer.locator("text=save").click()
    expect(status).to_have_text(re.compile("^saved as "))
    if before:
        expect(status).not_to_contain_text(before)
    return Path(status.inner_text().removeprefix("saved as ").partition(", and")[0])


def test_a_view_is_saved_with_instruction_and_overlay(page, viewer, run):
    def coloured(path, panes):
        """How many pixels of the infrared image, the first one of this figure, are not gray."""
        image = np.asarray(Image.open(path).convert("RGB")).astype(int)
        return (np.ptp(image[:, : image.shape[1] // panes], axis=2) > 40).sum()

    boxes = [viewer.locator(f"[data-role={role}]") for role in ("truth", "found")]
    for box in boxes:
        box.uncheck()
    plain = saved_view(viewer)
    assert plain.parent == run.figures and plain.stat().st_size > 10_000 and plain.with_suffix(".pdf").is_file()
    viewer.locator("[data-role=instruction]").fill("Make the image brighter.")
    page.keyboard.press("Enter")
    expect(viewer.locator("[data-role=took]")).to_have_text(re.compile("^refined in "))
    viewer.locator(".fl-word >> text=brighten").click()
    expect(viewer.locator(".fl-heat:visible")).to_have_count(5)
    full = saved_view(viewer, plain.name)
    assert Image.open(full).width > 1.2 * Image.open(plain).width  # one image more
    assert coloured(plain, 4) == 0 and coloured(full, 5) > 100
    for box in boxes:
        box.check()
    viewer.locator("[data-role=instruction]").fill("")
    page.keyboard.press("Enter")
    viewer.focus()
    page.keyboard.press("Escape")
    expect(viewer.locator(".fl-frame")).to_have_count(4)
    expect(viewer.locator(".fl-heat:visible")).to_have_count(0)


def test_names_with_markup_are_shown_as_text(page, quoted):
    other = page.locator(".fl-viewer").nth(2)
    other.scroll_into_view_if_needed()
    expect(other.locator("[data-role=name]")).to_have_text(re.compile(re.escape(quoted[1]) + "$"))
    expect(other.locator(".fl-thumb").first).to_have_attribute("title", re.compile(re.escape(quoted[1])))
    assert canvas(other, "infrared").evaluate("c => [c.width, c.height]") == [32, 24]
    has_mean(canvas(other, "visible"), [191, 191, 191], 1)
    assert page.evaluate("window.hacked") is None and page.problems == []


@pytest.fixture(scope="module")
def folder_viewer(page):
    """The third viewer, of a plain folder: infrared is 64 everywhere, visible 191."""
    viewer = page.locator(".fl-viewer").nth(2)
    viewer.scroll_into_view_if_needed()
    return viewer


@pytest.fixture(scope="module")
def fused(quoted):
    """The fused image of the plain folder, uint8 [24,32,3]."""
    return fl.fuse(quoted[0] / "ir" / "plain.png", quoted[0] / "vi" / "plain.png")


def test_a_plain_folder_shows_the_fused_image_and_fills_the_width(page, folder_viewer, fused):
    has_mean(canvas(folder_viewer, "fused"), fused.mean((0, 1)), 1)
    expect(folder_viewer.locator("[data-role=took]")).to_have_text("by weights of the package")
    boxes = folder_viewer.locator(".fl-window").evaluate_all(BOXES)
    area = folder_viewer.locator(".fl-frames").bounding_box()
    assert len(boxes) == 3 and min(box["x"] for box in boxes) == pytest.approx(area["x"], abs=1)
    right = max(box["x"] + box["width"] for box in boxes)
    assert right == pytest.approx(area["x"] + area["width"], abs=1)


def test_values_under_the_pointer_and_the_loupe(page, folder_viewer, fused):
    window = folder_viewer.locator(".fl-frame[data-panes=infrared] .fl-window")
    window.hover()
    values = folder_viewer.locator(".fl-value:not(.fl-legend)")  # exact, once the image has come without loss
    expect(values).to_have_text(["64", "191", str(fused[12, 16, 0])])
    expect(folder_viewer.locator("[data-role=where]")).to_have_text(re.compile("^x 1[56], y 1[12]$"))
    expect(folder_viewer.locator(".fl-mark:visible")).to_have_count(2)  # in the other two
    folder_viewer.focus()
    page.keyboard.press("l")
    expect(folder_viewer.locator(".fl-loupe:visible")).to_have_count(3)
    middle = "loupe => [...loupe.getContext('2d').getImageData(loupe.width / 2, loupe.height / 2, 1, 1).data]"
    assert folder_viewer.locator(".fl-loupe").nth(1).evaluate(middle) == [191, 191, 191, 255]
    page.keyboard.press("l")
    expect(folder_viewer.locator(".fl-loupe:visible")).to_have_count(0)


def test_pseudo_colours_difference_and_blink(page, folder_viewer):
    folder_viewer.locator("[data-role=palette]").select_option("turbo")
    table = fl.viewer.encoding.palette("turbo")
    has_mean(canvas(folder_viewer, "infrared"), list(bytes.fromhex(table[6 * 64 : 6 * 65])), 0)
    has_mean(canvas(folder_viewer, "visible"), [191, 191, 191], 1)
    folder_viewer.locator("[data-role=palette]").select_option("")
    folder_viewer.focus()
    page.keyboard.press("d")
    folder_viewer.locator("[data-role=right]").select_option("visible")
    map_ = canvas(folder_viewer, "infrared|visible").first
    for gain, blue in (("1", 127), ("4", 255)):  # the visible image is brighter
        folder_viewer.locator("[data-role=gain]").select_option(gain)
        has_mean(map_, [0, 0.45 * blue, blue], 1)
    expect(folder_viewer.locator(".fl-legend")).to_have_text("orange: infrared is brighter, blue: visible is; ×4")
    folder_viewer.focus()
    page.keyboard.press("x")
    for front in "101":
        page.wait_for_selector(f".fl-frame[data-front='{front}']")
    page.keyboard.press("Space")
    still = folder_viewer.locator(".fl-frame").get_attribute("data-front")
    page.wait_for_timeout(1000)
    assert folder_viewer.locator(".fl-frame").get_attribute("data-front") == still
    page.keyboard.press("x")
    expect(folder_viewer.locator(".fl-frame")).to_have_count(3)


def test_full_screen(page, folder_viewer):
    folder_viewer.focus()
    page.keyboard.press("f")
    page.wait_for_function("document.fullscreenElement?.classList.contains('fl-viewer')")
    expect(folder_viewer).to_have_css("width", "1280px")
    page.keyboard.press("f")
    page.wait_for_function("!document.fullscreenElement")


def test_downloads(page, folder_viewer, fused, tmp_path):
    def saved(role):
        with page.expect_download() as started:
            folder_viewer.locator(role).click()
        started.value.save_as(tmp_path / "file")
        return started.value.suggested_filename, Image.open(tmp_path / "file")

    folder_viewer.locator(".fl-thumb[title$=plain]").click()
    expect(folder_viewer.locator(".fl-waiting")).to_have_count(0)
    name, view = saved("[data-role=download-view]")
    area = folder_viewer.locator(".fl-frames").bounding_box()
    assert name.endswith("plain_view.png") and view.width == pytest.approx(2 * (area["width"] + 20), abs=2)
    counts = {colour: count for count, colour in view.convert("RGB").getcolors(1 << 24)}
    window = folder_viewer.locator(".fl-window").first.bounding_box()  # as high as the image, which is 4:3
    for level in (64, 191):
        count = sum(counts.get((value,) * 3, 0) for value in (level - 1, level, level + 1))
        assert count >= 0.9 * 4 * window["height"] ** 2 * 4 / 3
    name, image = saved(".fl-frame[data-panes=fused] .fl-get")
    assert name.endswith("plain_fused.png")
    np.testing.assert_array_equal(np.asarray(image), fused)
    name, gif = saved("[data-role=download-gif]")
    assert name.endswith("plain_infrared_visible.gif") and gif.format == "GIF" and gif.n_frames == 32


def test_a_key_rates_the_image_under_the_pointer(page, server, folder_viewer):
    folder_viewer.focus()
    folder_viewer.locator(".fl-frame[data-panes=visible] .fl-window").hover()
    page.keyboard.press("Shift+Digit4")
    stars = folder_viewer.locator(".fl-stars")  # of ir, vi, fused
    expect(stars.nth(1)).to_have_attribute("data-score", "4")
    folder_viewer.locator("[aria-label='rate fused 2 of 5 (Shift+2)']").click()
    expect(stars.nth(2)).to_have_attribute("data-score", "2")
    rows = [line.split(",")[2:] for line in (server[2] / "ratings.csv").read_text().splitlines()]
    rows = [[row[0].rpartition("/")[2], *row[1:]] for row in rows]  # without the name of the data set
    assert rows == [["entry", "image", "instruction", "score"], ["plain", "visible", "", "4"],
                    ["plain", "fused", "", "2"]]


def test_a_pair_of_one_s_own_is_chosen_or_dropped(page, folder_viewer, tmp_path):
    files = [tmp_path / "<b>night_ir.png", tmp_path / "night.png"]
    for path, level in zip(files, (20, 230)):
        fl.data.write_image(path, np.full((40, 60, 3), level, np.uint8))

    def choose(paths):
        with page.expect_file_chooser() as chooser:
            folder_viewer.locator("[data-role=open-pair]").click()
        chooser.value.set_files(paths)

    status = folder_viewer.locator(".fl-status")
    choose(files[:1])
    expect(status).to_have_text(re.compile("^expected two images at once"))
    choose(files[::-1])  # names say which is infrared
    expect(folder_viewer.locator("[data-role=name]")).to_have_text("own/night")
    page.wait_for_selector(".fl-viewer[data-shown='own/night']")
    has_mean(canvas(folder_viewer, "infrared"), [20, 20, 20], 1)
    has_mean(canvas(folder_viewer, "fused"), fl.fuse(*files).mean((0, 1)), 1)
    drop = """(viewer, files) => { const data = new DataTransfer();
      const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
      for (const [name, text] of files) data.items.add(new File([bytes(text)], name));
      viewer.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })); }"""
    bad = base64.b64encode(b"no image").decode()
    folder_viewer.evaluate(drop, [["a_ir.png", bad], ["a_vis.png", bad]])
    expect(status).to_have_text(re.compile("a_ir.png: expected a png, jpg, bmp or tiff image"))
    good = [base64.b64encode(path.read_bytes()).decode() for path in files]
    folder_viewer.evaluate(drop, [["day_vis.png", good[1]], ["day_ir.png", good[0]]])
    page.wait_for_selector(".fl-viewer[data-shown='own/day_vis']")
    has_mean(canvas(folder_viewer, "visible"), [230, 230, 230], 1)
    assert page.evaluate("window.hacked") is None and page.problems == []
