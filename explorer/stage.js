"use strict";
// The picture that stands beside every screen: what the model sees, its patches as buttons, and the
// model's answer below.

const find = (selector) => document.querySelector(selector);

const HINTS = {
  picture: (n, size) => `What the model sees: ${size} × ${size} pixels, ${n} patches.`,
  tokens: () => "Click a patch, or move with the arrow keys.",
  attention: () => `The ${state.token ? "patch in orange" : "class token"} asks. The brighter a patch, the more of the answer comes from it.`,
  intervene: () => "Drag to hide, drag again to show. With keys: arrows, then space.",
  prediction: () => "The answer comes from the class token, which no patch belongs to.",
};

/** One button for each patch. Tab leads to the grid, arrow keys lead through it. */
function buildGrid(count) {
  const grid = find("#grid");
  grid.style.setProperty("--side", Math.sqrt(count));
  grid.replaceChildren(...Array.from({ length: count }, (_, patch) => element("button",
    { type: "button", tabindex: -1, "data-patch": patch })));
}

const nameOf = (patch, side) => `patch in row ${Math.floor(patch / side) + 1}, column ${(patch % side) + 1}`;

function drawPixels(canvas, pixels, side) {
  Object.assign(canvas, { width: side, height: side });
  const image = new ImageData(side, side);
  for (let i = 0; i < side * side; i++)
    image.data.set([pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2], 255], 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function drawStage(found) {
  const { settings } = currentModel(), count = patchesOf({ settings }), side = Math.sqrt(count);
  if (find("#grid").children.length !== count) buildGrid(count);
  drawPixels(find("#seen"), changedPixels(), settings.image_size);
  find("#grid").className = `on-${state.screen}`;
  find("#hint").textContent = HINTS[state.screen](count, settings.image_size);

  const asks = ["tokens", "attention"].includes(state.screen);
  find("#class-token").hidden = !asks;
  find("#class-token").setAttribute("aria-pressed", state.token === 0);

  const light = state.screen === "attention" ? attentionOf(found) : null;
  const toClass = light && attentionRow(found)?.[0];
  find("#class-token").textContent = toClass === undefined || toClass === null ? "class token" : `class token: ${percent(toClass)}`;
  const largest = light && (Math.max(...light.filter((x) => x !== undefined)) || 1);
  [...find("#grid").children].forEach((button, patch) => {
    const gone = state.mode === "remove" && state.hidden.includes(patch);
    button.classList.toggle("gone", gone);
    button.classList.toggle("first", patch === swapFirst);
    button.style.setProperty("--dark", light && !gone ? (0.86 * (1 - light[patch] / largest)).toFixed(3) : 0);
    if (asks) button.setAttribute("aria-pressed", state.token === patch + 1);
    else if (state.screen === "intervene") button.setAttribute("aria-pressed", state.hidden.includes(patch));
    else button.removeAttribute("aria-pressed");
    const name = nameOf(patch, side);
    button.setAttribute("aria-label",
      state.screen === "intervene" ? `hide the ${name}` : light && !gone ? `${name}: ${percent(light[patch])}` : name);
    button.disabled = !asks && state.screen !== "intervene";
  });
  const reached = [...find("#grid").children].find((button) => button.tabIndex === 0);
  if (!reached) find("#grid").children[Math.max(0, state.token - 1)].tabIndex = 0;

  const shares = softmax(found.logits), { class_names: names } = currentModel();
  const answer = argmax(shares), text = `${readable(names[answer])}, ${percent(shares[answer])}`;
  if (find("#answer strong").textContent !== text) find("#answer strong").textContent = text;
  find("#truth").textContent = truthOf(currentPicture(), names, names[answer]);
  // Where something is changed, a mark on each bar shows what it was before.
  const before = isChanged() ? softmax(unchanged().logits) : null, height = (i) => Math.max(shares[i], before?.[i] ?? 0);
  const best = [...shares.keys()].sort((a, b) => height(b) - height(a)).slice(0, 3);
  find("#answer .bars").replaceChildren(...bars(best.map((i) => ({ name: names[i], share: shares[i], before: before?.[i] }))));
  find("#changes").hidden = !before;
  find("#changes span").textContent = describeChanges();
}

/** Whether the answer is right, where that is known. */
function truthOf({ dish, classes = [] }, names, answer) {
  if (!dish) return "";
  const shows = `the picture shows ${readable(dish)}`;
  if (!classes.some((name) => names.includes(name))) return `T${shows.slice(1)}, which is none of the classes.`;
  return `${classes.includes(answer) ? "Right" : "Wrong"}: ${shows}.`;
}

function describeChanges() {
  const parts = [], { hidden, mode, order, positions, off } = state;
  const plural = (n, word) => `${n} ${word}${n === 1 ? "" : word.endsWith("ch") ? "es" : "s"}`;
  if (hidden.length) parts.push(`${plural(hidden.length, "patch")} ${mode === "remove" ? "removed" : "painted grey"}`);
  const moved = order.filter((patch, place) => patch !== place).length;
  if (moved) parts.push(`${plural(moved, "patch")} moved`);
  if (!positions) parts.push("no positions");
  if (off.size) parts.push(`${plural(off.size, "part")} off`);
  return `Changed: ${parts.join(", ")}. A mark on each bar shows what it was before.`;
}

// ---------------------------------------------------------------------------------------------
// Clicks, keys and dragging

function focusPatch(patch) {
  const buttons = [...find("#grid").children];
  buttons.forEach((button) => { button.tabIndex = -1; });
  buttons[patch].tabIndex = 0;
  buttons[patch].focus();
}

function watchStage() {
  const grid = find("#grid");
  let dragging = null; // while a pointer is down: whether it hides or shows, and what was hidden before

  grid.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -Math.sqrt(grid.children.length), ArrowDown: Math.sqrt(grid.children.length) };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const from = Number(event.target.dataset.patch), to = from + steps[event.key];
    const sameRow = Math.floor(to / steps.ArrowDown) === Math.floor(from / steps.ArrowDown);
    if (to >= 0 && to < grid.children.length && (Math.abs(steps[event.key]) > 1 || sameRow)) focusPatch(to);
  });
  grid.addEventListener("click", (event) => {
    const patch = event.target.dataset.patch;
    if (patch === undefined) return;
    // A pointer has already hidden the patch as it went down; a key (detail 0) has not.
    if (state.screen !== "intervene") change({ token: Number(patch) + 1 });
    else if (currentTool() === "swap") swapWith(Number(patch));
    else if (event.detail === 0) togglePatches([Number(patch)], !state.hidden.includes(Number(patch)));
  });
  grid.addEventListener("pointerdown", (event) => {
    const patch = event.target.dataset.patch;
    if (patch === undefined || state.screen !== "intervene" || currentTool() !== "hide") return;
    dragging = { hides: !state.hidden.includes(Number(patch)) };
    togglePatches([Number(patch)], dragging.hides);
    grid.releasePointerCapture?.(event.pointerId);
  });
  grid.addEventListener("pointermove", (event) => {
    if (!dragging) return;
    const patch = document.elementFromPoint(event.clientX, event.clientY)?.dataset.patch;
    if (patch === undefined || state.hidden.includes(Number(patch)) === dragging.hides) return;
    togglePatches([Number(patch)], dragging.hides, false);
  });
  for (const name of ["pointerup", "pointercancel"]) window.addEventListener(name, () => { dragging = null; });

  const read = (event) => {
    if (event.target.dataset.patch !== undefined) readPair(Number(event.target.dataset.patch) + 1);
  };
  grid.addEventListener("pointerover", read);
  grid.addEventListener("focusin", read);
  grid.addEventListener("pointerleave", () => readPair(null));
  find("#class-token").addEventListener("click", () => change({ token: 0 }));
  for (const name of ["pointerover", "focus"]) find("#class-token").addEventListener(name, () => readPair(0));
}
