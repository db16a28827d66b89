// Frames: a window with one image, or with two and a slider between them.

// An image with its overlays: the attention map of a word, and boxes.
class Layer {
  constructor() {
    this.canvas = make("canvas", { role: "img" });
    this.heat = make("img", { class: "fl-heat", alt: "", hidden: true });
    this.svg = make("svg", { class: "fl-boxes", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.stage = make("div", { class: "fl-stage" }, this.canvas, this.heat, this.svg);
    this.note = make("p", { class: "fl-note" });
    this.node = make("div", { class: "fl-layer" }, this.stage, this.note);
    this.shown = null;
  }

  // table: pseudo-colours in place of the luma, or null.
  draw(item, label, size, table = null) {
    const { bitmap } = item;
    if (this.shown !== bitmap || this.table !== table) {
      if (this.canvas.width !== bitmap.width) this.canvas.width = bitmap.width;
      if (this.canvas.height !== bitmap.height) this.canvas.height = bitmap.height;
      const context = this.canvas.getContext("2d", { alpha: false });
      context.drawImage(bitmap, 0, 0);
      if (table) colour(context, table);
      [this.shown, this.table] = [bitmap, table];
    }
    this.canvas.setAttribute("aria-label", label);
    this.stage.style.width = `${size[0]}px`;
    this.stage.style.height = `${size[1]}px`;
    this.node.classList.remove("fl-waiting", "fl-empty");
    this.note.textContent = "";
  }

  wait(text = "") {
    this.node.classList.add("fl-waiting");
    this.note.textContent = text;
    this.svg.replaceChildren();
    this.setHeat(null);
  }

  empty(text) { this.wait(text); this.node.classList.add("fl-empty"); }

  setHeat(address) {
    this.heat.hidden = !address;
    if (address) this.heat.src = address;
    else this.heat.removeAttribute("src");
  }

  place({ scale, left, top }) {
    this.stage.style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
    this.stage.style.setProperty("--px", 1 / scale);
    this.stage.classList.toggle("fl-sharp", scale * devicePixelRatio >= 2);
    this.stage.classList.toggle("fl-small", scale * this.stage.offsetWidth < 420); // no room for scores
    this.placeScores(1 / scale);
  }

  // Scores stand over their boxes, or below where a higher score is in the way; where both are taken they are left out.
  placeScores(px) {
    const taken = [];
    for (const node of this.svg.querySelectorAll("text")) {
      const { x, top, bottom } = node.dataset;
      const free = (y) => taken.every(([a, b]) => Math.abs(a - x) >= 24 * px || Math.abs(b - y) >= 12 * px);
      const y = [top - 3 * px, +bottom + 11 * px].find(free);
      node.style.display = y == null ? "none" : "";
      if (y == null) continue;
      taken.push([x, y]);
      node.setAttribute("y", y);
    }
  }

  // truth: boxes, or null; judged: result of `judge`, or null without detections.
  boxes(truth, judged, show, size) {
    this.svg.setAttribute("viewBox", `0 0 ${size[0]} ${size[1]}`);
    const nodes = [];
    const rect = ([x1, y1, x2, y2], kind, title) => nodes.push(
      make("rect", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, class: kind }, make("title", {}, title)));
    if (show.truth) truth?.forEach((box, index) => {
      const missed = show.found && judged?.missed[index];
      rect(box, missed ? "fl-truth fl-missed" : "fl-truth", missed ? "missed person" : "person");
    });
    if (show.found) judged?.shown.forEach((box, index) => {
      rect(box, truth && !judged.right[index] ? "fl-found fl-false" : "fl-found", `detection, score ${box[4].toFixed(2)}`);
      nodes.push(make("text", { x: box[0], "data-x": box[0], "data-top": box[1], "data-bottom": box[3] },
        box[4].toFixed(2).slice(1 - (box[4] >= 1))));
    });
    this.svg.replaceChildren(...nodes);
    this.placeScores(Number(this.stage.style.getPropertyValue("--px")) || 1);
  }
}

class Frame {
  // panes: one name, or two in the same window. tools: nodes at the end of each caption. on: handlers {drag, wheel,
  // toggle, point, leave}, and {swipe} where two images have a slider between them.
  constructor(panes, captions, tools, on) {
    this.panes = panes;
    this.share = 1;
    this.layers = panes.map(() => new Layer());
    this.captions = captions;
    this.facts = panes.map(() => make("span", { class: "fl-facts" }));
    this.badges = panes.map(() => make("span", { class: "fl-badges" }));
    this.values = panes.map(() => make("output", { class: "fl-value", "aria-live": "off" }));
    this.stars = tools.map(({ stars }) => stars);
    this.legend = make("output", { class: "fl-value fl-legend", hidden: true });
    this.mark = make("i", { class: "fl-mark", hidden: true });
    this.loupe = make("canvas", { class: "fl-loupe", hidden: true, width: 150 * devicePixelRatio, height: 150 * devicePixelRatio });
    this.window = make("div", { class: "fl-window" }, ...this.layers.map((layer) => layer.node), this.mark, ...this.values, this.legend, this.loupe);
    const heads = panes.map((pane, index) => make("div", { class: "fl-head" },
      make("div", { class: "fl-line" }, captions[index], this.facts[index], make("span", { class: "fl-space" }),
        tools[index].stars, tools[index].save)));
    this.node = make("figure", { class: "fl-frame", "data-panes": panes.join("|") },
      make("figcaption", {}, ...heads), this.window, make("div", { class: "fl-below" }, ...this.badges));
    if (panes.length === 2 && on.swipe) this.window.append(this.slider(on.swipe));
    this.listen(on);
  }

