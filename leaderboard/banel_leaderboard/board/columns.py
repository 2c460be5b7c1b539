"""The board's columns: what each of them means and how its cells are written, for the page and for Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from banel_leaderboard.board.ranking import Board, Estimate, Row

NONE = "–"
MOST_REASONS = 3  # so many reasons for a low standing are shown in a hint


@dataclass(frozen=True)
class Cell:
    """One number as text, the detail beside it, the value that it is sorted by, and a hint for the mouse pointer."""

    text: str
    detail: str = ""
    sort: float = math.nan
    hint: str = ""


@dataclass(frozen=True)
class Column:
    """A heading, its meaning in one line, and a function that makes the cell of a row."""

    heading: str
    hint: str
    cell: Callable[[Row], Cell]
    first: str = "descending"  # the order after the first click on the heading
    role: str = ""  # main: the result of the row; hindsight: a number that could only be chosen afterwards


def columns(board: Board) -> list[Column]:
    """The columns of a board. A board of twins lacks two of them: a twin asks nothing and has no twin of its own."""
    name, other = ("fresh", "success") if board.rate == "fresh" else ("success", "fresh")
    asking = [
        Column("NRE to first success", "median sequences asked up to the first success", _first, "ascending"),
        Column("gain over twin", f"decades of final {name} over the oracle-free twin, paired by seed", _gain),
    ]
    return [
        Column("standing", "how far the final rates are proved: reported, recomputed or replayed", _standing),
        Column(
            "seeds", "number of runs in the row, one for each seed", lambda r: Cell(str(len(r.runs)), sort=len(r.runs))
        ),
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
        *([] if board.regime == "twin" else asking),
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


def log10_text(value: float, sign: bool = False) -> str:
    """A log10 rate or a gain as text: two decimals, the typographic minus sign, and −∞ for a rate of zero."""
    if math.isinf(value):
        return "−∞" if value < 0 else "+∞"
    # A value such as -0.001 is rounded to -0.00, which would look like a loss.
    return f"{value + 0.0:{'+' if sign else ''}.2f}".replace("-0.00", "0.00").replace("+0.00", "0.00").replace("-", "−")


def power_text(value: float) -> str:
    """10 to the power of a value, such as 2.1·10^-3."""
    if math.isinf(value):
        return "0"
    digits, _, exponent = f"{10**value:.1e}".partition("e")
    return f"{digits}·10^{int(exponent)}" if int(exponent) else digits


def nre_text(value: float, budget: int) -> str:
    """An NRE as text; "> budget" where no success was met within the budget."""
    return f"> {budget:,}" if math.isinf(value) else f"{round(value):,}"


def count_text(value: float) -> str:
    """A large count, rounded to three digits."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def interval_text(estimate: Estimate, sign: bool = False) -> str:
    """The interval over seeds; the number of runs, such as n=3, where there is no interval."""
    if estimate.low is None or estimate.high is None:
        return f"n={estimate.n}"
    return f"[{log10_text(estimate.low, sign)}, {log10_text(estimate.high, sign)}]"


def _standing(row: Row) -> Cell:
    """The standing of the rates. If the answers have another standing it is the detail; the hint says why it is no higher."""
    detail = "" if row.answers == row.rates else f"answers {row.answers.word}"
    reasons = list(dict.fromkeys(reason for run in row.runs for reason in run.proved.reasons))
    return Cell(row.rates.word, detail, row.rates, "; ".join(reasons[:MOST_REASONS]))


def value_text(estimate: Estimate, sign: bool = False) -> str:
    """The number, or the two ends between which it lies."""
    ends = [log10_text(value, sign) for value in (estimate.value, estimate.upper)]
    return ends[0] if estimate.known else f"[{ends[0]}, {ends[1]}]"


def _estimate(estimate: Estimate) -> Cell:
    hint = f"a rate of {power_text(estimate.value)}"
    if not estimate.known:
        hint = (
            f"no number: a rate from {power_text(estimate.value)} to {power_text(estimate.upper)}, sorted by the lower"
        )
    return Cell(value_text(estimate), interval_text(estimate), estimate.value, hint)


def _best(row: Row) -> Cell:
    cell = _estimate(row.best)
    return Cell(cell.text, cell.detail, cell.sort, "chosen on the curve in hindsight")


def _effective(row: Row) -> Cell:
    value = row.effective
    return Cell(NONE) if value is None else Cell(f"{value:.1f}" if value < 100 else f"{value:,.0f}", sort=value)


def _first(row: Row) -> Cell:
    low, high = row.met_interval
    hint = f"95% interval of the share of runs that meet a success: {low:.0%} to {high:.0%}"
    return Cell(nre_text(row.nre, row.first.budget), f"{row.met} of {len(row.runs)} met one", row.nre, hint)


def _gain(row: Row) -> Cell:
    if row.gain is None:
        return Cell(NONE, hint="a run of this row met a success, and its twin was not run")
    return Cell(value_text(row.gain, sign=True), interval_text(row.gain, sign=True), row.gain.value)


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
