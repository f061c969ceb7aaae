// The last figure of its kind on the page that no script has taken yet: a cell that was run twice may leave two.
const root = [...document.querySelectorAll("#{{id}}:not([data-live])")].at(-1);
if (!root) return;
root.dataset.live = "";
const data = {{data}};
const find = (selector) => root.querySelector(selector);
const all = (selector) => [...root.querySelectorAll(selector)];

// Numbers as the first state of the figure has them, which Python wrote.
const fixed = (value, digits) => value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1").replace("-", "−");
const exact = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, ",");

// Put texts where data-value names them.
function put(values) {
  for (const [name, text] of Object.entries(values)) find(`[data-value="${name}"]`).textContent = text;
}

// Put numbers into the cells of a table; limit is the size that gets the full colour.
function paint(table, numbers, limit, texts) {
  [...table.querySelectorAll("td")].forEach((cell, i) => {
    const depth = Math.min(1, Math.abs(numbers[i]) / limit);
    cell.setAttribute("style", `--a:${depth.toFixed(2)}`);
    cell.classList.toggle("below", numbers[i] < 0);
    cell.classList.toggle("deep", depth > 0.93 && numbers[i] >= 0);
    cell.textContent = texts[i];
  });
}

// A table whose cells are chosen by click and by arrow keys: show the chosen one, which may be none (-1).
function mark(table, chosen, focus = false) {
  table.querySelectorAll("td").forEach((cell, i) => {
    cell.setAttribute("aria-selected", i === chosen);
    cell.tabIndex = i === Math.max(chosen, 0) ? 0 : -1;
    if (focus && i === chosen) cell.focus();
  });
}

// Call choose(i) when a cell is chosen.
function selectable(table, choose) {
  const cells = [...table.querySelectorAll("td")], columns = table.rows[0].cells.length;
  table.addEventListener("click", (event) => {
    const i = cells.indexOf(event.target.closest("td"));
    if (i >= 0) { choose(i); mark(table, i, true); }
  });
  table.addEventListener("keydown", (event) => {
    const i = cells.indexOf(event.target.closest("td"));
    const [rows, to] = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Enter: [0, 0], " ": [0, 0] }[event.key] ?? [];
    if (i < 0 || rows === undefined) return;
    event.preventDefault();
    event.stopPropagation(); // or the notebook takes the key for its own
    const row = Math.floor(i / columns) + rows, column = (i % columns) + to;
    if (row < 0 || column < 0 || column >= columns || row * columns + column >= cells.length) return;
    choose(row * columns + column);
    mark(table, row * columns + column, true);
  });
}

// Which button of a group is pressed.
function press(buttons, chosen) {
  buttons.forEach((button, i) => button.setAttribute("aria-pressed", i === chosen));
}

const place = (i, columns) => `row ${Math.floor(i / columns) + 1}, column ${(i % columns) + 1}`;

// The whole number in an input, or an error in one line.
function whole(input) {
  const value = Number(input.value);
  if (!Number.isInteger(value) || value < +input.min || value > +input.max || input.value === "")
    throw RangeError(`${input.dataset.name}: a whole number from ${input.min} to ${input.max}, not "${input.value}"`);
  return value;
}
function mustDivide(patch, side) {
  if (side % patch === 0) return;
  const below = side - (side % patch), sizes = below ? `${below} or ${below + patch}` : `${patch}`;
  throw RangeError(`patches of ${patch} px do not fit into ${side} px: ${sizes} px would do`);
}

// Show the state that update() computes, or the error that it throws; keys in inputs are not the notebook's.
function show(update) {
  const live = find("[aria-live]");
  try {
    live.textContent = update();
    live.classList.remove("wrong");
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    live.textContent = error.message;
    live.classList.add("wrong");
  }
}
all("input, select, button").forEach((control) => control.addEventListener("keydown", (event) => event.stopPropagation()));
