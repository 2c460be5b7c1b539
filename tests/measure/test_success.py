"""Success rates: intervals worked out by hand, exact rates against definitions, and what is never evaluated."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_envs import Problem, Task, success_rate
from banel_envs.binomial import clopper_pearson
from banel_envs.errors import BadValue
from banel_envs.measure.success import exact_rate
from banel_envs.policies import Repeating, Uniform
from banel_envs.pool import Pool

T = 4
PROBLEM = Problem("test/Success-v0", ("a", "b"), T, 1, partial(Uniform, 2, T, None))
THREE_BS = np.array([[1, 1, 1, 0], [1, 1, 0, 1], [1, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1]])


def enough(tokens):
    return (tokens.sum(axis=1) >= 3).astype(np.int8)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (0, 10, 0, 1 - 0.025 ** (1 / 10)),
        (10, 10, 0.025 ** (1 / 10), 1),
        (0, 10**6, 0, 1 - 0.025 ** (1 / 10**6)),
        (0, 1, 0, 0.975),
        (1, 1, 0.025, 1),
        (5, 10, 0.1871, 0.8129),  # tabulated, as are the next two
        (1, 10, 0.0025, 0.4450),
        (2, 100, 0.0024, 0.0704),
    ],
)
def test_intervals_known_by_hand(k, n, low, high):
    tolerance = 5e-5 if 0 < k < n else 1e-12
    found = clopper_pearson(k, n)
    assert found[0] == pytest.approx(low, abs=tolerance) and found[1] == pytest.approx(high, abs=tolerance)


def tail(k, n, p):
    """P(X >= k) of a binomial, in exact arithmetic."""
    p = Fraction(p)
    return float(sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1)))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.95, 0.99]))
def test_the_interval_leaves_its_tails(counts, confidence):
    (k, n), rest = counts, (1 - confidence) / 2
    low, high = clopper_pearson(k, n, confidence)
    if k > 0:
        assert tail(k, n, low) == pytest.approx(rest, rel=1e-9)
    if k < n:
        assert 1 - tail(k + 1, n, high) == pytest.approx(rest, rel=1e-7)


def test_large_counts_look_like_the_normal_approximation():
    k, n = 500_000, 1_000_000
    low, high = clopper_pearson(k, n)
    assert low == pytest.approx(0.5 - 1.959964 * 0.5e-3, abs=2e-6) and high == pytest.approx(1 - low, abs=1e-9)


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3), (0, 0)])
def test_impossible_counts(k, n):
    with pytest.raises(BadValue, match="successes of"):
        clopper_pearson(k, n)


def test_an_exact_rate():
    task = Task(PROBLEM, enough, successes=lambda: THREE_BS)
    rate = success_rate(task, Uniform(2, T, None))
    assert rate.method == "exact" and rate.samples == 0 and not rate.zero
    assert rate.log10 == rate.low == rate.high == pytest.approx(math.log10(5 / 16))
    assert rate.effective == pytest.approx(5)


def test_the_effective_number_of_successes():
    shares = np.array([0.5, 0.25, 0.125, 0.125])
    rate = exact_rate(np.log(shares * 1e-30))
    assert rate.log10 == pytest.approx(-30)
    assert rate.effective == pytest.approx(2**1.75)  # the entropy of these shares is 1.75 bits
    assert exact_rate(np.array([-5.0, -np.inf])).effective == pytest.approx(1)


def test_rates_far_below_what_floats_hold():
    assert exact_rate(np.full(100, -2_000.0)).log10 == pytest.approx(2 - 2_000 / math.log(10))


def test_no_success_at_all():
    for rate in (exact_rate(np.array([-np.inf])), exact_rate(np.empty(0))):
        assert rate.zero and rate.log10 is rate.high is rate.effective is None


def test_fresh_success_leaves_out_what_was_asked():
    task, policy = Task(PROBLEM, enough, successes=lambda: THREE_BS), Uniform(2, T, None)
    asked = np.array([[1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 0]])
    assert success_rate(task, policy, exclude=asked).log10 == pytest.approx(math.log10(3 / 16))
    assert success_rate(task, Repeating(THREE_BS[0], 2)).log10 == 0
    assert success_rate(task, Repeating(THREE_BS[0], 2), exclude=asked).zero
    assert success_rate(task, policy, exclude=asked[:0]).log10 == pytest.approx(math.log10(5 / 16))
    rate = success_rate(Task(PROBLEM, enough), policy, np.random.default_rng(0), 20_000, exclude=asked)
    assert rate.low < math.log10(3 / 16) < rate.high


PARTS = {
    "at once": (enough, None),
    "a list": (lambda t: enough(t).tolist(), None),
    "real": (lambda t: t.mean(axis=1), 0.7),
    "in parts": (lambda t: ((k, k + 1, enough(t[k : k + 1])) for k in range(len(t))), None),
}


@pytest.mark.parametrize("kind", PARTS)
def test_monte_carlo_where_nothing_can_be_enumerated(kind):
    reward, threshold = PARTS[kind]
    task = Task(PROBLEM, reward, threshold=threshold)
    rate = success_rate(task, PROBLEM.base_policy(), np.random.default_rng(1), 5_000)
    assert (rate.method, rate.samples, rate.effective) == ("monte_carlo", 5_000, None)
    hits = round(5_000 * 10**rate.log10)
    assert [10**rate.low, 10**rate.high] == pytest.approx(clopper_pearson(hits, 5_000))
    assert rate.low < math.log10(5 / 16) < rate.high


def test_monte_carlo_without_a_hit():
    task = Task(PROBLEM, lambda tokens: np.zeros(len(tokens), np.int8))
    rate = success_rate(task, PROBLEM.base_policy(), np.random.default_rng(0), 50)
    assert rate.zero and rate.low is None and rate.high == pytest.approx(math.log10(1 - 0.025 ** (1 / 50)))


def test_a_paid_reward_is_never_evaluated_off_the_meter():
    def reward(tokens):
        raise AssertionError("evaluated")

    with pytest.raises(BadValue, match="never evaluated off the meter"):
        success_rate(Task(PROBLEM, reward, free_evaluation=False), PROBLEM.base_policy(), np.random.default_rng(0))
    with pytest.raises(BadValue, match="give rng, a numpy Generator"):
        success_rate(Task(PROBLEM, reward), PROBLEM.base_policy())


@pytest.mark.parametrize("hits", [True, False])
def test_a_pool_without_proposals_says_how_many_samples_are_drawn(hits):
    reward = enough if hits else lambda tokens: np.zeros(len(tokens), np.int8)
    task = Task(PROBLEM, reward, pool=lambda: Pool((), 20, 40))
    rate = success_rate(task, Uniform(2, T, None), np.random.default_rng(0))
    assert rate.samples == 20 and rate.method == "certified" and rate.log10 is None
    if not hits:
        assert rate.low is None and 10**rate.high == pytest.approx(1 - 0.025 ** (1 / 20))
        return
    assert 10**rate.low <= 5 / 16 <= 10**rate.high < 1
    # The mass of the successes that are known is the lower end, to the last digit where they are all.
    known = success_rate(task, Uniform(2, T, None), np.random.default_rng(0), known=np.array([*THREE_BS, [0, 0, 0, 0]]))
    assert 10**known.low == pytest.approx(5 / 16) and 5 / 16 < 10**known.high < 1
    many = success_rate(task, Uniform(2, T, None), np.random.default_rng(0), samples=2_000)
    assert many.method == "monte_carlo" and many.samples == 2_000
