"""The permutation test: numbers worked out by hand, false alarms and power by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from banel_envs.errors import BadValue
from banel_leaderboard.statistics.permutation import stratified_permutation

RNG = np.random.default_rng


def test_one_stratum_by_hand() -> None:
    """Ranks are 1/4, 2/4, 3/4, 1. Of the 6 divisions one has a difference of 7/8 - 3/8 = 1/2."""
    found = stratified_permutation([np.array([3.0, 4.0])], [np.array([1.0, 2.0])], RNG(0))
    assert (found.statistic, found.p, found.least, found.strata) == (0.5, 1 / 6, 1 / 6, 1)


def test_the_other_direction_is_no_alarm() -> None:
    found = stratified_permutation([np.array([1.0, 2.0])], [np.array([3.0, 4.0])], RNG(0))
    assert (found.statistic, found.p) == (-0.5, 1.0)


def test_two_strata_by_hand() -> None:
    """Each stratum has 2 divisions, with differences of 1/2 and -1/2: both are 1/2 in one of 4 cases."""
    one, two = np.array([1.0]), np.array([2.0])
    assert stratified_permutation([two, two], [one, one], RNG(0)).p == 1 / 4
    mixed = stratified_permutation([two, one], [one, two], RNG(0))
    assert (mixed.statistic, mixed.p) == (0.0, 3 / 4)  # +1, 0, 0, -1: three are at least 0


def test_ties_share_a_rank_and_infinities_are_scores() -> None:
    """Scores -inf, -inf, 1: ranks 1.5/3, 1.5/3, 3/3; the observed division is one of three that are as high."""
    found = stratified_permutation([np.array([1.0])], [np.array([-np.inf, -np.inf])], RNG(0))
    assert found.statistic == pytest.approx(0.5) and found.p == pytest.approx(1 / 3)
    equal = stratified_permutation([np.full(4, 7.0)], [np.full(6, 7.0)], RNG(0))
    assert (equal.statistic, equal.p) == (pytest.approx(0.0), 1.0)


def test_drawn_divisions_agree_with_all_of_them() -> None:
    """C(10, 5) = 252 divisions squared are too many to look at; the same p from both within the error of 99,999 draws."""
    a, b = [RNG(1).normal(0.6, 1, 5), RNG(2).normal(0.6, 1, 5)], [RNG(3).normal(0, 1, 5), RNG(4).normal(0, 1, 5)]
    drawn = stratified_permutation(a, b, RNG(0), resamples=99_999)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("banel_leaderboard.statistics.permutation.MOST_EXACT", 10**6)
        exact = stratified_permutation(a, b, RNG(0))
    assert drawn.statistic == exact.statistic and exact.least == pytest.approx(252**-2)
    assert abs(drawn.p - exact.p) < 4 * np.sqrt(exact.p * (1 - exact.p) / 99_999) + 1e-5


@pytest.mark.parametrize("shape", ["normal", "heavy", "tied"])
def test_false_alarms_stay_below_their_level(shape: str) -> None:
    """1,000 honest submissions of 5 tasks and 5 seeds, whose tasks differ in scale; a level of 1% is passed by chance in
    at most 22 of 1,000 with a probability of 0.9997."""
    rng = RNG(5)
    draw = {
        "normal": lambda k: rng.normal(k, 10.0**k, 5),
        "heavy": lambda k: rng.standard_cauchy(5) * 10.0**k,
        "tied": lambda k: np.where(rng.random(5) < 0.5, -np.inf, rng.integers(3, size=5)),
    }[shape]
    alarms = 0
    for _ in range(1_000):
        first, second = ([draw(k) for k in range(5)] for _ in range(2))
        alarms += stratified_permutation(first, second, rng, resamples=999).p <= 0.01
    assert alarms <= 22


def test_a_lucky_choice_is_found() -> None:
    """Whoever hands in the best 5 of 20 seeds on each of 5 tasks is contradicted in at least 99 of 100 cases."""
    rng = RNG(6)
    found = 0
    for _ in range(100):
        first = [np.sort(rng.normal(size=20))[-5:] for _ in range(5)]
        second = [rng.normal(size=5) for _ in range(5)]
        found += stratified_permutation(first, second, rng, resamples=999).p <= 0.01
    assert found >= 99


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ([], [], "at least 1"),
        ([np.ones(1)], [], "1 and 0 strata"),
        ([np.ones(0)], [np.ones(2)], "0 and 2 runs"),
        ([np.array([np.nan])], [np.ones(2)], "NaN"),
    ],
)
def test_what_cannot_be_compared(first: list[np.ndarray], second: list[np.ndarray], said: str) -> None:
    with pytest.raises(BadValue, match=said):
        stratified_permutation(first, second, RNG(0))
