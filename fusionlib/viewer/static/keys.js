// Keyboard shortcuts; those of JupyterLab are disabled inside the viewer.

const keys = {
  key(event) {
    if (event.target.closest("input:not([type=range], [type=checkbox]), select, textarea")) {
      if (event.key === "Escape") this.root.focus({ preventScroll: true });
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const range = event.target.matches("[type=range]");
    const step = (by) => this.step(by, event.timeStamp);
    const act = {
      ArrowRight: () => step(1), ArrowLeft: () => step(-1), ArrowDown: () => step(1), ArrowUp: () => step(-1),
      Home: () => step(-Infinity), End: () => step(Infinity), s: () => this.setMode(this.mode === "swipe" ? "side" : "swipe"),
      b: () => { const on = !(this.boxes.truth || this.boxes.found); this.setBoxes({ truth: on, found: on }); },
      t: () => this.setBoxes({ truth: !this.boxes.truth }), p: () => this.setBoxes({ found: !this.boxes.found }),
      "[": () => this.setScore(this.score - 0.05), "]": () => this.setScore(this.score + 0.05),
      "+": () => this.zoomBy(1.25), "=": () => this.zoomBy(1.25), "-": () => this.zoomBy(0.8), 0: () => this.zoomTo(1),
      "/": () => this.search?.focus(), i: () => this.instructionPanel?.field.focus(), "?": () => this.toggleHelp(),
      Escape: () => { this.setAttention(null); this.help.hidden = true; },
      x: () => this.setMode(this.mode === "blink" ? "side" : "blink"), d: () => this.setMode(this.mode === "difference" ? "side" : "difference"),
      l: () => this.setLoupe(!this.loupe), f: () => this.toggleFullScreen(),
      " ": () => {
        if (this.mode === "swipe") this.frames.forEach((frame) => frame.setShare(0));
        else if (this.mode === "blink") this.blink(!this.blinking);
      },
    }[event.key] ?? this.ratingOf(event) ?? (/^[1-9]$/.test(event.key) && this.data.panes[event.key - 1] && (() => this.togglePane(this.data.panes[event.key - 1])));
    if (!act || (range && event.key.startsWith("Arrow")) || (event.key === " " && event.target !== this.root)) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  },

  // Shift and a digit, whatever the keyboard writes then.
  ratingOf(event) {
    const score = event.shiftKey && Number(/^Digit([1-5])$/.exec(event.code)?.[1]);
    return score ? () => this.rate(score) : undefined;
  },

  keyUp(event) {
    if (event.key === " " && this.mode === "swipe") this.frames.forEach((frame) => frame.setShare(this.share));
  },
};
