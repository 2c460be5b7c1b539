"""The columns of a board's tables, one table for each question: what each column means and how its cells are written."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from banel_leaderboard.board.cells import (
    NONE,
    Cell,
    count_text,
    gain_text,
    interval_text,
    nre_text,
    number_text,
    power_text,
    value_text,
)
from banel_leaderboard.ranking.rows import Board, Estimate, Question, Row

MOST_REASONS = 3  # so many reasons for a low standing are shown in a hint


@dataclass(frozen=True)
class Column:
    """A heading, its meaning in one line, and a function that makes the cell of a row."""

    heading: str
    hint: str
    cell: Callable[[Row], Cell]
    first: str = "descending"  # the order after the first click on the heading
    role: str = ""  # main: the result of the row; hindsight: a number that could only be chosen afterwards


def columns(board: Board, question: Question) -> list[Column]:
    """The columns of a board's tables for a question."""
    if question == "first":
        return [_SEEDS, *_FIRST]
    if question == "distinct":
        known = any(row.distinct and row.distinct.next for table in board.tables for row in table.rows)
        return [_SEEDS, *_DISTINCT, *([_NEXT] if known else [])]  # records of older versions do not hold it
    return _worth(board)


def _seeds(row: Row) -> Cell:
    return Cell(str(len(row.runs)), sort=len(row.runs))


def _nre(row: Row) -> Cell:
    if row.first_success is None:
        return Cell(NONE)
    nre, text = row.first_success.nre, partial(nre_text, budget=row.first.budget)
    beyond = nre.low is not None and math.isinf(nre.low)  # then both ends only repeat what the number says
    return Cell(text(nre.value), "" if beyond else interval_text(nre, text), nre.value)


def _met(row: Row) -> Cell:
    low, high = row.met_interval
    hint = f"95% interval of the share of runs that meet a success: {low:.0%} to {high:.0%}"
    return Cell(f"{row.met} of {len(row.runs)}", sort=row.met / len(row.runs), hint=hint)


def _at_first(row: Row) -> Cell:
    return Cell(NONE) if row.first_success is None else _estimate(row.first_success.rate)


def _gain_at_first(row: Row) -> Cell:
    return _gain(None if row.first_success is None else row.first_success.gain, "no base policy to compare with")


def _distinct(row: Row) -> Cell:
    return Cell(NONE) if row.distinct is None else _number(row.distinct.total)


def _mean_distinct(row: Row) -> Cell:
    return Cell(NONE) if row.distinct is None else _number(row.distinct.mean)


def _next(row: Row) -> Cell:
    if row.distinct is None or row.distinct.next is None:
        return Cell(NONE, hint="a record does not hold it: its rate is not exact, or it is of an older version")
    return _estimate(row.distinct.next)


_SEEDS = Column("seeds", "number of runs in the row, one for each seed", _seeds)
_FIRST = [
    Column("NRE to first success", "median sequences asked up to the first success", _nre, "ascending", role="main"),
    Column("runs that met one", "how many runs met a success within the budget", _met),
    Column("success by then", "log10 success rate of the last policy measured before the first success", _at_first),
    Column("gain over base by then", "how many decades that is above the base policy", _gain_at_first),
]
_DISTINCT = [
    Column("distinct successes", "median number of distinct successes asked", _distinct, role="main"),
    Column("mean over the budget", "that number averaged over the budget: early ones count more", _mean_distinct),
]
_NEXT = Column(
    "next question", "log10 rate of successes among what the final policy would ask for the first time", _next
)


def _worth(board: Board) -> list[Column]:
    """The columns about the final policy. A twin has no twin of its own."""
    name, other = ("fresh", "success") if board.rate == "fresh" else ("success", "fresh")
    gain = Column("gain over twin", f"decades of final {name} over the oracle-free twin, paired by seed", _over_twin)
    return [
        Column("standing", "how far the final rates are proved: reported, recomputed or replayed", _standing),
        _SEEDS,
        Column(
            f"final {name}",
            "log10 rate at the budget; it, or its lower end, ranks the row",
            lambda r: _estimate(r.final),
            role="main",
        ),
        Column(
            "best (hindsight)",
            f"log10 of the highest {name} rate on the curve, chosen in hindsight: no agent could choose it",
            _best,
            role="hindsight",
        ),
        Column(
            "mixture",
            "log10 of the mean rate of the curve, which an even mixture of its policies has",
            lambda r: _estimate(r.mixture),
        ),
        Column(f"final {other}", f"log10 {other} rate at the budget", lambda r: _estimate(r.other)),
        Column("effective successes", "how many distinct successes carry the final rate", _effective),
        *([] if board.regime == "blind" else [gain]),
        Column(
            "wall s",
            "median seconds of a run without its measurements",
            _cost(lambda r: r.execution.wall_s),
            "ascending",
        ),
        Column(
            "CPU s",
            "median CPU seconds of a run without its measurements",
            _cost(lambda r: r.execution.cpu_s),
            "ascending",
        ),
        Column("tokens", "median number of tokens that a run sampled, scored and trained on", _tokens, "ascending"),
    ]


def _standing(row: Row) -> Cell:
    """The standing of the rates. If the answers have another standing it is the detail; the hint says why it is no higher."""
    detail = "" if row.answers == row.rates else f"answers {row.answers.word}"
    reasons = list(dict.fromkeys(reason for run in row.runs for reason in run.proved.reasons))
    return Cell(row.rates.word, detail, row.rates, "; ".join(reasons[:MOST_REASONS]))


def _estimate(estimate: Estimate) -> Cell:
    hint = f"a rate of {power_text(estimate.value)}"
    if not estimate.known:
        hint = (
            f"no number: a rate from {power_text(estimate.value)} to {power_text(estimate.upper)}, sorted by the lower"
        )
    return Cell(value_text(estimate), interval_text(estimate), estimate.value, hint)


def _number(estimate: Estimate) -> Cell:
    return Cell(value_text(estimate, number_text), interval_text(estimate, number_text), estimate.value)


def _best(row: Row) -> Cell:
    cell = _estimate(row.best)
    return Cell(cell.text, cell.detail, cell.sort, "chosen on the curve in hindsight")


def _effective(row: Row) -> Cell:
    value = row.effective
    return Cell(NONE) if value is None else Cell(f"{value:.1f}" if value < 100 else f"{value:,.0f}", sort=value)


def _over_twin(row: Row) -> Cell:
    return _gain(row.gain, "a run of this row met a success, and its twin was not run")


def _gain(gain: Estimate | None, why_none: str) -> Cell:
    if gain is None:
        return Cell(NONE, hint=why_none)
    return Cell(value_text(gain, gain_text), interval_text(gain, gain_text), gain.value)


def _cost(what: Callable[..., float]) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        value = row.typical(what)
        return Cell(f"{value:.2f}" if value < 10 else f"{value:,.0f}", sort=value)

    return cell


def _tokens(row: Row) -> Cell:
    parts = {
        "sampled": row.typical(lambda r: r.work.sampled),
        "scored": row.typical(lambda r: r.work.scored),
        "trained": row.typical(lambda r: r.work.trained),
    }
    total = row.typical(lambda r: r.work.sampled + r.work.scored + r.work.trained)
    return Cell(count_text(total), sort=total, hint=", ".join(f"{n} {count_text(v)}" for n, v in parts.items()))
