"use strict";
// Small pictures of numbers. All are SVG whose colours come from the style sheet.

/** An HTML element: element("button", {type: "button"}, "Reset"). */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name.startsWith("aria-") || value !== false) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const percent = (share) => (share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`);
const fixed = (x, digits = 2) => x.toFixed(digits).replace("-", "−");
/** A positive number of any size in a few digits. */
const brief = (x) => x >= 1000 ? Math.round(x).toLocaleString("en") : x >= 1 ? fixed(x) : x.toPrecision(2);
const readable = (name) => name.replaceAll("_", " ");

/** Values as a grid of cells: from nothing to the full colour, or with `signed` in two colours.
 * A value that is undefined leaves a gap. */
function heatMap(values, columns, label, signed = false) {
  const largest = Math.max(...values.filter((x) => x !== undefined).map(Math.abs)) || 1;
  const cells = values.map((value, i) => value === undefined ? "" : svg("rect", {
    x: i % columns, y: Math.floor(i / columns), width: 1, height: 1,
    class: signed && value < 0 ? "minus" : signed ? "plus" : "heat",
    "fill-opacity": (Math.abs(value) / largest).toFixed(3),
  }));
  return svg("svg", { viewBox: `0 0 ${columns} ${Math.ceil(values.length / columns)}`, role: "img",
    "aria-label": label, class: "heatmap", "shape-rendering": "crispEdges" }, ...cells);
}

/** Marks one cell of a heat map. */
function markCell(map, index, columns) {
  map.append(svg("rect", { x: (index % columns) + 0.06, y: Math.floor(index / columns) + 0.06,
    width: 0.88, height: 0.88, class: "mark" }));
}

/** A vector as a strip of cells: minus in one colour, plus in the other, as strong as it is large. */
function strip(vector, largest, label) {
  const cells = [...vector].map((value, i) => svg("rect", { x: i, y: 0, width: 1, height: 1,
    class: value < 0 ? "minus" : "plus", "fill-opacity": Math.min(1, Math.abs(value) / largest).toFixed(3) }));
  return svg("svg", { viewBox: `0 0 ${vector.length} 1`, preserveAspectRatio: "none", role: "img",
    "aria-label": label, class: "strip", "shape-rendering": "crispEdges" }, ...cells);
}

/** Probabilities as bars; `before` draws a mark where each was. */
function bars(rows) {
  return rows.map(({ name, share, before }) => element("div", { class: "bar" },
    element("span", { class: "name" }, readable(name)),
    element("span", { class: "track" },
      element("span", { class: "fill", style: `width:${(100 * share).toFixed(2)}%` }),
      before === undefined ? "" : element("span", { class: "before", style: `left:${(100 * before).toFixed(2)}%` })),
    element("span", { class: "value" }, percent(share))));
}

/** Lines over 0 ... 1: series of {name, kind, points: [[x, y], ...]}, x and y in 0 ... 1. */
function lineChart(series, { width: W, label, xLabel, yLabel, xTicks, guess }) {
  const H = 250, left = 54, right = 12, top = 10, bottom = 42;
  const X = (x) => left + x * (W - left - right), Y = (y) => top + (1 - y) * (H - top - bottom);
  const chart = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label, class: "chart" });
  for (const y of [0, 0.5, 1]) {
    chart.append(svg("line", { x1: left, x2: W - right, y1: Y(y), y2: Y(y), class: "axis" }),
      svg("text", { x: left - 8, y: Y(y) + 5, "text-anchor": "end" }, `${100 * y} %`));
  }
  chart.append(svg("line", { x1: left, x2: W - right, y1: Y(guess), y2: Y(guess), class: "guess" }));
  for (const [x, tick] of xTicks)
    chart.append(svg("text", { x: X(x), y: H - bottom + 18, "text-anchor": "middle" }, tick));
  chart.append(svg("text", { x: (left + W - right) / 2, y: H - 4, "text-anchor": "middle" }, xLabel));
  for (const { kind, points } of series)
    chart.append(svg("polyline", { class: kind, points: points.map(([x, y]) => `${X(x).toFixed(1)},${Y(y).toFixed(1)}`).join(" ") }));
  const legend = element("p", { class: "legend" }, ...[...series, { name: "a guess", kind: "guess" }].map(({ name, kind }) =>
    element("span", {}, element("span", { class: `swatch ${kind}` }), ` ${name} `)));
  return element("figure", {}, element("figcaption", { class: "label" }, yLabel), chart, legend);
}
