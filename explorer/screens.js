"use strict";
// The screens picture, tokens, attention and prediction. Each function draws one, from the state and
// the model's result.

// ---------------------------------------------------------------------------------------------
// Picture

function drawPicture() {
  const picture = currentPicture(), { image_size: side, patch_size: P } = currentModel().settings;
  find("#patch-equation").innerHTML =
    `N = HW / P<sup>2</sup> = ${side} · ${side} / ${P}<sup>2</sup> = ${(side / P) ** 2} patches`;
  for (const button of find("#gallery").children)
    button.setAttribute("aria-pressed", button.dataset.picture === state.picture);

  // The whole picture at most 480 px wide, and what is cut off paler.
  const canvas = find("#original canvas"), scale = Math.min(1, 480 / Math.max(picture.width, picture.height));
  Object.assign(canvas, { width: Math.max(1, picture.width * scale), height: Math.max(1, picture.height * scale) });
  const context = canvas.getContext("2d"), crop = cropOf(picture, side), zoom = canvas.width / crop.width;
  context.drawImage(picture.canvas, 0, 0, canvas.width, canvas.height);
  context.fillStyle = "rgba(255, 255, 255, 0.65)";
  const [x, y, size] = [crop.left * zoom, crop.top * zoom, side * zoom];
  context.beginPath();
  context.rect(0, 0, canvas.width, canvas.height);
  context.rect(x, y, size, size);
  context.fill("evenodd");
  find("#original figcaption").textContent = `${picture.text}: ${picture.width} × ${picture.height} pixels, `
    + `scaled to ${crop.width} × ${crop.height}; the ${side} × ${side} in the middle are what the model sees.`;
}

function buildGallery() {
  find("#gallery").replaceChildren(...PICTURES.map(({ name, text, url }) => element("button",
    { type: "button", "data-picture": name, onclick: () => choosePicture(name) },
    element("img", { src: url, alt: text, width: 192, height: 192 }))));
}

/** Another picture: interventions stay, so that one can compare. */
function choosePicture(name) {
  say("");
  change({ picture: name });
}

// ---------------------------------------------------------------------------------------------
// Tokens

function drawTokens({ intermediates }) {
  const model = currentModel(), { hidden_size: D, patch_size: P, image_size } = model.settings;
  const grid = image_size / P, { token } = state, patch = token - 1;
  const row = intermediates.keep.indexOf(patch) + 1, gone = token > 0 && row === 0;
  const part = (array, i, size) => array.subarray(i * size, (i + 1) * size);
  const content = token ? part(intermediates.projected, patch, D) : model.class_token;
  const position = state.positions ? part(model.position_embedding, token, D) : new Float64Array(D);
  const sum = add(content, position);
  const largest = Math.max(...[content, position, sum].map((vector) => Math.max(...vector.map(Math.abs))));
  const line = (name, note, drawing) => element("div", { class: "line" },
    element("div", {}, element("span", { class: "symbol" }), element("span", { class: "note" }, note)), drawing);
  const lines = [];
  const push = (symbol, note, drawing) => {
    const made = line(symbol, note, drawing);
    made.querySelector(".symbol").innerHTML = symbol; // our own markup, with sub and sup
    lines.push(made);
  };
  if (token) {
    const canvas = element("canvas", { class: "patch", role: "img", "aria-label": `the pixels of the ${nameOf(patch, grid)}` });
    const pixels = changedPixels(), of = new Uint8Array(P * P * 3);
    for (let y = 0; y < P; y++) {
      const start = ((Math.floor(patch / grid) * P + y) * image_size + (patch % grid) * P) * 3;
      of.set(pixels.subarray(start, start + P * 3), y * P * 3);
    }
    drawPixels(canvas, of, P);
    push("x<sub>p</sub>", `${P} × ${P} pixels in 3 colours: ${P * P * 3} numbers`, canvas);
    push("x<sub>p</sub>E", `projected: ${D} numbers`, strip(content, largest, "the vector after the projection"));
  } else {
    push("x<sub>class</sub>", `learned, the same for all pictures: ${D} numbers`, strip(content, largest, "the class token"));
  }
  push("+ E<sub>pos</sub>", state.positions ? "this place’s position" : "positions are switched off", strip(position, largest, "the position embedding"));
  push("= z<sub>0</sub>", "the token that enters the encoder", strip(sum, largest, "the token"));
  const title = token ? `The ${nameOf(patch, grid)}` : "The class token";
  find("#token").replaceChildren(element("h3", {}, title), ...lines);
  if (gone) find("#token").append(element("p", { class: "note" }, "This patch is hidden: its token does not enter the encoder."));

  // The cosine similarity of this position to the position of each patch.
  const unit = (i) => { const v = part(model.position_embedding, i, D), length = Math.hypot(...v); return v.map((x) => x / length); };
  const here = unit(token);
  const similarity = Array.from({ length: grid ** 2 }, (_, i) => unit(i + 1).reduce((total, x, j) => total + x * here[j], 0));
  find("#similarity-note").textContent = `The cosine similarity of the position of ${token ? "this patch" : "the class token"} to all others, `
    + `from ${fixed(Math.min(...similarity))} to ${fixed(Math.max(...similarity))}. Nobody told the model that patches lie in a grid; in a trained model neighbours are alike.`;
  const map = heatMap(similarity, grid, "similarity of positions", true);
  if (token) markCell(map, patch, grid);
  find("#similarity").replaceChildren(map);
}

