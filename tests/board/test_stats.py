"""Statistics, on numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from banel_envs.errors import BadValue
from banel_leaderboard.statistics.medians import (
    at_or_before,
    band,
    bootstrap_interval,
    first_success_median,
    median,
    median_interval,
    quantile,
)

INF = np.inf


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize(
    ("values", "q", "low", "high"),
    [
        ([4, 1, 3, 2], 0.25, 1.75, 1.75),
        ([4, 1, 3, 2], 0.5, 2.5, 2.5),
        ([5, 1, 3], 0.5, 3, 3),
        ([-INF, -3], 0.5, -INF, -3),
        ([-INF, -3, -2], 0.5, -3, -3),
        ([-INF, -INF, -2], 0.5, -INF, -INF),
        ([-INF, INF], 0.5, -INF, INF),
        ([-INF, -4, -2], 0.25, -INF, -4),
        ([7], 0.9, 7, 7),
    ],
)
def test_quantiles_never_average_infinities(values: list[float], q: float, low: float, high: float) -> None:
    assert quantile(np.array(values), q, "low") == low
    assert quantile(np.array(values), q, "high") == high


def test_quantiles_take_the_last_axis() -> None:
    assert median(np.array([[1, 2, 9], [-INF, -INF, 0]])).tolist() == [2, -INF]


def test_bootstrap_of_two_runs_spans_both() -> None:
    """Both draws hit the same run with probability 1/4 each."""
    assert median_interval(np.array([0.0, 1.0]), rng()) == (0, 1)


@pytest.mark.parametrize(("n", "low"), [(5, 0), (9, 1)])
def test_bootstrap_of_the_median_ends_at_the_order_statistics_that_the_binomial_says(n: int, low: int) -> None:
    """The resampled median is at most the j-th value when Bin(n, j/n) reaches (n+1)/2.

    For n=5 that has probability .058 at j=1; for n=9, .0014 at j=1 and .030 at j=2: the first above .025 is the end.
    """
    assert median_interval(np.arange(n, dtype=float), rng(), resamples=50_000) == (low, n - 1 - low)


def test_bootstrap_interval_may_end_at_zero_success() -> None:
    """Two of three draws hit the zero run with probability 7/27."""
    assert median_interval(np.array([-INF, -3, -2]), rng()) == (-INF, -2)


def test_bootstrap_keeps_the_size_of_each_stratum() -> None:
    """Resampled without strata, the mean of these four would vary between 0 and 10."""
    strata = [np.zeros(2), np.full(2, 10.0)]
    assert bootstrap_interval(strata, lambda x: x.mean(axis=-1), rng()) == (5, 5)
    low, high = bootstrap_interval([np.concatenate(strata)], lambda x: x.mean(axis=-1), rng())
    assert low < 5 < high


def test_bootstrap_is_a_function_of_its_generator() -> None:
    values = np.random.default_rng(0).normal(size=12)
    assert median_interval(values, rng()) == median_interval(values, rng())


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ([100, None, 300], 300),
        ([100, 200, None], 200),
        ([100, None, None], INF),
        ([100, None], INF),
        ([100, 200, None, None], INF),
        ([100, 200, 300, None], 250),
        ([None], INF),
    ],
)
def test_median_of_censored_times(first: list[int | None], expected: float) -> None:
    assert first_success_median(first) == expected


def test_band_is_the_full_range_below_four_runs_and_the_quartiles_from_there() -> None:
    three = band(np.array([[0.0, -INF], [1, -2], [5, -1]]))
    assert [x.tolist() for x in three] == [[1, -2], [0, -INF], [5, -1]]
    four = band(np.array([[0.0], [1], [2], [7]]))
    assert [x.tolist() for x in four] == [[1.5], [0.75], [3.25]]


def test_step_curve_holds_its_last_value() -> None:
    nre, values = np.array([0, 10, 20]), np.array([-3.0, -INF, -1])
    assert at_or_before(nre, values, np.array([0, 9, 10, 19, 99])).tolist() == [-3, -3, -INF, -INF, -1]


@pytest.mark.parametrize("values", [[], [1.0, np.nan]])
def test_nothing_and_nan_are_refused(values: list[float]) -> None:
    with pytest.raises(BadValue):
        median(np.array(values))


def test_no_stratum_is_refused() -> None:
    with pytest.raises(BadValue, match="0 strata"):
        bootstrap_interval([], median, rng())
