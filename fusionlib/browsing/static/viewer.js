// The viewer: what is shown, what is asked of the kernel, and what comes back.

const INSTRUCTION = "instruction";
const DECODED = 48e6; // pixels of decoded pictures that are kept, some 190 MB
const AT_ONCE = 3; // pictures that are asked for at a time

class Viewer {
  constructor(model, root) {
    this.model = model;
    this.root = make("div", { class: "fl-viewer", tabindex: "0", role: "application", "aria-label": "image viewer; ? shows the keys",
      "data-lm-suppress-shortcuts": "true", onkeydown: (event) => this.key(event), onkeyup: (event) => this.keyUp(event) });
    root.append(this.root);
    this.pictures = new Pictures(DECODED);
    this.view = new View();
    this.hear = (content, buffers) => this.receive(content, buffers);
    this.changed = () => this.reset();
    model.on("msg:custom", this.hear);
    model.on("change:gallery", this.changed);
    this.sharpen = settled(() => this.pump(), 250);
    this.settle = settled(() => this.findOut(), 150);
    this.relist = settled(() => this.list(), 300);
    this.again = settled(() => this.instruct(this.instruction), 200);
    this.observer = new ResizeObserver(() => this.layout());
    this.reset();
  }

  close() {
    this.model.off("msg:custom", this.hear);
    this.model.off("change:gallery", this.changed);
    this.observer.disconnect();
    [this.sharpen, this.settle, this.relist, this.again].forEach((call) => call.cancel());
    this.thumbs?.close();
    this.setAttention(null);
    this.pictures.clear();
  }

  ask(request) { this.model.send({ gallery: this.data.number, ...request }); }

