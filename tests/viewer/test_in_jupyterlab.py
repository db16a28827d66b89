"""End-to-end test of notebook 09 in JupyterLab and Chromium: what the page shows.

The tests share one page, and each continues where the one before stopped.
"""

import itertools
import re
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
    expect = playwright.expect  # waits: the last cells may still be running
    expect(page.locator(".jp-OutputArea-output >> text=all checks passed")).to_have_count(1, timeout=WAIT / 8)
    expect(viewer.locator("[data-role=name]")).to_have_text(pairs[0].label, timeout=WAIT / 8)
    expect(viewer.locator(".fl-frame")).to_have_count(4, timeout=WAIT / 8)
    expect(viewer.locator(".fl-thumb")).to_have_count(len(pairs), timeout=WAIT / 8)
    for pane, image in zip(("infrared", "visible"), fl.data.load(pairs[0])):
        assert canvas(viewer, pane).evaluate("c => [c.width, c.height]") == [320, 256]
        expected = 255 * image.expand(3, -1, -1).mean((1, 2)).numpy()
        np.testing.assert_allclose(canvas(viewer, pane).evaluate(PIXELS), expected, atol=2)


def test_an_answer_with_markup_is_shown_as_text(page, viewer):
    assert viewer.locator(".fl-answer").inner_text() == MARKUP
    assert "<i>nobody</i>" in viewer.locator(".fl-source").first.inner_text()
    assert viewer.locator("script, .fl-answer b, .fl-source i").count() == 0


def test_arrow_keys_step(page, viewer, pairs):
    before = canvas(viewer, "visible").evaluate(PIXELS)
    viewer.focus()
    page.keyboard.press("ArrowRight")
    shows(page, pairs[1].label)
    after = canvas(viewer, "visible").evaluate(PIXELS)
    expected = 255 * fl.data.load(pairs[1])[1].mean((1, 2)).numpy()
    np.testing.assert_allclose(after, expected, atol=2)
    assert max(abs(a - b) for a, b in zip(before, after)) > 2
    assert viewer.locator("[aria-selected=true]").get_attribute("title") == pairs[1].label
    assert page.locator(".jp-Notebook .jp-Cell").count() == 10  # no key has reached JupyterLab
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
    assert frame.locator("rect.fl-truth").count() == len(people) > 0
    viewer.focus()
    page.keyboard.press("t")
    assert frame.locator("rect").count() == 0
    viewer.locator("[data-role=truth]").click()
    assert frame.locator("rect.fl-truth").count() == len(people)


def test_the_threshold_hides_detections_with_lower_scores(page, viewer, run, crowd):
    viewer.locator("[data-role=found]").click()
    page.wait_for_function("![...document.querySelector('.fl-viewer').querySelectorAll('.fl-facts')].some("
                           "each => each.textContent.includes('detecting'))")  # fmt: skip
    frame = viewer.locator(".fl-frame[data-panes=fused]")
    counts = {}
    for score in (0.05, 0.25, 0.6):
        viewer.locator("[data-role=score]").fill(str(score))
        counts[score] = frame.locator("rect.fl-found").count()
        assert counts[score] == len(found_by(run, crowd, "fused", score))
    assert counts[0.05] > counts[0.6]


def test_the_held_out_detector_can_be_chosen(page, viewer, run, crowd):
    frame = viewer.locator(".fl-frame[data-panes=fused]")
    counts = {name: len(found_by(run, crowd, "fused", 0.05, name)) for name in ("judge", "scene_detector")}
    assert counts["judge"] != counts["scene_detector"]
    viewer.locator("[data-role=score]").fill("0.05")
    for name, count in counts.items():
        viewer.locator("[data-role=detector]").select_option(name)
        playwright.expect(frame.locator("rect.fl-found")).to_have_count(count, timeout=WAIT / 8)
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
    assert viewer.locator(".fl-thumb").count() == len(pairs)


def test_search(page, viewer, pairs):
    viewer.focus()
    page.keyboard.press("/")
    page.keyboard.type("script")
    page.wait_for_function("document.querySelector('.fl-viewer').querySelectorAll('.fl-thumb').length === 1")
    shows(page, pairs[0].label)
    viewer.locator(".fl-search").fill("")
    assert viewer.locator(".fl-thumb").count() == len(pairs)
    assert viewer.locator("[aria-selected=true]").get_attribute("title") == pairs[0].label


