// The page: its controls, the overview, the comparison, the figures and the tasks one by one. Each part is drawn anew from the state.
const boxed = (plot, what) => el("div", { class: "plotted" }, plot, figureButton(what, plot));

function options(select, pairs, value) {
  select.replaceChildren(...pairs.map(([key, label]) => el("option", { value: key, selected: key === value }, label)));
  select.value = value;
}

function renderControls(view, lines) {
  const said = { failures: "failures only", full: "every reward", typed: "failures and why", blind: "nothing (twins)" };
  options(byId("regime"), regimes.map(regime => [regime, said[regime] || regime]), view.regime);
  options(byId("settings"), [...names.map(name => [name, name === "fixed" ? "default" : name]), ...(names.length > 1 ? [["both", "default and tuned"]] : [])], view.settings);
  const sets = new Map(), tasks = new Set();
  for (const board of boardsShown(view)) {
    board.sets.forEach(set => sets.set(set.key, set.label));
    rowsOf(board).forEach(row => tasks.add(row.task));
  }
  if (!sets.has("all")) sets.set("all", "all tasks");
  const group = (label, pairs) => pairs.length ? el("optgroup", { label }, pairs.map(([key, text]) => el("option", { value: key }, text))) : "";
  const started = prefix => [...sets].filter(([key]) => key.startsWith(prefix));
  byId("tasks").replaceChildren(...[...started("all").map(([key, text]) => el("option", { value: key }, text)), group("suites", started("suite:")), group("families", started("family:")),
    group("one task", DATA.tasks.filter(task => tasks.has(task)).map(task => [`task:${task.id}`, task.id]))].filter(Boolean));
  byId("tasks").value = view.tasks;
  const words = { first: "1. how soon the first success", distinct: "2. how many distinct successes", worth: "3. what the final policy is worth" };
  const asked = [...new Set(boardsShown(view).flatMap(board => board.questions))];
  options(byId("rank"), [["", "board's question"], ...asked.map(q => [q, words[q]])], view.rank);
  options(byId("kind"), [["", "all kinds"], ...kinds.map(kind => [kind, kind])], view.kind);
  const tiers = [...new Set(lines.map(line => letter(line.scores[line.question]?.tier ?? null)).filter(Boolean))].sort();
  options(byId("tier"), [["", "all tiers"], ...[...new Set([...tiers, view.tier].filter(Boolean))].map(tier => [tier, `tier ${tier}`])], view.tier);
  options(byId("standing"), [["", "any"], ...DATA.standings.slice(1).map((word, i, all) => [word, i < all.length - 1 ? `${word} or more` : word])], view.standing);
  if (byId("find") !== document.activeElement) byId("find").value = view.find;
  byId("step").value = view.step;
  byId("step").setAttribute("aria-valuetext", `${share(view.step)} of the budget`);
  byId("share").textContent = share(view.step);
  byId("reset").disabled = hashOf({ ...view, open: [], pick: [] }) === "";
}

function renderOverview(view, lines, shown, styles) {
  const boards = boardsShown(view), one = single(view), part = byId("overview-table");
  byId("about").textContent = boards.map(board => board.note).join(" ");
  const notes = [];
  if (view.step < STEPS) notes.push(`At ${share(view.step)} of the budget: what the same runs had by then, not what the agents would do with a smaller budget. Ranks are counted anew; intervals and tiers are those of the whole budget and not shown.`);
  for (const board of boards) {
    const set = setOf(board, view), left = set && set.left ? set.left : [];
    if (left.length) notes.push(`Without a line, for want of a rank on every one of these tasks: ${left.slice(0, 12).map(([agent, why]) => `${DATA.submissions.length > 1 ? agent : agent.split(" of ")[0]} (${why})`).join(", ")}${left.length > 12 ? ` and ${left.length - 12} more` : ""}.`);
    if (one && board.controls[DATA.tasks.indexOf(one)]) notes.push(board.controls[DATA.tasks.indexOf(one)]);
  }
  if (shown.length < lines.length) notes.push(`${shown.length} of ${lines.length} lines pass the filters; their ranks are those among all.`);
  byId("notes").replaceChildren(...notes.map(text => el("p", { class: "note" }, text)));
  if (!shown.length) {
    const why = !boards.length ? "No run was made under this feedback with these settings." : lines.length ? "No line passes the filters." : view.regime === "blind"
      ? "Twins ask nothing, so they have no scores over several tasks: choose one task, or look at the tasks below." : "No agent has a rank on every one of these tasks: choose fewer, or look at the tasks below.";
    part.replaceChildren(el("p", { class: "empty" }, why));
    return;
  }
  const columns = overviewColumns(view, styles), sort = { key: view.sort, dir: view.dir, to: (key, dir) => change({ sort: key, dir }) };
  const what = one ? one.id : setOf(boards[0], view)?.label || view.tasks;
  const caption = `${boards.map(board => board.title).join("; ")}: ${what}, ${share(view.step)} of the budget. ${one ? "Medians over seeds; below them the 95% interval, from five seeds on." : "Below a score its 95% interval."} Click a heading to sort.`;
  part.replaceChildren(table("overall", caption, columns, shown, sort, view), tableButtons("overview", columns, () => sorted(shown, columns, view.sort, view.dir), moreButton("overall", shown, view)));
}

