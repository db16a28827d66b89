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

  draw(item, label, size) {
    const { bitmap } = item;
    if (this.shown !== bitmap) {
      if (this.canvas.width !== bitmap.width) this.canvas.width = bitmap.width;
      if (this.canvas.height !== bitmap.height) this.canvas.height = bitmap.height;
      this.canvas.getContext("2d", { alpha: false }).drawImage(bitmap, 0, 0);
      this.shown = bitmap;
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
      nodes.push(make("text", { x: box[0], y: box[1], dy: "-0.25em" }, box[4].toFixed(2).slice(1 - (box[4] >= 1))));
    });
    this.svg.replaceChildren(...nodes);
  }
}

class Frame {
  // panes: one name, or two to swipe between. on: handlers {drag, wheel, toggle, swipe}.
  constructor(panes, captions, on) {
    this.panes = panes;
    this.layers = panes.map(() => new Layer());
    this.captions = captions;
    this.facts = panes.map(() => make("span", { class: "fl-facts" }));
    this.badges = panes.map(() => make("span", { class: "fl-badges" }));
    this.window = make("div", { class: "fl-window" }, ...this.layers.map((layer) => layer.node));
    const heads = panes.map((pane, index) => make("div", { class: "fl-head" },
      make("div", { class: "fl-line" }, captions[index], this.facts[index]), this.badges[index]));
    this.node = make("figure", { class: "fl-frame", "data-panes": panes.join("|") },
      make("figcaption", {}, ...heads), this.window);
    if (panes.length === 2) this.window.append(this.slider(on.swipe));
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
      if (!last) return;
      on.drag(this, event.clientX - last[0], event.clientY - last[1]);
      last = [event.clientX, event.clientY];
    });
    const end = () => { last = null; this.window.classList.remove("fl-dragged"); };
    this.window.addEventListener("pointerup", end);
    this.window.addEventListener("pointercancel", end);
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
    if (!this.handle) return;
    const percent = `${100 * share}%`;
    this.layers[0].node.style.clipPath = `inset(0 calc(100% - ${percent}) 0 0)`;
    this.layers[1].node.style.clipPath = `inset(0 0 0 ${percent})`;
    this.handle.style.left = percent;
    this.handle.setAttribute("aria-valuenow", Math.round(100 * share));
  }
}
