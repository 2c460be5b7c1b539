// The five figures: what each of them draws of the lines that are shown.
const wide = () => Math.max(280, byId("overview").clientWidth - (byId("overview").clientWidth > 700 ? 34 : 22)); // inside a panel
const drawnRows = (lines, styles) => lines.filter(line => styles.has(line.entry));
const ends = chart => chart.series.map(s => `${s.entry.agent}: ${s.points.length ? s.points[s.points.length - 1][2] : "nothing"}`).join("; ") || "There is nothing to draw.";

function rateAxis(values, rate, most) {
  const finite = values.filter(v => v !== null && isFinite(v)), zero = values.some(v => v === -Infinity);
  let low = Math.min(...finite, 0), high = Math.max(...finite, finite.length ? -Infinity : 0);
  if (finite.length) low = Math.min(...finite);
  if (high - low < 0.3) [low, high] = [low - 0.2, Math.min(high + 0.2, Math.max(high, 0))];
  const span = high - low, floor = low - 0.2 * span, bottom = (zero ? floor : low) - 0.05 * span, top = Math.min(high + 0.06 * span, Math.max(0.03 * span, high));
  const ticks = decadeTicks(low, high, most);
  if (zero) ticks.unshift([floor, "zero"]);
  return { axis: { scale: linear(bottom, top), ticks, label: rate === "fresh" ? "fresh success rate" : "success rate" }, floor: zero ? floor : undefined, at: v => v === -Infinity ? floor : v };
}

function budgetAxis(task, label = "NRE (reward evaluations)") {
  const first = nreAt(task.budget, 1), rounds = [];
  for (let k = 0; k < 10; k++) for (const m of [1, 2, 5]) if (m * 10 ** k >= first && m * 10 ** k <= task.budget / 1.6) rounds.push(m * 10 ** k);
  return { scale: budgetScale(first, task.budget), ticks: [0, ...rounds, task.budget].map(v => [v, grouped(v)]), label };
}

// Success against NRE: the median over seeds, the band of the quartiles, a stroke at the median first success.
function curveChart(task, lines, styles, size, view) {
  const mine = drawnRows(lines, styles).map(line => line.rows.find(row => row.task === task)).filter(Boolean), steps = view.step;
  const grid = Array.from({ length: steps + 1 }, (_, k) => nreAt(task.budget, k));
  const upTo = list => list.slice(0, steps + 1);
  const rate = mine[0]?.board.rate || "success";
  const y = rateAxis([...mine.flatMap(row => [...upTo(row.curve), ...upTo(row.low), ...upTo(row.high)]), task.base], rate, size.height < 240 ? 4 : 6);
  const series = mine.map(row => {
    const first = rowAt(row, "first", steps), met = row.board.regime !== "blind" && isFinite(first) && row.first !== undefined;
    const points = grid.map((nre, k) => [nre, y.at(row.curve[k]),
      `NRE ${grouped(nre)}: ${log10Text(row.curve[k])} (${powerText(row.curve[k])}), ${row.n < 4 ? "range" : "quartiles"} [${log10Text(row.low[k])}, ${log10Text(row.high[k])}]`]);
    const split = met && row.board.regime !== "full" ? grid.findIndex(nre => nre >= first) : undefined;
    const k = met ? grid.findIndex(nre => nre >= first) : -1;
    const height = k > 0 ? y.at(row.curve[k - 1]) + (y.at(row.curve[k]) - y.at(row.curve[k - 1])) * (first - grid[k - 1]) / (grid[k] - grid[k - 1]) : 0;
    return { entry: row.entry, points, band: grid.map((nre, j) => [nre, y.at(row.low[j]), y.at(row.high[j])]), split: split < 0 ? undefined : split, mark: k > 0 ? [first, height] : null };
  });
  const chart = { ...size, id: `curve-${task.id}`, title: `${rate} rate against NRE on ${task.id}`, x: budgetAxis(task, size.label === false ? "" : undefined), y: y.axis, floor: y.floor, level: task.base, series };
  chart.says = `Median over seeds; at the budget ${ends(chart)}.`;
  return chart;
}

