// The viewer: its state, its layout, and its requests to the kernel.

const INSTRUCTION = "instruction";
const CACHED = 48e6; // pixels of decoded images in the cache, about 190 MB
const PENDING = 3; // images that are requested at a time

class Viewer {
  constructor(model, root) {
    this.model = model;
    this.root = make("div", { class: "fl-viewer", tabindex: "0", role: "application", "aria-label": "image viewer; press ? for keyboard shortcuts",
      "data-lm-suppress-shortcuts": "true", onkeydown: (event) => this.key(event), onkeyup: (event) => this.keyUp(event) });
    root.append(this.root);
    this.images = new ImageCache(CACHED);
    this.view = new View();
    this.hear = (content, buffers) => this.receive(content, buffers);
    this.changed = () => this.reset();
    model.on("msg:custom", this.hear);
    model.on("change:gallery", this.changed);
    this.sharpen = debounce(() => this.pump(), 250);
    this.requestResults = debounce(() => this.askForResults(), 150);
    this.relist = debounce(() => this.list(), 300);
    this.again = debounce(() => this.instruct(this.instruction), 200);
    this.resized = () => this.layout(); // the height of the page counts, too
    this.observer = new ResizeObserver(this.resized);
    addEventListener("resize", this.resized);
    this.listenForFiles();
    this.reset();
  }

  close() {
    this.model.off("msg:custom", this.hear);
    this.model.off("change:gallery", this.changed);
    this.observer.disconnect();
    removeEventListener("resize", this.resized);
    [this.sharpen, this.requestResults, this.relist, this.again].forEach((call) => call.cancel());
    this.thumbs?.close();
    this.setAttention(null);
    this.blink(false);
    this.images.clear();
  }

  ask(request) { this.model.send({ gallery: this.data.number, detector: this.detector, ...request }); }

  // Show a new gallery.
  reset() {
    const data = this.data = this.model.get("gallery");
    this.thumbs?.close();
    this.images.clear();
    Object.assign(this, { waiting: new Set(), failed: new Map(), people: new Map(), lost: new Map(), at: 0, began: 0,
      pointed: null, inspected: null, made: null, loupe: false, palette: "", gain: 4, group: "", query: "", filter: "", order: "", instruction: "", shown: "", swept: "", listing: null });
    this.measures = new Map(data.entries.flatMap((entry, index) =>
      Object.entries(entry.measures).map(([pane, values]) => [`${index}|${pane}`, values])));
    this.boxes = { truth: true, found: false };
    this.detector = data.detectors[0] ?? "";
    this.score = 0.25;
    this.share = 0.5;
    const judges = ["refined", "fused", ...data.panes].filter((pane) => data.panes.includes(pane) && this.canJudge(pane));
    this.judged = judges[0] ?? data.panes[0];
    const start = Math.max(0, data.entries.findIndex(({ name }) => name === this.model.get("entry"))), { panes, group } = data.entries[start];
    this.group = group;
    this.choosePanes(panes);
    this.mode = data.panes.length === 2 && !data.sources.length ? "swipe" : "side";
    this.view.fit();
    this.build();
    this.list();
    this.go(start);
  }

  // The images shown at first of those that an entry has.
  choosePanes(panes) {
    this.shownPanes = panes.slice(0, 4);
    this.pairOfPanes = panes.length > 1 ? [panes.at(panes.length > 3 ? 2 : 0), panes.at(panes.length > 3 ? 3 : -1)] : panes;
  }

  canJudge(pane) { return !this.data.sources.includes(pane) || this.data.finds; }

  build() {
    this.frames = [];
    this.area = make("div", { class: "fl-frames" });
    this.thumbs = new Thumbs(this);
    this.answer = new Answer(this);
    this.status = make("output", { class: "fl-status", "aria-live": "polite" });
    this.name = make("strong", { class: "fl-name", "data-role": "name" });
    this.help = helpPanel();
    const answers = this.data.entries.some(({ answer }) => answer); // beside the images, if there is room, as they are long
    const lower = make("div", { class: answers ? "fl-lower fl-long" : "fl-lower" }, this.answer.node);
    if (this.data.sources.length) {
      this.instructionPanel = new Instruction(this);
      lower.append(this.instructionPanel.node);
    }
    const notes = make("details", { class: "fl-notes", hidden: !this.data.notes.length },
      make("summary", {}, `missing from this gallery (${this.data.notes.length})`),
      make("ul", {}, ...this.data.notes.map((note) => make("li", {}, note))));
    this.root.style.setProperty("--truth", this.data.colours.truth);
    this.root.style.setProperty("--found", this.data.colours.found);
    this.where = make("output", { class: "fl-where", "data-role": "where", "aria-live": "off" });
    const left = make("div", { class: "fl-left" }, this.area,
      make("div", { class: "fl-under" }, stepper(this), this.name, this.where, make("span", { class: "fl-space" }), this.status),
      this.data.entries.length > 1 ? this.thumbs.node : null);
    this.root.replaceChildren(listBar(this), viewBar(this), this.help, make("div", { class: "fl-main" }, left, lower), notes);
    this.observer.disconnect();
    this.observer.observe(this.area);
    this.buildFrames();
    this.setBoxes({});
    this.setScore(this.score);
  }

