"use strict";
// The forward pass of the Vision Transformer, in the order and with the names of
// going_modular/vit.py. A tensor is a flat Float64Array; its rows are tokens. Numbers are computed
// in double precision, so they differ from PyTorch's float32 by PyTorch's own rounding.

/** x W^T + b for each row of x: [rows, in] -> [rows, out]. */
function linear(x, { weight, bias }) {
  const sizeOut = bias.length, sizeIn = weight.length / sizeOut, rows = x.length / sizeIn;
  const result = new Float64Array(rows * sizeOut);
  for (let out = 0; out < sizeOut; out++) {
    const w = weight.subarray(out * sizeIn, (out + 1) * sizeIn);
    // Four rows share each weight that is read, and their sums need not wait for one another. Where
    // the rows end, the last one is computed again.
    for (let row = 0; row < rows; row += 4) {
      const r1 = Math.min(row + 1, rows - 1), r2 = Math.min(row + 2, rows - 1), r3 = Math.min(row + 3, rows - 1);
      const x0 = row * sizeIn, x1 = r1 * sizeIn, x2 = r2 * sizeIn, x3 = r3 * sizeIn;
      let y0 = bias[out], y1 = y0, y2 = y0, y3 = y0;
      for (let i = 0; i < sizeIn; i++) {
        y0 += w[i] * x[x0 + i];
        y1 += w[i] * x[x1 + i];
        y2 += w[i] * x[x2 + i];
        y3 += w[i] * x[x3 + i];
      }
      result[row * sizeOut + out] = y0;
      result[r1 * sizeOut + out] = y1;
      result[r2 * sizeOut + out] = y2;
      result[r3 * sizeOut + out] = y3;
    }
  }
  return result;
}

/** Each row with mean 0 and variance 1, then scaled and shifted. */
function layerNorm(z, { weight, bias }, epsilon) {
  const size = weight.length, result = new Float64Array(z.length);
  for (let start = 0; start < z.length; start += size) {
    const row = z.subarray(start, start + size);
    const mean = row.reduce((sum, x) => sum + x, 0) / size;
    const variance = row.reduce((sum, x) => sum + (x - mean) ** 2, 0) / size;
    const scale = 1 / Math.sqrt(variance + epsilon);
    for (let i = 0; i < size; i++) result[start + i] = (row[i] - mean) * scale * weight[i] + bias[i];
  }
  return result;
}

