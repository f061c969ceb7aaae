"use strict";
// The screen on which patches and parts of the model are taken away.

const STEPS = 16; // points of a curve
const RANDOM_ORDERS = 4;
let swapFirst = null; // the patch that waits for the one it is swapped with

const currentTool = () => find("input[name=tool]:checked").value;

function togglePatches(patches, hide, remember = true) {
  const kept = state.hidden.filter((patch) => !patches.includes(patch));
  const hidden = (hide ? [...kept, ...patches] : kept).sort((a, b) => a - b);
  (remember ? intervene : change)({ hidden });
}

function swapWith(patch) {
  if (swapFirst === null) {
    swapFirst = patch;
    return show();
  }
  const order = currentOrder();
  [order[swapFirst], order[patch]] = [order[patch], order[swapFirst]];
  swapFirst = null;
  intervene({ order });
}

const currentOrder = () => Array.from({ length: patchesOf(currentModel()) }, (_, i) => state.order[i] ?? i);

/** The numbers 0 ... count - 1 in an order that the seed decides (a linear congruential generator). */
function randomOrder(count, seed) {
  const order = [...Array(count).keys()];
  let random = seed * 2654435761 >>> 0;
  for (let i = count - 1; i > 0; i--) {
    random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((random / 2 ** 32) * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/** The patches of the unchanged picture, the one first to which the class token attends most (rollout). */
function byAttention() {
  const shares = rollout(unchanged().intermediates.blocks)[0].slice(1);
  return { shares, order: [...shares.keys()].sort((a, b) => shares[b] - shares[a]) };
}

const ACTIONS = {
  undo: () => past.length && change(past.pop()),
  reset: () => intervene(defaults(INTERVENTIONS)),
  shuffle: () => intervene({ order: randomOrder(patchesOf(currentModel()), Math.floor(Math.random() * 1e6) + 1) }),
  invert: () => intervene({ hidden: currentOrder().map((_, i) => i).filter((patch) => !state.hidden.includes(patch)) }),
  "hide-most": () => hideQuarter(byAttention().order),
  "hide-least": () => hideQuarter(byAttention().order.reverse()),
  "hide-random": () => hideQuarter(randomOrder(patchesOf(currentModel()), Math.floor(Math.random() * 1e6) + 1)),
};

function hideQuarter(order) {
  intervene({ hidden: order.slice(0, Math.round(order.length / 4)).sort((a, b) => a - b) });
}

function drawIntervene() {
  for (const input of document.querySelectorAll("input[name=mode]")) input.checked = input.value === state.mode;
  find("#positions").checked = state.positions;
  for (const button of document.querySelectorAll('#panel [data-act="undo"]')) button.disabled = !past.length;
  drawSwitches();
  find("#measured").hidden = !state.measured;
  if (state.measured) drawMeasured();
}

function drawSwitches() {
  const { num_layers: layers, num_heads: heads } = currentModel().settings;
  const button = (part, caption) => element("button", { type: "button", class: "switch", "data-part": part,
    "aria-pressed": !state.off.has(part), "aria-label": `${caption} of layer ${parseInt(part.slice(5), 10) + 1}` }, caption);
  const rows = Array.from({ length: layers }, (_, layer) => element("div", { class: "row", role: "group", "aria-label": `layer ${layer + 1}` },
    element("span", { class: "label" }, `layer ${layer + 1}`),
    ...Array.from({ length: heads }, (_, head) => button(`layer${layer}.head${head}`, `head ${head + 1}`)),
    button(`layer${layer}.mlp`, "MLP"), button(`layer${layer}`, "all")));
  find("#switches").style.setProperty("--columns", heads + 2);
  keepingFocus("data-part", () => find("#switches").replaceChildren(...rows));
}

function toggleLayerPart(part) {
  const off = new Set(state.off);
  if (!off.delete(part)) off.add(part);
  intervene({ off });
}

// ---------------------------------------------------------------------------------------------
// The curves: how the probability of the answer falls as patches are removed

/** Measures for the unchanged picture, in small pieces so that the page stays alive. */
async function measure() {
  const model = currentModel(), picture = currentPicture(), image = normalise(seenPixels());
  const count = patchesOf(model), answer = argmax(unchanged().logits), { shares, order } = byAttention();
  const ask = (keep) => softmax(forward(model, image, { keep }).logits)[answer];
  const all = [...Array(count).keys()], whole = ask(all);
  const sizes = Array.from({ length: STEPS + 1 }, (_, i) => Math.round((i * count) / STEPS));
  const orders = [order, [...order].reverse(), ...Array.from({ length: RANDOM_ORDERS }, (_, i) => randomOrder(count, i + 1))];
  const total = orders.length * sizes.length + count, curves = [], effects = [];
  let done = 0;
  const pause = async () => {
    if (++done % 4) return;
    find("#progress").textContent = `${Math.round((100 * done) / total)} %`;
    await new Promise((resolve) => setTimeout(resolve));
  };
  for (const removed of orders) {
    const curve = [];
    for (const size of sizes) {
      curve.push(ask(removed.slice(size).sort((a, b) => a - b)));
      await pause();
    }
    curves.push(curve);
  }
  for (const patch of all) {
    effects.push(whole - ask(all.filter((other) => other !== patch)));
    await pause();
  }
  const random = sizes.map((_, i) => curves.slice(2).reduce((sum, curve) => sum + curve[i], 0) / RANDOM_ORDERS);
  picture.measured ??= {};
  picture.measured[model.name] = { sizes, answer, effects, shares: [...shares], most: curves[0], least: curves[1], random };
  find("#progress").textContent = "";
}

const argmax = (values) => values.indexOf(Math.max(...values));

/** Spearman's rank correlation. */
function rankCorrelation(a, b) {
  const ranks = (values) => {
    const order = [...values.keys()].sort((i, j) => values[i] - values[j]), result = [];
    order.forEach((i, rank) => { result[i] = rank; });
    return result;
  };
  const [x, y] = [ranks(a), ranks(b)], mean = (a.length - 1) / 2;
  const covariance = x.reduce((sum, rank, i) => sum + (rank - mean) * (y[i] - mean), 0);
  return covariance / x.reduce((sum, rank) => sum + (rank - mean) ** 2, 0);
}

let measuring = false;

async function drawMeasured() {
  const picture = currentPicture(), { model } = state;
  if (!picture.measured?.[model]) {
    find("#measured").replaceChildren();
    if (measuring) return; // what is being measured now is drawn when it is done, and then this
    measuring = true;
    find("#measure").disabled = true;
    await measure();
    find("#measure").disabled = measuring = false;
    return show();
  }
  const { sizes, answer, effects, shares, most, least, random } = picture.measured[model];
  const count = sizes.at(-1), columns = Math.sqrt(count), name = readable(currentModel().class_names[answer]);
  const points = (curve) => curve.map((y, i) => [sizes[i] / count, y]);
  const correlation = rankCorrelation(shares, effects);
  find("#measured").replaceChildren(
    lineChart([{ name: "most attended first", kind: "most", points: points(most) },
      { name: "at random", kind: "random", points: points(random) },
      { name: "least attended first", kind: "least", points: points(least) }],
    { width: Math.min(620, find("#panel").clientWidth), label: `Probability of ${name} against the number of removed patches`, yLabel: `probability of ${name}`,
      xLabel: "patches removed", xTicks: [0, 0.25, 0.5, 0.75, 1].map((x) => [x, Math.round(x * count)]),
      guess: 1 / currentModel().class_names.length }),
    element("div", { class: "pair" },
      element("figure", {}, heatMap(shares, columns, "attention rollout of the class token"), element("figcaption", {}, "attention: rollout of the class token")),
      element("figure", {}, heatMap(effects, columns, `fall of the probability of ${name} when one patch is removed`, true),
        element("figcaption", {}, "effect: orange where removing this patch alone lowers the answer, blue where it raises it"))),
    element("p", {}, `The two maps put the patches in orders with a rank correlation of ${fixed(correlation)}: `
      + `1 would be the same order, 0 no relation.`));
}

function watchIntervene() {
  for (const input of document.querySelectorAll("input[name=mode]"))
    input.addEventListener("change", () => intervene({ mode: input.value }));
  find("#positions").addEventListener("change", (event) => intervene({ positions: event.target.checked }));
  find("#switches").addEventListener("click", ({ target }) => target.dataset.part && toggleLayerPart(target.dataset.part));
  find("#measure").addEventListener("click", () => change({ measured: true }));
  document.addEventListener("click", ({ target }) => ACTIONS[target.dataset?.act]?.());
}