def test_the_help_aligns_keys_and_texts(page, viewer):
    viewer.focus()
    page.keyboard.press("?")
    help_panel = viewer.locator(".fl-help")
    keys, texts = (help_panel.locator(tag).evaluate_all(BOXES) for tag in ("dt", "dd"))
    assert len(keys) == len(texts) > 10
    for key, text in zip(keys, texts):  # JupyterLab's style of definition lists would shift them
        assert abs(key["y"] - text["y"]) < 8 and 0 < text["x"] - (key["x"] + key["width"]) < 40
    page.keyboard.press("?")
    assert help_panel.is_hidden()


@pytest.fixture
def swipe(page, viewer):
    """The layout of two images with a slider, which ends with the test even if that fails."""
    viewer.focus()
    page.keyboard.press("s")
    yield
    viewer.focus()
    page.keyboard.press("s")
    assert viewer.locator(".fl-frame").count() == 4


def test_the_slider_swipes(page, viewer, swipe):
    viewer.locator("[data-role=score]").fill("0.05")
    viewer.locator("[data-role=found]").check()
    frame, handle = viewer.locator(".fl-frame"), viewer.locator(".fl-handle")
    assert frame.count() == 1 and frame.get_attribute("data-panes") == "fused|refined"
    page.wait_for_selector(".fl-layer text:visible")
    scores = viewer.locator(".fl-layer").first.locator("text").evaluate_all(BOXES)
    assert scores
    for a, b in itertools.combinations(scores, 2):  # none lies over another, by more than its outline
        assert min(a["x"] + a["width"], b["x"] + b["width"]) - max(a["x"], b["x"]) < 3 or abs(a["y"] - b["y"]) > 10
    viewer.locator("[data-role=score]").fill("0.25")
    box = viewer.locator(".fl-window").bounding_box()
    handle.hover()
    page.mouse.down()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    assert int(handle.get_attribute("aria-valuenow")) in (24, 25, 26)
    left, right = (layer.evaluate("each => each.style.clipPath") for layer in viewer.locator(".fl-layer").all())
    assert float(re.search(r"([\d.]+)%\)? 0(px)? 0(px)?\)$", left)[1]) == pytest.approx(75, abs=1) or "25" in left
    assert float(re.search(r"([\d.]+)%\)$", right)[1]) == pytest.approx(25, abs=1)
    handle.focus()
    page.keyboard.press("ArrowRight")
    assert int(handle.get_attribute("aria-valuenow")) in (26, 27, 28)


def test_captions_are_level_and_whole_and_images_fit_the_page(page, viewer):
    frames = viewer.locator(".fl-frame").all()
    rows = {round(frame.bounding_box()["y"]) for frame in frames}
    for part in (".fl-line", ".fl-window", ".fl-badges"):
        assert len({round(frame.locator(part).first.bounding_box()["y"]) for frame in frames}) == len(rows), part
    for facts in viewer.locator(".fl-facts").all():
        assert facts.evaluate("node => node.scrollWidth <= node.clientWidth")
    height = "document.querySelector('.fl-window').clientHeight"
    before = page.evaluate(height)
    page.set_viewport_size({"width": 1280, "height": 760})
    page.wait_for_function(f"{height} < {before}")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.wait_for_function(f"{height} === {before}")


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
    assert viewer.evaluate(transforms) == before


def test_an_instruction_refines_the_image(page, viewer, run, pairs):
    shown = next(pair for pair in pairs if pair.label == viewer.get_attribute("data-shown"))
    viewer.locator("[data-role=instruction]").fill("Make the image brighter.")
    page.keyboard.press("Enter")
    took = viewer.locator("[data-role=took]")
    page.wait_for_function("document.querySelector('[data-role=took]').textContent.includes(' ms at ')")
    assert re.fullmatch(r"refined in \d+ ms at 320×256 by weights of this run", took.inner_text())
    page.wait_for_function("document.querySelector(\".fl-frame[data-panes='instruction'] canvas\").width === 320")
    fused, refined = (canvas(viewer, pane).evaluate(PIXELS) for pane in ("fused", "instruction"))
    assert max(abs(a - b) for a, b in zip(fused, refined)) > 0.5
    expected = fl.viewer.session.Networks(run).refine(*fl.data.load(shown), "Make the image brighter.")
    np.testing.assert_allclose(refined, 255 * expected.mean((1, 2)).numpy(), atol=0.4)
    viewer.locator("[data-role=instruction]").fill("")
    page.keyboard.press("Enter")
    assert viewer.locator(".fl-frame").count() == 4


