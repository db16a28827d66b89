// Handlers of messages from the kernel.

const handlers = {
  receive(content, buffers) {
    if (content.gallery !== this.data.number || (content.kind === "people" && content.detector !== this.detector)) return;
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
    } else if (kind === "saved") this.say(`saved as ${content.path}, and as PDF`);
    else if (kind === "file") { download(content.name, new Blob([buffers[0]])); this.say(`downloaded ${content.name}`); }
    else if (kind === "rated") this.receiveRating(content);
    else if (kind === "problem") this.receiveProblem(content, key);
  },

  progress({ kind, done, total, entry }) {
    this.say(done < total ? `${kind === "people" ? "detecting people" : "computing metrics"}: ${done} of ${total} …` : "");
    if (entry === this.at || done % 8 === 0 || done === total) this.relist();
  },

  async receiveImage(content, data, key) {
    const { mime, width, height, exact, entry, pane } = content, { number } = this.data;
    if (pane === INSTRUCTION && content.text !== this.instruction) return;
    try {
      await this.images.put(key, data, mime, { width, height, exact: pane === INSTRUCTION || exact }, this.needed ?? new Set());
    } catch {
      this.failed.set(key, "this image could not be decoded");
    }
    if (number !== this.data.number) return;
    if (pane === INSTRUCTION) {
      this.instructed = null;
      this.instructionPanel.say(`refined in ${content.milliseconds} ms at ${width}×${height} by ${this.data.answers_from}${content.advice ? `; auto: ${content.advice}` : ""}`);
      for (const results of [this.people, this.measures, this.lost]) results.delete(key);
      if (content.last) this.finished = entry;
    } else this.waiting.delete(key);
    if (entry === this.at) { this.show(); this.pointAgain(); }
    else this.pump();
  },

  receiveProblem({ of, text, entry, pane, panes }, key) {
    if (of === "image") {
      this.waiting.delete(key);
      this.failed.set(key, text);
      if (entry === this.at) this.show();
      else this.pump();
    } else if (of === "instruct") {
      this.instructed = null;
      this.failed.set(`${entry}|${INSTRUCTION}`, "no image for this instruction");
      this.instructionPanel.say("", text);
      if (entry === this.at) this.show();
    } else {
      (panes ?? []).forEach((name) => this.lost.set(`${entry}|${name}`, text));
      if (of === "people" || of === "measures") this.overlay();
      if (of === "attend") this.setAttention(null);
      this.say(text, true);
    }
  },

  say(text, problem = false) {
    this.status.value = text;
    this.status.classList.toggle("fl-problem", problem);
  },
};
