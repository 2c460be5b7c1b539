"""The rows of a board as packed columns: every number that the tables and the figures of the site show.

Nothing is computed anew here: medians, intervals and ranks are the board's own (`ranking`, `statistics`), as are the curves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from banel_envs.files.visible import visible
from banel_leaderboard.board.chart import curve_of
from banel_leaderboard.board.found import found_by
from banel_leaderboard.ranking.cut import nre_at
from banel_leaderboard.ranking.marks import marks
from banel_leaderboard.ranking.rows import Board, Estimate, Question, Row, TaskTable
from banel_leaderboard.ranking.seed_sets import seeds_text
from banel_leaderboard.running.evaluator import STEPS
from banel_leaderboard.site import packing
from banel_leaderboard.site.entries import Index
from banel_leaderboard.site.packing import Number
from banel_leaderboard.statistics.medians import at_or_before
from banel_leaderboard.statistics.survival import kaplan_meier

RATE = 100  # log10 rates and gains are kept to two decimals, as the board writes them
HALVES = 2  # medians of whole numbers are whole or half
TENTHS = 10
COST = 400  # costs are kept as 400 times their log10 above LEAST_COST, which is to 0.3%
LEAST_COST = 1e-3
FAR = 1_000.0  # more than the decades between any two rates
Read = Callable[[Row], Number]


def packed(board: Board, index: Index) -> dict[str, Any]:
    """The columns of all rows of a board, task after task."""
    rows = [(table, row) for table in board.tables for row in table.rows]
    only = [row for _, row in rows]
    made: dict[str, Any] = {
        "entry": packing.column(index.entry(row) for row in only),
        "task": packing.column(index.task(table.task) for table, _ in rows),
        "seeds": packing.column(index.note(seeds_text([run.record.seed for run in row.runs])) for row in only),
        "met": packing.column(row.met for row in only),
        "rates": packing.column(int(row.rates) for row in only),
        "answers": packing.column(int(row.answers) for row in only),
        "notes": packing.lists([index.note(visible(text)) for text in marks(row, table.rows)] for table, row in rows),
    }
    for question in board.questions:
        made[f"rank_{question}"] = packing.column(row.ranks.get(question) for row in only)
    for name, (read, scale) in _columns(board.questions).items():
        made[name] = packing.column(map(read, only), scale)
    return made | _curves(rows, blind=board.regime == "blind")


def _columns(questions: Sequence[Question]) -> dict[str, tuple[Read, int]]:
    """A reader and a scale for each column of single numbers."""
    made: dict[str, tuple[Read, int]] = {}
    if "first" in questions:
        _estimate(made, "first", lambda r: None if r.first_success is None else r.first_success.nre, 1)
        _estimate(made, "by_then", lambda r: None if r.first_success is None else r.first_success.rate, RATE)
        _estimate(made, "gain_by_then", lambda r: None if r.first_success is None else r.first_success.gain, RATE)
        _estimate(made, "distinct", lambda r: None if r.distinct is None else r.distinct.total, HALVES, drawn=True)
        _estimate(made, "mean", lambda r: None if r.distinct is None else r.distinct.mean, TENTHS)
        _estimate(made, "next", lambda r: None if r.distinct is None else r.distinct.next, RATE)
        _estimate(made, "gain", lambda r: r.gain, RATE)
        made["decided"] = (_decided, 1)
    _estimate(made, "final", lambda r: r.final, RATE, drawn=True)
    _estimate(made, "best", lambda r: r.best, RATE)
    _estimate(made, "mixture", lambda r: r.mixture, RATE)
    _estimate(made, "other", lambda r: r.other, RATE)
    made["effective"] = (lambda r: r.effective, TENTHS)
    made["cpu"] = (lambda r: cost(r.typical(lambda record: record.execution.cpu_s)), 1)
    made["tokens"] = (
        lambda r: cost(r.typical(lambda record: record.work.sampled + record.work.scored + record.work.trained)),
        1,
    )
    return made


def _estimate(
    made: dict[str, tuple[Read, int]],
    name: str,
    read: Callable[[Row], Estimate | None],
    scale: int,
    drawn: bool = False,
) -> None:
    """The columns of an estimate: its number, its interval, and its upper end where no number is known.

    The ends of the interval are distances from the number, which are short; an end is itself where it is infinite. Where the
    number ends a curve that is `drawn`, it is not written twice.
    """

    def part(of: Callable[[Estimate], float | None]) -> Read:
        return lambda row: None if (estimate := read(row)) is None else of(estimate)

    def far(sign: int, end: Callable[[Estimate], float | None]) -> Read:
        return part(lambda e: None if (at := end(e)) is None else _distance(e.value, at, sign, scale))

    if not drawn:
        made[name] = (part(lambda e: e.value), scale)
    made[f"{name}_low"] = (far(-1, lambda e: e.low), scale)
    made[f"{name}_high"] = (far(1, lambda e: e.high), scale)
    if scale == RATE:
        made[f"{name}_upper"] = (part(lambda e: None if e.known else e.upper), scale)


def _distance(value: float, end: float, sign: int, scale: int) -> float | None:
    """How far the end of an interval is from the number, both rounded as they are shown; the end itself where it is infinite.

    Where the number alone is infinite there is no distance, and no interval is shown, which is None.
    """
    if math.isinf(end):
        return end
    return None if math.isinf(value) else sign * (round(end * scale) - round(value * scale)) / scale


def cost(value: float) -> int | None:
    """A cost on a logarithmic scale; None for none at all."""
    return None if value <= 0 else max(0, round(COST * np.log10(value / LEAST_COST)))


def _decided(row: Row) -> float:
    """The NRE from which on the median NRE to the first success is known: at any budget before it is beyond the budget."""
    met = np.array([run.record.first_success is not None for run in row.runs])
    times = [run.record.first_success if m else run.record.ledger.count for run, m in zip(row.runs, met, strict=True)]
    return float(kaplan_meier(np.array(times, np.float64), met).decided())


def _curves(rows: Sequence[tuple[TaskTable, Row]], blind: bool) -> dict[str, Any]:
    """The curves over the grid, and what the seeds reached, in ascending order, which the distributions are drawn of."""
    middle, low, high, found = [], [], [], []
    for _, row in rows:
        grid = np.array([0, *(nre_at(row.first.budget, step) for step in range(1, STEPS + 1))])
        curve = curve_of(row)
        ends = [at_or_before(curve.nre, values, grid).tolist() for values in (curve.middle, curve.low, curve.high)]
        middle.append(ends[0])
        low.append([_apart(m, v) for m, v in zip(ends[0], ends[1], strict=True)])
        high.append([_apart(v, m) for m, v in zip(ends[0], ends[2], strict=True)])
        found.append([] if blind else found_by(row, grid[1:].astype(np.float64)).tolist())
    made = {
        "curve": packing.lists(middle, RATE),
        "below": packing.lists(low, RATE),
        "above": packing.lists(high, RATE),
        "finals": packing.lists((sorted(run.record.final(row.rate) for run in row.runs) for _, row in rows), RATE),
    }
    if not blind:
        made["found"] = packing.lists(found, HALVES)
        made["firsts"] = packing.lists(
            sorted(run.record.first_success or math.inf for run in row.runs) for _, row in rows
        )
    return made


def _apart(upper: float, lower: float) -> float:
    """How far a band's end is from the middle, to the board's two decimals.

    Where the lower of the two is a rate of zero there is no distance: then it is FAR plus the upper one, from which both follow.
    """
    if upper == lower:
        return 0.0
    return FAR + upper if math.isinf(lower) else round(upper, 2) - round(lower, 2)
