// Ratings from 1 to 5 of single images; the kernel adds each to a CSV.

const SCORES = [1, 2, 3, 4, 5];

const ratings = {
  // The image that a key rates: the one under the pointer, or else the one that lists are judged by, or the last shown.
  get rated() {
    const { panes } = this.pointed?.frame ?? {};
    if (panes) return panes[panes.length > 1 && this.pointed.x > this.pointed.frame.share * this.pointed.frame.size[0] ? 1 : 0];
    return this.panes.includes(this.judged) ? this.judged : this.panes.at(-1);
  },

  rate(score, pane = this.rated) {
    if (!this.images.has(`${this.at}|${pane}`)) return;
    this.ask({ kind: "rate", entry: this.at, pane, score, instruction: pane === INSTRUCTION ? this.instruction : "" });
  },

  receiveRating({ entry, pane, score, path }) {
    this.data.entries[entry].ratings[pane] = score;
    if (entry === this.at) this.showRatings();
    this.say(`${pane} rated ${score} of 5, in ${path}`);
  },

  showRatings() {
    this.frames.forEach((frame) => frame.panes.forEach((pane, index) => {
      const score = this.current.ratings[pane] ?? 0, node = frame.stars[index];
      node.dataset.score = score;
      node.querySelectorAll("button").forEach((star, place) => { star.textContent = place < score ? "★" : "☆"; });
    }));
  },

  starsFor(pane) {
    return make("span", { class: "fl-stars", role: "group", "aria-label": `rating of ${pane}` },
      ...SCORES.map((score) => button("☆", `rate ${pane} ${score} of 5 (Shift+${score})`, () => this.rate(score, pane))));
  },
};
