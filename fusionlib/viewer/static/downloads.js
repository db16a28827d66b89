// Files for the user: the view as a picture, an image at its full size, a GIF.

function download(name, blob) {
  const address = URL.createObjectURL(blob);
  make("a", { href: address, download: name.replace(/[^\w.-]+/g, "_") }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

const MARGIN = 10, LINE = 18; // pixels on the screen

const downloads = {
  // What is seen of the images, with boxes, attention map, captions and instruction.
  async downloadView() {
    const area = this.area.getBoundingClientRect(), notes = this.viewNotes();
    const context = sketch(1, 1), { canvas } = context, ratio = Math.max(2, devicePixelRatio);
    const size = [area.width + 2 * MARGIN, area.height + 3 * MARGIN + LINE * (1 + notes.length)];
    [canvas.width, canvas.height] = size.map((side) => Math.round(side * ratio));
    const style = getComputedStyle(this.root);
    context.scale(ratio, ratio);
    context.fillStyle = style.backgroundColor;
    context.fillRect(0, 0, ...size);
    context.fillStyle = style.color;
    context.textBaseline = "top";
    const write = (text, x, y, weight = 400, align = "left") => {
      context.font = `${weight} 13px ${style.fontFamily}`;
      context.textAlign = align;
      context.fillText(text, x, y);
    };
    write(this.current.name, MARGIN, MARGIN, 600);
    context.translate(MARGIN - area.left, 2 * MARGIN + LINE - area.top);
    for (const frame of this.frames) {
      const box = frame.window.getBoundingClientRect();
      frame.layers.forEach((layer, index) => this.drawLayer(context, frame, layer, index, box));
      frame.panes.forEach((pane, index) => write(pane, index ? box.right : box.left, box.top - LINE, 600, index ? "right" : "left"));
    }
    notes.forEach((text, index) => write(text, area.left, area.bottom + MARGIN + LINE * index));
    canvas.toBlob((blob) => download(`${this.current.name}_view.png`, blob), "image/png");
  },

  // Sentences below the picture: all that one would have to know to read it.
  viewNotes() {
    const notes = [];
    if (this.instruction && this.panes.includes(INSTRUCTION)) notes.push(`instruction: “${this.instruction}”, ${this.data.answers_from}`);
    if (this.word && this.heat) notes.push(`attention of “${[...this.current.answer.text].slice(...this.word).join("")}”`);
    if (this.mode === "difference" && this.paired) notes.push(this.differenceText);
    if (this.palette && this.panes.includes(this.data.sources[0])) notes.push(`infrared in pseudo-colours (${this.palette})`);
    if (this.boxes.truth && this.current.truth?.length) notes.push("green boxes: labelled people, dashed where missed");
    if (this.boxes.found && this.data.finds) notes.push(`orange boxes: found by ${this.detector} with a score from ${this.score} on, dashed where nobody is`);
    return notes;
  },

  drawLayer(context, frame, layer, index, box) {
    const edge = frame.panes.length === 2 ? frame.share * box.width : box.width;
    const [from, to] = frame.panes.length === 1 ? [0, box.width] : index ? [edge, box.width] : [0, edge];
    if (from >= to || layer.node.classList.contains("fl-empty")) return;
    context.save();
    context.beginPath();
    context.rect(box.left + from, box.top, to - from, box.height);
    context.clip();
    const { scale, left, top } = this.view.place(frame.size, this.size);
    context.translate(box.left + left, box.top + top);
    context.scale(scale, scale);
    context.imageSmoothingEnabled = !layer.stage.classList.contains("fl-sharp");
    context.drawImage(layer.canvas, 0, 0, ...this.size);
    if (!layer.heat.hidden && layer.heat.naturalWidth) context.drawImage(layer.heat, 0, 0, ...this.size);
    for (const rect of layer.svg.querySelectorAll("rect")) {
      const style = getComputedStyle(rect), at = ["x", "y", "width", "height"].map((name) => Number(rect.getAttribute(name)));
      context.strokeStyle = style.stroke;
      context.lineWidth = parseFloat(style.strokeWidth) / scale;
      context.setLineDash(style.strokeDasharray === "none" ? [] : style.strokeDasharray.split(",").map((dash) => parseFloat(dash) / scale));
      context.strokeRect(...at);
    }
    context.restore();
  },

  downloadImage(pane) {
    if (pane === INSTRUCTION && this.finished !== this.at) { this.say("the image is still being refined: try again in a moment"); return; }
    this.say("preparing the file …");
    this.ask({ kind: "download", entry: this.at, pane });
  },

  downloadSwipe() {
    const panes = this.pairOfPanes.filter((pane) => pane === INSTRUCTION ? this.finished === this.at : this.current.panes.includes(pane));
    if (panes.length < 2) { this.say("a GIF needs two images: choose them in the layout “swipe”"); return; }
    this.say("making the GIF …");
    this.ask({ kind: "swipe", entry: this.at, panes, region: this.view.region(this.frames[0].size, this.size) });
  },
};
