// The state of the view is in the address, behind the #, so that a view can be sent to somebody and comes back.
const MOST_PICKED = 4;
const FIGURES = { curve: "Success against NRE", first: "First successes", profile: "Profile", compute: "Success against compute", found: "Distinct successes" };
const regimes = [...new Set(DATA.boards.map(board => board.regime))];
const names = [...new Set(DATA.boards.map(board => board.name))];
const kinds = [...new Set(DATA.entries.map(entry => entry.kind))].sort();

// All tasks at first, or the largest set of tasks on which some agent has ranks throughout.
const usual = DATA.boards.flatMap(board => board.sets).filter(set => set.lines)
  .reduce((best, set) => best && best.tasks.length >= set.tasks.length ? best : set, null);
const DEFAULTS = {
  regime: regimes[0] || "failures", settings: names[0] || "fixed", tasks: usual ? usual.key : "all", step: STEPS, rank: "", kind: "", tier: "",
  standing: "", find: "", sort: "rank", dir: "ascending", figure: "curve", pick: [], open: [], tsort: "", rows: "",
};
const ALLOWED = {
  regime: regimes, settings: [...names, "both"], figure: Object.keys(FIGURES), kind: ["", ...kinds], dir: ["ascending", "descending"],
  rank: ["", "first", "distinct", "worth"], standing: ["", ...DATA.standings], rows: ["", "all"],
};
let state = { ...DEFAULTS };

// An address may be typed by anybody: what is not known falls back to the default.
function readState(hash) {
  const made = { ...DEFAULTS, pick: [], open: [] };
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  for (const [name, text] of given) {
    if (!Object.hasOwn(DEFAULTS, name) || text.length > 2000) continue;
    if (name === "step") made.step = Math.min(STEPS, Math.max(1, Math.round(Number(text)) || STEPS));
    else if (name === "pick") {
      made.pick = [...new Set(text.split("."))].filter(id => DATA.entries.some(entry => entry.id === id)).slice(0, MOST_PICKED);
    } else if (name === "open") made.open = text.split(" ").filter(id => DATA.tasks.some(task => task.id === id));
    else if (!Object.hasOwn(ALLOWED, name) || ALLOWED[name].includes(text)) made[name] = text;
  }
  return made;
}

function hashOf(view) {
  const given = new URLSearchParams();
  for (const name of Object.keys(DEFAULTS)) {
    const value = view[name];
    if (name === "pick") { if (value.length) given.set(name, value.join(".")); }
    else if (name === "open") { if (value.length) given.set(name, value.join(" ")); }
    else if (value !== DEFAULTS[name]) given.set(name, value);
  }
  const text = given.toString();
  return text ? `#${text}` : "";
}

// `quiet`: many small changes, as of the slider, make one step back in the browser's history.
function change(what, quiet = false) {
  state = { ...state, ...what };
  const address = hashOf(state) || "#";
  try { history[quiet ? "replaceState" : "pushState"](null, "", address); } catch { location.hash = address; }
  render(quiet);
}
