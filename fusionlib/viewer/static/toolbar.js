// Actions of the controls: list of entries, panes, boxes, instruction, attention.

const toolbar = {
  setList(change) {
    Object.assign(this, change);
    if (change.judged) { this.thumbs.near.forEach((index) => this.thumbs.forget(index)); this.thumbs.ask(); }
    this.list();
    if (!this.listing.includes(this.at) && this.listing.length) this.go(this.listing[0]);
  },

  list() {
    const { list, request } = listed(this.data, this, {
      people: (index, pane) => this.people.get(`${index}|${pane}`), measures: (index, pane) => this.measures.get(`${index}|${pane}`) });
    const before = this.listing?.length;
    this.listing = list;
    this.thumbs.show(list);
    this.data.entries.forEach((entry, index) => {
      const boxes = this.people.get(`${index}|${this.judged}`);
      if (boxes && entry.truth) this.thumbs.missed(index, missedCount(entry.truth, boxes, this.score));
    });
    if (before === 0 && list.length && this.data.entries.length && !list.includes(this.at)) this.go(list[0]);
    this.showPosition();
    const sweep = request ? `${request.what}|${this.judged}|${this.group}|${this.query}` : "";
    if (request && sweep !== this.swept) this.ask({ kind: "sweep", pane: this.judged, ...request });
    this.swept = sweep;
  },

  showPosition() {
    const place = this.listing.indexOf(this.at);
    this.position.value = this.listing.length ? `${place < 0 ? "–" : place + 1} of ${this.listing.length}` : "none";
    this.thumbs.mark(this.at);
  },

  step(by, since = performance.now()) {
    const place = this.listing.indexOf(this.at);
    const next = Math.min(this.listing.length - 1, Math.max(0, place + by));
    if (!this.listing.length || next === place) return;
    this.began = since;
    this.go(this.listing[next]);
  },

  togglePane(pane) {
    if (this.paired) this.pairOfPanes = this.pairOfPanes.includes(pane) ? this.pairOfPanes : [this.pairOfPanes[1], pane];
    else {
      const others = this.shownPanes.filter((name) => name !== pane);
      const order = [...this.data.panes, INSTRUCTION];
      if (others.length) this.shownPanes = others.length < this.shownPanes.length ? others : order.filter((name) => name === pane || others.includes(name));
    }
    this.buildFrames();
  },

  setBoxes(change) {
    Object.assign(this.boxes, change);
    for (const name of ["truth", "found"]) {
      const box = this.ticks?.querySelector(`[data-role=${name}]`);
      if (box) box.checked = this.boxes[name];
    }
    if (this.listing) { this.overlay(); this.requestResults(); }
  },

  setDetector(name) {
    this.detector = name;
    [this.people, this.lost].forEach((results) => results.clear());
    this.swept = "";
    this.listing.forEach((index) => this.thumbs.missed(index, 0));
    this.overlay();
    this.requestResults();
    this.list();
  },

  setScore(score) {
    this.score = Math.min(0.95, Math.max(0.05, Math.round(score * 100) / 100));
    if (!this.slider) return;
    this.slider.value = this.score;
    this.scoreText.value = this.score.toFixed(2);
    if (this.listing) { this.overlay(); this.relist(); }
  },

  instruct(text) {
    if (text !== this.instruction) {
      for (let index = 0; index < this.data.entries.length; index++) {
        const key = `${index}|${INSTRUCTION}`;
        this.images.drop(key);
        for (const results of [this.people, this.measures, this.lost, this.failed]) results.delete(key);
      }
      this.instructed = this.finished = null;
    }
    const appears = Boolean(text) !== Boolean(this.instruction);
    this.instruction = text;
    if (appears && text && !this.panes.includes(INSTRUCTION)) {
      if (this.paired) this.pairOfPanes = [this.pairOfPanes[0], INSTRUCTION];
      else this.shownPanes = [...this.shownPanes, INSTRUCTION];
    } else if (appears && !text) {
      this.shownPanes = this.shownPanes.filter((pane) => pane !== INSTRUCTION);
      this.pairOfPanes = this.pairOfPanes.map((pane) => pane === INSTRUCTION ? this.data.panes.at(-1) : pane);
      this.instructionPanel.say(`by ${this.data.answers_from}`);
    }
    if (text && this.instructed !== this.at) {
      this.instructed = this.at;
      this.instructionPanel.say("refining …");
      this.ask({ kind: "instruct", entry: this.at, text });
    }
    if (appears) this.buildFrames();
    else this.show();
  },

  attend(word) {
    if (String(word) === String(this.word)) { this.setAttention(null); return; }
    this.word = word;
    this.answer.mark(word);
    this.say("computing the attention map …");
    this.ask({ kind: "attend", entry: this.at, word });
  },

  setAttention(word, data = null) {
    const ends = Boolean(this.heat);
    if (ends) URL.revokeObjectURL(this.heat);
    this.heat = data && URL.createObjectURL(new Blob([data], { type: "image/png" }));
    this.word = word;
    this.answer?.mark(word);
    this.frames?.forEach((frame) => frame.layers.forEach((layer) => layer.setHeat(this.heat)));
    if (data || word || ends) this.say(data ? "attention: purple a little, yellow the most" : "");
  },

  save() {
    const panes = this.panes.filter((pane) => this.images.has(`${this.at}|${pane}`));
    if (!panes.length) return;
    this.say("saving …");
    this.ask({ kind: "save", entry: this.at, panes, truth: this.boxes.truth, found: this.boxes.found, score: this.score,
      word: this.heat ? this.word : null, palette: this.palette, region: this.view.region(this.frames[0].size, this.size) });
  },

  toggleFullScreen() {
    if (document.fullscreenElement === this.root) document.exitFullscreen();
    else this.root.requestFullscreen?.().catch(() => this.say("this page does not allow full screen", true));
  },

  toggleHelp() { this.help.hidden = !this.help.hidden; },
};
