// Values of pixels, and images made of pixels: pseudo-colours and differences. Luma is that of BT.601, 0..255.

function luma(data, at) { return 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2]; }

function sketch(width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  return canvas.getContext("2d", { alpha: false, willReadFrequently: true });
}

// [r, g, b] of a decoded image at (x, y) in 0..1 of its sides.
const ONE_PIXEL = sketch(1, 1);
function pixelAt(bitmap, x, y) {
  const at = (share, size) => Math.min(size - 1, Math.max(0, Math.floor(share * size)));
  ONE_PIXEL.drawImage(bitmap, at(x, bitmap.width), at(y, bitmap.height), 1, 1, 0, 0, 1, 1);
  return [...ONE_PIXEL.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

function pixelText([r, g, b]) { return r === g && g === b ? String(r) : `${r} ${g} ${b}`; }

// Replace the luma of an image in place by colours; table: 256 times rrggbb.
function colour(context, table) {
  const image = context.getImageData(0, 0, context.canvas.width, context.canvas.height), { data } = image;
  const colours = Array.from({ length: 768 }, (_, index) => parseInt(table.slice(2 * index, 2 * index + 2), 16));
  for (let at = 0; at < data.length; at += 4) {
    const from = 3 * Math.round(luma(data, at));
    for (let channel = 0; channel < 3; channel++) data[at + channel] = colours[from + channel];
  }
  context.putImageData(image, 0, 0);
}

// The difference of the luma of two images, times a gain, as a canvas of the first one's size: orange where the first is
// brighter, blue where the second is, black where they are equal.
function difference(a, b, gain) {
  const [first, second] = [a, b].map((bitmap) => {
    const context = sketch(a.width, a.height);
    context.drawImage(bitmap, 0, 0, a.width, a.height);
    return context;
  });
  const image = first.getImageData(0, 0, a.width, a.height), { data } = image;
  const other = second.getImageData(0, 0, a.width, a.height).data;
  for (let at = 0; at < data.length; at += 4) {
    const by = gain * (luma(data, at) - luma(other, at)), size = Math.min(255, Math.abs(by));
    [data[at], data[at + 1], data[at + 2]] = by > 0 ? [size, 0.55 * size, 0] : [0, 0.45 * size, size];
  }
  first.putImageData(image, 0, 0);
  return first.canvas;
}