function renderFigures(view, shown, styles) {
  const one = single(view), kinds = Object.keys(FIGURES), part = byId("figure");
  byId("figure-tabs").replaceChildren(...kinds.map(kind => el("button", { type: "button", role: "tab", id: `tab-${kind}`, "aria-selected": String(kind === view.figure), "aria-controls": "figure", tabindex: kind === view.figure ? "0" : "-1", "data-k": `tab-${kind}`,
    on: { click: () => change({ figure: kind }), keydown: event => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (by) { const next = kinds[(kinds.indexOf(kind) + by + kinds.length) % kinds.length]; change({ figure: next }); byId(`tab-${next}`).focus(); }
    } } }, FIGURES[kind])));
  part.setAttribute("aria-labelledby", `tab-${view.figure}`);
  const drawn = figureLines(view, shown), large = { width: wide(), height: wide() < 500 ? 320 : 420 };
  const says = {
    curve: "Line: median over seeds. Band: quartiles, or the full range below 4 seeds. Stroke: the median NRE to the first success; dotted: after withheld successes. NRE 0 stands at the left edge of the log axis.",
    found: "Median over seeds of the distinct successes asked, those that were withheld included.",
    first: "Which share of the runs had met a success by which share of the budget; every task has the same weight.",
    profile: "Which share of the runs ends at least so high (performance profile); every task has the same weight. Of the whole budget, whatever the slider says.",
    compute: "What the final policy is worth against what the run computed.",
  };
  byId("figure-note").textContent = says[view.figure];
  if (view.figure === "curve" || view.figure === "found") {
    const tasks = tasksShown(view), draw = view.figure === "curve" ? curveChart : foundChart;
    if (tasks.length === 1) part.replaceChildren(boxed(figure(draw(tasks[0], drawn, styles, large, view), styles), tasks[0].id));
    else {
      const across = Math.max(1, Math.min(tasks.length, Math.floor(wide() / 340))), size = { width: Math.floor((wide() - 18 * (across - 1)) / across), height: across > 2 ? 210 : 270 };
      part.replaceChildren(el("div", { class: "multiples" }, tasks.map(task => el("div", { class: "multiple" }, el("h3", {}, foreign(task.id)), boxed(figure(draw(task, drawn, styles, size, view), styles), task.id)))));
    }
  } else {
    const chart = { first: () => firstChart(drawn, styles, large, view), profile: () => profileChart(drawn, styles, large, one), compute: () => computeChart(drawn, styles, large, view, one) }[view.figure]();
    part.replaceChildren(chart.series.length ? boxed(figure(chart, styles), view.figure) : el("p", { class: "empty" }, "Nothing to draw: under this feedback the agents asked nothing, or no line is shown."));
  }
  byId("figure-legend").replaceChildren(legend(styles, view, shown));
}

// Figures draw the rows of the overview; where it has none, as for twins, all rows of the board.
function figureLines(view, shown) {
  if (shown.length) return shown;
  const lines = new Map();
  for (const board of boardsShown(view)) {
    for (const row of rowsOf(board)) {
      if (!lines.has(row.entry)) lines.set(row.entry, { board, entry: row.entry, rows: [], scores: {}, question: board.question, now: null, standing: row.rates, tokens: 0, cpu: 0 });
      lines.get(row.entry).rows.push(row);
    }
  }
  return [...lines.values()].filter(line => passes(line, view));
}

