"""Gather verified runs into rows, one for each agent and its settings, and rank the rows within each task.

Rows are never compared across boards. There is one board for each name and regime. The names are `fixed` (default
settings and the task's own budget), `tuned` (other settings) and `off` (another budget, or inherited answers). The
regimes are "failures", ranked by success; "full", ranked by fresh success, because an agent that repeats its first
success for ever would win otherwise; and "twin", told "failure" for everything. A run that was told no success is the
same under all three regimes, so it counts in each of them.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from banel_envs.binomial import clopper_pearson
from banel_leaderboard.board.seed_sets import incomplete, seeds_text, without_copies
from banel_leaderboard.board.stats import first_success_median, median, median_interval
from banel_leaderboard.proving.load import Identity, Run
from banel_leaderboard.proving.standing import Standing
from banel_leaderboard.records.record import RunRecord

BoardName: TypeAlias = Literal["fixed", "tuned", "off"]
Regime: TypeAlias = Literal["failures", "full", "twin"]
RateName: TypeAlias = Literal["success", "fresh"]
Twins: TypeAlias = dict[tuple[Identity, int], RunRecord]
Span: TypeAlias = tuple[float, float]
"""The two ends between which a value lies; they are equal where the value is a known number."""
SEED = 0  # the seed of the bootstrap, which is fixed so that the same runs give the same page
LEAST_SEEDS = 5  # with fewer seeds the interval holds the median too rarely to be shown (python -m benchmarks.seeds)


@dataclass(frozen=True)
class Estimate:
    """A median over runs, with its 95% bootstrap interval if there are at least LEAST_SEEDS runs.

    Where the rate of some run is known only as an interval, the median lies between the median of the lower ends,
    `value`, and the median of the upper ends, `upper`. Then there is no number and no interval over seeds. Rows are
    ranked by `value`, because a policy certainly reaches its lower end.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    upper: float

    @property
    def known(self) -> bool:
        """Whether it is a number."""
        return self.value == self.upper

    @classmethod
    def of(cls, spans: Sequence[Span]) -> Estimate:
        """The estimate from one span for each run."""
        lows, highs = np.array(spans, np.float64).T
        n, value, upper = len(lows), float(median(lows)), float(median(highs, "high"))
        if (lows != highs).any():
            return cls(value, None, None, n, upper)
        if n < LEAST_SEEDS:
            return cls(value, None, None, n, value)
        low, high = median_interval(lows, np.random.default_rng(SEED))
        return cls(value, low, high, n, value)


@dataclass(frozen=True)
class Row:
    """One agent with one set of settings on one task, over all its seeds."""

    runs: tuple[Run, ...]
    rate: RateName  # the rate that final, best and mixture are about
    rank: int | None  # None where a rank would mislead
    final: Estimate
    best: Estimate
    mixture: Estimate
    other: Estimate  # the final value of the other rate: fresh success where `rate` is success, and the reverse
    gain: Estimate | None  # decades gained over the oracle-free twin, paired by seed
    missing: tuple[
        int, ...
    ]  # seeds that met a success under another regime and did not run here: the row is a selection
    incomplete: str | None  # what is wrong with its seed set
    copies: Mapping[int, int]  # seeds that asked the same questions as an earlier seed; the two count as one run
    unranked: str | None = None  # any further reason why it has no rank

    @property
    def first(self) -> RunRecord:
        """One of the records, for the fields that all of them share."""
        return self.runs[0].record

    @property
    def rates(self) -> Standing:
        """The standing of the final rates: the lowest among the runs."""
        return min(r.proved.rates for r in self.runs)

    @property
    def answers(self) -> Standing:
        """The standing of the answers: the lowest among the runs."""
        return min(r.proved.answers for r in self.runs)

    @property
    def nre(self) -> float:
        """The median NRE to the first success; +inf if the median run met none within the budget."""
        return first_success_median([r.record.first_success for r in self.runs])

    @property
    def met(self) -> int:
        """The number of runs that met a success."""
        return sum(r.record.first_success is not None for r in self.runs)

    @property
    def met_interval(self) -> tuple[float, float]:
        """95% Clopper-Pearson interval of the share of runs that meet a success within the budget."""
        return clopper_pearson(self.met, len(self.runs))

    @property
    def effective(self) -> float | None:
        """The median number of effective successes at the budget, over the runs where it is known."""
        known = [e for r in self.runs if (e := r.record.points[-1].success.effective) is not None]
        return float(median(np.array(known))) if known else None

    def typical(self, what: Callable[[RunRecord], float]) -> float:
        """The median of a cost over the runs."""
        return float(median(np.array([what(r.record) for r in self.runs], np.float64)))

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods by which the rates were measured."""
        return tuple(sorted({p.success.method for r in self.runs for p in r.record.points}))


@dataclass(frozen=True)
class TaskTable:
    """The rows of one task, best first."""

    task: str
    budget: int
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Board:
    """All tables of one name and regime. Only rows of the same table are ranked against each other."""

    name: BoardName
    regime: Regime
    rate: RateName
    tables: tuple[TaskTable, ...]


def make_boards(runs: Sequence[Run]) -> list[Board]:
    """Every board that has at least one row, for each name and regime."""
    twins = {(r.identity, r.record.seed): r.record for r in runs if r.record.twin}
    boards = []
    for name in get_args(BoardName):
        own = [r for r in runs if board_of(r.record) == name]
        boards += [_board(name, regime, own, twins) for regime in get_args(Regime)]
    return [board for board in boards if board.tables]


def charted(board: Board) -> bool:
    """Whether the board's curves are drawn: only those of the fixed boards of the two feedbacks are."""
    return board.name == "fixed" and board.regime != "twin"


