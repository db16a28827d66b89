// Positions of images in their windows: all windows share one view, so that zoom and pan are linked.

// zoom 1 shows the whole image; (x, y), in 0..1 of the image, is at the centre of the window.
class View {
  constructor() { this.fit(); }

  fit() { [this.zoom, this.x, this.y] = [1, 0.5, 0.5]; }

  // Scale and corner of an image of [width, height] in a window of [w, h] pixels; the view is limited to the image.
  place([w, h], [width, height]) {
    const scale = Math.min(w / width, h / height) * this.zoom;
    const inside = (at, room, size) => size <= room ? 0.5 : Math.min(1 - room / 2 / size, Math.max(room / 2 / size, at));
    this.x = inside(this.x, w, width * scale);
    this.y = inside(this.y, h, height * scale);
    return { scale, left: w / 2 - this.x * width * scale, top: h / 2 - this.y * height * scale };
  }

  // Zoom about the point (px, py) of the window.
  zoomAt(factor, px, py, window, size) {
    const before = this.place(window, size);
    const x = (px - before.left) / before.scale / size[0], y = (py - before.top) / before.scale / size[1];
    this.zoom = Math.min(64, Math.max(1, this.zoom * factor));
    const scale = this.fitScale(window, size) * this.zoom;
    this.x = x + (window[0] / 2 - px) / scale / size[0];
    this.y = y + (window[1] / 2 - py) / scale / size[1];
  }

  fitScale([w, h], [width, height]) { return Math.min(w / width, h / height); }

  pan(dx, dy, window, size) {
    const { scale } = this.place(window, size);
    this.x -= dx / scale / size[0];
    this.y -= dy / scale / size[1];
  }

  // The region of the image that the window shows, [x1, y1, x2, y2] in pixels; null for all of it.
  region(window, size) {
    if (this.zoom < 1.02) return null;
    const { scale, left, top } = this.place(window, size);
    const ends = [-left / scale, -top / scale, (window[0] - left) / scale, (window[1] - top) / scale];
    return ends.map((end, index) => Math.round(Math.min(size[index % 2], Math.max(0, end))));
  }
}

// Number of columns and height of the windows, which fill the width, within [width, height] pixels: so that the images
// are largest; another row must make them 5 % wider.
function arrange(count, [width, height], aspect, gap, caption) {
  let best = { columns: 1, height: 0, cell: 0 };
  for (let rows = 1; rows <= count; rows++) {
    const columns = Math.ceil(count / rows);
    const high = (height - rows * caption - (rows - 1) * gap) / rows;
    const cell = Math.floor(Math.min((width - (columns - 1) * gap) / columns, Math.max(high, 80) / aspect));
    if (cell > 1.05 * best.cell) best = { columns, height: Math.round(cell * aspect), cell };
  }
  return best;
}
