"""What a board is made of: estimates over runs, the answers to the three questions, rows, tables and boards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from banel_envs.binomial import clopper_pearson
from banel_leaderboard.proving.load import Run
from banel_leaderboard.proving.standing import Standing
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.statistics.medians import median, median_interval
from banel_leaderboard.statistics.survival import kaplan_meier, median_time_interval

BoardName: TypeAlias = Literal["fixed", "tuned", "off"]
Regime: TypeAlias = Literal["failures", "full", "typed", "blind"]
Question: TypeAlias = Literal["first", "distinct", "worth"]
"""How soon the first success; how many distinct successes for the budget; what the final policy is worth."""
RateName: TypeAlias = Literal["success", "fresh"]
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
        low, high = median_interval(lows, SEED)
        return cls(value, low, high, n, value)

    @classmethod
    def of_numbers(cls, values: Sequence[float]) -> Estimate:
        """The estimate from one number for each run."""
        return cls.of([(value, value) for value in values])

    @classmethod
    def of_first_success(cls, records: Sequence[RunRecord]) -> Estimate:
        """The median NRE to the first success by Kaplan and Meier; +inf where half of the runs met none.

        A run without a success is censored at the last sequence that it asked.
        """
        met = np.array([r.first_success is not None for r in records])
        times = np.array([r.ledger.count if r.first_success is None else r.first_success for r in records], np.float64)
        value = float(kaplan_meier(times, met).median())
        low, high = (None, None) if len(records) < LEAST_SEEDS else median_time_interval(times, met, SEED)
        return cls(value, low, high, len(records), value)


@dataclass(frozen=True)
class FirstSuccess:
    """Question 1: how soon the first success?"""

    nre: Estimate  # the NRE to the first success
    rate: Estimate  # log10 success rate of the last policy measured before it; at the budget where none was met
    gain: Estimate | None  # how many decades that is above the base policy; None where the base policy is not known


@dataclass(frozen=True)
class Distinct:
    """Question 2: how many distinct successes for the budget?"""

    total: Estimate  # distinct successes asked
    next: (
        Estimate | None
    )  # log10 rate at which the final policy's next question is a success; None where a record lacks it
    mean: Estimate  # their number, averaged over the budget: the area under the curve divided by the budget


@dataclass(frozen=True)
class Row:
    """One agent with one set of settings on one task, over all its seeds."""

    runs: tuple[Run, ...]
    question: Question  # the one that orders the board
    ranks: Mapping[Question, int | None]  # None where a rank would mislead
    first_success: FirstSuccess | None  # None for twins, which asked nothing
    distinct: Distinct | None  # None for twins
    rate: RateName  # the rate that final, best and mixture are about
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
    def rank(self) -> int | None:
        """Its rank in the question that orders the board."""
        return self.ranks.get(self.question)

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

    def standing(self, question: Question) -> Standing:
        """How far the answer to a question is proved. The first two follow from the ledger alone."""
        return self.rates if question == "worth" else self.answers

    def score(self, question: Question) -> float:
        """The number by which the row is ranked in a question, the larger the better."""
        if question == "worth":
            return self.final.value
        if self.first_success is None or self.distinct is None:
            return -np.inf
        return -self.first_success.nre.value if question == "first" else self.distinct.total.value

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

    def by(self, question: Question) -> tuple[Row, ...]:
        """The rows in the order of a question: those with a rank first, the best first."""
        return in_order(self.rows, question)


@dataclass(frozen=True)
class Board:
    """All tables of one name and regime. Only rows of the same table are ranked against each other."""

    name: BoardName
    regime: Regime
    question: Question  # the one that orders its tables
    rate: RateName
    tables: tuple[TaskTable, ...]

    @property
    def questions(self) -> tuple[Question, ...]:
        """The questions that it answers, in order. A twin asks nothing, so only its policy is of interest."""
        return ("worth",) if self.regime == "blind" else ("first", "distinct", "worth")


def in_order(rows: Sequence[Row], question: Question) -> tuple[Row, ...]:
    """Rows with a rank in a question before those without, the best first; all by score where none has a rank."""
    fair = any(row.ranks.get(question) is not None for row in rows)
    return tuple(
        sorted(rows, key=lambda r: (fair and r.ranks.get(question) is None, -r.score(question), r.first.agent))
    )