def board_of(record: RunRecord) -> BoardName:
    """The name of the board that a run stands on."""
    if record.off_board:
        return "off"
    return "tuned" if record.tuned else "fixed"


def regime_of(record: RunRecord) -> Regime:
    """What the agent was told: the feedback, or "twin"."""
    return "twin" if record.twin else record.feedback


def serve(runs: Sequence[Run], regime: Regime) -> list[tuple[list[Run], tuple[int, ...]]]:
    """The rows of a regime: for each row its runs in the order of their seeds, and the seeds that are missing from it.

    A row first takes the runs of its own regime. Then it takes runs of another regime that were told no success, because
    they would have been the same here; twins are never taken. A seed that met a success under another regime, and did
    not run under this one, is missing. A row with taken runs and a missing seed is a selection of the unlucky seeds, and
    so it is not ranked.

    A regime has rows only if at least one run was made under it. A sweep that asks for both feedbacks runs `full` first
    and leaves out every `failures` run that could only repeat the `full` one. So a task without `full` runs of its own
    was not asked for under `full`, and gets no rows there. A task without `failures` runs of its own can still get all
    its rows from `full` runs, provided that some other task was run under `failures`.
    """
    ran = {(r.record.task, r.record.digest) for r in runs if regime_of(r.record) == regime}
    if regime == "full":
        runs = [r for r in runs if (r.record.task, r.record.digest) in ran]
    if not ran:
        return []
    groups: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.identity].append(run)
    rows = []
    for group in groups.values():
        own = {r.record.seed: r for r in group if regime_of(r.record) == regime}
        others = [r for r in group if not r.record.twin and r.record.seed not in own]
        same = {r.record.seed: r for r in others if r.record.successes_asked == 0}
        if not own and (regime == "twin" or not same):
            continue
        served = same | own  # a run of the own regime comes before one that would have been the same
        missing = {r.record.seed for r in others} - served.keys() if same else set()
        rows.append(([served[seed] for seed in sorted(served)], tuple(sorted(missing))))
    return rows


def _board(name: BoardName, regime: Regime, runs: list[Run], twins: Twins) -> Board:
    rate: RateName = "fresh" if regime == "full" else "success"
    digests: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        digests[run.record.task].add(run.record.digest)
    by_task: dict[str, list[Row]] = defaultdict(list)
    for served, missing in serve(runs, regime):
        task, digest = served[0].record.task, served[0].record.digest
        # Runs of one task id on other assets are on another task, so they get a table of their own.
        title = task if len(digests[task]) == 1 else f"{task} ({digest[:8]})"
        by_task[title].append(_row(served, regime, rate, missing, twins))
    tasks = sorted(by_task.items())
    tables = tuple(TaskTable(task, rows[0].first.budget, _ranked(rows, fair=name != "off")) for task, rows in tasks)
    return Board(name, regime, rate, tables)


def _row(runs: list[Run], regime: Regime, rate: RateName, missing: tuple[int, ...], twins: Twins) -> Row:
    # The seed set is checked before copies are left out, since an agent without randomness has copies for all seeds.
    wrong = incomplete(runs[0].record.task, [r.record.seed for r in runs])
    runs, copies = without_copies(runs)
    records = [r.record for r in runs]
    other: RateName = "success" if rate == "fresh" else "fresh"
    gains = [] if regime == "twin" else [g for r in runs if (g := _gain(r, rate, twins)) is not None]
    return Row(
        runs=tuple(runs),
        rate=rate,
        rank=None,
        final=_estimate(records, RunRecord.final, rate),
        best=_estimate(records, RunRecord.best, rate),
        mixture=_estimate(records, RunRecord.mixture, rate),
        other=_estimate(records, RunRecord.final, other),
        # Without this condition only the seeds that met no success, which are their own twins, would count.
        gain=Estimate.of(gains) if len(gains) == len(runs) else None,
        missing=missing,
        incomplete=wrong,
        copies=copies,
    )


