// Tables: columns that make cells, headings that sort, and a checkbox that puts a row beside others.
// A cell: t is its text, d the detail below it, s what it is sorted by, low and high what a download adds, hint is explained on hover.
const MOST_ROWS = 30;
const cell = (t, s, more = {}) => ({ t, s: s === undefined ? null : s, ...more });
// An interval that only repeats "beyond the budget" is left out.
const between = (low, high, text) => low === null || low === undefined || high === null || low === Infinity ? "" : `[${text(low)}, ${text(high)}]`;

function estimate(score, text, n) {
  if (!score || score.at === null) return cell(NONE, null);
  const { at, low, high, upper } = score;
  if (upper !== null && upper !== undefined) return cell(between(at, upper, text), at, { low: at, high: upper, hint: "no number is known, only that it lies between these two" });
  return cell(text(at), at, { d: between(low, high, text) || (n === undefined || low === Infinity ? "" : `n=${n}`), low, high });
}
const of = (row, name) => ({ at: row[name], low: row[`${name}_low`], high: row[`${name}_high`], upper: row[`${name}_upper`] });

const rankCell = line => {
  const score = line.scores[line.question];
  if (line.now === null) return cell(NONE, null, { hint: "it has no rank here; why is said below its name in the table of the task" });
  return cell(String(line.now), line.now, { d: score.rank_low === null ? "" : `[${score.rank_low}–${score.rank_high}]`, low: score.rank_low, high: score.rank_high });
};

// Answers that are proved further than the rates are said so below.
const standingCell = (standing, answers) => cell(DATA.standings[standing], standing, { hint: answers > standing ? `its answers are ${DATA.standings[answers]}` : null });

// A rerun is of one agent of a submission.
const verdictOf = entry => entry.submission.rerun && entry.submission.rerun[0] === entry.agent ? entry.submission.rerun[1] : null;

function agentCell(entry, notes, styles) {
  const style = styles.get(entry);
  const link = el("a", { href: `${entry.submission.page}#${entry.id}`, "data-k": `a${entry.id}`, title: `submission page: versions, settings, seeds, ledger heads` }, foreign(entry.agent));
  const said = [entry.settings && (entry.tuned ? `tuned: ${entry.settings}` : entry.settings), ...(notes || []).filter(note => !entry.settings || !(note.startsWith("tuned: ") || note.startsWith(entry.settings.slice(0, 40))))];
  return cell(entry.agent, entry.agent, { nodes: [
    el("span", { class: "who" }, style ? swatch(style) : el("span", { class: "swatch" }), link),
    ...(DATA.submissions.length > 1 ? [el("small", { class: "from", title: entry.from }, foreign(entry.from))] : []),
    ...said.filter(Boolean).map(text => el("small", {}, foreign(text))),
  ] });
}