function renderCompare(view, lines, styles) {
  const part = byId("compare"), one = single(view), picked = view.pick.map(id => DATA.entries.find(entry => entry.id === id));
  part.hidden = picked.length === 0;
  if (part.hidden) return;
  const line = entry => lines.find(other => other.entry === entry);
  const columns = overviewColumns(view, styles).filter(column => !column.name), tasks = one ? [] : tasksShown(view);
  const rows = columns.map(column => [column.group ? `${column.group}: ${column.head}` : column.head, picked.map(entry => line(entry) ? column.cell(line(entry)) : cell(NONE, null)), column]);
  const perTask = tasks.flatMap(task => ["worth", "distinct", "first"].filter(q => boardsShown(view).some(board => board.questions.includes(q))).map(q => {
    const found = picked.map(entry => boardsShown(view).flatMap(rowsOf).find(row => row.entry === entry && row.task === task));
    const head = { worth: `${task.id}: final log₁₀ ${boardsShown(view)[0].rate}`, distinct: `${task.id}: distinct successes`, first: `${task.id}: NRE to first success` }[q];
    const text = { worth: log10Text, distinct: numberText, first: value => nreText(value, nreAt(task.budget, view.step)) }[q];
    return [head, found.map(row => row ? estimate(scoreOfRow(row, q, view.step), text, view.step === STEPS ? row.n : undefined) : cell(NONE, null)), { first: SMALLER[q] ? "ascending" : "descending", main: true }];
  }));
  const best = (cells, column) => {
    const values = cells.map(made => made.s).filter(v => typeof v === "number");
    if (!column.main || values.length < 2 || new Set(values).size === 1) return null;
    return column.first === "ascending" ? Math.min(...values) : Math.max(...values);
  };
  const body = [...rows, ...perTask].map(([head, cells, column]) => {
    const top = best(cells, column);
    return el("tr", {}, el("th", { scope: "row", class: "name" }, head), cells.map(made => el("td", { class: top !== null && made.s === top ? "main" : null, title: made.hint }, made.nodes || made.t, made.d ? el("small", {}, made.d) : "")));
  });
  const heads = picked.map(entry => el("th", { scope: "col" }, styles.has(entry) ? swatch(styles.get(entry)) : "", foreign(entry.agent), el("small", {}, foreign(entry.from)),
    button("remove", `unpick-${entry.id}`, () => change({ pick: state.pick.filter(id => id !== entry.id) }), { "aria-label": `remove ${entry.agent} from the comparison` })));
  part.replaceChildren(el("h2", { id: "compare-title" }, `Side by side`),
    el("p", { class: "note" }, picked.length < 2 ? "Tick one to three boxes more in a table to compare." : `${picked.length} of at most ${MOST_PICKED}. The better number of a row is bold; whether the difference is one, the intervals and the tiers say.`),
    el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "The measures side by side" }, el("table", { id: "compared" }, el("caption", {}, el("span", {}, `${share(view.step)} of the budget`)),
      el("thead", {}, el("tr", {}, el("th", { scope: "col", class: "name" }, "measure"), heads)), el("tbody", {}, body))),
    el("p", { class: "downloads" }, button("clear", "clear", () => change({ pick: [] }), { "aria-label": "clear the comparison" })));
}

function renderTasks(view, styles) {
  const boards = boardsShown(view), tasks = tasksShown(view);
  byId("task-list").replaceChildren(...tasks.map(task => {
    const open = view.open.includes(task.id), rows = boards.flatMap(rowsOf).filter(row => row.task === task);
    const best = rows.filter(row => row[`rank_${question(view, row.board)}`] === 1).map(row => row.entry.agent);
    const control = boards.some(board => board.controls[DATA.tasks.indexOf(task)]);
    const head = el("h3", {}, el("button", { type: "button", "aria-expanded": String(open), "data-k": `open-${task.id}`, on: { click: () => change({ open: open ? state.open.filter(id => id !== task.id) : [...state.open, task.id] }) } },
      el("span", { class: "chevron", "aria-hidden": "true" }), foreign(task.id), el("span", { class: "tag" }, task.family), el("span", { class: "tag" }, `${grouped(task.budget)} NRE`),
      task.base === null ? "" : el("span", { class: "tag" }, `base ${powerText(task.base)}`),
      el("span", { class: "quiet lead" }, control ? "negative control: ranks are chance" : best.length ? [`${rows.length} rows, first: `, foreign(best.slice(0, 3).join(", "))] : `${rows.length} rows`)));
    return el("article", {}, head, open ? taskBody(view, task, rows, styles) : "");
  }));
}

