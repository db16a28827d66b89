// Layout, zoom and pan: the same for all frames.

const linkedZoom = {
  layout() {
    const size = this.size, aspect = size[1] / size[0], width = this.area.clientWidth;
    if (!width || !this.frames.length) return;
    const whole = document.fullscreenElement === this.root;
    const shape = [width, aspect.toFixed(4), innerHeight, this.frames.length, whole].join();
    if (shape !== this.shape) {
      this.shape = shape;
      const caption = this.data.sources.length ? 44 : 28;
      const room = [width, Math.max(360, innerHeight - (whole ? 280 : 340))];
      const { columns, height } = arrange(this.frames.length, room, aspect, 8, caption);
      this.area.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
      this.frames.forEach((frame) => { frame.window.style.height = `${height}px`; });
    }
    this.place();
  },

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
    this.pointAgain();
  },

  pixelZoom(frame) { return 1 / devicePixelRatio / this.view.fitScale(frame.size, this.size); },

  zoomTo(zoom) {
    const [frame] = this.frames;
    this.view.zoom = zoom || Math.max(1, this.pixelZoom(frame));
    this.place();
  },

  zoomBy(factor) {
    const { size } = this.frames[0];
    this.view.zoomAt(factor, size[0] / 2, size[1] / 2, size, this.size);
    this.place();
  },
};
