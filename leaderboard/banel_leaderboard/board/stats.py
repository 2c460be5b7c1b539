"""Statistics of runs: pure functions of arrays and a Generator, over the last axis.

Rates are in log10, where zero success is -inf; a first success that the budget did not reach is +inf. Infinities are
ordered and never averaged: where a quantile falls between two values that are not both finite, one of the two stands.
The bootstrap resamples runs within each stratum (task), after Agarwal et al. 2021, "Deep Reinforcement Learning at the
Edge of the Statistical Precipice".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BadValue

Floats: TypeAlias = NDArray[np.float64]
Statistic: TypeAlias = Callable[[Floats], Floats]
"""Runs [..., n] to one number each [...]."""

Side: TypeAlias = Literal["low", "high"]
RESAMPLES = 2_000  # the ends of a 95% interval then move by about 0.3% of its coverage from one stream to another


def quantile(values: Floats, q: float, side: Side = "low") -> Floats:
    """The q-quantile over the last axis [..., n] -> [...], linear between finite order statistics.

    Between two order statistics that are not both finite the lower ("low") or the upper one stands.
    """
    ordered = _ordered(values)
    at = q * (ordered.shape[-1] - 1)
    below, above = ordered[..., int(np.floor(at))], ordered[..., int(np.ceil(at))]
    finite = np.isfinite(below) & np.isfinite(above)
    with np.errstate(invalid="ignore"):
        between = below + (at - np.floor(at)) * (above - below)
    return np.where(finite, between, below if side == "low" else above)


def median(values: Floats, side: Side = "low") -> Floats:
    """The median over the last axis."""
    return quantile(values, 0.5, side)


def iqm(values: Floats) -> Floats:
    """The interquartile mean over the last axis: the middle half, values at its ends weighted by their part in it.

    Equal to rliable's, a trimmed mean, where n is a multiple of 4; elsewhere that one keeps more than half. -inf where
    a value of the middle half is.
    """
    ordered = _ordered(values)
    n = ordered.shape[-1]
    i = np.arange(n)
    weight = np.clip(np.minimum(i + 1, 0.75 * n) - np.maximum(i, 0.25 * n), 0, None) / (n / 2)
    kept = weight > 0
    with np.errstate(invalid="ignore"):
        mean = (ordered[..., kept] * weight[kept]).sum(axis=-1)
    return np.where(np.isneginf(ordered[..., kept][..., 0]), -np.inf, mean)


def bootstrap_interval(
    strata: Sequence[Floats],
    statistic: Statistic,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """The percentile-bootstrap interval of a statistic of all runs, resampled within each stratum.

    Args:
        strata: the runs of each task [n_k].
        statistic: of the pooled runs [resamples, sum of n_k].
        rng: draws the resamples.
        resamples: how many.
        confidence: of the interval, between 0 and 1.

    Raises:
        BadValue: no stratum, an empty one, or a NaN.
    """
    if not strata:
        raise BadValue("0 strata to resample; give at least 1")
    tail = (1 - confidence) / 2
    drawn = [_ordered(s)[rng.integers(np.shape(s)[-1], size=(resamples, np.shape(s)[-1]))] for s in strata]
    results = statistic(np.concatenate(drawn, axis=-1))  # [resamples]
    return float(quantile(results, tail, "low")), float(quantile(results, 1 - tail, "high"))


def median_interval(values: Floats, rng: np.random.Generator, resamples: int = RESAMPLES) -> tuple[float, float]:
    """The 95% percentile-bootstrap interval of the median over seeds [n]; it may end at -inf."""
    return bootstrap_interval([values], median, rng, resamples)


def first_success_median(first: Sequence[int | None]) -> float:
    """The median NRE to the first success over seeds, None being censored at the budget; +inf where it is censored.

    All seeds are censored at one budget, so the order statistics are known as far as the budget reaches and no
    estimator of survival is needed.
    """
    return float(median(np.array([np.inf if nre is None else nre for nre in first], np.float64), "high"))


def band(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Median, lower and upper end over seeds [n, G] -> three times [G]: quartiles, or the full range below 4 seeds."""
    runs = np.asarray(values, np.float64).T  # [G, n]
    edge = 0.25 if runs.shape[-1] >= 4 else 0.0
    return median(runs), quantile(runs, edge, "low"), quantile(runs, 1 - edge, "high")


def at_or_before(nre: NDArray[np.int64], values: Floats, grid: NDArray[np.int64]) -> Floats:
    """A step curve, known at nre [P] (ascending, from the grid's first), read at grid [G]: the last value so far."""
    result: Floats = np.asarray(values, np.float64)[np.searchsorted(nre, grid, side="right") - 1]
    return result


def _ordered(values: Floats) -> Floats:
    array = np.sort(np.asarray(values, np.float64), axis=-1)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise BadValue("no value to take a statistic of; give at least 1 run")
    if np.isnan(array).any():
        raise BadValue("a value is NaN; zero success is -inf and a censored time +inf")
    return array
