// Downloads of what is shown: a table as CSV or JSON, a figure as SVG. They are made here and ask nobody for anything.
function save(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = el("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

const fileName = (what, ending) => `banel-${what}-${state.regime}-${share(state.step)}`.replace(/[^A-Za-z0-9.-]+/g, "-").replace(/-+$/, "") + `.${ending}`;

// Spreadsheets run a cell that begins with one of these signs; names get an apostrophe before it, numbers stay numbers.
function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return value === Infinity ? "inf" : value === -Infinity ? "-inf" : String(Number(value.toPrecision(12)));
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// The columns of a table as plain values, with the ends of its intervals and what the row belongs to.
function plainRows(columns, lines) {
  return lines.map(line => {
    const made = { agent: line.entry.agent, submission: line.entry.from, settings_text: line.entry.settings, entry: line.entry.id };
    for (const column of columns) {
      const { s, t, low, high } = column.cell(line);
      if (column.name) continue;
      const value = typeof s === "number" && !["standing", "tier", "settings"].includes(column.key) ? s : t === NONE ? null : t;
      made[column.key] = value;
      if (low !== undefined) [made[`${column.key}_low`], made[`${column.key}_high`]] = [low, high];
    }
    return made;
  });
}

function csvOf(rows) {
  const heads = [...new Set(rows.flatMap(Object.keys))];
  return [heads, ...rows.map(row => heads.map(head => row[head]))].map(line => line.map(csvCell).join(",")).join("\r\n") + "\r\n";
}

function jsonOf(what, rows) {
  const view = { regime: state.regime, settings: state.settings, tasks: state.tasks, budget_share: state.step / STEPS, rank: state.rank || "the board's own" };
  const written = (_, value) => value === Infinity ? "inf" : value === -Infinity ? "-inf" : value;
  return JSON.stringify({ what, made_by: `banel-envs ${DATA.version}`, view, rows }, written, 1);
}

// A drawing takes its colours from the page's style sheet; a file of its own needs them written into it.
function svgOf(drawing) {
  const copy = drawing.cloneNode(true), kept = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "fill-opacity", "font-size"];
  const here = [drawing, ...drawing.querySelectorAll("*")], there = [copy, ...copy.querySelectorAll("*")];
  here.forEach((element, i) => {
    const style = getComputedStyle(element);
    for (const name of kept) if (style.getPropertyValue(name)) there[i].setAttribute(name, style.getPropertyValue(name));
  });
  copy.setAttribute("xmlns", SVG);
  copy.setAttribute("font-family", "sans-serif");
  const back = svg("rect", { width: "100%", height: "100%", fill: getComputedStyle(document.body).backgroundColor });
  copy.prepend(back);
  return new XMLSerializer().serializeToString(copy);
}

const button = (text, key, run, more) => el("button", { type: "button", class: "small", "data-k": key, on: { click: run }, ...more }, text);
const tableButtons = (what, columns, lines, more) => el("p", { class: "downloads" }, more, "download ",
  button("CSV", `${what}-csv`, () => save(fileName(what, "csv"), "text/csv", csvOf(plainRows(columns, lines()))), { "aria-label": `download the table ${what} as CSV` }),
  button("JSON", `${what}-json`, () => save(fileName(what, "json"), "application/json", jsonOf(what, plainRows(columns, lines()))), { "aria-label": `download the table ${what} as JSON` }));
const figureButton = (what, plot) => button("SVG", `${what}-svg`, () => save(fileName(what, "svg"), "image/svg+xml", svgOf(plot.querySelector("svg.chart"))), { class: "small over", "aria-label": `download the figure ${what} as SVG` });
