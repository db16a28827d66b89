// The bars of controls above the pictures. `viewer` has the state and does the work.

// Which entries: run, data set, search, filter and order.
function listBar(viewer) {
  const { data } = viewer;
  const bar = make("div", { class: "fl-bar" });
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
    if (shows.length > 1) bar.append(choice("which are shown", "filter", shows, viewer.filter, (filter) => viewer.setList({ filter })));
    const orders = [["", "data order"]];
    if (truth && data.finds) orders.push(["missed", "most missed first"]);
    if (data.sources.length) {
      data.metrics.forEach(({ name }) => orders.push([`worst ${name}`, `worst ${name} first`], [`best ${name}`, `best ${name} first`]));
    }
    if (orders.length > 1) bar.append(choice("order", "order", orders, viewer.order, (order) => viewer.setList({ order })));
    if (judged.length > 1 && shows.length + orders.length > 2) {
      bar.append(choice("the image that filter and order are about", "judged", judged.map((name) => [name, `by ${name}`]), viewer.judged, (pane) => viewer.setList({ judged: pane })));
    }
  }
  return bar;
}

// What of an entry: panes, swipe, boxes, zoom.
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
  const mode = (name, text, title) => button(text, title, () => viewer.setMode(name), { "data-mode": name });
  viewer.modes = make("div", { class: "fl-group fl-joined", role: "group", "aria-label": "layout" },
    mode("side", "side by side", "images side by side (S)"), mode("swipe", "swipe", "two images with a slider (S)"));
  const bar = make("div", { class: "fl-bar" });
  if (names.length > 1) bar.append(panes, viewer.modes);
  bar.append(make("span", { class: "fl-space" }));
  if (data.finds || data.entries.some((entry) => entry.truth)) bar.append(boxControls(viewer));
  viewer.percent = make("output", { class: "fl-percent", title: "size on the screen" });
  bar.append(make("div", { class: "fl-group" }, viewer.percent,
    button("fit", "whole picture (0)", () => viewer.zoomTo(1)), button("1:1", "a pixel is a pixel (1:1)", () => viewer.zoomTo(0)),
    button("save", "save this view as a figure", () => viewer.save()),
    button("?", "keys (?)", () => viewer.toggleHelp(), { class: "fl-help-button" })));
  return bar;
}

// Which entry this is, and where to go from it.
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
    "aria-label": "least confidence of what is found", oninput: (event) => viewer.setScore(Number(event.target.value)) });
  viewer.scoreText = make("output", { class: "fl-score" });
  const group = make("div", { class: "fl-group" }, tick("truth", "truth", "true boxes (T)"));
  if (viewer.data.finds) {
    group.append(tick("found", "found", "what the detector finds (P)"),
      make("label", { class: "fl-choice", title: "least confidence of what is found ([ ])" }, "≥", viewer.slider, viewer.scoreText));
  }
  viewer.ticks = group;
  return group;
}

const KEYS = [
  ["←|→", "previous, next"], ["Home|End", "first, last"], ["1|…|9", "an image on or off"], ["S", "side by side, or swipe"],
  ["Space", "in a swipe: only the other image, while held"], ["B", "boxes on or off"], ["T|P", "truth, what is found"],
  ["[|]", "less, more confidence"], ["+|−|0", "larger, smaller, whole picture"], ["/", "search"], ["I", "instruction"],
  ["Esc", "no attention, back to the pictures"], ["wheel|drag", "zoom and move (click a picture first, or hold Ctrl)"],
];

function helpPanel() {
  return make("dl", { class: "fl-help", hidden: true },
    ...KEYS.flatMap(([keys, text]) => [make("dt", {}, ...keys.split("|").map((key) => make("kbd", {}, key))), make("dd", {}, text)]));
}