function softmax(scores) {
  const largest = Math.max(...scores), powers = scores.map((score) => Math.exp(score - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

/** The error function, by a series whose terms are all of one sign, so that nothing cancels. */
function erf(x) {
  const size = Math.abs(x);
  if (size > 6) return Math.sign(x);
  let term = size, sum = size;
  for (let n = 3; term > 1e-16 * sum; n += 2) sum += term *= (2 * x * x) / n;
  return Math.sign(x) * (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

const gelu = (x) => 0.5 * x * (1 + erf(x / Math.SQRT2));

const add = (a, b) => a.map((x, i) => x + b[i]);

/** Image [C, H, W] -> flattened patches [N, C * P * P], row by row (x_p of Section 3.1). */
function patchify(image, { image_size: side, patch_size: P, in_channels: channels }) {
  const grid = side / P, patches = new Float64Array(image.length);
  let i = 0;
  for (let row = 0; row < grid; row++)
    for (let column = 0; column < grid; column++)
      for (let c = 0; c < channels; c++)
        for (let y = 0; y < P; y++)
          for (let x = 0; x < P; x++)
            patches[i++] = image[(c * side + row * P + y) * side + column * P + x];
  return patches;
}

/** MSA of Equations 5 to 8: [tokens, D] -> the same shape. A head in `off` gives zeros. */
function multiheadSelfAttention(z, msa, numHeads, off, intermediates) {
  const D = msa.out.bias.length, tokens = z.length / D, headSize = D / numHeads;
  const qkv = linear(z, msa.qkv); // Equation 5: in each row q, k and v of all heads
  const heads = new Float64Array(z.length), scores = [], attention = [];
  for (let head = 0; head < numHeads; head++) {
    const q = head * headSize, k = D + q, v = 2 * D + q;
    scores.push([]), attention.push([]);
    for (let asks = 0; asks < tokens; asks++) {
      const row = new Float64Array(tokens);
      for (let token = 0; token < tokens; token++) {
        let sum = 0;
        for (let i = 0; i < headSize; i++) sum += qkv[asks * 3 * D + q + i] * qkv[token * 3 * D + k + i];
        row[token] = sum / Math.sqrt(headSize);
      }
      const weights = softmax(row); // Equation 6
      scores[head].push(row), attention[head].push(weights);
      if (off.has(head)) continue;
      for (let token = 0; token < tokens; token++) // Equation 7
        for (let i = 0; i < headSize; i++)
          heads[asks * D + q + i] += weights[token] * qkv[token * 3 * D + v + i];
    }
  }
  Object.assign(intermediates, { scores, attention });
  return linear(heads, msa.out); // Equation 8
}

/** The MLP of Equation 3: [tokens, D] -> the same shape. */
function mlpBlock(z, mlp) {
  return linear(linear(z, mlp.hidden).map(gelu), mlp.out);
}

/** One layer of the encoder, Equations 2 and 3. `off` holds "mlp", and the numbers of heads. */
function encoderBlock(z, block, { num_heads, layer_norm_eps }, off, intermediates) {
  const msa = multiheadSelfAttention(
    layerNorm(z, block.norm1, layer_norm_eps), block.msa, num_heads, off, intermediates);
  z = add(z, msa); // Equation 2
  if (off.has("mlp")) return z;
  return add(z, mlpBlock(layerNorm(z, block.norm2, layer_norm_eps), block.mlp)); // Equation 3
}

/** Equation 1: image -> z_0. `keep` lists the patches that become tokens. */
function embed(model, image, keep, positions, intermediates) {
  const D = model.settings.hidden_size;
  intermediates.patches = patchify(image, model.settings);
  intermediates.projected = linear(intermediates.patches, model.patch_embedding.projection); // x_p E
  const z = new Float64Array((1 + keep.length) * D);
  z.set(model.class_token);
  keep.forEach((patch, i) =>
    z.set(intermediates.projected.subarray(patch * D, (patch + 1) * D), (1 + i) * D));
  if (!positions) return z;
  const places = [0, ...keep.map((patch) => 1 + patch)];
  return z.map((x, i) => x + model.position_embedding[places[Math.floor(i / D)] * D + (i % D)]);
}

/** Equation 4, and the head: what the model would answer if its class token were this z's. */
function readOut(model, z) {
  const y = layerNorm(z.subarray(0, model.settings.hidden_size), model.norm, model.settings.layer_norm_eps);
  return linear(y, model.head);
}

/**
 * Image [C, H, W] in [-1, 1] -> logits, and intermediates by the names of vit.py.
 * Interventions: keep, the patches that become tokens; positions, false leaves them out;
 * off, a Set of "layer0", "layer0.mlp" and "layer0.head1".
 */
function forward(model, image, { keep, positions = true, off = new Set() } = {}) {
  const { image_size, patch_size, num_heads } = model.settings;
  keep ??= Array.from({ length: (image_size / patch_size) ** 2 }, (_, patch) => patch);
  const intermediates = { keep };
  let z = embed(model, image, keep, positions, intermediates);
  intermediates.embeddings = z;
  intermediates.answers = [readOut(model, z)];
  intermediates.blocks = model.blocks.map((block, layer) => {
    const inside = {}, here = new Set();
    for (let head = 0; head < num_heads; head++) if (off.has(`layer${layer}.head${head}`)) here.add(head);
    if (off.has(`layer${layer}.mlp`)) here.add("mlp");
    const result = encoderBlock(z, block, model.settings, here, inside);
    if (!off.has(`layer${layer}`)) z = result; // a layer that is off hands on what it got
    intermediates.answers.push(readOut(model, z));
    return { ...inside, output: z };
  });
  return { logits: intermediates.answers.at(-1), intermediates };
}

/** Attention rollout (Abnar and Zuidema, 2020), rows by token, as in going_modular/paper/inspection.py. */
function rollout(blocks, residual = true) {
  const tokens = blocks[0].attention[0].length, range = [...Array(tokens).keys()];
  let result = range.map((i) => range.map((j) => (i === j ? 1 : 0)));
  for (const { attention } of blocks) {
    const mixing = range.map((i) => range.map((j) => {
      const mean = attention.reduce((sum, head) => sum + head[i][j], 0) / attention.length;
      return residual ? (mean + (i === j ? 1 : 0)) / 2 : mean;
    }));
    result = mixing.map((row) => {
      const mixed = new Float64Array(tokens);
      row.forEach((share, t) => result[t].forEach((x, j) => { mixed[j] += share * x; }));
      return mixed;
    });
  }
  return result;
}

/** Half-precision numbers, base64 -> a model whose fields have the names of the state dict. */
function loadModel(description, base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const halves = new Uint16Array(bytes.buffer), model = { ...description };
  let start = 0;
  for (const [name, length] of description.parameters) {
    const path = name.split("."), leaf = path.pop();
    let at = model;
    path.forEach((part, i) => { at = at[part] ??= /^\d+$/.test(path[i + 1] ?? "") ? [] : {}; });
    at[leaf] = Float64Array.from(halves.subarray(start, start += length), fromHalf);
  }
  return model;
}

/** The 16 bits of a half-precision number -> its value. */
function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