// ---------------------------------------------------------------------------------------------
// Attention

/** The row of the chosen map for the token that asks, over all tokens. null where that token is removed. */
function attentionRow({ intermediates }, map = state.map) {
  const asks = state.token ? intermediates.keep.indexOf(state.token - 1) + 1 : 0;
  if (state.token && !asks) return null;
  if (map.startsWith("rollout"))
    return ((intermediates[map] ??= rollout(intermediates.blocks, map === "rollout"))[asks]);
  const [layer, head] = map.split("."), { attention } = intermediates.blocks[layer];
  if (head !== "mean") return attention[head][asks];
  return attention[0][asks].map((_, token) => attention.reduce((sum, one) => sum + one[asks][token], 0) / attention.length);
}

/** That row for the patches in their places; undefined where a patch is removed. */
function attentionOf(found, map = state.map) {
  const shares = attentionRow(found, map), places = Array(patchesOf(currentModel())).fill(shares ? undefined : 0);
  if (shares) found.intermediates.keep.forEach((patch, i) => { places[patch] = shares[i + 1]; });
  return places;
}

const mapName = (map) => {
  if (map === "rollout") return "rollout with residual";
  if (map === "rollout-plain") return "rollout without residual";
  const [layer, head] = map.split(".");
  return `layer ${Number(layer) + 1}, ${head === "mean" ? "mean of the heads" : `head ${Number(head) + 1}`}`;
};

function mapButton(found, map, caption) {
  const columns = Math.sqrt(patchesOf(currentModel()));
  const drawing = heatMap(attentionOf(found, map), columns, "");
  drawing.removeAttribute("role"), drawing.setAttribute("aria-hidden", "true");
  if (state.token) markCell(drawing, state.token - 1, columns);
  return element("button", { type: "button", class: "map", "aria-pressed": state.map === map, "data-map": map,
    "aria-label": `show ${mapName(map)}` }, drawing, element("span", {}, caption));
}

function drawAttention(found) {
  const { num_layers: layers, num_heads: heads } = currentModel().settings;
  const rows = Array.from({ length: layers }, (_, layer) => element("div", { class: "row" },
    element("span", { class: "label" }, `layer ${layer + 1}`),
    ...[...Array(heads).keys(), "mean"].map((head) => mapButton(found, `${layer}.${head}`, head === "mean" ? "mean" : `head ${head + 1}`))));
  find("#maps").style.setProperty("--columns", heads + 1);
  keepingFocus("data-map", () => {
    find("#maps").replaceChildren(...rows);
    find("#rollouts").replaceChildren(mapButton(found, "rollout", "with residual"), mapButton(found, "rollout-plain", "without residual"));
  });
  readPair(null);
}