def test_a_word_shows_its_attention_map(page, viewer):
    viewer.locator(".fl-word >> text=brighten").click()
    page.wait_for_function("document.querySelector('.fl-heat').naturalWidth > 0")
    assert viewer.locator(".fl-heat:visible").count() == 4
    status = viewer.locator(".fl-status")
    assert status.inner_text() == "attention: purple a little, yellow the most"
    viewer.focus()
    page.keyboard.press("Escape")
    assert viewer.locator(".fl-heat:visible").count() == 0 and status.inner_text() == ""


def test_metrics_are_shown_and_the_best_is_marked(page, viewer):
    page.wait_for_function("![...document.querySelector('.fl-viewer').querySelectorAll('.fl-badge b')].some("
                           "each => each.textContent === '…')")  # fmt: skip
    for metric, down in (("Q_AB/F", False), ("Q_CV", True), ("SSIM", False)):
        badges = viewer.locator(f".fl-badge[data-metric='{metric}']").all()
        values = [float(badge.locator("b").inner_text()) for badge in badges]
        best = [value for badge, value in zip(badges, values) if "fl-best" in badge.get_attribute("class")]
        assert len(values) == 2 and (len(set(values)) == 1 or best == [min(values) if down else max(values)])


def test_a_view_is_saved(page, viewer, run):
    viewer.locator("text=save").click()
    page.wait_for_function("document.querySelector('.fl-status').textContent.startsWith('saved as ')")
    path = Path(viewer.locator(".fl-status").inner_text().removeprefix("saved as ").partition(", and")[0])
    assert path.parent == run.figures and path.stat().st_size > 10_000 and path.with_suffix(".pdf").is_file()


def test_names_with_markup_are_shown_as_text(page, quoted):
    other = page.locator(".fl-viewer").nth(2)
    other.scroll_into_view_if_needed()
    assert other.locator("[data-role=name]").text_content().endswith(quoted[1])
    assert quoted[1] in other.locator(".fl-thumb").first.get_attribute("title")
    assert canvas(other, "infrared").evaluate("c => [c.width, c.height]") == [32, 24]
    np.testing.assert_allclose(canvas(other, "visible").evaluate(PIXELS), [191, 191, 191], atol=1)
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
    expected = fused.mean((0, 1))
    playwright.expect(folder_viewer.locator(".fl-frame[data-panes=fused] .fl-waiting")).to_have_count(0)
    np.testing.assert_allclose(canvas(folder_viewer, "fused").evaluate(PIXELS), expected, atol=1)
    assert folder_viewer.locator("[data-role=took]").inner_text() == "by weights of the package"
    boxes = folder_viewer.locator(".fl-window").evaluate_all(BOXES)
    area = folder_viewer.locator(".fl-frames").bounding_box()
    assert len(boxes) == 3 and min(box["x"] for box in boxes) == pytest.approx(area["x"], abs=1)
    right = max(box["x"] + box["width"] for box in boxes)
    assert right == pytest.approx(area["x"] + area["width"], abs=1)


def test_values_under_the_pointer_and_the_loupe(page, folder_viewer, fused):
    window = folder_viewer.locator(".fl-frame[data-panes=infrared] .fl-window")
    window.hover()
    values = folder_viewer.locator(".fl-value:not(.fl-legend)")
    for value, text in zip(values.all(), ("64", "191", str(fused[12, 16, 0]))):
        playwright.expect(value).to_have_text(text)  # exact, once the image has come without loss
    assert re.fullmatch(r"x 1[56], y 1[12]", folder_viewer.locator("[data-role=where]").inner_text())
    assert folder_viewer.locator(".fl-mark:visible").count() == 2  # in the other two
    folder_viewer.focus()
    page.keyboard.press("l")
    assert folder_viewer.locator(".fl-loupe:visible").count() == 3
    middle = "loupe => [...loupe.getContext('2d').getImageData(loupe.width / 2, loupe.height / 2, 1, 1).data]"
    assert folder_viewer.locator(".fl-loupe").nth(1).evaluate(middle) == [191, 191, 191, 255]
    page.keyboard.press("l")
    assert folder_viewer.locator(".fl-loupe:visible").count() == 0