function foundChart(task, lines, styles, size, view) {
  const mine = drawnRows(lines, styles).map(line => line.rows.find(row => row.task === task)).filter(row => row && row.found);
  const most = Math.max(10, ...mine.flatMap(row => row.found)), lift = v => Math.max(v, 0.5);
  const series = mine.map(row => ({ entry: row.entry, points: [[0, 0.5, "NRE 0: 0"], ...row.found.slice(0, view.step).map((v, k) => {
    const nre = nreAt(task.budget, k + 1);
    return [nre, lift(v), `NRE ${grouped(nre)}: ${numberText(v)} distinct successes`];
  })] }));
  const ticks = [[0.5, "0"]];
  for (let k = 0; 10 ** k <= most; k++) ticks.push([10 ** k, grouped(10 ** k)]);
  const chart = { ...size, id: `found-${task.id}`, title: `distinct successes against NRE on ${task.id}`, x: budgetAxis(task), y: { scale: logarithmic(0.5, most * 1.2), ticks, label: "distinct successes" }, series };
  chart.says = `Median over seeds; at the budget ${ends(chart)}.`;
  return chart;
}

// Which share of the runs had met a success by which share of the budget; every task has the same weight.
function firstChart(lines, styles, size, view) {
  const limit = view.step / STEPS, series = [];
  let left = 0.1;
  for (const line of drawnRows(lines, styles).filter(line => line.rows[0].firsts)) {
    const hits = line.rows.flatMap(row => row.firsts.filter(isFinite).map(first => [first / row.task.budget, 1 / row.n / line.rows.length]));
    hits.sort((a, b) => a[0] - b[0]);
    let sum = 0;
    const points = [];
    for (const [at, weight] of hits.filter(([at]) => at <= limit)) {
      sum += weight;
      points.push([at, sum, `${(100 * at).toPrecision(2)}% of the budget: ${percentText(sum)} of the runs`]);
      left = Math.min(left, at);
    }
    points.push([limit, sum, `${percentText(limit)} of the budget: ${percentText(sum)} of the runs`]);
    series.push({ entry: line.entry, points, step: true });
  }
  const start = 10 ** Math.floor(Math.log10(left));
  for (const one of series) one.points.unshift([start, 0, "no run yet"]);
  const ticks = [];
  for (let v = start; v <= 1.001; v *= 10) ticks.push([v, `${Number((100 * v).toPrecision(1))}%`]);
  const chart = { ...size, id: "first", title: "runs that met a success against the share of the budget", series, x: { scale: logarithmic(start, 1), ticks, label: "share of the budget spent" },
    y: { scale: linear(0, 1.02), ticks: [0, 0.25, 0.5, 0.75, 1].map(v => [v, percentText(v)]), label: "runs that met a success" } };
  chart.says = `Empirical distribution over runs; ${ends(chart)}.`;
  return chart;
}

// Performance profile (Agarwal et al. 2021): which share of runs ends at least so many decades above the base policy, each task weighing the same.
function profileChart(lines, styles, size, one) {
  const above = (value, row) => one ? value : row.task.base === null ? null : Math.max(value, -12) - Math.max(row.task.base, -12);
  const mine = drawnRows(lines, styles).map(line => [line, line.rows.flatMap(row => row.finals.map(final => [above(final, row), 1 / row.n / line.rows.length])).filter(([v]) => v !== null)]);
  const values = mine.flatMap(([, runs]) => runs.map(([v]) => v)).filter(isFinite);
  const low = Math.min(one ? -1 : 0, ...values), high = Math.max(one ? 0 : 1, ...values), span = high - low || 1;
  const [from, to] = [low - 0.04 * span, high + 0.04 * span], text = one ? log10Text : gainText;
  const series = mine.map(([line, runs]) => {
    const ordered = runs.sort((a, b) => a[0] - b[0]);
    let sum = ordered.reduce((total, [, weight]) => total + weight, 0);
    const points = [[from, sum, `all of the runs that have a number: ${percentText(sum)}`]];
    for (const [value, weight] of ordered) {
      if (isFinite(value)) points.push([value, sum, `${percentText(sum)} of the runs reach ${text(value)} or more`]);
      sum = Math.max(0, sum - weight);
      if (!isFinite(value)) points[0] = [from, sum, `${percentText(sum)} of the runs have a rate above zero`];
      else points.push([value, sum, `${percentText(sum)} of the runs are above ${text(value)}`]);
    }
    points.push([to, 0, "none of the runs"]);
    return { entry: line.entry, points, step: true, bare: true };
  });
  const chart = { ...size, id: "profile", title: "performance profile at the whole budget", series,
    x: { scale: linear(from, to), ticks: niceTicks(from, to, one ? log10Text : v => gainText(v).replace(".00", "")), label: one ? "final log₁₀ rate, at least" : "decades of the final rate above the base policy, at least" },
    y: { scale: linear(0, 1.02), ticks: [0, 0.25, 0.5, 0.75, 1].map(v => [v, percentText(v)]), label: "share of runs" } };
  chart.says = "For each agent the share of runs that end at least so high.";
  return chart;
}

