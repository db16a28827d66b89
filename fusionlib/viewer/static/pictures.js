// Decoded pictures, the latest used ones up to so many pixels.

class Pictures {
  constructor(limit) {
    this.limit = limit;
    this.kept = new Map();
    this.pixels = 0;
  }

  has(key) { return this.kept.has(key); }

  get(key) {
    const item = this.kept.get(key);
    if (item) {
      this.kept.delete(key);
      this.kept.set(key, item);
    }
    return item;
  }

  // about: {width, height, exact} of the whole picture; `needed` are keys that must stay.
  async put(key, data, mime, about, needed) {
    const bitmap = await createImageBitmap(new Blob([data], { type: mime }), { colorSpaceConversion: "none" });
    this.drop(key);
    this.kept.set(key, { bitmap, ...about });
    this.pixels += bitmap.width * bitmap.height;
    for (const old of this.kept.keys()) {
      if (this.pixels <= this.limit) break;
      if (!needed.has(old)) this.drop(old);
    }
  }

  drop(key) {
    const item = this.kept.get(key);
    if (!item) return;
    this.pixels -= item.bitmap.width * item.bitmap.height;
    item.bitmap.close();
    this.kept.delete(key);
  }

  clear() { [...this.kept.keys()].forEach((key) => this.drop(key)); }
}
