// Two images in one window: swipe between them, blink, or show their difference.

const BLINK = 650; // milliseconds of each image
const GAINS = [1, 2, 4, 8, 16];

const pairModes = {
  get paired() { return this.mode !== "side" && this.pairOfPanes.length === 2; },

  setMode(mode) {
    if (this.data.panes.length < 2) return;
    this.mode = mode;
    this.buildFrames();
  },

  // Start or stop the timer for the present mode.
  blink(on = this.mode === "blink" && this.paired) {
    clearInterval(this.blinking);
    this.blinking = on ? setInterval(() => this.blinkOnce(), BLINK) : 0;
  },

  blinkOnce() { this.frames.forEach((frame) => frame.setShare(frame.share ? 0 : 1)); },

  // The share of the left image in the present mode.
  get firstShare() { return this.mode === "swipe" ? this.share : 1; },

  // The difference of the two images in the cache, computed once; null while one is missing.
  differenceItem() {
    const [a, b] = this.pairOfPanes.map((pane) => this.images.get(`${this.at}|${pane}`));
    if (!a || !b) return null;
    const made = this.made;
    if (made?.a !== a.bitmap || made.b !== b.bitmap || made.gain !== this.gain) {
      this.made = { a: a.bitmap, b: b.bitmap, gain: this.gain, bitmap: difference(a.bitmap, b.bitmap, this.gain) };
    }
    return this.made;
  },

  get differenceText() { return `orange: ${this.pairOfPanes[0]} is brighter, blue: ${this.pairOfPanes[1]} is; ×${this.gain}`; },

  setGain(gain) { this.gain = gain; this.show(); },

  // Pseudo-colour of the infrared image: the colours of a pane, or null.
  tableOf(pane) { return pane === this.data.sources[0] ? this.data.palettes[this.palette] ?? null : null; },

  setPalette(name) { this.palette = name; this.show(); },
};
