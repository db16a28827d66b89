// A cache of decoded images that drops the least recently used ones above a number of pixels.

class ImageCache {
  constructor(limit) {
    this.limit = limit;
    this.items = new Map();
    this.pixels = 0;
  }

  has(key) { return this.items.has(key); }

  get(key) {
    const item = this.items.get(key);
    if (item) {
      this.items.delete(key);
      this.items.set(key, item);
    }
    return item;
  }

  // about: {width, height, exact} of the full image; needed: keys that must stay.
  async put(key, data, mime, about, needed) {
    const bitmap = await createImageBitmap(new Blob([data], { type: mime }), { colorSpaceConversion: "none" });
    this.drop(key);
    this.items.set(key, { bitmap, ...about });
    this.pixels += bitmap.width * bitmap.height;
    for (const old of this.items.keys()) {
      if (this.pixels <= this.limit) break;
      if (!needed.has(old)) this.drop(old);
    }
  }

  drop(key) {
    const item = this.items.get(key);
    if (!item) return;
    this.pixels -= item.bitmap.width * item.bitmap.height;
    item.bitmap.close();
    this.items.delete(key);
  }

  clear() { [...this.items.keys()].forEach((key) => this.drop(key)); }
}
