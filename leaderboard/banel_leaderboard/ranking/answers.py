"""The answers of one row to the three questions, from its runs. All of them are medians over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from banel_envs import TASKS
from banel_leaderboard.proving.load import Identity, Run
from banel_leaderboard.ranking.rows import Distinct, Estimate, FirstSuccess, RateName, Span
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.served import serves_all
from banel_leaderboard.statistics.medians import median
from banel_leaderboard.sweeping.measured_costs import measured


class Bases:
    """The base policy's success rate on every task of some runs."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._package: dict[tuple[str, str], Span | None] = {}
        self._seeds: dict[tuple[str, str], dict[int, Span]] = {}
        for record in (run.record for run in runs if run.record.agent == "base"):
            first = record.points[0].success
            self._seeds.setdefault((record.task, record.digest), {})[record.seed] = (first.at(), first.at("high"))

    def of(self, record: RunRecord) -> Span | None:
        """The ends of its log10; None where nobody knows it.

        The package's own figure comes first, then what runs of the agent `base` say. Where the task draws its successes anew
        for each seed, the run of the same seed comes before both.
        """
        place = record.task, record.digest
        seeds = self._seeds.get(place, {})
        if place not in self._package:
            self._package[place] = _of_package(record)
        task = TASKS.at_hand(record.task)
        if record.seed in seeds and (task is None or task.seeded is not None):
            return seeds[record.seed]
        if self._package[place] is not None or not seeds:
            return self._package[place]
        lows, highs = np.array(list(seeds.values())).T
        return float(median(lows)), float(median(highs, "high"))


def _of_package(record: RunRecord) -> Span | None:
    task = TASKS.at_hand(record.task)
    if task is None or task.digest != record.digest:
        return None
    known = measured(task)
    if known is None:
        return None
    base = known["base"]
    ends = [base["log10"]] * 2 if base["log10"] is not None else [base["low"], base["high"]]
    low, high = (-math.inf if end is None else float(end) for end in ends)
    return low, high


def first_success(records: Sequence[RunRecord], bases: Bases) -> FirstSuccess:
    """How soon the first success? From the ledger; and how good the policy was by then, from the curve."""
    rates = [at_first(record) for record in records]
    known = [(rate, base) for rate, r in zip(rates, records, strict=True) if (base := bases.of(r)) is not None]
    gains = [difference(rate, base) for rate, base in known]
    gain = Estimate.of(gains) if len(gains) == len(records) else None
    return FirstSuccess(Estimate.of_first_success(records), Estimate.of(rates), gain)


def at_first(record: RunRecord) -> Span:
    """The log10 success rate of the last policy measured before the first success was asked.

    A policy that is measured at the very NRE of the first success may have learnt from it, so it does not count. Where the
    run met no success, it is the rate at the budget: every seed has a number, and none is selected.
    """
    first = math.inf if record.first_success is None else record.first_success
    rate = [point.success for point in record.points if point.nre < first or point.nre == 0][-1]
    return rate.at(), rate.at("high")


def distinct(runs: Sequence[Run]) -> Distinct:
    """How many distinct successes for the budget? From the ledger alone, those that were withheld included."""
    rates = [rate for run in runs if (rate := run.record.next_question()) is not None]
    return Distinct(
        total=Estimate.of_numbers([len(run.asked.found) for run in runs]),
        next=Estimate.of_numbers(rates) if len(rates) == len(runs) else None,
        mean=Estimate.of_numbers([mean_distinct(run) for run in runs]),
    )


def mean_distinct(run: Run) -> float:
    """The number of distinct successes asked by then, averaged over the budget.

    It is the area under the curve of distinct successes against NRE, divided by the budget: a success found at NRE n counts
    for the budget - n + 1 evaluations at which it was held.
    """
    budget = run.record.budget
    return float((budget + 1 - run.asked.found.astype(np.float64)).sum() / budget)


def final(records: Sequence[RunRecord], rate: RateName, what: str = "final") -> Estimate:
    """The median final, best or mixture rate."""
    return Estimate.of([(getattr(r, what)(rate, "low"), getattr(r, what)(rate, "high")) for r in records])


def gain_over_twin(run: Run, rate: RateName, twins: dict[tuple[Identity, int], RunRecord]) -> Span | None:
    """How many decades the final rate is above the twin's; None without a twin.

    A run that met no success, or whose agent reads no answer, is its own twin and gained 0. Under
    "typed" it is not: there a run without a success was told more than its twin.
    """
    twin = twins.get((run.identity, run.record.seed))
    if twin is None:
        return (0.0, 0.0) if serves_all(run.record) else None
    mine, theirs = ((r.final(rate, "low"), r.final(rate, "high")) for r in (run.record, twin))
    return difference(mine, theirs)


def difference(mine: Span, theirs: Span) -> Span:
    """The difference of two log10 rates.

    Of two rates that are known as intervals, it lies between the lower end minus the other's upper end and the upper end
    minus the other's lower end. It is 0 where both rates are zero, whose logarithms have no difference.
    """
    if mine == theirs and mine[0] == mine[1]:
        return 0.0, 0.0
    # -inf - -inf is NaN: the gain between two rates that may both be zero is not bounded on that side.
    low, high = mine[0] - theirs[1], mine[1] - theirs[0]
    return (-math.inf if math.isnan(low) else low), (math.inf if math.isnan(high) else high)
