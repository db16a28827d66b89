// The bars of controls above the images; `viewer` holds the state.

// Select entries: run, data set, search, filter and order.
function listBar(viewer) {
  const { data } = viewer;
  const bar = make("div", { class: "fl-bar" });
  const open = button("open pair …", "open an infrared and a visible image of your own; or drop both on the viewer", () => viewer.choosePair(), { "data-role": "open-pair" });
  const runs = data.runs.map((name) => [name, name]);
  if (runs.length > 1) bar.append(choice("run", "run", runs, data.run, (name) => viewer.ask({ kind: "open", run: name })));
  else bar.append(make("strong", { class: "fl-title" }, data.title));
  if (data.entries.length > 1) {
    const groups = [...new Set(data.entries.map((entry) => entry.group))].filter(Boolean);
    if (groups.length > 1) {
      bar.append(choice("data set", "group", [["", "all data sets"], ...groups.map((name) => [name, name])], viewer.group,
        (name) => viewer.setList({ group: name })));
    }
    viewer.search = make("input", { type: "search", class: "fl-search", placeholder: "search",
      title: "search names and answers (/)", "aria-label": "search names and answers", oninput: (event) => viewer.setList({ query: event.target.value }) });
    bar.append(viewer.search);
    const judged = data.panes.filter((pane) => viewer.canJudge(pane));
    const truth = data.entries.some((entry) => entry.truth?.length);
    const shows = [["", "all pairs"]];
    if (truth) shows.push(["people", "with people"]);
    if (truth && data.finds) shows.push(["missed", "missed pedestrians"]);
    if (shows.length > 1) bar.append(choice("filter", "filter", shows, viewer.filter, (filter) => viewer.setList({ filter })));
    const orders = [["", "data set order"]];
    if (truth && data.finds) orders.push(["missed", "most missed first"]);
    if (data.sources.length) {
      data.metrics.forEach(({ name }) => orders.push([`worst ${name}`, `worst ${name} first`], [`best ${name}`, `best ${name} first`]));
    }
    if (orders.length > 1) bar.append(choice("order", "order", orders, viewer.order, (order) => viewer.setList({ order })));
    if (judged.length > 1 && shows.length + orders.length > 2) {
      bar.append(choice("image used to filter and sort", "judged", judged.map((name) => [name, `by ${name}`]), viewer.judged, (pane) => viewer.setList({ judged: pane })));
    }
  }
  bar.append(make("span", { class: "fl-space" }), open);
  return bar;
}

// View of an entry: panes, layout, boxes, zoom.
function viewBar(viewer) {
  const { data } = viewer;
  viewer.chips = new Map();
  const chip = (pane, index) => {
    const title = index < 9 ? `${pane} (${index + 1})` : pane;
    const node = button(pane, title, () => viewer.togglePane(pane), { class: "fl-chip", "data-pane": pane });
    viewer.chips.set(pane, node);
    return node;
  };
  const names = data.sources.length ? [...data.panes, INSTRUCTION] : data.panes;
  const panes = make("div", { class: "fl-group", role: "group", "aria-label": "images shown" }, ...names.map(chip));
  const infrared = data.sources.length ? choice("colours of the infrared image", "palette",
    [["", "infrared: grey"], ...Object.keys(data.palettes).map((name) => [name, `infrared: ${name}`])], viewer.palette, (name) => viewer.setPalette(name)) : null;
  viewer.gains = choice("gain of the difference", "gain", GAINS.map((gain) => [gain, `×${gain}`]), viewer.gain, (gain) => viewer.setGain(Number(gain)));
  const mode = (name, text, title) => button(text, title, () => viewer.setMode(name), { "data-mode": name });
  viewer.modes = make("div", { class: "fl-group fl-joined", role: "group", "aria-label": "layout" },
    mode("side", "side by side", "images side by side (S)"), mode("swipe", "swipe", "two images with a slider between them (S)"),
    mode("blink", "blink", "two images in turn (X)"), mode("difference", "difference", "which of two images is brighter, and where (D)"));
  const bar = make("div", { class: "fl-bar" });
  if (names.length > 1) bar.append(panes, viewer.modes, viewer.gains);
  if (infrared) bar.append(infrared);
  bar.append(make("span", { class: "fl-space" }));
  if (data.finds || data.entries.some((entry) => entry.truth)) bar.append(boxControls(viewer));
  viewer.percent = make("output", { class: "fl-percent", title: "zoom, in screen pixels per image pixel" });
  bar.append(make("div", { class: "fl-group" }, viewer.percent,
    button("fit", "fit the whole image (0)", () => viewer.zoomTo(1)), button("1:1", "one screen pixel per image pixel", () => viewer.zoomTo(0)),
    button("loupe", "enlarge what is under the pointer, in all images (L)", () => viewer.setLoupe(!viewer.loupe), { "data-role": "loupe", "aria-pressed": "false" }),
    button("full screen", "the viewer alone on the screen (F)", () => viewer.toggleFullScreen(), { "data-role": "full-screen" }),
    button("save", "save this view as a figure, beside the run or notebook", () => viewer.save()),
    button("PNG", "download this view as a picture", () => viewer.downloadView(), { "data-role": "download-view" }),
    data.panes.length > 1 ? button("GIF", "download a GIF that swipes between two images", () => viewer.downloadSwipe(), { "data-role": "download-gif" }) : null,
    button("?", "keyboard shortcuts (?)", () => viewer.toggleHelp(), { class: "fl-help-button" })));
  return bar;
}

