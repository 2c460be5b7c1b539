// A figure: axes, lines, bands and points as SVG, and the values when somebody points at them or walks along them with the arrow keys.
const MARKERS = ["M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", "M-3.6-3.6h7.2v7.2h-7.2z", "M0-4.5L4.3 3.6H-4.3z", "M0-4.8L4.8 0L0 4.8L-4.8 0z",
  "M0 4.5L4.3-3.6H-4.3z", "M-1.5-4.3h3v2.8h2.8v3h-2.8v2.8h-3v-2.8h-2.8v-3h2.8z", "M0-4.5L3.9-2.25V2.25L0 4.5L-3.9 2.25V-2.25z"];
const swatch = style => svg("svg", { class: `swatch c${style.colour}`, viewBox: "-12 -6 24 12", width: 24, height: 12, "aria-hidden": "true" },
  svg("path", { class: "line", d: "M-12 0H12" }), svg("path", { class: "dot", d: MARKERS[style.marker] }));

const linear = (low, high) => value => (value - low) / (high - low || 1);
const logarithmic = (low, high) => value => Math.log(Math.max(value, low) / low) / (Math.log(high / low) || 1);
// Logarithmic from the first step of the budget on and linear before it, so that NRE 0 has a place.
function budgetScale(first, budget) {
  const part = 0.14, rest = logarithmic(first, budget);
  return value => value <= first ? part * value / first : part + (1 - part) * rest(value);
}

function decadeTicks(low, high, most = 6) {
  const every = Math.max(1, Math.ceil((high - low) / most)), ticks = [];
  const parts = high - low > 3 ? [1] : high - low > 0.9 ? [1, 2, 5] : [1, 1.5, 2, 3, 5, 7];
  for (let k = Math.floor(low / every) * every; k <= high + 0.05; k += every) {
    for (const m of parts) {
      const at = k + Math.log10(m);
      if (at >= low - 1e-9 && at <= Math.min(high + 0.05, 0)) ticks.push([at, at === 0 ? "1" : m === 1 ? `10${raised(String(k))}` : `${m}·10${raised(String(k))}`]);
    }
  }
  return ticks;
}

function niceTicks(low, high, text, most = 5) {
  const raw = (high - low || 1) / most, size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(m => m * size).find(s => s >= raw - 1e-12), ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k += 1) ticks.push([k * step, text(k * step)]);
  return ticks;
}

// chart: { id, title, says, width, height, x: { scale, ticks, label, text }, y: likewise, series: [...], level, floor }
// series: { entry, points: [[x, y, words]], band: [[x, low, high]], step: a step function, bare: no marker at its end,
// lone: one point with its name near it, split: the place from which on the line is dotted, mark: [x, y] of a stroke }
function figure(chart, styles) {
  const { width, height } = chart, small = width < 430;
  const box = { left: chart.left || (small ? 46 : 58), right: width - 12, top: 10, bottom: height - (chart.x.label ? 40 : 24) };
  const x = value => box.left + chart.x.scale(value) * (box.right - box.left);
  const y = value => box.bottom - chart.y.scale(value) * (box.bottom - box.top);
  const words = (text, left, height, more) => svg("text", { x: left.toFixed(1), y: height.toFixed(1), ...more }, text);
  const grid = chart.y.ticks.map(([value, text]) => [
    svg("path", { class: "grid", d: `M${box.left} ${y(value).toFixed(1)}H${box.right}` }), words(text, box.left - 7, y(value) + 3.5, { class: "tick", "text-anchor": "end" })]);
  let end = Infinity;
  const below = [...chart.x.ticks].reverse().reduce((kept, [value, text]) => { // labels that would touch are left out, the last one stays
    const room = 3.4 * text.length + 5;
    if (x(value) + room < end) { kept.push(words(text, x(value), box.bottom + 15, { class: "tick", "text-anchor": x(value) + room > width ? "end" : "middle" })); end = x(value) - room; }
    return kept;
  }, []);
  const named = [], ends = chart.series.map((series, i) => drawSeries(series, i, styles.get(series.entry), x, y, named));
  const cursor = svg("g", { class: "cursor" });
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "chart", role: "img", "aria-label": `${chart.title}. ${chart.says}` },
    grid, below, chart.x.label ? words(chart.x.label, (box.left + box.right) / 2, height - 5, { class: "label", "text-anchor": "middle" }) : "",
    chart.y.label && !small ? words(chart.y.label, 0, 0, { class: "label", "text-anchor": "middle", transform: `translate(11 ${(box.top + box.bottom) / 2}) rotate(-90)` }) : "",
    chart.level !== null && chart.level !== undefined ? svg("path", { class: "level", d: `M${box.left} ${y(chart.level).toFixed(1)}H${box.right}` }) : "",
    chart.floor !== undefined ? svg("path", { class: "floor", d: `M${box.left} ${y(chart.floor).toFixed(1)}H${box.right}` }) : "",
    ends, cursor);
  return pointed(chart, drawing, cursor, x, y, styles);
}

// The name beside a lone point, moved up or down from those that stand there already.
function name(series, left, top, named) {
  const length = 7 * series.near.length + 12, from = series.flip ? left - length : left;
  const taken = height => named.some(([a, b, h]) => a < from + length && from < b && Math.abs(h - height) < 13);
  const height = [4, 17, -9, 30, -22, 43, -35].map(by => top + by).find(at => !taken(at)) ?? top + 4;
  named.push([from, from + length, height]);
  return svg("text", { class: "near", x: (left + (series.flip ? -9 : 9)).toFixed(1), y: height.toFixed(1), "text-anchor": series.flip ? "end" : "start" }, series.near);
}

