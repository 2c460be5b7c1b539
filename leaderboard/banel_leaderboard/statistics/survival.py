"""How soon something happens, where some runs end before it does: two estimators of survival, over the last axis.

*Observed*, from when it happened in each run. A run that ended without an event is *censored*: it is known only that the
event comes later than its last NRE. The share of runs without an event up to t is the product, over all times up to t, of
1 - (events then / runs still under way then) (Kaplan and Meier 1958).

*By hazards*, from the probability that it happens at each evaluation, where that is known exactly: the share is the product of
1 - (mean hazard of the paths that have met no event so far). A path that would meet its event in one run out of fifty then
counts as one in fifty, and not as 0 or 1, so the estimate varies less from one set of seeds to another.

Weights let a run count several times, as in a resample, or let the tasks count alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BadValue
from banel_leaderboard.statistics.medians import RESAMPLES, Floats, counts, percentile_interval

HALF = 1e-9  # a product of fractions that equals 1/2 is off by rounding
AT_ONCE = 100  # resamples whose curves are held in memory together


@dataclass(frozen=True)
class Survival:
    """The share of runs that met no event up to each time; a step function that starts at 1."""

    times: Floats  # [n] of every run, ascending
    alive: Floats  # [..., n] the share at that time and up to the next

    def median(self) -> Floats:
        """The time by which half of the runs met the event [...]; +inf where that time is beyond the last event.

        Where the share is exactly one half between two events, it is the middle of the two, as of any even number of
        values; and +inf where it stays there.
        """
        return (_first(self.alive <= 0.5 + HALF, self.times) + _first(self.alive < 0.5 - HALF, self.times)) / 2

    def decided(self) -> Floats:
        """The time from which on the median is known [...]: had all runs ended before it, their median would be +inf."""
        return _first(self.alive < 0.5 - HALF, self.times)

    def met(self, at: Floats) -> Floats:
        """The share of runs that met the event at each of some times [k], for one curve."""
        known = np.concatenate(([1.0], self.alive))
        share: Floats = 1 - known[np.searchsorted(self.times, at, side="right")]
        return share


def kaplan_meier(times: Floats, met: NDArray[np.bool_], weights: Floats | None = None) -> Survival:
    """The estimate from n runs.

    Args:
        times: when each run met the event, or ended without it [n].
        met: whether it met the event [n].
        weights: how often each run counts [..., n]; once by default.
    """
    # Of equal times the events come first: a run that ended then was still under way.
    order = np.lexsort((~np.asarray(met, bool), times))
    w = (np.ones(len(times)) if weights is None else np.asarray(weights, np.float64))[..., order]
    under_way = np.cumsum(w[..., ::-1], axis=-1)[..., ::-1]  # [..., n] before each time
    with np.errstate(invalid="ignore", divide="ignore"):
        hazard = np.where(w > 0, w * np.asarray(met, bool)[order] / under_way, 0.0)
    return Survival(np.asarray(times, np.float64)[order], np.cumprod(1 - hazard, axis=-1))


def median_time_interval(
    times: Floats, met: NDArray[np.bool_], seed: int, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The 95% percentile-bootstrap interval of the median time over runs [n]; an end that was not reached is +inf.

    Greenwood's variance with a log-log transform would give an interval too, but one whose upper end is never reached
    with five runs.
    """
    return percentile_interval(kaplan_meier(times, met, counts(len(times), seed, resamples)).median())


def at_risk(sizes: NDArray[np.int64], hazards: Floats, first: int | None) -> Floats:
    """The probability that a path has met no event before each of its m evaluations, given it had none by the last question: [m].

    It is 1 at the beginning of a question and falls within it. It is 0 after the question that held the path's first event:
    what a blind agent asks later rests on a success that it took for a failure, as on no path without an event.

    Args:
        sizes: how many evaluations each question had [k], m in all.
        hazards: the probability of an event at each evaluation, given that there was none before [m].
        first: the NRE of the path's first event, from 1; None if it met none.
    """
    sizes, hazards = np.asarray(sizes, np.int64), np.asarray(hazards, np.float64)
    if sizes.sum() != len(hazards) or (sizes < 1).any():
        raise BadValue(
            f"questions of {sizes.tolist()} evaluations and {len(hazards)} hazards; give one for each evaluation"
        )
    if first is not None and not 1 <= first <= len(hazards):
        raise BadValue(
            f"the first event is at NRE {first} of a path of {len(hazards)} evaluations; give 1 to that, or None"
        )
    ends = np.cumsum(sizes)
    within = [np.concatenate(([1.0], np.cumprod(1 - part)[:-1])) for part in np.split(hazards, ends[:-1])]
    last = len(hazards) if first is None else int(ends[np.searchsorted(ends, first)])
    risk = np.concatenate(within) if within else np.empty(0)
    risk[last:] = 0
    return risk


def by_hazards(hazards: Floats, risk: Floats, weights: Floats | None = None) -> Survival:
    """The estimate from the hazards of n paths at evaluations 1 to m.

    Where no path is at risk any more, nothing is known, and the share stays as it was.

    Args:
        hazards: of each evaluation of each path, given that the path met none before [n, m]; anything where none is at risk.
        risk: how far each path is still at risk before each evaluation, as `at_risk` gives it [n, m]; 0 behind its end.
        weights: how often each path counts [..., n]; once by default.
    """
    hazards, risk = np.asarray(hazards, np.float64), np.asarray(risk, np.float64)
    if not ((hazards >= 0) & (hazards <= 1))[risk > 0].all():
        raise BadValue("a hazard is no probability; give numbers from 0 to 1")
    w = np.ones(len(risk)) if weights is None else np.asarray(weights, np.float64)
    at = w @ risk  # [..., m]
    met = w @ (risk * np.where(risk > 0, hazards, 0.0))
    mean = np.divide(met, at, out=np.zeros_like(at), where=at > 0)
    # One hazard may be far below the spacing of numbers near 1, and there are thousands of them.
    with np.errstate(divide="ignore"):
        alive = np.exp(np.cumsum(np.log1p(-np.minimum(mean, 1.0)), axis=-1))
    return Survival(np.arange(1.0, risk.shape[-1] + 1), alive)


def hazard_intervals(
    hazards: Floats, risk: Floats, seed: int, resamples: int = RESAMPLES
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The 95% percentile-bootstrap intervals of the median time and of the share at the end, over paths [n, m]."""
    drawn = counts(len(risk), seed, resamples)
    medians, shares = [], []
    for part in np.array_split(drawn, -(-resamples // AT_ONCE)):
        curve = by_hazards(hazards, risk, part)
        medians.append(curve.median())
        shares.append(curve.alive[..., -1])
    return percentile_interval(np.concatenate(medians)), percentile_interval(np.concatenate(shares))


def _first(reached: NDArray[np.bool_], times: Floats) -> Floats:
    """The first time at which something holds [..., n] -> [...]; +inf where it never does."""
    first: Floats = np.where(reached.any(axis=-1), times[reached.argmax(axis=-1)], np.inf)
    return first