  get size() { return [this.window.clientWidth, this.window.clientHeight]; }

  listen(on) {
    let last = null;
    this.window.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || event.target.closest(".fl-handle")) return;
      last = [event.clientX, event.clientY];
      this.window.setPointerCapture(event.pointerId);
      this.window.classList.add("fl-dragged");
    });
    this.window.addEventListener("pointermove", (event) => {
      on.point(this, ...this.at(event));
      if (!last) return;
      on.drag(this, event.clientX - last[0], event.clientY - last[1]);
      last = [event.clientX, event.clientY];
    });
    const end = () => { last = null; this.window.classList.remove("fl-dragged"); };
    this.window.addEventListener("pointerup", end);
    this.window.addEventListener("pointercancel", end);
    this.window.addEventListener("pointerleave", () => on.leave());
    this.window.addEventListener("wheel", (event) => on.wheel(this, event, ...this.at(event)), { passive: false });
    this.window.addEventListener("dblclick", (event) => on.toggle(this, ...this.at(event)));
  }

  at(event) {
    const box = this.window.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  slider(swipe) {
    this.handle = make("div", { class: "fl-handle", role: "slider", tabindex: "0", "aria-valuemin": "0",
      "aria-valuemax": "100", "aria-label": `percentage of ${this.panes[0]}`, title: "drag to swipe" }, make("span"));
    this.handle.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      this.handle.focus({ preventScroll: true });
      this.handle.setPointerCapture(event.pointerId);
    });
    this.handle.addEventListener("pointermove", (event) => {
      if (this.handle.hasPointerCapture(event.pointerId)) swipe(this.at(event)[0] / this.window.clientWidth);
    });
    this.handle.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      swipe(this.share + step);
    });
    return this.handle;
  }

  setShare(share) {
    this.share = share;
    if (this.panes.length < 2) return;
    this.node.dataset.front = share >= 0.5 ? "0" : "1";
    const percent = `${100 * share}%`;
    this.layers[0].node.style.clipPath = `inset(0 calc(100% - ${percent}) 0 0)`;
    this.layers[1].node.style.clipPath = `inset(0 0 0 ${percent})`;
    if (!this.handle) return;
    this.handle.style.left = percent;
    this.handle.setAttribute("aria-valuenow", Math.round(100 * share));
  }
}
