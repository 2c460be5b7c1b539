"""Survival, observed and by hazards: a published example, numbers worked out by hand, plain medians, and simulated paths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from banel_envs.errors import BadValue
from banel_leaderboard.statistics.medians import median, median_interval
from banel_leaderboard.statistics.survival import (
    at_risk,
    by_hazards,
    hazard_intervals,
    kaplan_meier,
    median_time_interval,
)

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
    if met.all():  # in ascending order, because the draws of a median are of sorted runs
        assert median_time_interval(np.sort(times), met, 0, 200) == pytest.approx(median_interval(plain, 0, 200))


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


def test_one_path_of_one_rate_is_a_geometric_law() -> None:
    hazards = np.full(200, 0.01)
    curve = by_hazards(hazards[None], at_risk(np.array([120, 80]), hazards, None)[None])
    assert curve.alive == pytest.approx(0.99 ** np.arange(1, 201))
    assert curve.median() == 69  # 0.99^69 = 0.49984, 0.99^68 = 0.50489


def test_a_path_leaves_after_the_question_that_held_its_first_event() -> None:
    """Two paths, two questions of two evaluations: survival is the product of the questions' mean (1 - rate)^2."""
    one, other = np.array([0.5, 0.5, 0.2, 0.2]), np.array([0.1, 0.1, 0.4, 0.4])
    sizes = np.array([2, 2])
    stays = np.stack([at_risk(sizes, one, None), at_risk(sizes, other, None)])
    assert stays.tolist() == [[1, 0.5, 1, 0.8], [1, 0.9, 1, 0.6]]
    curve = by_hazards(np.stack([one, other]), stays)
    first = (0.5**2 + 0.9**2) / 2
    assert curve.alive == pytest.approx([0.7, first, first * 0.7, first * (0.8**2 + 0.6**2) / 2])
    # The first path met its event at its first evaluation: it counts to the end of that question and not after.
    leaves = np.stack([at_risk(sizes, one, 1), stays[1]])
    assert leaves[0].tolist() == [1, 0.5, 0, 0]
    assert by_hazards(np.stack([one, other]), leaves).alive == pytest.approx([0.7, first, first * 0.6, first * 0.6**2])


def test_a_weight_is_so_many_paths_and_an_ended_path_is_censored() -> None:
    hazards = np.array([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]])
    risk = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])  # rows of one evaluation each; the second path ends after two
    twice = by_hazards(hazards[[0, 0, 1]], risk[[0, 0, 1]])
    weighted = by_hazards(hazards, risk, np.array([[2.0, 1.0], [0.0, 1.0]]))
    assert weighted.alive[0] == pytest.approx(twice.alive)
    assert twice.alive == pytest.approx(np.cumprod([1 - 0.5 / 3, 0.8, 0.7]))
    assert weighted.alive[1] == pytest.approx([0.7, 0.56, 0.56])  # where no path is at risk nothing more is known


def test_tiny_hazards_are_not_lost_and_certain_ones_end_it() -> None:
    tiny = np.full((1, 1_000), 1e-18)
    assert -np.log(by_hazards(tiny, np.ones_like(tiny)).alive[0]) >= 0
    assert by_hazards(np.full((1, 10_000), 1e-12), np.ones((1, 10_000))).alive[-1] == pytest.approx(1 - 1e-8, abs=1e-12)
    assert by_hazards(np.ones((1, 2)), np.ones((1, 2))).alive.tolist() == [0, 0]


@pytest.mark.parametrize(("sizes", "first"), [([2, 1], None), ([2, 2, 0], None), ([2, 2], 0), ([2, 2], 5)])
def test_paths_that_cannot_be_are_refused(sizes: list[int], first: int | None) -> None:
    with pytest.raises(BadValue):
        at_risk(np.array(sizes), np.full(4, 0.1), first)
    with pytest.raises(BadValue, match="no probability"):
        by_hazards(np.array([[1.5]]), np.ones((1, 1)))


def simulated(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """N paths of eight questions of ten evaluations, whose rate grows or not by chance: first events, met, hazards, at risk.

    After its first event a path behaves otherwise: its rate falls to 0, as of one that learnt that a success had failed.
    """
    firsts, met, hazards, risk = [], [], [], []
    for _ in range(n):
        rate, first, path = 0.002, None, []
        for question in range(8):
            path.append(np.full(10, 0.0 if first else rate))
            hit = np.flatnonzero(rng.random(10) < path[-1])
            first = first or (10 * question + int(hit[0]) + 1 if len(hit) else None)
            rate *= 3 if rng.random() < 0.5 else 1
            rate = min(rate, 0.2)
        hazards.append(np.concatenate(path))
        risk.append(at_risk(np.full(8, 10), hazards[-1], first))
        firsts.append(80 if first is None else first)
        met.append(first is not None)
    return np.array(firsts, float), np.array(met), np.stack(hazards), np.stack(risk)


def test_both_estimators_agree_on_many_paths_and_hazards_vary_less_on_few() -> None:
    rng = np.random.default_rng(0)
    firsts, met, hazards, risk = simulated(4_000, rng)
    observed, exact = kaplan_meier(firsts, met), by_hazards(hazards, risk)
    at = np.arange(1.0, 81)
    assert np.abs(observed.met(at) - exact.met(at)).max() < 0.025  # three standard errors of a share of 4,000
    assert abs(observed.median() - exact.median()) <= 2
    # Of 400 sets of ten paths:
    ends = {"observed": [], "exact": []}
    for k in range(400):
        rows = slice(10 * k, 10 * k + 10)
        ends["observed"].append(kaplan_meier(firsts[rows], met[rows]).met(np.array([40.0]))[0])
        ends["exact"].append(by_hazards(hazards[rows], risk[rows]).met(np.array([40.0]))[0])
    assert np.mean(ends["exact"]) == pytest.approx(np.mean(ends["observed"]), abs=0.03)
    assert np.var(ends["exact"]) < 0.6 * np.var(ends["observed"])


def test_the_interval_is_that_of_the_paths() -> None:
    hazards = np.array([0.002, 0.01, 0.05])[:, None] * np.ones((3, 400))
    alone = [float(by_hazards(row[None], np.ones((1, 400))).median()) for row in hazards]
    (low, high), (least, most) = hazard_intervals(hazards, np.ones_like(hazards), seed=0)
    assert min(alone) == low and high == max(alone)  # a resample may hold one path three times: in 1 of 27, beyond 2.5%
    assert least == pytest.approx(0.95**400) and most == pytest.approx(0.998**400)
    same = np.full((4, 100), 0.02)
    assert hazard_intervals(same, np.ones_like(same), seed=0)[0] == (35, 35)


@pytest.mark.parametrize(
    ("times", "met", "decided"),
    [
        ([3, 5, 9], [True, True, True], 5),  # the median is 5, and known at 5
        ([3, 5, 9, 11], [True, True, True, True], 9),  # the median is 7, and known at 9 only
        ([3, 5, 9, 11], [True, True, False, False], INF),
        ([3], [True], 3),
    ],
)
def test_a_median_is_known_once_fewer_than_half_are_left(times: list[int], met: list[bool], decided: float) -> None:
    curve = kaplan_meier(np.array(times, float), np.array(met))
    assert curve.decided() == decided
    # Whoever ends all runs before that time does not know it, and whoever ends them at it does.
    for end in (decided - 1, decided):
        cut = kaplan_meier(np.minimum(times, end), np.array(met) & (np.array(times) <= end))
        assert cut.median() == (curve.median() if end >= decided else INF)