  buildFrames() {
    const on = {
      drag: (frame, dx, dy) => { this.view.pan(dx, dy, frame.size, this.size); this.place(); },
      wheel: (frame, event, x, y) => {
        if (!event.ctrlKey && !this.root.contains(document.activeElement)) return; // let the page scroll
        event.preventDefault();
        this.view.zoomAt(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), x, y, frame.size, this.size);
        this.place();
      },
      toggle: (frame, x, y) => {
        const whole = this.view.zoom < 1.02;
        this.view.zoomAt(whole ? Math.max(2, this.pixelZoom(frame)) : 1 / this.view.zoom, x, y, frame.size, this.size);
        this.place();
      },
      point: (frame, x, y) => this.point(frame, x, y), leave: () => this.unpoint(),
      swipe: this.mode === "swipe" && ((share) => { this.share = Math.min(1, Math.max(0, share)); this.frames.forEach((frame) => frame.setShare(this.share)); }),
    };
    const { paired } = this, mode = paired ? this.mode : "side";
    const names = [...this.data.panes, ...(this.instruction ? [INSTRUCTION] : [])].map((pane) => [pane, pane]);
    const tools = (pane) => ({ stars: this.starsFor(pane), save: button("⤓", `download ${pane} at its full size`, () => this.downloadImage(pane), { class: "fl-get" }) });
    this.pointed = null;
    this.frames = paired
      ? [new Frame(this.pairOfPanes, this.pairOfPanes.map((pane, side) => choice(side ? "right image" : "left image", side ? "right" : "left", names, pane, (chosen) => {
          this.pairOfPanes = this.pairOfPanes.map((old, index) => index === side ? chosen : old);
          this.buildFrames();
        })), this.pairOfPanes.map(tools), on)]
      : this.shownPanes.map((pane) => new Frame([pane], [make("strong", {}, pane)], [tools(pane)], on));
    this.area.replaceChildren(...this.frames.map((frame) => frame.node));
    this.area.dataset.mode = mode;
    this.frames.forEach((frame) => { frame.legend.hidden = mode !== "difference"; });
    this.gains.hidden = mode !== "difference";
    this.frames.forEach((frame) => frame.setShare(this.firstShare));
    this.blink();
    this.chips.forEach((node, pane) => {
      node.setAttribute("aria-pressed", this.panes.includes(pane));
      node.hidden = pane === INSTRUCTION && !this.instruction;
    });
    this.modes.querySelectorAll("button").forEach((node) => node.setAttribute("aria-pressed", node.dataset.mode === mode));
    this.modes.hidden = this.data.panes.length < 2;
    this.shape = "";
    this.layout();
    if (this.listing) this.show();
  }

  get panes() { return this.paired ? this.pairOfPanes : this.shownPanes; }

  get current() { return this.data.entries[this.at]; }

  // [width, height] in pixels of the current entry: of its first image in the cache.
  get size() {
    for (const pane of [...this.panes, ...this.current.panes]) {
      const item = pane !== INSTRUCTION && this.images.items.get(`${this.at}|${pane}`);
      if (item) return [item.width, item.height];
    }
    return this.lastSize ?? [4, 3];
  }

  go(index) {
    this.began ||= performance.now();
    this.at = index;
    if (!this.panes.some((pane) => this.current.panes.includes(pane) || pane === INSTRUCTION)) {
      this.choosePanes(this.current.panes);
      this.buildFrames();
    }
    this.setAttention(null);
    this.name.textContent = this.current.name;
    this.answer.show(this.current.answer);
    this.showPosition();
    this.model.set("entry", this.current.name);
    this.model.save_changes();
    this.show();
  }

  // Draw the images in the cache, and request the others.
  show() {
    let complete = true;
    const size = this.lastSize = this.size;
    for (const frame of this.frames) {
      if (this.mode === "difference") frame.legend.value = this.differenceText;
      frame.panes.forEach((pane, index) => {
        const key = `${this.at}|${pane}`, item = this.images.get(key), layer = frame.layers[index];
        const label = `${pane} image of ${this.current.name}`;
        if (item && this.mode === "difference" && this.paired) layer.draw(this.differenceItem() ?? item, label, size);
        else if (item) layer.draw(item, label, size, this.tableOf(pane));
        else if (this.failed.has(key)) layer.empty(this.failed.get(key));
        else if (pane !== INSTRUCTION && !this.current.panes.includes(pane)) layer.empty(`this entry has no image “${pane}”`);
        else { layer.wait(pane === INSTRUCTION ? "refining …" : ""); complete = false; }
      });
    }
    this.layout();
    this.overlay();
    this.pump();
    this.requestResults();
    if (complete && this.shown !== this.current.name) this.painted(this.current.name);
    if (this.instruction && this.panes.includes(INSTRUCTION) && !this.images.has(`${this.at}|${INSTRUCTION}`)
      && !this.failed.has(`${this.at}|${INSTRUCTION}`) && this.instructed !== this.at) this.again();
  }

  // Record the time from the key to the image on the screen.
  painted(name) {
    this.shown = name;
    const began = this.began;
    this.began = 0;
    requestAnimationFrame(() => setTimeout(() => {
      if (this.shown !== name) return;
      this.root.dataset.shown = name;
      if (began) this.root.dataset.ms = (performance.now() - began).toFixed(1);
    }));
  }

  // Request images: of this entry, then of its neighbours, then at full resolution if enlarged.
  pump() {
    const place = this.listing.indexOf(this.at);
    const isMade = ([index, pane]) => pane === "fused" && this.data.entries[index].makes_fused; // takes time: not for neighbours
    const near = [this.at, this.listing[place + 1], this.listing[place - 1], this.listing[place + 2]].filter((index) => index != null);
    const keys = near.flatMap((index) => this.panes.filter((pane) => this.data.entries[index].panes.includes(pane)).map((pane) => [index, pane]))
      .filter((key) => key[0] === this.at || !isMade(key));
    this.needed = new Set(keys.map(([index, pane]) => `${index}|${pane}`).concat(`${this.at}|${INSTRUCTION}`));
    const wanted = keys.filter(([index, pane]) => !this.images.has(`${index}|${pane}`)).map((key) => [...key, false]);
    if (this.enlarged || this.inspected === this.at) {
      wanted.push(...keys.filter(([index, pane]) => index === this.at && this.images.items.get(`${index}|${pane}`)?.exact === false)
        .map((key) => [...key, true]));
    }
    for (const [index, pane, exact] of wanted) {
      const key = `${index}|${pane}`;
      if (this.waiting.size >= PENDING) break;
      if (this.waiting.has(key) || this.failed.has(key)) continue;
      this.waiting.add(key);
      this.ask({ kind: "image", entry: index, pane, exact });
    }
  }

  // Request people and metrics of the images shown.
  askForResults() {
    const missing = (results) => this.panes.filter((pane) => !results.has(`${this.at}|${pane}`) && !this.lost.has(`${this.at}|${pane}`)
      && (pane === INSTRUCTION ? this.finished === this.at : this.current.panes.includes(pane)));
    const people = this.boxes.found && this.data.finds ? missing(this.people) : [];
    if (people.length) this.ask({ kind: "people", entry: this.at, panes: people });
    const measures = missing(this.measures).filter((pane) => this.measured(pane));
    if (measures.length) this.ask({ kind: "measures", entry: this.at, panes: measures });
  }

  measured(pane) {
    const { sources } = this.data;
    return sources.length && !sources.includes(pane) && sources.every((source) => this.current.panes.includes(source));
  }
}

for (const topic of [linkedZoom, pairModes, pointer, statusLine, ratings, toolbar, downloads, uploads, handlers, keys]) {
  Object.defineProperties(Viewer.prototype, Object.getOwnPropertyDescriptors(topic)); // getters, too
}

function render({ model, el }) {
  const viewer = new Viewer(model, el);
  return () => viewer.close();
}

export default { render };
