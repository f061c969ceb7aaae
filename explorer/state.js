"use strict";
// What is shown: all of it lies in the address, so that a view can be shared and survives a reload.

const MODELS = JSON.parse(document.getElementById("models").textContent);
const PICTURES = JSON.parse(document.getElementById("pictures").textContent);
const TOUR_STEPS = 8;
const SCREENS = ["picture", "tokens", "attention", "intervene", "prediction"];

// How each field is written into the address, and read out of it. A field at its default is left out.
const text = { write: (value) => value, read: (value) => value };
const number = { write: String, read: (value) => Math.max(0, parseInt(value, 10) || 0) };
const flag = { write: (value) => (value ? "1" : "0"), read: (value) => value === "1" };
const words = { write: (set) => [...set].join(" "), read: (value) => new Set(value.split(" ").filter(Boolean)) };
const numbers = { write: (list) => list.join("."), read: (value) => value.split(".").map(number.read) };
const FIELDS = {
  screen: [text, "picture"],
  model: [text, MODELS[0].name],
  picture: [text, PICTURES[0].name],
  token: [number, 0], // the one that is looked at: 0 is the class token, 1 + i is patch i
  map: [text, "0.0"], // layer.head, layer.mean, rollout or rollout-plain
  hidden: [numbers, []], // patches
  mode: [text, "remove"], // or grey
  order: [numbers, []], // which patch stands at each place; empty: each at its own
  positions: [flag, true],
  off: [words, new Set()], // parts that are switched off, as `forward` names them
  measured: [flag, false],
  tour: [number, 0], // the step, 0 outside the tour
};
const INTERVENTIONS = ["hidden", "mode", "order", "positions", "off"];

const state = readAddress();
const past = []; // earlier interventions, for undo

function defaults(names = Object.keys(FIELDS)) {
  return Object.fromEntries(names.map((name) => [name, FIELDS[name][1]]));
}

/** The state that an address holds; what doesn't fit the models and pictures here is left out. */
function readAddress() {
  const found = defaults(), query = new URLSearchParams(location.hash.slice(1));
  for (const [name, [kind]] of Object.entries(FIELDS)) if (query.has(name)) found[name] = kind.read(query.get(name));
  const model = MODELS.find(({ name }) => name === found.model) ?? MODELS[0];
  const patches = patchesOf(model), { num_layers: layers, num_heads: heads } = model.settings;
  found.model = model.name;
  if (!SCREENS.includes(found.screen)) found.screen = "picture";
  if (found.picture !== "own" && !PICTURES.some(({ name }) => name === found.picture)) found.picture = PICTURES[0].name;
  if (found.mode !== "grey") found.mode = "remove";
  if (found.token > patches) found.token = 0;
  if (found.tour > TOUR_STEPS) found.tour = 0;
  const [layer, head] = found.map.split(".");
  const isMap = Number(layer) < layers && (head === "mean" || Number(head) < heads);
  if (!isMap && !found.map.startsWith("rollout")) found.map = "0.0";
  found.hidden = [...new Set(found.hidden)].filter((patch) => patch < patches).sort((a, b) => a - b);
  if (new Set(found.order.filter((patch) => patch < patches)).size !== patches) found.order = [];
  return found;
}

function writeAddress(newEntry) {
  const query = new URLSearchParams();
  for (const [name, [kind, initial]] of Object.entries(FIELDS))
    if (kind.write(state[name]) !== kind.write(initial)) query.set(name, kind.write(state[name]));
  const address = `#${query}`;
  if (address === location.hash || (address === "#" && !location.hash)) return;
  history[newEntry ? "pushState" : "replaceState"](null, "", address);
}

/** Change the state, and show it. Another screen or tour step is a new entry of the history. */
function change(changes) {
  const newEntry = ["screen", "tour"].some((name) => name in changes && changes[name] !== state[name]);
  Object.assign(state, changes);
  writeAddress(newEntry);
  show();
}

/** Change the interventions, so that it can be undone. */
function intervene(changes) {
  past.push(Object.fromEntries(INTERVENTIONS.map((name) => [name, state[name]])));
  change(changes);
}

const isChanged = () => INTERVENTIONS.some((name) => name !== "mode" &&
  FIELDS[name][0].write(state[name]) !== FIELDS[name][0].write(FIELDS[name][1]));

function patchesOf({ settings }) {
  return (settings.image_size / settings.patch_size) ** 2;
}

// ---------------------------------------------------------------------------------------------
// What follows from the state: the model, the picture, and the model's result

const loaded = {};
let own = null; // the reader's picture

function currentModel() {
  const { model: name } = state;
  return (loaded[name] ??= loadModel(
    MODELS.find((model) => model.name === name), document.getElementById(`weights-${name}`).textContent));
}

/** The square that the model sees, before any intervention: bytes [side, side, 3]. */
function seenPixels() {
  const picture = currentPicture(), side = currentModel().settings.image_size;
  picture.crops ??= {};
  return (picture.crops[side] ??= cropPixels(picture, side));
}

function currentPicture() {
  return state.picture === "own" && own ? own : PICTURES.find(({ name }) => name === state.picture) ?? PICTURES[0];
}

/** The picture's pixels with its patches in the order of the state, and grey where they are painted. */
function changedPixels() {
  const pixels = seenPixels(), { image_size: side, patch_size: P } = currentModel().settings, grid = side / P;
  const result = pixels.slice(), place = (patch) => [Math.floor(patch / grid) * P, (patch % grid) * P];
  for (let to = 0; to < grid ** 2; to++) {
    const from = state.order[to] ?? to, grey = state.mode === "grey" && state.hidden.includes(to);
    if (from === to && !grey) continue;
    const [rowTo, columnTo] = place(to), [rowFrom, columnFrom] = place(from);
    for (let y = 0; y < P; y++)
      for (let x = 0; x < P * 3; x++)
        result[((rowTo + y) * side + columnTo) * 3 + x] =
          grey ? 128 : pixels[((rowFrom + y) * side + columnFrom) * 3 + x];
  }
  return result;
}

function keptPatches() {
  const all = [...Array(patchesOf(currentModel())).keys()];
  return state.mode === "remove" ? all.filter((patch) => !state.hidden.includes(patch)) : all;
}

/** The result with all interventions. */
function result() {
  return forward(currentModel(), normalise(changedPixels()),
    { keep: keptPatches(), positions: state.positions, off: state.off });
}

/** The result without interventions. */
function unchanged() {
  const picture = currentPicture();
  picture.results ??= {};
  return (picture.results[state.model] ??= forward(currentModel(), normalise(seenPixels())));
}