function taskBody(view, task, rows, styles) {
  const boards = boardsShown(view), lines = [];
  for (const board of boards) {
    const own = rows.filter(row => row.board === board).map(row => lineOfRow(row, view.step));
    board.questions.forEach(q => rerank(own, q, view.step));
    lines.push(...own);
  }
  for (const line of lines) Object.assign(line, { question: question(view, line.board), standing: line.rows[0].rates, tokens: line.rows[0].tokens, cpu: line.rows[0].cpu, met: metBy(line.rows, view.step) });
  const shown = lines.filter(line => passes(line, { ...view, tier: "" }));
  const size = { width: wide() > 900 ? Math.floor((wide() - 24) / 2) : wide(), height: 300 };
  const asked = [...new Set(boards.flatMap(board => board.questions))];
  const plots = [curveChart(task, shown, styles, size, view), ...(asked.includes("distinct") ? [foundChart(task, shown, styles, size, view)] : [])];
  const titles = { first: "1. How soon the first success?", distinct: "2. How many distinct successes for the budget?", worth: "3. What is the final policy worth?" };
  const [key, dir] = view.tsort.split("~");
  return [
    ...boards.map(board => board.controls[DATA.tasks.indexOf(task)]).filter(Boolean).map(text => el("p", { class: "note" }, text)),
    legend(styles, view, shown), el("div", { class: "pair" }, plots.map(chart => boxed(figure({ ...chart, id: `task-${chart.id}` }, styles), chart.id))),
    asked.map(q => {
      const columns = taskColumns(view, q, task, styles, shown);
      const here = columns.some(column => `${q}.${column.key}` === key);
      const sort = { key: here ? key.split(".")[1] : "rank", dir: here ? dir : "ascending", to: (next, way) => change({ tsort: `${q}.${next}~${way}` }) };
      const caption = `${task.id}: ${titles[q]} ${boards.map(board => board.title).join("; ")}, ${share(view.step)} of the budget. Medians over seeds; below them the 95% interval, from five seeds on.`;
      const mine = shown.map(line => ({ ...line, now: line.scores[q]?.now ?? null })).filter(line => line.scores[q]);
      return [el("h4", {}, titles[q]), table(`${q}-${task.id}`, caption, columns, mine, sort, view), tableButtons(`${task.id}-${q}`, columns, () => sorted(mine, columns, sort.key, sort.dir), moreButton(`${q}-${task.id}`, mine, view))];
    }),
  ].flat();
}

// Everything is drawn anew; what had the focus is found again by its key. The tables come first: where a slider moves, the
// figures and the tasks follow once the browser has shown them, and what another move has overtaken is not drawn at all.
let turn = 0;
function render(later = false) {
  const key = document.activeElement?.dataset?.k, view = state, mine = ++turn;
  const lines = rankedLines(view), shown = lines.filter(line => passes(line, view)), styles = drawnEntries(view, figureLines(view, shown));
  const focus = () => { if (key) document.querySelector(`[data-k="${CSS.escape(key)}"]`)?.focus({ preventScroll: true }); };
  const rest = () => {
    if (mine !== turn) return;
    renderFigures(view, shown, styles);
    renderTasks(view, styles);
    focus();
    document.documentElement.dataset.ready = String(turn);
  };
  renderControls(view, lines);
  renderOverview(view, lines, shown, styles);
  renderCompare(view, lines, styles);
  focus();
  if (later) requestAnimationFrame(() => setTimeout(rest)); else rest();
}

function start() {
  for (const id of ["regime", "settings", "tasks", "rank", "kind", "tier", "standing"]) byId(id).addEventListener("change", event => {
    const again = id === "regime" || id === "tasks" || id === "rank" ? { tier: "" } : {};
    const next = { ...state, ...again, [id]: event.target.value };
    // A set of tasks that the other board does not have would leave the overview empty.
    if (!single(next) && !boardsShown(next).some(board => setOf(board, next))) next.tasks = DEFAULTS.tasks;
    change(next);
  });
  byId("step").addEventListener("input", event => change({ step: Number(event.target.value) }, true));
  byId("find").addEventListener("input", event => change({ find: event.target.value.slice(0, 200) }, true));
  byId("reset").addEventListener("click", () => change({ ...DEFAULTS, pick: state.pick, open: state.open }));
  byId("controls").addEventListener("submit", event => event.preventDefault());
  const again = () => { state = readState(location.hash); render(); };
  document.documentElement.dataset.ready = "";
  addEventListener("popstate", again);
  // The address holds the state, so the links to the parts of the page scroll without changing it.
  for (const link of document.querySelectorAll("nav a[href^='#']")) link.addEventListener("click", event => {
    event.preventDefault();
    const part = document.querySelector(link.getAttribute("href"));
    part.scrollIntoView();
    part.focus({ preventScroll: true });
  });
  let width = innerWidth, timer = 0; // figures are as wide as the page; a telephone's address bar changes the height only
  addEventListener("resize", () => { clearTimeout(timer); timer = setTimeout(() => { if (innerWidth !== width) { width = innerWidth; render(); } }, 150); });
  again();
  performance.mark("drawn");
}
// The head of the page is shown before the data is read.
requestAnimationFrame(() => setTimeout(start));
