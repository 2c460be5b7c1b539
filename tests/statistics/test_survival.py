"""Kaplan and Meier's estimator: a published example, numbers worked out by hand, and plain medians as a property."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from banel_leaderboard.statistics.medians import median, median_interval
from banel_leaderboard.statistics.survival import kaplan_meier, median_time_interval

INF = np.inf
# Weeks in remission under 6-mercaptopurine (Freireich et al. 1963; as in Cox and Oakes 1984, table 1.1); "+" is censored.
WEEKS = "6 6 6 6+ 7 9+ 10 10+ 11+ 13 16 17+ 19+ 20+ 22 23 25+ 32+ 32+ 34+ 35+"


def read(text: str) -> tuple[np.ndarray, np.ndarray]:
    words = text.split()
    return np.array([float(w.strip("+")) for w in words]), np.array(["+" not in w for w in words])


def test_the_example_of_every_textbook() -> None:
    curve = kaplan_meier(*read(WEEKS))
    alive = 1 - curve.met(np.array([5.9, 6, 7, 10, 13, 16, 22, 23, 99]))
    assert alive.round(4).tolist() == [1, 0.8571, 0.8067, 0.7529, 0.6902, 0.6275, 0.5378, 0.4482, 0.4482]
    assert curve.median() == 23


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("100 300 500+", 300),
        ("100 200 500+", 200),
        ("100 500+ 500+", INF),
        ("100 500+", INF),
        ("100 200 500+ 500+", INF),
        ("100 200 300 500+", 250),
        ("500+", INF),
        ("100 100 100", 100),
        ("10+ 20 30", 25),  # of the two still under way at 20 one half is left, until 30
        ("10 15+ 20 30", 20),  # 3/4 left at 10; at 20 one of two meets it: 3/8
        ("10 10+ 20", 20),  # an event comes before a censoring at the same time: 2/3 left, then 0
    ],
)
def test_medians_worked_out_by_hand(words: str, expected: float) -> None:
    assert kaplan_meier(*read(words)).median() == expected


values = st.lists(st.one_of(st.integers(1, 50), st.none()), min_size=1, max_size=12)


@given(values)
def test_runs_that_all_end_at_the_budget_have_a_plain_median(first: list[int | None]) -> None:
    times = np.array([60.0 if nre is None else nre for nre in first])
    met = np.array([nre is not None for nre in first])
    plain = np.where(met, times, INF)
    assert kaplan_meier(times, met).median() == median(plain, "high")
    if met.all():
        assert median_time_interval(times, met, 0, 200) == pytest.approx(median_interval(plain, 0, 200))


@given(values, st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_a_weight_is_so_many_copies(first: list[int | None], weights: list[int]) -> None:
    times = np.array([60.0 if nre is None else nre for nre in first])
    met, w = np.array([nre is not None for nre in first]), np.array(weights[: len(first)], float)
    at = np.arange(0.0, 62)
    copies = np.repeat(np.arange(len(first)), w.astype(int))
    if len(copies):
        one, other = kaplan_meier(times, met, w), kaplan_meier(times[copies], met[copies])
        assert one.met(at) == pytest.approx(other.met(at))
        assert (np.diff(one.alive) <= 1e-12).all() and one.alive.min() >= -1e-12


def test_an_interval_may_end_beyond_the_budget() -> None:
    times, met = read("100 200 300 500+ 500+ 500+")
    low, high = median_time_interval(times, met, 0)
    assert low < 300 and high == INF
