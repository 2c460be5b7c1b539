"""How soon something happens, where some runs end before it does: Kaplan and Meier's estimator, over the last axis.

A run that ended without an event is *censored*: it is known only that the event comes later than its last NRE. The share
of runs without an event up to t is the product, over all times up to t, of 1 - (events then / runs still under way then)
(Kaplan and Meier 1958). Weights let a run count several times, as in a resample, or let the tasks count alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banel_leaderboard.statistics.medians import RESAMPLES, Floats, counts, percentile_interval

HALF = 1e-9  # a product of fractions that equals 1/2 is off by rounding


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


def _first(reached: NDArray[np.bool_], times: Floats) -> Floats:
    """The first time at which something holds [..., n] -> [...]; +inf where it never does."""
    first: Floats = np.where(reached.any(axis=-1), times[reached.argmax(axis=-1)], np.inf)
    return first
