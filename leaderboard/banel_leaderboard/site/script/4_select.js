// What a state shows: the lines of the overview, their ranks at the chosen budget, and which of them the figures draw.
const SMALLER = { first: true, distinct: false, worth: false }; // of the budget to the first success less is better
const MOST_DRAWN = 8;

const boardsShown = view => DATA.boards.filter(b => b.regime === view.regime && (view.settings === "both" || b.name === view.settings));
const single = view => view.tasks.startsWith("task:") ? DATA.tasks.find(task => task.id === view.tasks.slice(5)) || null : null;
const setOf = (board, view) => board.sets.find(set => set.key === view.tasks) || null;
const question = (view, board) => board.questions.includes(view.rank) ? view.rank : board.question;

// The tasks that are shown one by one: those of the set, or all that the boards have where there is no such set.
function tasksShown(view) {
  const one = single(view);
  if (one) return [one];
  const found = new Set();
  for (const board of boardsShown(view)) {
    const set = setOf(board, view);
    if (set) set.tasks.forEach(task => found.add(DATA.tasks[task]));
    if (view.tasks === "all" || !set) rowsOf(board).forEach(row => found.add(row.task));
  }
  return DATA.tasks.filter(task => found.has(task));
}

// A row at a step of the budget: what its runs had asked and what their policies were worth by then.
function rowAt(row, q, step) {
  if (q === "worth") return row.curve[step];
  if (q === "distinct") return row.found[step - 1];
  return row.decided <= nreAt(row.task.budget, step) ? row.first : Infinity;
}

function scoreOfRow(row, q, step) {
  const whole = step === STEPS, name = q === "worth" ? "final" : q;
  const interval = whole ? { low: row[`${name}_low`], high: row[`${name}_high`], upper: row[`${name}_upper`] } : { low: null, high: null };
  return { at: rowAt(row, q, step), ...interval, rank: row[`rank_${q}`], rank_low: null, rank_high: null, tier: null };
}

// Equal scores share a rank. Hiding a row changes no rank: it is among all rows of the board that have one.
function rerank(items, q, step) {
  const ranked = items.filter(item => item.scores[q] && item.scores[q].rank !== null);
  const values = ranked.map(item => item.scores[q].at);
  for (const item of ranked) {
    const mine = item.scores[q];
    mine.now = step === STEPS ? mine.rank : 1 + values.filter(v => SMALLER[q] ? v < mine.at : v > mine.at).length;
  }
}

function lineOfRow(row, step) {
  const scores = Object.fromEntries(row.board.questions.map(q => [q, scoreOfRow(row, q, step)]));
  return { board: row.board, entry: row.entry, rows: [row], scores };
}

function lineOfSet(line, step) {
  const whole = step === STEPS;
  const scores = Object.fromEntries(Object.entries(line.scores).map(([q, s]) => [
    q, { ...s, at: q === "first" ? whole ? s.value[0] : shareAtFirst(line.rows, step) : s.value[Math.min(step, s.value.length) - 1], low: whole ? s.low : null, high: whole ? s.high : null,
         rank_low: whole ? s.rank_low : null, rank_high: whole ? s.rank_high : null, tier: whole ? s.tier : null },
  ]));
  return { ...line, scores };
}

function rankedLines(view) {
  const one = single(view), found = [];
  for (const board of boardsShown(view)) {
    const set = setOf(board, view);
    let lines = [];
    if (one) lines = rowsOf(board).filter(row => row.task === one).map(row => lineOfRow(row, view.step));
    else if (set) lines = linesOf(board, set).map(line => lineOfSet(line, view.step));
    board.questions.forEach(q => rerank(lines, q, view.step));
    found.push(...lines);
  }
  for (const line of found) {
    line.question = question(view, line.board);
    line.standing = Math.min(...line.rows.map(row => line.question === "worth" ? row.rates : row.answers));
    line.tokens = line.rows.reduce((sum, row) => sum + row.tokens, 0);
    line.cpu = line.rows.reduce((sum, row) => sum + row.cpu, 0);
    line.met = metBy(line.rows, view.step);
    line.now = line.scores[line.question]?.now ?? null;
  }
  return found;
}

// The share of the runs that met a success by a step of the budget; every task has the same weight.
function metBy(rows, step) {
  if (!rows[0].firsts) return null;
  const shares = rows.map(row => row.firsts.filter(first => first <= nreAt(row.task.budget, step)).length / row.n);
  return shares.reduce((sum, share) => sum + share, 0) / rows.length;
}

// The mean share of that part of the budget which was spent when the first success was asked, 1 where none was.
function shareAtFirst(rows, step) {
  const mean = row => {
    const budget = nreAt(row.task.budget, step);
    return row.firsts.reduce((sum, first) => sum + (first <= budget ? first / budget : 1), 0) / row.n;
  };
  return rows.reduce((sum, row) => sum + mean(row), 0) / rows.length;
}

const passes = (line, view) =>
  (!view.kind || line.entry.kind === view.kind)
  && (!view.tier || letter(line.scores[line.question]?.tier ?? null) === view.tier)
  && (!view.standing || line.standing >= DATA.standings.indexOf(view.standing))
  && (!view.find || `${line.entry.agent} ${line.entry.from} ${line.entry.settings}`.toLowerCase().includes(view.find.toLowerCase()));

const byRank = (a, b) => (a.now ?? Infinity) - (b.now ?? Infinity) || a.entry.number - b.entry.number;

// Figures of 100 lines cannot be read: those that were picked are drawn, then the best ranked, and `base` to compare with.
function drawnEntries(view, lines) {
  const picked = view.pick.map(id => DATA.entries.find(entry => entry.id === id));
  const ranked = [...lines].sort(byRank).map(line => line.entry);
  const chosen = [...new Set([...picked, ...ranked])].slice(0, MOST_DRAWN);
  const base = ranked.find(entry => entry.agent === "base");
  if (base && !chosen.includes(base)) chosen[Math.max(picked.length, chosen.length - 1)] = base;
  return styled(chosen);
}

// The first ten entries have a colour each; a later one takes that of its number, or the next that is free among those drawn.
function styled(chosen) {
  const taken = new Set(), styles = new Map();
  for (const entry of [...chosen].sort((a, b) => a.number - b.number)) {
    let colour = entry.number % 10;
    while (taken.has(colour) && taken.size < 10) colour = (colour + 1) % 10;
    taken.add(colour);
    styles.set(entry, { colour, marker: (colour + Math.floor(entry.number / 10)) % MARKERS.length });
  }
  return styles;
}
