"""Certified intervals: by hand, and how often they hold a rate that is known."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from banel_envs import Problem, Task, success_rate
from banel_envs.binomial import clopper_pearson
from banel_envs.measure.certified import Counted
from banel_envs.measure.importance import Weighed
from banel_envs.measure.success import _pooled_rate, score
from banel_envs.policies import Repeating, Uniform
from banel_envs.pool import Pool, Proposal

torch.set_num_threads(1)

V, T = 4, 6  # 4,096 sequences
SPACE = np.stack(np.meshgrid(*[np.arange(V)] * T, indexing="ij"), -1).reshape(-1, T)
ALL = np.ones(4, bool)
COUNTED = Counted(np.log([0.1, 0.02, 0.003, 0.0004]), np.array([1, 1, 0, 0], bool), np.array([5, 0, 2, 0]), 1_000)


def ends(counted, mask):
    return tuple(math.exp(end) for end in counted.log_interval(mask))


def test_the_interval_by_hand():
    """Known: .1 + .02. Two of 1,000 samples are successes outside them, of which one sequence was met."""
    low, high = clopper_pearson(2, 1_000)
    assert ends(COUNTED, ALL) == pytest.approx((0.12 + 0.003, 0.12 + high))  # .003 is more than Clopper-Pearson's low
    assert low < 0.003 and COUNTED.hits(ALL) == 7
    rare = dataclasses.replace(COUNTED, log_probs=np.log([0.1, 0.02, 1e-9, 0.0004]))
    assert ends(rare, ALL) == pytest.approx((0.12 + low, 0.12 + high))


def test_what_is_excluded_leaves_the_known_mass_and_the_hits():
    assert ends(COUNTED, np.array([0, 1, 1, 1], bool)) == pytest.approx((0.023, 0.02 + clopper_pearson(2, 1_000)[1]))
    assert ends(COUNTED, np.array([1, 1, 0, 1], bool)) == pytest.approx((0.12, 0.12 + clopper_pearson(0, 1_000)[1]))
    assert COUNTED.hits(np.array([0, 1, 1, 1], bool)) == 2


def test_nothing_known_and_nothing_met():
    low, high = COUNTED.log_interval(np.array([0, 0, 0, 1], bool))  # the last is neither known nor met
    assert low == -math.inf and math.exp(high) == pytest.approx(1 - 0.025 ** (1 / 1_000))
    assert Counted(np.empty(0), np.empty(0, bool), np.empty(0, int), 10).log_interval(np.empty(0, bool))[0] == -math.inf


def test_never_above_one():
    sure = Counted(np.log([0.99, 0.0099]), np.array([1, 0], bool), np.array([98, 2]), 100)
    low, high = ends(sure, np.ones(2, bool))
    assert low == pytest.approx(0.9999) and high == 1.0


@pytest.mark.parametrize("n", [10_000, 100_000, 1_000_000])
def test_the_samples_that_an_upper_end_needs(n):
    """What the docstrings state: 10^-3.43, 10^-4.43 and 10^-5.43."""
    nothing = Counted(np.empty(0), np.empty(0, bool), np.empty(0, int), n)
    assert nothing.log_interval(np.empty(0, bool))[1] / math.log(10) == pytest.approx(0.567 - math.log10(n), abs=1e-3)


# Against tasks whose rate is known

GOOD = SPACE[np.random.default_rng(5).permutation(len(SPACE))[:40]]  # 40 of 4,096 succeed: .0098 under a uniform policy
KEYS = np.sort(GOOD @ V ** np.arange(T))
UNIFORM = Uniform(V, T, None)
PROBLEM = Problem("test/Hidden-v0", tuple("abcd"), T, 10, base=lambda: UNIFORM)


def reward(tokens):
    return np.isin(tokens @ V ** np.arange(T), KEYS).astype(np.int8)


def hidden(known, fresh=300):
    """The task with its successes hidden, and these in its pool: drawn, it says, from something far away."""
    proposal = Proposal(Repeating(SPACE[0], V), 1_000, known)
    return Task(PROBLEM, reward, pool=lambda: Pool((proposal,), fresh))


class Table:
    """A policy that is a list of probabilities, one a sequence of SPACE."""

    def __init__(self, masses):
        self.p = masses / masses.sum()

    def sample(self, n, rng):
        return SPACE[rng.choice(len(SPACE), n, p=self.p)]

    def log_prob(self, tokens):
        return np.log(self.p[tokens @ V ** np.arange(T)[::-1]])

    def next_log_probs(self, prefix):
        n, t = prefix.shape
        place = prefix @ V ** np.arange(t)[::-1] if t else np.zeros(n, np.int64)
        masses = self.p.reshape(V**t, V, -1).sum(axis=2)[place]  # [n, V]
        return np.log(masses / masses.sum(axis=1, keepdims=True))


def leaning(row, share):
    """Uniform but for a share on one sequence."""
    return Table(np.where((row == SPACE).all(axis=1), share * len(SPACE), 1 - share))


POLICIES = {
    "uniform": leaning(SPACE[0], 0),
    "collapsed onto a known one": leaning(GOOD[0], 0.05),
    "collapsed onto an unknown one": leaning(GOOD[30], 0.05),
    "rare": leaning(SPACE[reward(SPACE) == 0][0], 0.95),
}


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("asked", [0, 12])
def test_the_interval_holds_the_rate(name, asked):
    """400 counting samples: success and fresh success, half of the successes known beforehand."""
    policy, rng = POLICIES[name], np.random.default_rng(8)
    exclude = GOOD[10 : 10 + asked]
    known = Task(PROBLEM, reward, successes=lambda: GOOD)
    exact = success_rate(known, policy, exclude=exclude).log10
    task, held, low_ends = hidden(GOOD[:20]), 0, []
    for _ in range(400):
        scored = score(task, policy, rng, known=exclude)
        low, high = (end / math.log(10) for end in scored.weighed.counting.log_interval(scored.counted(exclude)))
        held += low <= exact + 1e-9 and exact <= high
        low_ends.append(low)
    assert clopper_pearson(held, 400, confidence=0.9999)[1] >= 0.95 and held > 0.92 * 400
    least = success_rate(known, policy, exclude=np.concatenate((exclude, GOOD[20:]))).log10  # what is known is sure
    assert min(low_ends) >= least - 1e-9


def test_hits_that_counted_as_known_would_miss():
    """Why the set is fixed before: with what was met counted as known, the upper end falls below the rate."""
    rng, exact, wrong = np.random.default_rng(9), math.log(len(GOOD) / len(SPACE)), 0
    for _ in range(200):
        counting = score(hidden(GOOD[:1]), UNIFORM, rng, samples=1_000).weighed.counting
        late = dataclasses.replace(counting, known=counting.known | (counting.met > 0))
        every = np.ones(len(counting.met), bool)
        wrong += late.log_interval(every)[1] < exact
    assert wrong > 40  # of 200, where 5 would be allowed


def test_known_sequences_are_judged_and_raise_the_lower_end():
    rng, policy = np.random.default_rng(1), POLICIES["rare"]
    task = hidden(GOOD[:1], fresh=50)
    bare = success_rate(task, policy, np.random.default_rng(1))
    told = success_rate(task, policy, np.random.default_rng(1), known=np.concatenate((GOOD[:30], SPACE[:500])))
    assert (bare.method, told.method) == ("certified", "certified") and bare.log10 is told.log10 is None
    assert not bare.zero and bare.high <= told.high
    sure = np.unique(np.concatenate((GOOD[:30], SPACE[:500][reward(SPACE[:500]) == 1])), axis=0)
    exact = math.log10(np.exp(policy.log_prob(sure)).sum())  # failures among them add nothing
    assert told.low == pytest.approx(exact, abs=1e-9)
    nothing = success_rate(hidden(GOOD[:0], fresh=50), Repeating(SPACE[0], V), rng)
    assert nothing.low is None and nothing.zero and nothing.method == "certified"


def test_the_number_of_samples_can_be_chosen():
    task = hidden(GOOD[:1])
    rate = success_rate(task, POLICIES["rare"], np.random.default_rng(0), samples=25_000)  # in three parts
    assert rate.samples == 25_000 and rate.high - rate.low < 0.6
    assert success_rate(task, POLICIES["rare"], np.random.default_rng(0)).samples == 300


@pytest.mark.parametrize("share", [0.0, 0.5, 0.75])
@pytest.mark.parametrize("expected", [80, 100, 120])
def test_the_interval_of_a_pooled_rate_holds_it_whatever_number_of_samples_hit(share, expected):
    """Exact, over every count of hits. At 100 hits a number is given, and the interval stays the certified one."""
    n = 10_000
    inside, rate = expected * share / n, expected / n
    outside = rate - inside
    missed = 0.0
    for h in range(400):
        low, high = clopper_pearson(h, n)
        if not inside + low <= rate <= inside + high:
            missed += math.exp(
                math.lgamma(n + 1)
                - math.lgamma(h + 1)
                - math.lgamma(n - h + 1)
                + h * math.log(outside)
                + (n - h) * math.log1p(-outside)
            )
    assert missed <= 0.05
    # And that is what is given, with the number inside of it.
    rng = np.random.default_rng(expected)
    masses = np.full(1_000, rate / 1_000)
    known = np.arange(1_000) < 1_000 * share
    counting = Counted(np.log(masses), known, rng.multinomial(n, [*masses, 1 - rate])[:-1], n)
    every = np.ones(1_000, bool)
    found = _pooled_rate(Weighed(np.full(1_000, -np.inf), np.zeros(1_000, np.int64), counting), every)
    low, high = (end / math.log(10) for end in counting.log_interval(every))
    assert (found.low, found.high) == (low, high)
    assert (found.method == "monte_carlo") == (counting.hits(every) >= 100)
    assert found.log10 is None or low <= found.log10 <= high


def test_an_interval_is_never_upside_down():
    """A likely success that was met once, by luck: its own mass is above what one hit allows."""
    counting = Counted(np.log([0.01]), np.array([False]), np.array([1]), 10_000)
    low, high = counting.log_interval(np.array([True]))
    assert low == high == pytest.approx(math.log(0.01))
    assert counting.log_estimate(np.array([True])) == low
