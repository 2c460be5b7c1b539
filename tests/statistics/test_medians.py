"""Medians and their intervals, on numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from banel_envs.errors import BadValue
from banel_leaderboard.statistics.medians import at_or_before, band, counts, draws, median, median_interval, quantile

INF = np.inf


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
    assert median_interval(np.array([0.0, 1.0]), 7) == (0, 1)


@pytest.mark.parametrize(("n", "low"), [(5, 0), (9, 1)])
def test_bootstrap_of_the_median_ends_at_the_order_statistics_that_the_binomial_says(n: int, low: int) -> None:
    """The resampled median is at most the j-th value when Bin(n, j/n) reaches (n+1)/2.

    For n=5 that has probability .058 at j=1; for n=9, .0014 at j=1 and .030 at j=2: the first above .025 is the end.
    """
    assert median_interval(np.arange(n, dtype=float), 7, resamples=50_000) == (low, n - 1 - low)


def test_bootstrap_interval_may_end_at_zero_success() -> None:
    """Two of three draws hit the zero run with probability 7/27."""
    assert median_interval(np.array([-INF, -3, -2]), 7) == (-INF, -2)


def test_bootstrap_is_the_median_of_each_resample() -> None:
    """The same as sorting every resample: indices that ascend take ascending values."""
    values = np.random.default_rng(0).normal(size=12)
    drawn = np.random.default_rng(3).integers(12, size=(2_000, 12))
    medians = np.median(np.sort(values)[drawn], axis=-1)
    expected = (float(quantile(medians, 0.025)), float(quantile(medians, 0.975)))
    assert median_interval(values, 3) == pytest.approx(expected)
    assert median_interval(values[::-1], 3) == median_interval(values, 3)


def test_counts_are_those_of_the_draws() -> None:
    drawn, counted = draws(4, 1, 50), counts(4, 1, 50)
    assert counted.shape == (50, 4) and (counted.sum(axis=-1) == 4).all()
    assert all(np.repeat(np.arange(4), counted[i].astype(int)).tolist() == drawn[i].tolist() for i in range(50))


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
