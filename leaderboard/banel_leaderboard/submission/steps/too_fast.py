"""(g) Too good to be true: successes that were found faster than the policies could find them that they were asked from.

It is for agents that declare which policy each question is a sample of (`asks_from`): then a question of a policy with success
rate r is a success with probability r, whatever was answered before. `H` is the sum of these rates over the questions of a run:
the number of successes to expect. Two things are tested.

- The first success: it comes at or before a question with probability 1 - exp(-H) at most, H taken up to that question.
- The number of successes N of a run, repeats included, where H is known: N is n or more, while H is h or less, with probability
  exp(n - h - n log(n / h)) at most, for n > h (a bound by Chernoff for sums of this kind, Freedman 1975).

A record holds rates at the places of its grid only. Between two places the larger one of theirs is taken, and SLACK times that,
since a policy in between may have been better. So only a flagrant lie is flagged where the rates on the curve are true; and
they are only *reported* where a run was not replayed. Over a submission at most LEVEL of honest ones are flagged, as far as
their rates stay within SLACK: each test of a run is held to an even part of it, and so is each row of seeds, whose first
successes are taken together (Fisher 1932).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from typing import Any

from banel_agents import AGENTS, make_agent
from banel_agents.base import AsksFrom, asks_from
from banel_leaderboard.proving.load import Run
from banel_leaderboard.ranking.boards import regime_of
from banel_leaderboard.records.record import Point, RunRecord
from banel_leaderboard.submission.steps.completeness import place_of, shown_place
from banel_leaderboard.submission.steps.findings import Finding

LEVEL = 1e-4  # of honest submissions are flagged, at most
SLACK = 10.0  # how much better than at both ends of a stretch of the grid a policy in between may be
LEAST_RATE = 1e-12  # a rate of zero is zero to float64; nothing follows from one success more or less


def declared(record: RunRecord) -> AsksFrom | None:
    """Which policy the run's agent says it asks samples of; old records of shipped agents do not hold it."""
    if record.asks_from is not None or record.agent not in AGENTS:
        return record.asks_from
    return _of_registry(record.agent)


@cache
def _of_registry(agent: str) -> AsksFrom | None:
    return asks_from(make_agent(agent))


def check_speed(runs: Iterable[Run]) -> tuple[list[Finding], int]:
    """Flags for runs and rows that found successes too fast, and how many runs could be tested."""
    tested = [run for run in runs if not run.record.twin and declared(run.record) is not None]
    rows: dict[tuple[Any, ...], list[Run]] = {}
    for run in tested:
        rows.setdefault((*run.identity, regime_of(run.record)), []).append(run)
    several = [row for row in rows.values() if len(row) > 1]
    level = LEVEL / max(1, 2 * len(tested) + len(several))
    found = []
    for run in tested:
        where, record = shown_place(place_of(run.record)), run.record
        if (p := first_by_chance(record)) < level:
            said = f"its first success at NRE {record.first_success} is too early for the rates on its curve ({_p(p)})"
            found.append(Finding("g", where, "first_success", said))
        if (p := number_by_chance(record)) < level:
            said = f"{record.successes_asked} successes are too many for the rates on its curve ({_p(p)})"
            found.append(Finding("g", where, "successes_asked", said))
    for row in several:
        values = [first_by_chance(run.record) for run in row]
        if (p := together(values)) < level:
            said = f"the first successes of its {len(row)} seeds are too early for the rates on their curves ({_p(p)})"
            found.append(Finding("g", shown_place(place_of(row[0].record)), "first_success", said))
    return found, len(tested)


def first_by_chance(record: RunRecord) -> float:
    """An upper limit of the probability that the first success comes as early as it did; 1 without a success."""
    if record.first_success is None:
        return 1.0
    return -math.expm1(-_expected(record, record.first_success))


def number_by_chance(record: RunRecord) -> float:
    """An upper limit of the probability of as many successes as the run asked; 1 for an agent that asks nothing twice.

    What such an agent asks after its first success has another rate than its policy: the record holds it at the grid only.
    """
    n = record.successes_asked
    h = _expected(record, record.ledger.count)
    if declared(record) == "unasked" or n <= h:
        return 1.0
    return math.exp(n - h - n * math.log(n / h))


def together(values: list[float]) -> float:
    """Fisher's test: the probability that the product of independent p-values is as small as this one. 1s say nothing."""
    logs: float = -sum(math.log(max(value, 1e-300)) for value in values)
    # Twice this is chi-square with 2 degrees of freedom a value, whose tail is a sum for an even number of them.
    return math.exp(-logs) * math.fsum(math.pow(logs, k) / math.factorial(k) for k in range(len(values)))


def _expected(record: RunRecord, nre: int) -> float:
    """H: the expected number of successes among the first nre questions, at most."""
    total = 0.0
    for left, right in zip(record.points, record.points[1:], strict=False):
        asked = min(right.nre, nre) - left.nre
        if asked > 0:
            total += asked * min(1.0, SLACK * max(_rate(left, record), _rate(right, record)))
    return max(total, LEAST_RATE)


def _rate(point: Point, record: RunRecord) -> float:
    """The probability that a question of the point's policy is a success, before the first one was asked."""
    rate: float = 10.0 ** min(0.0, point.success.at("high"))
    if declared(record) == "unasked":  # the sequences that were asked before, which all failed, cannot come again
        rate /= 1.0 if record.unasked is None else min(1.0, 10.0**record.unasked)
    return max(rate, LEAST_RATE)


def _p(p: float) -> str:
    return f"p at most {p:.1e}"
