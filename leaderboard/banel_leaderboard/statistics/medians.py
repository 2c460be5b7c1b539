"""Medians over runs and their bootstrap intervals: pure functions of arrays, over the last axis.

Rates are in log10, where a rate of zero is -inf. The NRE of a first success that the budget did not reach is +inf.
Infinities are ordered and never averaged: where a quantile falls between two values that are not both finite, one of the
two is taken.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BadValue

Floats: TypeAlias = NDArray[np.float64]
Side: TypeAlias = Literal["low", "high"]
RESAMPLES = 2_000  # with so many, another random stream changes the coverage of a 95% interval by about 0.3%


def quantile(values: Floats, q: float, side: Side = "low") -> Floats:
    """The q-quantile over the last axis [..., n] -> [...], by linear interpolation between the sorted values.

    Between two sorted values that are not both finite there is no interpolation: `side` says which of them is taken.
    """
    return _of_sorted(_ordered(values), q, side)


def median(values: Floats, side: Side = "low") -> Floats:
    """The median over the last axis."""
    return quantile(values, 0.5, side)


def percentile_interval(resampled: Floats) -> tuple[float, float]:
    """The 95% percentile-bootstrap interval, from a statistic of each resample [R]."""
    return float(quantile(resampled, 0.025, "low")), float(quantile(resampled, 0.975, "high"))


@cache
def draws(n: int, seed: int, resamples: int = RESAMPLES) -> NDArray[np.int64]:
    """Which of n runs each resample holds, in order [resamples, n]. They are drawn once for each n and seed."""
    return np.sort(np.random.default_rng(seed).integers(n, size=(resamples, n)), axis=-1)


@cache
def counts(n: int, seed: int, resamples: int = RESAMPLES) -> Floats:
    """How often each of n runs is in each resample of `draws` [resamples, n]."""
    drawn = draws(n, seed, resamples) + n * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=n * resamples).reshape(resamples, n).astype(np.float64)


def median_interval(values: Floats, seed: int, resamples: int = RESAMPLES) -> tuple[float, float]:
    """The 95% percentile-bootstrap interval of the median over seeds [n]; it may end at -inf."""
    # Indices that ascend take ascending values, so no resample has to be sorted again.
    drawn = _ordered(values)[draws(np.shape(values)[-1], seed, resamples)]
    return percentile_interval(_of_sorted(drawn, 0.5, "low"))


def band(values: Floats) -> tuple[Floats, Floats, Floats]:
    """The median, the lower and the upper end of the band over seeds: [n, G] -> three times [G].

    The ends are the quartiles, or the full range below 4 seeds.
    """
    runs = np.asarray(values, np.float64).T  # [G, n]
    # Of three runs or fewer the quartiles would lie between runs, where nothing was observed.
    edge = 0.25 if runs.shape[-1] >= 4 else 0.0
    return median(runs), quantile(runs, edge, "low"), quantile(runs, 1 - edge, "high")


def at_or_before(nre: NDArray[np.int64], values: Floats, grid: NDArray[np.int64]) -> Floats:
    """The last value at or before each NRE of the grid [G], from values that are known at the NREs `nre` [P].

    `nre` is ascending, and begins where the grid begins.
    """
    result: Floats = np.asarray(values, np.float64)[np.searchsorted(nre, grid, side="right") - 1]
    return result


def _of_sorted(ordered: Floats, q: float, side: Side) -> Floats:
    at = q * (ordered.shape[-1] - 1)
    below, above = ordered[..., int(np.floor(at))], ordered[..., int(np.ceil(at))]
    # Between -inf and a number no value is meaningful, and -inf - -inf is NaN. So only finite neighbours are interpolated.
    finite = np.isfinite(below) & np.isfinite(above)
    with np.errstate(invalid="ignore"):
        between = below + (at - np.floor(at)) * (above - below)
    return np.where(finite, between, below if side == "low" else above)


def _ordered(values: Floats) -> Floats:
    array = np.sort(np.asarray(values, np.float64), axis=-1)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise BadValue("there is no value to compute a statistic of; give at least 1 run")
    if np.isnan(array).any():
        raise BadValue(
            "a value is NaN; write -inf for a rate of zero and +inf for a first success that was not reached"
        )
    return array
