"""Numbers as text, and the cells that they stand in, for the page and for Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from banel_leaderboard.ranking.rows import Estimate

NONE = "–"


@dataclass(frozen=True)
class Cell:
    """One number as text, the detail beside it, the value that it is sorted by, and a hint for the mouse pointer."""

    text: str
    detail: str = ""
    sort: float = math.nan
    hint: str = ""


def log10_text(value: float, sign: bool = False) -> str:
    """A log10 rate or a gain as text: two decimals, the typographic minus sign, and −∞ for a rate of zero."""
    if math.isinf(value):
        return "−∞" if value < 0 else "+∞"
    # A value such as -0.001 is rounded to -0.00, which would look like a loss.
    return f"{value + 0.0:{'+' if sign else ''}.2f}".replace("-0.00", "0.00").replace("+0.00", "0.00").replace("-", "−")


def gain_text(value: float) -> str:
    """A gain in decades as text, with its sign."""
    return log10_text(value, sign=True)


def number_text(value: float) -> str:
    """A number of successes: whole from 100 on, and where it is whole."""
    if value >= 100 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


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


def interval_text(estimate: Estimate, text: Callable[[float], str] = log10_text) -> str:
    """The interval over seeds; the number of runs, such as n=3, where there is no interval."""
    if estimate.low is None or estimate.high is None:
        return f"n={estimate.n}"
    return f"[{text(estimate.low)}, {text(estimate.high)}]"


def value_text(estimate: Estimate, text: Callable[[float], str] = log10_text) -> str:
    """The number, or the two ends between which it lies."""
    ends = [text(value) for value in (estimate.value, estimate.upper)]
    return ends[0] if estimate.known else f"[{ends[0]}, {ends[1]}]"