def test_pseudo_colours_difference_and_blink(page, folder_viewer):
    folder_viewer.locator("[data-role=palette]").select_option("turbo")
    table = fl.viewer.encoding.palette("turbo")
    assert canvas(folder_viewer, "infrared").evaluate(PIXELS) == list(bytes.fromhex(table[6 * 64 : 6 * 65]))
    np.testing.assert_allclose(canvas(folder_viewer, "visible").evaluate(PIXELS), [191, 191, 191], atol=1)
    folder_viewer.locator("[data-role=palette]").select_option("")
    folder_viewer.focus()
    page.keyboard.press("d")
    folder_viewer.locator("[data-role=right]").select_option("visible")
    map_ = canvas(folder_viewer, "infrared|visible").first
    for gain, blue in (("1", 127), ("4", 255)):  # the visible image is brighter
        folder_viewer.locator("[data-role=gain]").select_option(gain)
        np.testing.assert_allclose(map_.evaluate(PIXELS), [0, 0.45 * blue, blue], atol=1)
    assert folder_viewer.locator(".fl-legend").inner_text() == "orange: infrared is brighter, blue: visible is; ×4"
    folder_viewer.focus()
    page.keyboard.press("x")
    for front in "101":
        page.wait_for_selector(f".fl-frame[data-front='{front}']")
    page.keyboard.press("Space")
    still = folder_viewer.locator(".fl-frame").get_attribute("data-front")
    page.wait_for_timeout(1000)
    assert folder_viewer.locator(".fl-frame").get_attribute("data-front") == still
    page.keyboard.press("x")
    assert folder_viewer.locator(".fl-frame").count() == 3


def test_full_screen(page, folder_viewer):
    folder_viewer.focus()
    page.keyboard.press("f")
    page.wait_for_function("document.fullscreenElement?.classList.contains('fl-viewer')")
    playwright.expect(folder_viewer).to_have_css("width", "1280px")
    page.keyboard.press("f")
    page.wait_for_function("!document.fullscreenElement")


def test_downloads(page, folder_viewer, fused, tmp_path):
    def saved(role):
        with page.expect_download() as started:
            folder_viewer.locator(role).click()
        started.value.save_as(tmp_path / "file")
        return started.value.suggested_filename, Image.open(tmp_path / "file")

    folder_viewer.locator(".fl-thumb[title$=plain]").click()
    playwright.expect(folder_viewer.locator(".fl-waiting")).to_have_count(0)
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
    playwright.expect(stars.nth(1)).to_have_attribute("data-score", "4")
    folder_viewer.locator("[aria-label='rate fused 2 of 5 (Shift+2)']").click()
    playwright.expect(stars.nth(2)).to_have_attribute("data-score", "2")
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
    playwright.expect(status).to_have_text(re.compile("^expected two images at once"))
    choose(files[::-1])  # names say which is infrared
    playwright.expect(folder_viewer.locator("[data-role=name]")).to_have_text("own/night")
    page.wait_for_selector(".fl-viewer[data-shown='own/night']")
    np.testing.assert_allclose(canvas(folder_viewer, "infrared").evaluate(PIXELS), [20, 20, 20], atol=1)
    expected = fl.fuse(*files).mean((0, 1))
    playwright.expect(folder_viewer.locator(".fl-waiting")).to_have_count(0)
    np.testing.assert_allclose(canvas(folder_viewer, "fused").evaluate(PIXELS), expected, atol=1)
    drop = """viewer => { const data = new DataTransfer();
      for (const name of ['a_ir.png', 'a_vis.png']) data.items.add(new File(['no image'], name));
      viewer.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })); }"""
    folder_viewer.evaluate(drop)
    playwright.expect(status).to_have_text(re.compile("a_ir.png: expected a png, jpg, bmp or tiff image"))
    assert page.evaluate("window.hacked") is None and page.problems == []
