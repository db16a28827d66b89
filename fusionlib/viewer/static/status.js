// Captions of the images: boxes, counts of people, metrics, ratings.

const statusLine = {
  // Update boxes, counts and metrics of the current entry.
  overlay() {
    const { truth } = this.current, size = this.size;
    for (const frame of this.frames) {
      frame.panes.forEach((pane, index) => {
        const found = this.people.get(`${this.at}|${pane}`), layer = frame.layers[index];
        const judged = found && this.boxes.found ? judge(truth ?? [], found, this.score) : null;
        const here = this.images.items.has(`${this.at}|${pane}`);
        if (here) layer.boxes(truth, judged, this.boxes, size);
        frame.facts[index].textContent = here ? this.facts(pane, truth, judged) : "";
        frame.facts[index].classList.toggle("fl-bad", Boolean(judged && truth && judged.missed.some(Boolean)));
        frame.badges[index].replaceChildren(...this.metricBadges(pane));
      });
    }
    this.showRatings();
  },

  facts(pane, truth, judged) {
    const people = (count) => count === 1 ? "1 person" : `${count} people`;
    if (!this.boxes.found || !this.data.finds) return !truth || !this.boxes.truth ? "" : truth.length ? people(truth.length) : "no people";
    if (!judged) return this.lost.has(`${this.at}|${pane}`) ? "" : "detecting people …";
    if (!truth) return `${judged.shown.length} detected`;
    const missed = judged.missed.filter(Boolean).length, wrong = judged.right.filter((is) => !is).length;
    return `${truth.length - missed} of ${truth.length} found${wrong ? `, ${wrong} false positive${wrong === 1 ? "" : "s"}` : ""}`;
  },

  metricBadges(pane) {
    if (!this.measured(pane)) return [];
    const values = this.measures.get(`${this.at}|${pane}`);
    const rivals = this.panes.filter((other) => this.measured(other));
    return this.data.metrics.map(({ name, up }) => {
      const all = Object.fromEntries(rivals.map((other) => [other, this.measures.get(`${this.at}|${other}`)?.[name]]));
      const leads = best(rivals, all, up)[pane];
      const title = `${name}, ${up ? "higher" : "lower"} is better, convention ${this.data.convention}${leads ? "; best of the images shown" : ""}`;
      return make("span", { class: leads ? "fl-badge fl-best" : "fl-badge", title, "data-metric": name },
        `${leads ? "★ " : ""}${name}${up ? "↑" : "↓"} `, make("b", {}, values ? readable(values[name]) : "…"));
    });
  },
};