function overviewColumns(view, styles) {
  const one = single(view), step = view.step, here = boardsShown(view), rate = here[0]?.rate || "success";
  const asks = q => here.some(board => board.questions.includes(q));
  const budget = one ? nreAt(one.budget, step) : 0;
  const score = (q, text) => line => estimate(line.scores[q], text, one && step === STEPS ? line.rows[0].n : undefined);
  const nre = value => nreText(value, budget);
  return [
    { key: "standing", left: true, head: "standing", hint: "how far its numbers are proved: reported, recomputed or replayed", cell: line => standingCell(line.standing, Math.min(...line.rows.map(row => row.answers))) },
    DATA.submissions.some(submission => submission.rerun) && { key: "rerun", left: true, head: "rerun", hint: "what running the agent again on fresh seeds found: confirmed, contradicted or undecided",
      cell: line => cell(verdictOf(line.entry) || NONE, verdictOf(line.entry)) },
    { key: "rank", head: "rank", hint: "the rank in the chosen question; below it the 95% interval of the rank", first: "ascending", cell: rankCell },
    { key: "tier", head: "tier", hint: "entries of one tier cannot be told apart from the best one in it", first: "ascending",
      cell: line => cell(letter(line.scores[line.question]?.tier ?? null) || NONE, line.scores[line.question]?.tier ?? null) },
    { key: "agent", head: "agent", first: "ascending", name: true, cell: line => agentCell(line.entry, one && line.rows[0].notes, styles) },
    asks("first") && { key: "first", group: "1. how soon", head: one ? "NRE to first success" : "budget to first success", first: "ascending", main: true,
      hint: one ? "median NRE at which the first success was asked" : "mean share of the budget spent when the first success was asked, 1 where none was", cell: score("first", one ? nre : percentText) },
    asks("first") && { key: "met", group: "1. how soon", head: "runs that met one", hint: "share of runs that met a success by then", cell: line => cell(percentText(line.met), line.met) },
    asks("distinct") && { key: "distinct", group: "2. how many", head: one ? "distinct successes" : "over without_replacement", main: true,
      hint: one ? "median number of distinct successes asked" : "interquartile mean of log10((1 + distinct successes) / (1 + those of without_replacement))", cell: score("distinct", one ? numberText : gainText) },
    { key: "worth", group: "3. what it is worth", head: one ? `final log₁₀ ${rate}` : `final ${rate}, decades over base`, main: true,
      hint: one ? "median over seeds of the log10 rate of the policy" : "interquartile mean of the decades of the final rate above the base policy's success", cell: score("worth", one ? log10Text : gainText) },
    { key: "tokens", group: "compute", head: "tokens", hint: `median tokens that a run sampled, scored and trained on${one ? "" : ", summed over the tasks"}`, first: "ascending", cell: line => cell(countText(line.tokens), line.tokens) },
    { key: "cpu", group: "compute", head: "CPU", hint: "median CPU time of a run (reported)", first: "ascending", cell: line => cell(secondsText(line.cpu), line.cpu) },
    { key: "settings", head: "settings", hint: "default: one set of settings for all tasks; tuned: others", first: "ascending", cell: line => cell(line.entry.tuned ? "tuned" : "default", line.entry.tuned) },
    { key: "date", head: "date", hint: "as the submission says", first: "descending", cell: line => cell(line.entry.submission.date || NONE, line.entry.submission.date || null) },
    { key: "suite", head: "suite", hint: "the suite that the submission names, and the version of the package that ran it", first: "ascending",
      cell: line => cell(line.entry.submission.suite || NONE, line.entry.submission.suite || null, { d: line.entry.version }) },
  ].filter(Boolean);
}

// The three tables of a task. What is known at the whole budget only is left out at a smaller one.
function taskColumns(view, q, task, styles, lines) {
  const whole = view.step === STEPS, budget = nreAt(task.budget, view.step), nre = value => nreText(value, budget);
  const row = line => line.rows[0];
  const main = text => line => estimate(line.scores[q], text, whole ? row(line).n : undefined);
  const rate = (key, head, hint, text = log10Text) => whole && lines.some(line => row(line)[key] !== null) && { key, head, hint, cell: line => estimate(of(row(line), key), text, row(line).n) };
  const always = [
    { key: "rank", head: "#", hint: "the rank in this question", first: "ascending", cell: line => cell(String(line.now ?? NONE), line.now) },
    { key: "agent", head: "agent", first: "ascending", name: true, cell: line => agentCell(line.entry, row(line).notes, styles) },
  ];
  const seeds = { key: "seeds", head: "seeds", hint: "number of runs, one for each seed", cell: line => cell(String(row(line).n), row(line).n, { hint: `seeds ${row(line).seeds}` }) };
  const other = row => row.board.rate === "fresh" ? "success" : "fresh";
  const some = DATA.boards.find(board => boardsShown(view).includes(board));
  const kept = {
    first: () => [seeds,
      { key: "first", head: "NRE to first success", hint: "median sequences asked up to the first success", first: "ascending", main: true, cell: main(nre) },
      { key: "met", head: "runs that met one", hint: "how many runs met a success by then", cell: line => cell(`${Math.round(line.met * row(line).n)} of ${row(line).n}`, line.met) },
      rate("by_then", "success by then", "log10 success rate of the last policy measured before the first success"),
      rate("gain_by_then", "gain over base by then", "how many decades that is above the base policy", gainText)],
    distinct: () => [seeds,
      { key: "distinct", head: "distinct successes", hint: "median number of distinct successes asked", main: true, cell: main(numberText) },
      rate("mean", "mean over the budget", "that number averaged over the budget: early ones count more", numberText),
      rate("next", "next question", "log10 rate of successes among what the final policy would ask for the first time")],
    worth: () => [
      { key: "standing", head: "standing", hint: "how far the final rates are proved", cell: line => standingCell(row(line).rates, row(line).answers) }, seeds,
      { key: "worth", head: `${whole ? "final" : "log₁₀"} ${some.rate}`, hint: "median log10 rate of the policy at the budget", main: true, cell: main(log10Text) },
      rate("best", "best (hindsight)", "the highest rate on the curve: no agent could choose it"),
      rate("mixture", "mixture", "the rate of an even mixture of all policies of the curve"),
      rate("other", `final ${other({ board: some })}`, "the other rate at the budget"),
      whole && { key: "effective", head: "effective successes", hint: "how many distinct successes carry the final rate", cell: line => cell(numberText(row(line).effective), row(line).effective) },
      some.regime !== "blind" && rate("gain", "gain over twin", "decades over the oracle-free twin, paired by seed", gainText),
      { key: "cpu", head: "CPU", hint: "median CPU time of a run (reported)", first: "ascending", cell: line => cell(secondsText(row(line).cpu), row(line).cpu) },
      { key: "tokens", head: "tokens", hint: "median tokens that a run sampled, scored and trained on", first: "ascending", cell: line => cell(countText(row(line).tokens), row(line).tokens) }],
  };
  return [...always, ...kept[q]().filter(Boolean)];
}