  // A new gallery: everything anew.
  reset() {
    const data = this.data = this.model.get("gallery");
    this.thumbs?.close();
    this.pictures.clear();
    Object.assign(this, { waiting: new Set(), failed: new Map(), people: new Map(), lost: new Map(), at: 0, began: 0,
      group: data.entries[0].group, query: "", filter: "", order: "", instruction: "", shown: "", swept: "" });
    this.measures = new Map(data.entries.flatMap((entry, index) =>
      Object.entries(entry.measures).map(([pane, values]) => [`${index}|${pane}`, values])));
    this.boxes = { truth: true, found: false };
    this.score = 0.25;
    this.share = 0.5;
    const judges = ["refined", "fused", ...data.panes].filter((pane) => data.panes.includes(pane) && this.canJudge(pane));
    this.judged = judges[0] ?? data.panes[0];
    const own = data.entries[0].panes;
    this.shownPanes = own.slice(0, 4);
    this.pairOfPanes = own.length > 1 ? [own.at(own.length > 3 ? 2 : 0), own.at(own.length > 3 ? 3 : -1)] : own;
    this.mode = data.panes.length === 2 && !data.sources.length ? "swipe" : "side";
    this.view.fit();
    this.build();
    this.list();
    this.go(this.listing[0] ?? 0);
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
    const lower = make("div", { class: "fl-lower" }, this.answer.node);
    if (this.data.sources.length) {
      this.teller = new Instruction(this);
      lower.append(this.teller.node);
    }
    const notes = make("details", { class: "fl-notes", hidden: !this.data.notes.length },
      make("summary", {}, `not in this gallery (${this.data.notes.length})`),
      make("ul", {}, ...this.data.notes.map((note) => make("li", {}, note))));
    this.root.replaceChildren(listBar(this), viewBar(this), this.help, this.area,
      make("div", { class: "fl-under" }, this.name, make("span", { class: "fl-space" }), this.status),
      ...(this.data.entries.length > 1 ? [this.thumbs.node] : []), lower, notes);
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
      swipe: (share) => { this.share = Math.min(1, Math.max(0, share)); this.frames.forEach((frame) => frame.setShare(this.share)); },
    };
    const swipe = this.mode === "swipe" && this.pairOfPanes.length === 2;
    const names = [...this.data.panes, ...(this.instruction ? [INSTRUCTION] : [])].map((pane) => [pane, pane]);
    this.frames = swipe
      ? [new Frame(this.pairOfPanes, this.pairOfPanes.map((pane, side) => choice("", side ? "right" : "left", names, pane, (chosen) => {
          this.pairOfPanes = this.pairOfPanes.map((old, index) => index === side ? chosen : old);
          this.buildFrames();
        })), on)]
      : this.shownPanes.map((pane) => new Frame([pane], [make("strong", {}, pane)], on));
    this.area.replaceChildren(...this.frames.map((frame) => frame.node));
    this.area.classList.toggle("fl-swiped", swipe);
    this.frames.forEach((frame) => frame.setShare(this.share));
    this.chips.forEach((node, pane) => {
      node.setAttribute("aria-pressed", this.panes.includes(pane));
      node.hidden = pane === INSTRUCTION && !this.instruction;
    });
    this.modes.querySelectorAll("button").forEach((node) => node.setAttribute("aria-pressed", node.dataset.mode === (swipe ? "swipe" : "side")));
    this.modes.hidden = this.data.panes.length < 2;
    this.shape = "";
    this.layout();
    if (this.listing) this.show();
  }

  get panes() { return this.mode === "swipe" && this.pairOfPanes.length === 2 ? this.pairOfPanes : this.shownPanes; }

  get current() { return this.data.entries[this.at]; }

  // [width, height] in pixels of the current entry: of its first image that is here.
  get size() {
    for (const pane of [...this.panes, ...this.current.panes]) {
      const item = pane !== INSTRUCTION && this.pictures.kept.get(`${this.at}|${pane}`);
      if (item) return [item.width, item.height];
    }
    return this.lastSize ?? [4, 3];
  }

  // Listing and stepping

  setList(change) {
    Object.assign(this, change);
    if (change.judged) { this.thumbs.near.forEach((index) => this.thumbs.forget(index)); this.thumbs.ask(); }
    this.list();
    if (!this.listing.includes(this.at) && this.listing.length) this.go(this.listing[0]);
  }

  list() {
    const { list, unknown } = listed(this.data, this, {
      people: (index, pane) => this.people.get(`${index}|${pane}`), measures: (index, pane) => this.measures.get(`${index}|${pane}`) });
    const before = this.listing?.length;
    this.listing = list;
    this.thumbs.show(list);
    this.data.entries.forEach((entry, index) => {
      const boxes = this.people.get(`${index}|${this.judged}`);
      if (boxes && entry.truth) this.thumbs.missed(index, missedCount(entry.truth, boxes, this.score));
    });
    if (before === 0 && list.length && this.data.entries.length && !list.includes(this.at)) this.go(list[0]);
    this.tellPosition();
    const sweep = unknown ? `${unknown.what}|${this.judged}|${this.group}|${this.query}` : "";
    if (unknown && sweep !== this.swept) this.ask({ kind: "sweep", what: unknown.what, pane: this.judged, entries: unknown.entries });
    this.swept = sweep;
  }

  tellPosition() {
    const place = this.listing.indexOf(this.at);
    this.position.value = this.listing.length ? `${place < 0 ? "–" : place + 1} of ${this.listing.length}` : "none";
    this.thumbs.mark(this.at);
  }

  step(by) {
    this.began = performance.now();
    const place = this.listing.indexOf(this.at);
    const next = Math.min(this.listing.length - 1, Math.max(0, place + by));
    if (this.listing.length && next !== place) this.go(this.listing[next]);
  }

  go(index) {
    this.began ||= performance.now();
    this.at = index;
    this.setAttention(null);
    this.name.textContent = this.current.name;
    this.answer.show(this.current.answer);
    this.tellPosition();
    this.model.set("entry", this.current.name);
    this.model.save_changes();
    this.show();
  }

  // Draw what is here, ask for what is not.
  show() {
    let complete = true;
    const size = this.lastSize = this.size;
    for (const frame of this.frames) {
      frame.panes.forEach((pane, index) => {
        const key = `${this.at}|${pane}`, item = this.pictures.get(key), layer = frame.layers[index];
        if (item) layer.draw(item, `${pane} image of ${this.current.name}`, size);
        else if (this.failed.has(key)) layer.empty(this.failed.get(key));
        else if (pane !== INSTRUCTION && !this.current.panes.includes(pane)) layer.empty(`no ${pane} image of this pair`);
        else { layer.wait(); complete = false; }
      });
    }
    this.layout();
    this.overlay();
    this.pump();
    this.settle();
    if (complete && this.shown !== this.current.name) this.painted(this.current.name);
    if (this.instruction && this.panes.includes(INSTRUCTION) && !this.pictures.has(`${this.at}|${INSTRUCTION}`)
      && !this.failed.has(`${this.at}|${INSTRUCTION}`) && this.instructed !== this.at) this.again();
  }

  // Note how long it took from the key to the picture on the screen.
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

  // Pictures that are wanted and not here: of this entry, then of its neighbours, then whole pixels of what is enlarged.
  pump() {
    const place = this.listing.indexOf(this.at);
    const near = [this.at, this.listing[place + 1], this.listing[place - 1], this.listing[place + 2]].filter((index) => index != null);
    const keys = near.flatMap((index) => this.panes.filter((pane) => this.data.entries[index].panes.includes(pane)).map((pane) => [index, pane]));
    this.needed = new Set(keys.map(([index, pane]) => `${index}|${pane}`).concat(`${this.at}|${INSTRUCTION}`));
    const wanted = keys.filter(([index, pane]) => !this.pictures.has(`${index}|${pane}`)).map((key) => [...key, false]);
    if (this.enlarged) {
      wanted.push(...keys.filter(([index, pane]) => index === this.at && this.pictures.kept.get(`${index}|${pane}`)?.exact === false)
        .map((key) => [...key, true]));
    }
    for (const [index, pane, exact] of wanted) {
      const key = `${index}|${pane}`;
      if (this.waiting.size >= AT_ONCE) break;
      if (this.waiting.has(key) || this.failed.has(key)) continue;
      this.waiting.add(key);
      this.ask({ kind: "image", entry: index, pane, exact });
    }
  }

  // What can be told of the shown images: people, and metrics.
  findOut() {
    const open = (known) => this.panes.filter((pane) => !known.has(`${this.at}|${pane}`) && !this.lost.has(`${this.at}|${pane}`)
      && (pane === INSTRUCTION ? this.finished === this.at : this.current.panes.includes(pane)));
    const people = this.boxes.found && this.data.finds ? open(this.people) : [];
    if (people.length) this.ask({ kind: "people", entry: this.at, panes: people });
    const measures = open(this.measures).filter((pane) => this.measured(pane));
    if (measures.length) this.ask({ kind: "measures", entry: this.at, panes: measures });
  }

  measured(pane) { return this.data.sources.length && !this.data.sources.includes(pane); }

  // What comes back

  receive(content, buffers) {
    if (content.gallery !== this.data.number) return;
    const { kind, entry, pane } = content, key = `${entry}|${pane}`;
    if (kind === "image") this.receiveImage(content, buffers[0], key);
    else if (kind === "thumb") this.thumbs.receive(entry, buffers[0]);
    else if (kind === "people" || kind === "measures") {
      if (kind === "people") this.people.set(key, content.boxes);
      else this.measures.set(key, content.values);
      if (entry === this.at) this.overlay();
      if (content.total) this.progress(content);
      else if (kind === "people") this.relist();
    } else if (kind === "attention") {
      if (entry === this.at && String(content.word) === String(this.word)) this.setAttention(this.word, buffers[0]);
    } else if (kind === "saved") this.say(`saved as ${content.path}, and as pdf beside it`);
    else if (kind === "problem") this.receiveProblem(content, key);
  }

  progress({ kind, done, total, entry }) {
    this.say(done < total ? `${kind === "people" ? "looking for people" : "measuring"}: ${done} of ${total} …` : "");
    if (entry === this.at || done % 8 === 0 || done === total) this.relist();
  }

  async receiveImage(content, data, key) {
    const { mime, width, height, exact, entry, pane } = content, { number } = this.data;
    if (pane === INSTRUCTION && content.text !== this.instruction) return;
    try {
      await this.pictures.put(key, data, mime, { width, height, exact: pane === INSTRUCTION || exact }, this.needed ?? new Set());
    } catch {
      this.failed.set(key, "this picture could not be decoded");
    }
    if (number !== this.data.number) return;
    if (pane === INSTRUCTION) {
      this.instructed = null;
      this.teller.say(`refined in ${content.milliseconds} ms at ${width}×${height}`);
      for (const known of [this.people, this.measures, this.lost]) known.delete(key);
      if (content.last) this.finished = entry;
    } else this.waiting.delete(key);
    if (entry === this.at) this.show();
    else this.pump();
  }

  receiveProblem({ of, text, entry, pane, panes }, key) {
    if (of === "image") {
      this.waiting.delete(key);
      this.failed.set(key, text);
      if (entry === this.at) this.show();
      else this.pump();
    } else if (of === "instruct") {
      this.instructed = null;
      this.failed.set(`${entry}|${INSTRUCTION}`, "no image for this instruction");
      this.teller.say("", text);
      if (entry === this.at) this.show();
    } else {
      (panes ?? []).forEach((name) => this.lost.set(`${entry}|${name}`, text));
      if (of === "people" || of === "measures") this.overlay();
      if (of === "attend") this.setAttention(null);
      this.say(text, true);
    }
  }

  say(text, problem = false) {
    this.status.value = text;
    this.status.classList.toggle("fl-problem", problem);
  }

  // Boxes, counts and metrics over what is drawn.
  overlay() {
    const { truth } = this.current, size = this.size;
    for (const frame of this.frames) {
      frame.panes.forEach((pane, index) => {
        const found = this.people.get(`${this.at}|${pane}`), layer = frame.layers[index];
        const judged = found && this.boxes.found ? judge(truth ?? [], found, this.score) : null;
        const here = this.pictures.kept.has(`${this.at}|${pane}`);
        if (here) layer.boxes(truth, judged, this.boxes, size);
        frame.facts[index].textContent = here ? this.facts(pane, truth, judged) : "";
        frame.facts[index].classList.toggle("fl-bad", Boolean(judged && truth && judged.missed.some(Boolean)));
        frame.badges[index].replaceChildren(...this.metricBadges(pane));
      });
    }
  }

  facts(pane, truth, judged) {
    const people = (count) => count === 1 ? "1 person" : `${count} people`;
    if (!this.boxes.found || !this.data.finds) return truth && this.boxes.truth ? people(truth.length) : "";
    if (!judged) return this.lost.has(`${this.at}|${pane}`) ? "" : "looking for people …";
    if (!truth) return `${judged.shown.length} found`;
    const missed = judged.missed.filter(Boolean).length, wrong = judged.right.filter((is) => !is).length;
    return `${truth.length - missed} of ${people(truth.length)} found${wrong ? `, ${wrong} false` : ""}`;
  }

  metricBadges(pane) {
    if (!this.measured(pane)) return [];
    const values = this.measures.get(`${this.at}|${pane}`);
    const rivals = this.panes.filter((other) => this.measured(other));
    return this.data.metrics.map(({ name, up }) => {
      const all = Object.fromEntries(rivals.map((other) => [other, this.measures.get(`${this.at}|${other}`)?.[name]]));
      const leads = best(rivals, all, up)[pane];
      const title = `${name}, ${up ? "higher" : "lower"} is better, convention ${this.data.convention}${leads ? "; the best of those shown" : ""}`;
      return make("span", { class: leads ? "fl-badge fl-best" : "fl-badge", title, "data-metric": name },
        `${leads ? "★ " : ""}${name}${up ? "↑" : "↓"} `, make("b", {}, values ? readable(values[name]) : "…"));
    });
  }

  // Layout and zoom

  layout() {
    const size = this.size, aspect = size[1] / size[0], width = this.area.clientWidth;
    if (!width || !this.frames.length) return;
    const shape = [width, aspect.toFixed(4), innerHeight, this.frames.length].join();
    if (shape !== this.shape) {
      this.shape = shape;
      const caption = this.data.sources.length ? 52 : 28;
      const { columns, cell } = arrange(this.frames.length, [width, Math.max(320, innerHeight * 0.7)], aspect, 8, caption);
      this.area.style.gridTemplateColumns = `repeat(${columns}, ${cell}px)`;
      this.frames.forEach((frame) => { frame.window.style.height = `${Math.round(cell * aspect)}px`; });
    }
    this.place();
  }

  place() {
    const size = this.size;
    let scale = 1;
    for (const frame of this.frames) {
      const placed = this.view.place(frame.size, size);
      frame.layers.forEach((layer) => layer.place(placed));
      ({ scale } = placed);
    }
    const percent = scale * devicePixelRatio;
    this.percent.value = `${Math.round(100 * percent)}%`;
    this.enlarged = percent > 1.5 || (this.view.zoom > 1.02 && percent * Math.max(...size) > 1920);
    if (this.enlarged) this.sharpen();
  }

  pixelZoom(frame) { return 1 / devicePixelRatio / this.view.fitScale(frame.size, this.size); }

  zoomTo(zoom) {
    const [frame] = this.frames;
    this.view.zoom = zoom || Math.max(1, this.pixelZoom(frame));
    this.place();
  }

  zoomBy(factor) {
    const { size } = this.frames[0];
    this.view.zoomAt(factor, size[0] / 2, size[1] / 2, size, this.size);
    this.place();
  }

  // What the user sets

  togglePane(pane) {
    if (this.mode === "swipe") this.pairOfPanes = this.pairOfPanes.includes(pane) ? this.pairOfPanes : [this.pairOfPanes[1], pane];
    else {
      const others = this.shownPanes.filter((name) => name !== pane);
      const order = [...this.data.panes, INSTRUCTION];
      if (others.length) this.shownPanes = others.length < this.shownPanes.length ? others : order.filter((name) => name === pane || others.includes(name));
    }
    this.buildFrames();
  }

  setMode(mode) {
    if (this.data.panes.length < 2) return;
    this.mode = mode;
    this.buildFrames();
  }

  setBoxes(change) {
    Object.assign(this.boxes, change);
    for (const name of ["truth", "found"]) {
      const box = this.ticks?.querySelector(`[data-role=${name}]`);
      if (box) box.checked = this.boxes[name];
    }
    if (this.listing) { this.overlay(); this.settle(); }
  }

  setScore(score) {
    this.score = Math.min(0.95, Math.max(0.05, Math.round(score * 100) / 100));
    if (!this.slider) return;
    this.slider.value = this.score;
    this.scoreText.value = this.score.toFixed(2);
    if (this.listing) { this.overlay(); this.relist(); }
  }

  instruct(text) {
    if (text !== this.instruction) {
      for (let index = 0; index < this.data.entries.length; index++) {
        const key = `${index}|${INSTRUCTION}`;
        this.pictures.drop(key);
        for (const known of [this.people, this.measures, this.lost, this.failed]) known.delete(key);
      }
      this.instructed = this.finished = null;
    }
    const appears = Boolean(text) !== Boolean(this.instruction);
    this.instruction = text;
    if (appears && text && !this.panes.includes(INSTRUCTION)) {
      if (this.mode === "swipe") this.pairOfPanes = [this.pairOfPanes[0], INSTRUCTION];
      else this.shownPanes = [...this.shownPanes, INSTRUCTION];
    } else if (appears && !text) {
      this.shownPanes = this.shownPanes.filter((pane) => pane !== INSTRUCTION);
      this.pairOfPanes = this.pairOfPanes.map((pane) => pane === INSTRUCTION ? this.data.panes.at(-1) : pane);
      this.teller.say("");
    }
    if (text && this.instructed !== this.at) {
      this.instructed = this.at;
      this.teller.say("refining …");
      this.ask({ kind: "instruct", entry: this.at, text });
    }
    if (appears) this.buildFrames();
    else this.show();
  }

  attend(word) {
    if (String(word) === String(this.word)) { this.setAttention(null); return; }
    this.word = word;
    this.answer.mark(word);
    this.say("looking where this word looks …");
    this.ask({ kind: "attend", entry: this.at, word });
  }

  setAttention(word, data = null) {
    if (this.heat) URL.revokeObjectURL(this.heat);
    this.heat = data && URL.createObjectURL(new Blob([data], { type: "image/png" }));
    this.word = word;
    this.answer?.mark(word);
    this.frames?.forEach((frame) => frame.layers.forEach((layer) => layer.setHeat(this.heat)));
    if (data || word) this.say("");
  }

  save() {
    const panes = this.panes.filter((pane) => this.pictures.has(`${this.at}|${pane}`));
    if (!panes.length) return;
    this.say("saving …");
    this.ask({ kind: "save", entry: this.at, panes, truth: this.boxes.truth, found: this.boxes.found, score: this.score,
      region: this.view.region(this.frames[0].size, this.size) });
  }

  toggleHelp() { this.help.hidden = !this.help.hidden; }

  // Keys

  key(event) {
    if (event.target.closest("input:not([type=range], [type=checkbox]), select, textarea")) {
      if (event.key === "Escape") this.root.focus({ preventScroll: true });
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const range = event.target.matches("[type=range]");
    const act = {
      ArrowRight: () => this.step(1), ArrowLeft: () => this.step(-1), ArrowDown: () => this.step(1), ArrowUp: () => this.step(-1),
      Home: () => this.step(-Infinity), End: () => this.step(Infinity), s: () => this.setMode(this.mode === "swipe" ? "side" : "swipe"),
      b: () => { const on = !(this.boxes.truth || this.boxes.found); this.setBoxes({ truth: on, found: on }); },
      t: () => this.setBoxes({ truth: !this.boxes.truth }), p: () => this.setBoxes({ found: !this.boxes.found }),
      "[": () => this.setScore(this.score - 0.05), "]": () => this.setScore(this.score + 0.05),
      "+": () => this.zoomBy(1.25), "=": () => this.zoomBy(1.25), "-": () => this.zoomBy(0.8), 0: () => this.zoomTo(1),
      "/": () => this.search?.focus(), i: () => this.teller?.field.focus(), "?": () => this.toggleHelp(),
      Escape: () => { this.setAttention(null); this.help.hidden = true; },
      " ": () => { if (this.mode === "swipe") this.frames.forEach((frame) => frame.setShare(0)); },
    }[event.key] ?? (/^[1-9]$/.test(event.key) && this.data.panes[event.key - 1] && (() => this.togglePane(this.data.panes[event.key - 1])));
    if (!act || (range && event.key.startsWith("Arrow")) || (event.key === " " && event.target !== this.root)) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  keyUp(event) {
    if (event.key === " " && this.mode === "swipe") this.frames.forEach((frame) => frame.setShare(this.share));
  }
}

function render({ model, el }) {
  const viewer = new Viewer(model, el);
  return () => viewer.close();
}

export default { render };
