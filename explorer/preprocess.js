"use strict";
// From a picture to what the model takes: eval_transform of going_modular, with the same numbers.
// The short side is scaled to image_size, then the square in the middle is cut out.

const LONGEST_SIDE = 4096; // pixels: phones refuse canvases that are much larger

/** A picture file -> {width, height, data}, RGB in bytes: turned as EXIF says, transparency on white. */
async function readPicture(blob) {
  const bitmap = await createImageBitmap(
    blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  const shrink = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  return readPixels(bitmap, Math.max(1, Math.round(bitmap.width * shrink)),
    Math.max(1, Math.round(bitmap.height * shrink)));
}

function readPixels(source, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height); // red, green, blue, alpha
  return { width, height, canvas, data: data.filter((_, i) => i % 4 < 3) };
}

/** The filter of a bilinear resize with antialiasing, as Pillow and torchvision compute it: for each
 * of the results first ... first + count - 1 the first input that it weighs, and the weights. */
function resizeFilter(sizeIn, sizeOut, first, count) {
  const scale = sizeIn / sizeOut, support = Math.max(scale, 1);
  return Array.from({ length: count }, (_, i) => {
    const center = (first + i + 0.5) * scale;
    const start = Math.max(Math.floor(center - support + 0.5), 0);
    const end = Math.min(Math.floor(center + support + 0.5), sizeIn);
    const weights = Array.from({ length: end - start }, (_, j) =>
      Math.max(0, 1 - Math.abs((start + j - center + 0.5) / support)));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { start, weights: Float64Array.from(weights, (weight) => weight / sum) };
  });
}

const toByte = (x) => Math.max(0, Math.min(255, Math.floor(x + 0.5)));

function roundHalfToEven(x) { // Python's round
  return x % 1 === 0.5 && Math.floor(x) % 2 === 0 ? Math.floor(x) : Math.round(x);
}

/** Where the crop lies: the scaled size of the whole picture, and the square's corner in it. */
function cropOf({ width, height }, side) {
  const short = Math.min(width, height);
  const scaled = [width, height].map((size) => Math.floor((size * side) / short));
  const [left, top] = scaled.map((size) => roundHalfToEven((size - side) / 2));
  return { width: scaled[0], height: scaled[1], left, top };
}

/** {width, height, data} -> the square that the model sees, RGB in bytes [side, side, 3]. */
function cropPixels(picture, side) {
  const crop = cropOf(picture, side), { width, height, data } = picture;
  const columns = resizeFilter(width, crop.width, crop.left, side);
  const rows = resizeFilter(height, crop.height, crop.top, side);
  // First sideways, then upright, with bytes between, as Pillow does it. Only what the crop needs.
  const wide = new Uint8Array(height * side * 3), result = new Uint8Array(side * side * 3);
  const from = rows[0].start, to = rows.at(-1).start + rows.at(-1).weights.length;
  for (let y = from; y < to; y++) {
    columns.forEach(({ start, weights }, x) => {
      let red = 0, green = 0, blue = 0, at = (y * width + start) * 3;
      for (const weight of weights) {
        red += weight * data[at++];
        green += weight * data[at++];
        blue += weight * data[at++];
      }
      wide.set([toByte(red), toByte(green), toByte(blue)], (y * side + x) * 3);
    });
  }
  rows.forEach(({ start, weights }, y) => {
    for (let i = 0; i < side * 3; i++) {
      let sum = 0;
      weights.forEach((weight, j) => { sum += weight * wide[(start + j) * side * 3 + i]; });
      result[y * side * 3 + i] = toByte(sum);
    }
  });
  return result;
}

/** Bytes [side, side, 3] -> the model's input [3, side, side] in [-1, 1], rounded as float32 rounds. */
function normalise(pixels) {
  const size = pixels.length / 3, image = new Float64Array(pixels.length);
  pixels.forEach((value, i) => {
    image[(i % 3) * size + Math.floor(i / 3)] = Math.fround(Math.fround(value / 127.5) - 1);
  });
  return image;
}
