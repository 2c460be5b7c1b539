// The data: packed columns become numbers. packing.py writes them and explains the form.
const DIGITS = new Map();
for (let c = 32; c < 127; c++) if (!'"\\<'.includes(String.fromCharCode(c))) DIGITS.set(c, DIGITS.size);

function codesOf(text) {
  const codes = [];
  let at = 0;
  const digit = () => DIGITS.get(text.charCodeAt(at++));
  while (at < text.length) {
    const first = digit();
    if (first < 80) codes.push(first);
    else if (first < 90) codes.push(80 + (first - 80) * 92 + digit());
    else if (first === 90) codes.push(1000 + digit() * 92 + digit());
    else {
      let left = digit(), value = 0;
      while (left--) value = value * 92 + digit();
      codes.push(9464 + value);
    }
  }
  return codes;
}

// A column of single numbers, or of lists of numbers, each kept as its difference from the one before.
function unpack(column) {
  const scale = column.k;
  const whole = column.u ? code => code - 3 : code => (code - 3) % 2 ? -(code - 2) / 2 : (code - 3) / 2;
  const number = code => code > 2 ? whole(code) / scale : code === 0 ? null : code === 1 ? -Infinity : Infinity;
  if ("c" in column) return Array(column.n).fill(number(column.c));
  const codes = codesOf(column.v);
  if (!("l" in column)) return codes.map(number);
  const rows = [];
  for (let at = 0; at < codes.length;) {
    const row = [];
    let last = 0;
    for (let left = column.l || codes[at++]; left > 0; left--) {
      const code = codes[at++];
      row.push(code > 2 ? (last += whole(code)) / scale : number(code));
    }
    rows.push(row);
  }
  return rows;
}

// The data is JSON, deflated and written in base64, see island.py.
async function inflated(text) {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
}

const DATA = JSON.parse(await inflated(document.getElementById("data").textContent));
const STEPS = DATA.steps;
const FAR = 500; // an end of a band beyond it is no distance, see _apart in rows.py
const costOf = code => code === null ? 0 : DATA.cost[1] * 10 ** (code / DATA.cost[0]);

DATA.entries.forEach((entry, i) => {
  entry.number = i;
  entry.submission = DATA.submissions[entry.s];
  entry.from = entry.submission.name || `unnamed (${entry.submission.id})`;
});

// The ends of an interval are kept as distances from the number; an infinite one says that there is no distance.
const ESTIMATES = ["first", "by_then", "gain_by_then", "distinct", "mean", "next", "gain", "final", "best", "mixture", "other"];
function apart(row, name) {
  const at = row[name], low = row[`${name}_low`], high = row[`${name}_high`];
  row[`${name}_low`] = low === null ? null : Math.abs(low) === Infinity ? low : at - low;
  row[`${name}_high`] = high === null ? null : Math.abs(high) === Infinity ? high : at + high;
}

// The rows of a board as objects; they are unpacked when the board is first shown.
function rowsOf(board) {
  if (board.unpacked) return board.unpacked;
  const columns = Object.fromEntries(Object.entries(board.rows).map(([name, column]) => [name, unpack(column)]));
  const names = Object.keys(columns);
  return board.unpacked = columns.entry.map((_, i) => {
    const row = { board };
    for (const name of names) row[name] = columns[name][i];
    row.entry = DATA.entries[row.entry];
    row.task = DATA.tasks[row.task];
    row.n = row.finals.length;
    row.seeds = DATA.notes[row.seeds];
    row.notes = row.notes.map(note => DATA.notes[note]);
    row.final = row.curve[STEPS];
    if (row.found) row.distinct = row.found[STEPS - 1];
    for (const name of ESTIMATES) if (name in row || `${name}_low` in row) apart(row, name);
    for (const name of ["cpu", "tokens"]) row[name] = costOf(row[name]);
    row.low = row.below.map((d, k) => d >= FAR ? -Infinity : row.curve[k] - d);
    row.high = row.above.map((d, k) => d >= FAR ? d - 2 * FAR : row.curve[k] + d);
    return row;
  });
}

// The lines of a set of tasks: for each agent its scores in every question.
function linesOf(board, set) {
  if (set.unpacked) return set.unpacked;
  if (!set.lines) return set.unpacked = [];
  const rows = rowsOf(board), tasks = new Set(set.tasks.map(task => DATA.tasks[task]));
  const questions = board.questions.filter(q => q in set.lines);
  const read = Object.fromEntries(questions.map(q => [
    q, Object.fromEntries(Object.entries(set.lines[q]).map(([name, column]) => [name, unpack(column)])),
  ]));
  return set.unpacked = unpack(set.lines.entry).map((number, i) => {
    const entry = DATA.entries[number];
    const scores = Object.fromEntries(questions.map(q => [
      q, Object.fromEntries(Object.entries(read[q]).map(([name, column]) => [name, column[i]])),
    ]));
    return { board, entry, scores, rows: rows.filter(row => row.entry === entry && tasks.has(row.task)) };
  });
}
