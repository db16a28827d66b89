// What follows the pointer: a mark at the same place of all images, their values there, and the loupe.

const LOUPE = 4; // times the size on the screen
const INSPECTED = 4e6; // pixels up to which an image under the pointer is requested without loss, for exact values

const pointer = {
  point(frame, x, y) {
    const { scale, left, top } = this.view.place(frame.size, this.size), [width, height] = this.size;
    const at = [(x - left) / scale / width, (y - top) / scale / height];
    if (at.some((share) => share < 0 || share >= 1)) { this.unpoint(); return; }
    this.pointed = { frame, x, y };
    this.where.value = `x ${Math.floor(at[0] * width)}, y ${Math.floor(at[1] * height)}`;
    this.frames.forEach((each) => {
      each.mark.hidden = each === frame;
      each.mark.style.transform = `translate(${x}px, ${y}px)`;
      each.values.forEach((node, index) => { node.textContent = this.valueText(each.panes[index], ...at); });
      this.enlarge(each, x, y);
    });
    if (width * height <= INSPECTED && this.inspected !== this.at) {
      this.inspected = this.at;
      this.sharpen();
    }
  },

  unpoint() {
    this.pointed = null;
    this.where.value = "";
    this.frames.forEach((frame) => {
      frame.mark.hidden = frame.loupe.hidden = true;
      frame.values.forEach((node) => { node.textContent = ""; });
    });
  },

  // The value of an image at (x, y) in 0..1, with ≈ as long as only a compressed or reduced copy is here.
  valueText(pane, x, y) {
    const item = this.images.items.get(`${this.at}|${pane}`);
    return item ? `${item.exact ? "" : "≈ "}${pixelText(pixelAt(item.bitmap, x, y))}` : "";
  },

  // After new images or another view: values and loupe at the place where the pointer still is.
  pointAgain() {
    if (this.pointed && this.frames.includes(this.pointed.frame)) this.point(this.pointed.frame, this.pointed.x, this.pointed.y);
  },

  enlarge(frame, x, y) {
    frame.loupe.hidden = !this.loupe;
    if (!this.loupe) return;
    const layer = frame.layers[frame.layers.length > 1 && x > frame.share * frame.size[0] ? 1 : 0];
    const { canvas } = layer, { scale, left, top } = this.view.place(frame.size, this.size);
    const ratio = canvas.width / this.size[0], side = frame.loupe.width / LOUPE / devicePixelRatio / scale * ratio;
    const context = frame.loupe.getContext("2d", { alpha: false });
    context.imageSmoothingEnabled = false;
    context.fillRect(0, 0, frame.loupe.width, frame.loupe.height);
    context.drawImage(canvas, (x - left) / scale * ratio - side / 2, (y - top) / scale * ratio - side / 2, side, side,
      0, 0, frame.loupe.width, frame.loupe.height);
    frame.loupe.style.transform = `translate(${x}px, ${y}px) translate(-50%, -50%)`;
  },

  setLoupe(on) {
    this.loupe = on;
    this.root.querySelector("[data-role=loupe]").setAttribute("aria-pressed", on);
    this.frames.forEach((frame) => { frame.loupe.hidden = true; });
    this.pointAgain();
  },
};