/** How the chosen map comes to its number for one token: q · k / sqrt(D_h), the weight, the share. */
function readPair(token) {
  if (state.screen !== "attention") return;
  const found = show.found, { intermediates } = found, columns = Math.sqrt(patchesOf(currentModel()));
  const name = (t) => (t ? nameOf(t - 1, columns) : "class token"), shares = attentionRow(found);
  const tell = (...lines) => find("#reading").replaceChildren(element("h3", {}, `${mapName(state.map)}: the ${name(state.token)} asks`), ...lines);
  if (!shares) return tell(element("p", {}, "This patch is hidden, so it does not ask. Choose another one."));
  // Without a patch under the pointer: the one that is attended to most.
  const index = token === null ? shares.indexOf(Math.max(...shares)) : token ? intermediates.keep.indexOf(token - 1) + 1 : 0;
  const asked = index ? intermediates.keep[index - 1] + 1 : 0;
  if (token && !index) return tell(element("p", {}, `The ${name(token)} is hidden: nobody attends to it.`));
  const intro = `${token === null ? "Most of it goes to the" : "To the"} ${name(asked)}: `;
  const [layer, head] = state.map.split("."), scores = intermediates.blocks[layer]?.scores[head];
  if (!scores) return tell(element("p", {}, intro, element("strong", {}, percent(shares[index])), "."));
  const row = scores[state.token ? intermediates.keep.indexOf(state.token - 1) + 1 : 0];
  const sum = row.reduce((total, score) => total + Math.exp(score), 0), line = element("p", { class: "equation" });
  line.innerHTML = `q · k / √D<sub>h</sub> = ${fixed(row[index])} &ensp;→&ensp; e<sup>${fixed(row[index])}</sup> = ${brief(Math.exp(row[index]))} `
    + `&ensp;→&ensp; ${brief(Math.exp(row[index]))} / ${brief(sum)} = <strong>${percent(shares[index])}</strong>`;
  tell(element("p", {}, intro.replace(": ", ":")), line);
}

// ---------------------------------------------------------------------------------------------
// Prediction

function drawPrediction({ logits, intermediates }) {
  const { class_names: names, settings } = currentModel(), shares = softmax(logits);
  const best = [...shares.keys()].sort((a, b) => shares[b] - shares[a]).slice(0, 5);
  find("#logits").replaceChildren(element("table", {},
    element("thead", {}, element("tr", {}, ...["class", "logit", "probability"].map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, ...best.map((i) => element("tr", {}, element("th", { scope: "row" }, readable(names[i])),
      element("td", { class: "value" }, fixed(logits[i])), element("td", {}, ...bars([{ name: "", share: shares[i] }])))))));
  if (names.length > best.length)
    find("#logits").append(element("p", { class: "note" }, `The best ${best.length} of ${names.length} classes.`));

  const [final] = best;
  const rows = intermediates.answers.map((answer, layer) => {
    const here = softmax(answer), top = here.indexOf(Math.max(...here));
    return element("tr", {}, element("th", { scope: "row" }, layer ? `layer ${layer}` : "input"),
      element("td", {}, `${readable(names[top])}, ${percent(here[top])}`),
      element("td", {}, ...bars([{ name: "", share: here[final] }])));
  });
  find("#lens").replaceChildren(element("table", {},
    element("thead", {}, element("tr", {}, ...["", "the head says", `probability of ${readable(names[final])}`].map((head, i) =>
      element(i ? "th" : "td", i ? { scope: "col" } : {}, head)))),
    element("tbody", {}, ...rows)));
}