function drawSeries(series, i, style, x, y, named) {
  const at = ([a, b]) => `${x(a).toFixed(1)} ${y(b).toFixed(1)}`;
  const drawn = series.points, path = [];
  drawn.forEach((point, k) => path.push(k === 0 ? `M${at(point)}` : series.step ? `H${x(point[0]).toFixed(1)}V${y(point[1]).toFixed(1)}` : `L${at(point)}`));
  const band = series.band && series.band.length > 1
    ? svg("path", { class: "band", d: `M${series.band.map(([a, , high]) => at([a, high])).join("L")}L${[...series.band].reverse().map(([a, low]) => at([a, low])).join("L")}z` }) : "";
  const every = series.lone ? 1 : 5, shift = i % every; // markers are staggered, so that equal curves can still be seen
  const dots = drawn.filter((_, k) => series.lone || (!series.step && k % every === shift) || (k === drawn.length - 1 && !series.bare))
    .map(point => svg("path", { class: "dot", d: MARKERS[style.marker], transform: `translate(${at(point)})` }));
  const near = series.near ? name(series, x(drawn[0][0]), y(drawn[0][1]), named) : "";
  // Where successes are withheld the curve is dotted from its first success on: what comes then can be learnt from the gaps they leave.
  const solid = series.split === undefined ? drawn.length : series.split;
  const line = (d, kind) => svg("path", { class: kind, d });
  return svg("g", { class: `series c${style.colour}`, "data-entry": series.entry.id }, band,
    series.lone ? "" : solid >= drawn.length ? line(path.join(""), "line") : [line(path.slice(0, solid + 1).join(""), "line"), line(`M${at(drawn[solid])}${path.slice(solid + 1).join("")}`, "line after")],
    dots, near, series.mark ? svg("path", { class: "mark", d: `M${x(series.mark[0]).toFixed(1)} ${(y(series.mark[1]) - 9).toFixed(1)}v18` }) : "");
}

// The nearest point to the pointer, or the one that the arrow keys reached: its values stand in a box and are read out.
function pointed(chart, drawing, cursor, x, y, styles) {
  const box = el("div", { class: "values", hidden: true, role: "status" });
  let at = null;
  const show = (s, p) => {
    at = [s, p];
    const series = chart.series[s], point = series.points[p], style = styles.get(series.entry);
    const [cx, cy] = [x(point[0]), y(point[1])];
    cursor.replaceChildren(svg("circle", { cx, cy, r: 6, class: `ring c${style.colour}` }));
    box.replaceChildren(el("strong", {}, swatch(style), foreign(series.entry.agent)), ...(DATA.submissions.length > 1 ? [el("span", { class: "quiet" }, foreign(series.entry.from))] : []),
      el("span", {}, point[2]));
    box.hidden = false;
    const scale = drawing.getBoundingClientRect().width / chart.width || 1;
    const left = Math.min(cx * scale + 14, drawing.getBoundingClientRect().width - box.offsetWidth);
    box.style.left = `${Math.max(0, left)}px`;
    box.style.top = `${cy * scale > box.offsetHeight + 20 ? cy * scale - box.offsetHeight - 12 : cy * scale + 14}px`;
    stress(holder.closest("article, section") || holder, series.entry.id);
  };
  const hide = () => { at = null; box.hidden = true; cursor.replaceChildren(); stress(holder.closest("article, section") || holder, null); };
  const nearest = event => {
    const frame = drawing.getBoundingClientRect(), scale = chart.width / frame.width;
    const [px, py] = [(event.clientX - frame.left) * scale, (event.clientY - frame.top) * scale];
    let best = null, least = Infinity;
    chart.series.forEach((series, s) => series.points.forEach((point, p) => {
      const far = (series.lone ? 1 : 4) * Math.abs(x(point[0]) - px) + Math.abs(y(point[1]) - py);
      if (far < least) [least, best] = [far, [s, p]];
    }));
    if (best) show(...best);
  };
  const walk = event => {
    if (event.key === "Escape") return hide();
    if (!["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"].includes(event.key) || !chart.series.length) return;
    event.preventDefault();
    let [s, p] = at || [0, -1];
    if (event.key === "ArrowUp" || event.key === "ArrowDown") s = (s + (event.key === "ArrowUp" ? -1 : 1) + chart.series.length) % chart.series.length;
    else p += event.key === "ArrowRight" ? 1 : -1;
    show(s, Math.max(0, Math.min(p, chart.series[s].points.length - 1)));
  };
  const holder = el("div", { class: "plot", tabindex: "0", role: "group", "aria-label": `${chart.title}; the arrow keys read its values`, "data-k": `plot-${chart.id}`,
    on: { pointermove: nearest, pointerdown: nearest, pointerleave: hide, keydown: walk, blur: hide } }, drawing, box);
  holder.chart = chart;
  return holder;
}

// One entry stands out from the others, in every figure of a part of the page.
function stress(part, id) {
  part.classList.toggle("stressed", id !== null);
  for (const series of part.querySelectorAll(".series")) series.classList.toggle("on", series.dataset.entry === id);
}
