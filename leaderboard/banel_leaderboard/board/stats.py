"""Statistics over runs: pure functions of arrays and a Generator, over the last axis.

Rates are in log10, where a rate of zero is -inf. The NRE of a first success that the budget did not reach is +inf.
Infinities are ordered and never averaged: where a quantile falls between two values that are not both finite, one of the
two is taken. The bootstrap resamples runs within each stratum (task), after Agarwal et al. 2021, "Deep Reinforcement
Learning at the Edge of the Statistical Precipice".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BadValue

Floats: TypeAlias = NDArray[np.float64]
Statistic: TypeAlias = Callable[[Floats], Floats]
"""Maps the values of n runs [..., n] to one number each [...]."""

Side: TypeAlias = Literal["low", "high"]
RESAMPLES = 2_000  # with so many, another random stream changes the coverage of a 95% interval by about 0.3%


def quantile(values: Floats, q: float, side: Side = "low") -> Floats:
    """The q-quantile over the last axis [..., n] -> [...], by linear interpolation between the sorted values.

    Between two sorted values that are not both finite there is no interpolation: `side` says which of them is taken.
    """
    ordered = _ordered(values)
    at = q * (ordered.shape[-1] - 1)
    below, above = ordered[..., int(np.floor(at))], ordered[..., int(np.ceil(at))]
    # Between -inf and a number no value is meaningful, and -inf - -inf is NaN. So only finite neighbours are interpolated.
    finite = np.isfinite(below) & np.isfinite(above)
    with np.errstate(invalid="ignore"):
        between = below + (at - np.floor(at)) * (above - below)
    return np.where(finite, between, below if side == "low" else above)


def median(values: Floats, side: Side = "low") -> Floats:
    """The median over the last axis."""
    return quantile(values, 0.5, side)


def bootstrap_interval(
    strata: Sequence[Floats],
    statistic: Statistic,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """The percentile-bootstrap interval of a statistic of all runs, which are resampled within each stratum.

    Args:
        strata: the values of each task's runs [n_k].
        statistic: is applied to the runs of all strata together [resamples, sum of n_k].
        rng: draws the resamples.
        resamples: the number of resamples.
        confidence: the confidence level of the interval, between 0 and 1.

    Raises:
        BadValue: there is no stratum, a stratum is empty, or a value is NaN.
    """
    if not strata:
        raise BadValue("there are 0 strata to resample; give at least 1")
    # Each task is resampled by itself, so that every resample has as many runs of each task as the data.
    tail = (1 - confidence) / 2
    drawn = [_ordered(s)[rng.integers(np.shape(s)[-1], size=(resamples, np.shape(s)[-1]))] for s in strata]
    results = statistic(np.concatenate(drawn, axis=-1))  # [resamples]
    return float(quantile(results, tail, "low")), float(quantile(results, 1 - tail, "high"))


def median_interval(values: Floats, rng: np.random.Generator, resamples: int = RESAMPLES) -> tuple[float, float]:
    """The 95% percentile-bootstrap interval of the median over seeds [n]; it may end at -inf."""
    return bootstrap_interval([values], median, rng, resamples)


def first_success_median(first: Sequence[int | None]) -> float:
    """The median over seeds of the NRE to the first success; +inf if the median run met none. None is a run without one.

    All runs have the same budget. So the sorted values are known up to the budget, and a plain median is enough: an
    estimator of survival is needed only where runs end at different times.
    """
    return float(median(np.array([np.inf if nre is None else nre for nre in first], np.float64), "high"))


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


def _ordered(values: Floats) -> Floats:
    array = np.sort(np.asarray(values, np.float64), axis=-1)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise BadValue("there is no value to compute a statistic of; give at least 1 run")
    if np.isnan(array).any():
        raise BadValue(
            "a value is NaN; write -inf for a rate of zero and +inf for a first success that was not reached"
        )
    return array
