"""Agents across tasks: interquartile means, ranks and groups, on numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from banel_envs.errors import BadValue
from banel_leaderboard.statistics.across import (
    even_weights,
    interquartile_mean,
    mean,
    rank_intervals,
    ranks,
    stratified,
    tie_groups,
)


@pytest.mark.parametrize(
    ("values", "weights", "expected"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8], [1] * 8, 4.5),  # of 3, 4, 5, 6
        ([10, 0, 1, 0], [1] * 4, 0.5),  # of 0 and 1
        ([3, 1, 2], [1] * 3, 2),  # 1/4 of 1, 2, 1/4 of 3, over 3/2
        ([7], [5], 7),
        ([0, 10], [3, 1], 0),  # three quarters of the weight lie at 0
        ([0, 10], [1, 1], 5),
        ([0, 4, 10], [1, 2, 1], 4),
    ],
)
def test_interquartile_means(values: list[float], weights: list[float], expected: float) -> None:
    assert interquartile_mean(np.array(values, float), np.array(weights, float)) == pytest.approx(expected)


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=10), st.randoms())
def test_the_order_of_runs_does_not_matter_and_the_mean_lies_between_them(values: list[int], random: object) -> None:
    x, w = np.array(values, float), np.ones(len(values))
    middle = float(interquartile_mean(x, w))
    assert x.min() - 1e-9 <= middle <= x.max() + 1e-9
    assert interquartile_mean(x[::-1], w) == pytest.approx(middle)
    assert interquartile_mean(np.repeat(x, 4), np.ones(4 * len(x))) == pytest.approx(middle)


def test_every_task_weighs_the_same_however_many_runs_it_has() -> None:
    weights = even_weights([1, 4])
    assert weights.tolist() == [1, 0.25, 0.25, 0.25, 0.25]
    assert mean(np.array([10.0, 0, 0, 0, 0]), weights) == 5
    with pytest.raises(BadValue, match=r"\[2, 0\]"):
        even_weights([2, 0])


def test_resamples_draw_within_each_task() -> None:
    drawn = stratified([2, 3], np.random.default_rng(0), 500)
    assert drawn.shape == (500, 5)
    assert drawn[:, :2].sum(axis=-1) == pytest.approx(1) and drawn[:, 2:].sum(axis=-1) == pytest.approx(1)
    assert set(drawn[:, 0]) == {0, 0.5, 1} and drawn[:, 0].mean() == pytest.approx(0.5, abs=0.05)
    values = np.array([0.0, 0, 10, 10, 10])  # resampled without tasks, the mean would vary
    assert set(mean(values, drawn).round(9)) == {5}


def test_equal_scores_share_a_rank() -> None:
    scores = np.array([[3.0, 1], [3, 2], [1, 2]])
    assert ranks(scores).tolist() == [[1, 3], [1, 1], [3, 1]]


def test_rank_intervals_and_groups() -> None:
    """The second agent is above the first in 1 of 10 resamples, the third never."""
    scores = np.array([[2.0] * 100, [1.0] * 90 + [3.0] * 10, [0.5] * 100])
    assert rank_intervals(scores) == [(1, 2), (1, 2), (3, 3)]
    assert tie_groups(np.array([2.0, 1.2, 0.5]), scores) == [1, 1, 2]


def test_a_group_is_led_by_its_best() -> None:
    """b cannot be told from a, nor c from b; c is surely below a, so it leads a group of its own."""
    a, b, c = np.full(100, 2.0), np.r_[np.full(90, 1.5), np.full(10, 2.5)], np.r_[np.full(90, 1.4), np.full(10, 1.9)]
    assert tie_groups(np.array([2.0, 1.6, 1.45]), np.array([a, b, c])) == [1, 1, 2]
    assert tie_groups(np.array([1.45, 2.0, 1.6]), np.array([c, a, b])) == [2, 1, 1]