def _estimate(records: list[RunRecord], what: Callable[..., float], rate: RateName) -> Estimate:
    return Estimate.of([(what(r, rate, "low"), what(r, rate, "high")) for r in records])


def _gain(run: Run, rate: RateName, twins: Twins) -> Span | None:
    """How many decades the final rate is above the twin's; None without a twin.

    A run that met no success is its own twin and gained 0. Of two rates that are known as intervals, the gain lies between
    the lower end minus the twin's upper end and the upper end minus the twin's lower end. It is 0 where both rates are
    zero, whose logarithms have no difference.
    """
    twin = twins.get((run.identity, run.record.seed))
    if twin is None:
        return (0.0, 0.0) if run.record.successes_asked == 0 else None
    mine, theirs = ((r.final(rate, "low"), r.final(rate, "high")) for r in (run.record, twin))
    if mine == theirs and mine[0] == mine[1]:
        return 0.0, 0.0
    # -inf - -inf is NaN: the gain between two rates that may both be zero is not bounded on that side.
    low, high = mine[0] - theirs[1], mine[1] - theirs[0]
    return (-math.inf if math.isnan(low) else low), (math.inf if math.isnan(high) else high)


def _ranked(rows: list[Row], fair: bool) -> tuple[Row, ...]:
    """The rows with their ranks, the best median final rate first; equal rates share a rank.

    A row whose rank would mislead is shown without one: a selection, a row with a wrong seed set, or every row where
    `fair` is false. A row that is only reported has no rank beside rows that were recomputed or replayed.
    """
    whole = [r for r in rows if fair and not r.missing and r.incomplete is None]
    # A board on which nothing could be recomputed is ranked by what is reported. One recomputed row raises the bar for all.
    bar = min(Standing.RECOMPUTED, max((r.rates for r in whole), default=Standing.REPORTED))
    values = [r.final.value for r in whole if r.rates >= bar]

    def placed(row: Row) -> Row:
        if not any(row is r for r in whole):
            return row
        if row.rates < bar:
            return dataclasses.replace(
                row, unranked="its rates are only reported, and those of other rows are recomputed"
            )
        return dataclasses.replace(row, rank=1 + sum(v > row.final.value for v in values))

    done = [placed(r) for r in rows]
    return tuple(sorted(done, key=lambda r: (fair and r.rank is None, -r.final.value, r.first.agent)))


def marks(row: Row, among: Sequence[Row] = ()) -> list[str]:
    """What a reader must know about a row beside its numbers."""
    record = row.first
    found = _differences(row, [r for r in among if r is not row and r.first.agent == record.agent])
    if record.off_board:
        found.append(f"budget {record.budget:,}")
    if errors := sum(run.record.errors for run in row.runs):
        found.append(f"{errors:,} failures are errors of the reward")
    if row.methods != ("exact",):
        found.append("rates by " + ", ".join(m.replace("_", " ") for m in row.methods))
    return found + _of_its_seeds(row, among)


def _of_its_seeds(row: Row, among: Sequence[Row]) -> list[str]:
    """How the row's seeds differ from those of other rows, which of them are copies, and why the row has no rank."""
    found = []
    most = max((len(r.runs) for r in among), default=0)
    if len(row.runs) < most:
        found.append(f"{len(row.runs)} seed{'s' * (len(row.runs) > 1)}, where others here have {most}")
    if row.missing:
        seeds = f"seed{'s' * (len(row.missing) > 1)} " + ", ".join(map(str, row.missing))
        found.append(f"not ranked, a selection: {seeds} met a success elsewhere and did not run here")
    elif row.incomplete and not row.first.off_board:
        found.append(f"not ranked: {row.incomplete}")
    elif row.unranked:
        found.append(f"not ranked: {row.unranked}")
    for earlier in sorted(set(row.copies.values())):
        again = [seed for seed, first in row.copies.items() if first == earlier]
        found.append(f"seeds {seeds_text(again)} asked the same questions as seed {earlier}: counted as one run")
    return found


def _differences(row: Row, alike: Sequence[Row]) -> list[str]:
    """How a row differs from other rows of the same agent, and a tuned row from the agent's default settings."""
    record = row.first
    found = []
    if record.tuned or any(r.first.config != record.config for r in alike):
        found.append(("tuned: " if record.tuned else "") + settings(record))
    if any(r.runs[0].version != row.runs[0].version for r in alike):
        found.append(f"version {row.runs[0].version}")
    return found


def settings(record: RunRecord) -> str:
    """The agent's settings in one line."""
    return ", ".join(f"{k}={json.dumps(v)}" for k, v in record.config.items()) or "no settings"