function computeChart(lines, styles, size, view, one) {
  const at = line => line.scores.worth?.at;
  const mine = lines.filter(line => line.tokens > 0 && at(line) !== null && at(line) !== undefined).filter(line => styles.has(line.entry));
  const xs = mine.map(line => line.tokens), low = Math.min(...xs, 1e6) / 2, high = Math.max(...xs, low * 10) * 2;
  const ys = mine.map(at), zero = ys.includes(-Infinity), finite = ys.filter(isFinite);
  const bottom = Math.min(...finite, 0), top = Math.max(...finite, one ? 0 : 0.5), span = top - bottom || 1, floor = bottom - 0.15 * span;
  const across = logarithmic(low, high), cut = text => text.length > 28 ? `${text.slice(0, 27)}…` : text;
  const series = mine.map(line => ({ entry: line.entry, lone: true, near: cut(line.entry.agent), flip: across(line.tokens) > 0.7, points: [[line.tokens, Math.max(at(line), floor), `${one ? log10Text(at(line)) : gainText(at(line))} ${one ? "log₁₀ rate" : "decades over base"}; ${countText(line.tokens)} tokens, ${secondsText(line.cpu)} of CPU time`]] }));
  const ticks = [];
  for (let k = Math.ceil(Math.log10(low)); 10 ** k <= high; k++) ticks.push([10 ** k, countText(10 ** k)]);
  const chart = { ...size, id: "compute", title: "final success against compute", series, x: { scale: logarithmic(low, high), ticks, label: `tokens sampled, scored and trained on, median run${one ? "" : ", summed over the tasks"}` },
    y: { scale: linear((zero ? floor : bottom) - 0.06 * span, top + 0.06 * span), ticks: [...(zero ? [[floor, "zero"]] : []), ...niceTicks(bottom, top, v => one ? log10Text(v).replace(".00", "") : gainText(v).replace(".00", ""))], label: one ? "final log₁₀ rate" : "decades over base" } };
  chart.says = series.map(s => `${s.entry.agent}: ${s.points[0][2]}`).join("; ");
  return chart;
}

function legend(styles, view, lines) {
  const chips = [...styles].map(([entry, style]) => {
    const part = event => event.currentTarget.closest("article, section");
    return el("li", { on: { pointerenter: e => stress(part(e), entry.id), pointerleave: e => stress(part(e), null) } },
      swatch(style), foreign(entry.agent), ...(DATA.submissions.length > 1 ? [el("span", { class: "quiet" }, foreign(entry.from))] : []));
  });
  const rest = lines.filter(line => !styles.has(line.entry)).length;
  return el("ul", { class: "legend", "aria-label": "agents in the figures" }, chips,
    el("li", { class: "quiet" }, svg("svg", { class: "swatch", viewBox: "-12 -6 24 12", width: 24, height: 12, "aria-hidden": "true" }, svg("path", { class: "level", d: "M-12 0H12" })), "base policy at NRE 0"),
    rest ? el("li", { class: "quiet" }, `${rest} more: tick a box in the table to draw one`) : "");
}