function sorted(lines, columns, key, dir) {
  const column = columns.find(c => c.key === key);
  if (!column) return lines;
  const sign = dir === "descending" ? -1 : 1, values = new Map(lines.map(line => [line, column.cell(line).s]));
  return [...lines].sort((a, b) => {
    const [x, y] = [values.get(a), values.get(b)];
    if (x === null || y === null) return (x === null) - (y === null); // what has no value stays last either way
    return sign * (typeof x === "string" ? x.localeCompare(y) : x - y) || byRank(a, b);
  });
}

// `rows`: "" for the first MOST_ROWS lines, "all" for all of them. `sort`: { key, dir, to(key, dir) }; `id` names the table, so that focus and downloads find it again.
function table(id, caption, columns, lines, sort, view) {
  const groups = columns.some(column => column.group);
  const head = column => {
    const now = sort.key === column.key ? sort.dir : null;
    const next = now ? (now === "ascending" ? "descending" : "ascending") : column.first || "descending";
    return el("th", { scope: "col", class: column.name ? "name" : column.main ? "main" : column.key === "rank" ? "rank" : null, "aria-sort": now },
      el("button", { type: "button", title: column.hint, "data-k": `${id}-${column.key}`, on: { click: () => sort.to(column.key, next) } }, column.head));
  };
  const body = line => el("tr", { "data-entry": line.entry.id, class: view.pick.includes(line.entry.id) ? "picked" : null },
    el("td", { class: "pick" }, pickBox(id, line.entry, view)),
    columns.map(column => {
      const made = column.cell(line);
      return el(column.name ? "th" : "td", { scope: column.name ? "row" : null, class: column.name ? "name" : column.main ? "main" : column.key === "rank" ? "rank" : null, title: made.hint },
        made.nodes || made.t, made.d ? el("small", {}, made.d) : "");
    }));
  return el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption },
    el("table", { id }, el("caption", {}, el("span", {}, caption)),
      el("thead", {}, groups ? groupRow(columns) : "", el("tr", {}, el("th", { scope: "col", class: "pick" }, el("span", { class: "quiet" }, "compare")), columns.map(head))),
      el("tbody", {}, sorted(lines, columns, sort.key, sort.dir).slice(0, view.rows === "all" ? Infinity : MOST_ROWS).map(body))));
}

// Long tables begin with their first lines; a download has all of them.
const moreButton = (id, lines, view) => lines.length <= MOST_ROWS ? "" : button(view.rows === "all" ? `show the first ${MOST_ROWS}` : `show all ${lines.length} rows`, `${id}-more`, () => change({ rows: view.rows === "all" ? "" : "all" }));

function groupRow(columns) {
  const cells = [el("td", { class: "pick" })];
  for (let i = 0; i < columns.length;) {
    let n = 1;
    while (i + n < columns.length && columns[i + n].group === columns[i].group) n += 1;
    const group = columns[i].group;
    cells.push(group ? el("th", { scope: "colgroup", colspan: n, class: "group" }, group) : el("td", { colspan: n }));
    i += n;
  }
  return el("tr", { class: "groups" }, cells);
}

function pickBox(id, entry, view) {
  const on = view.pick.includes(entry.id);
  return el("input", {
    type: "checkbox", checked: on, disabled: !on && view.pick.length >= MOST_PICKED, "data-k": `${id}-pick-${entry.id}`,
    "aria-label": `compare ${entry.agent}`, title: on ? "take it out of the comparison" : `put it beside others, at most ${MOST_PICKED}`,
    on: { change: () => change({ pick: on ? state.pick.filter(other => other !== entry.id) : [...state.pick, entry.id] }) },
  });
}
