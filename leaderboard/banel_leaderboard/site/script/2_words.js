// Numbers as text, in the forms of the board (cells.py), and elements. Text enters the page as a text node and in no other way.
const NONE = "–";

function log10Text(value, sign = false) {
  if (value === null || value === undefined) return NONE;
  if (!isFinite(value)) return value < 0 ? "−∞" : "+∞";
  const text = Math.abs(value).toFixed(2);
  return text === "0.00" ? text : (value < 0 ? "−" : sign ? "+" : "") + text;
}
const gainText = value => log10Text(value, true);
// Half of a whole number goes to the even one, as in Python, whose grid and whose tables these are.
function rounded(value) {
  const low = Math.floor(value);
  return value - low === 0.5 ? low + low % 2 : Math.round(value);
}
const grouped = value => rounded(value).toLocaleString("en-GB");

function numberText(value) {
  if (value === null || value === undefined) return NONE;
  if (value >= 100 || value === Math.round(value)) return grouped(value);
  return value.toFixed(value >= 1 ? 1 : 2);
}

function countText(value) {
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= size) return `${Number((value / size).toPrecision(2))} ${unit}`;
  }
  return value ? String(Number(value.toPrecision(2))) : "0";
}

function secondsText(value) {
  if (value >= 3600) return `${Number((value / 3600).toPrecision(2))} h`;
  return value >= 60 ? `${Number((value / 60).toPrecision(2))} min` : `${Number(value.toPrecision(2))} s`;
}
const percentText = value => value === null ? NONE : `${rounded(Number((value * 100).toPrecision(12)))}%`;
const nreText = (value, budget) => value === null ? NONE : isFinite(value) ? grouped(value) : `> ${grouped(budget)}`;
function powerText(value) {
  if (!isFinite(value)) return "0";
  const exponent = Math.floor(value), digits = (10 ** (value - exponent)).toPrecision(2);
  return value >= -2 ? `${Number((10 ** value).toPrecision(2))}` : `${digits}·10${raised(String(exponent))}`;
}
const letter = tier => tier === null ? "" : String.fromCharCode(96 + Math.min(tier, 26));
const share = step => `${Math.round(100 * step / STEPS)}%`;
const nreAt = (budget, step) => rounded(step * budget / STEPS);
const raised = text => text.replace(/[-0-9]/g, c => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);

const SVG = "http://www.w3.org/2000/svg";
function put(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, run] of Object.entries(value)) made.addEventListener(event, run);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(3).filter(child => child !== null && child !== undefined && child !== ""));
  return made;
}
const el = (tag, attributes, ...children) => put(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => put(document.createElementNS(SVG, tag), attributes, children);
const byId = id => document.getElementById(id);

// Words of others may run from right to left or have marks that tower over a line: each stands in a box of its own.
const foreign = (text, kind = "") => el("bdi", { class: `foreign ${kind}`.trim() }, text);