// Position in the list, with buttons for the previous and next entry.
function stepper(viewer) {
  viewer.position = make("output", { class: "fl-position", "aria-live": "off" });
  return make("div", { class: "fl-group fl-stepper", hidden: viewer.data.entries.length < 2 },
    button("‹", "previous (left arrow)", () => viewer.step(-1)), viewer.position, button("›", "next (right arrow)", () => viewer.step(1)));
}

function boxControls(viewer) {
  const tick = (name, text, title) => make("label", { class: `fl-tick fl-${name}-key`, title },
    make("input", { type: "checkbox", "data-role": name, onchange: (event) => viewer.setBoxes({ [name]: event.target.checked }) }),
    make("i"), text);
  viewer.slider = make("input", { type: "range", min: "0.05", max: "0.95", step: "0.01", "data-role": "score",
    "aria-label": "confidence threshold", oninput: (event) => viewer.setScore(Number(event.target.value)) });
  viewer.scoreText = make("output", { class: "fl-score" });
  const group = make("div", { class: "fl-group" }, tick("truth", "ground truth", "labelled people (T)"));
  if (viewer.data.finds) {
    const { detectors } = viewer.data;
    group.append(tick("found", "detections", "people found by the detector (P)"));
    if (detectors.length > 1) {
      group.append(choice("detector: the first is that of the training, the second was in no loss", "detector",
        detectors.map((name) => [name, `by ${name}`]), viewer.detector, (name) => viewer.setDetector(name)));
    }
    group.append(make("label", { class: "fl-choice", title: "confidence threshold of the detections ([ ])" }, "≥", viewer.slider, viewer.scoreText));
  }
  viewer.ticks = group;
  return group;
}

const KEYS = [
  ["←|→", "previous, next"], ["Home|End", "first, last"], ["1|…|9", "show or hide an image"], ["S", "side by side or swipe"],
  ["X|D", "blink, difference of two images"], ["Space", "swipe: hold to see the right image alone; blink: pause"],
  ["L|F", "loupe, full screen"], ["Shift+1|…|5", "rate the image under the pointer: 1 bad, 5 good; a row of ratings.csv"], ["B", "show or hide all boxes"], ["T|P", "ground truth, detections"],
  ["[|]", "lower, raise the confidence threshold"], ["+|−|0", "zoom in, zoom out, whole image"], ["/", "search"], ["I", "instruction"],
  ["Esc", "leave a text field; hide attention map and help"], ["wheel|drag", "zoom and pan (click an image first, or hold Ctrl)"],
];

function helpPanel() {
  return make("dl", { class: "fl-help", hidden: true },
    ...KEYS.flatMap(([keys, text]) => [make("dt", {}, ...keys.split("|").map((key) => make("kbd", {}, key))), make("dd", {}, text)]));
}
