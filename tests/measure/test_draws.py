"""What a policy draws is what its next tokens say, and a filter passes what is said of it; the bound is a bound."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_envs import Problem
from banel_envs.binomial import clopper_pearson
from banel_envs.errors import BadPolicy
from banel_envs.measure.draws import CAP, SLOPES, Scores, check_draws
from banel_envs.measure.probability import FALSE_ALARM, along
from banel_envs.policies import Excluding, Mixture, Policy, Repeating, Tempered, Uniform
from banel_envs.policies.composed.filtered import Filtered
from tests.shared.policies import ENDS, HONEST, Foreign, Stepped, T, V, filtered, network, problem, space

every_end = pytest.mark.parametrize("end", ENDS)


@every_end
@pytest.mark.parametrize("kind", HONEST)
def test_an_honest_policy_passes(kind, end):
    for seed in range(3):
        check_draws(HONEST[kind](end), problem(end), np.random.default_rng(seed))


class Draws(Foreign):
    """Says one policy, draws from another."""

    def __init__(self, end, says, draws):
        super().__init__(end, says)
        self.draws = draws

    def sample(self, n, rng):
        return self.draws.sample(n, rng)


class Hot(Stepped):
    """A subclass that draws at another temperature than it says."""

    def sample(self, n, rng):
        return Tempered(Stepped(V, T, self.end), 3.0).sample(n, rng)


class Never(Stepped):
    """Draws tokens that it says are impossible."""

    def step(self, last, position, state):
        log_probs, state = super().step(last, position, state)
        log_probs[:, 0] = -np.inf
        return log_probs - np.log(np.exp(log_probs).sum(axis=1, keepdims=True)), state

    def sample(self, n, rng):
        return Stepped(V, T, self.end).sample(n, rng)


LIARS = {
    "sharper": (lambda end: Draws(end, network(end), network(end).tempered(0.3)), r"surprise is -.* nats off"),
    "flatter": (lambda end: Draws(end, network(end), Uniform(V, T, end)), r"surprise is \+.* nats off"),
    "one sequence": (lambda end: Draws(end, network(end), Repeating(space(end)[30], V)), "nats off"),
    "never surprised": (lambda end: Draws(end, Uniform(V, T, end), Stepped(V, T, end)), "sum of random signs of 5 is"),
    "a subclass": (lambda end: Hot(V, T, end), "nats off"),
    "what cannot be": (lambda end: Never(V, T, end), r"tokens in 1000 sequences that have probability 0"),
    "in a mixture": (lambda end: Mixture([Uniform(V, T, end), Hot(V, T, end)]), "nats off"),
    "excluding": (lambda end: Excluding(Hot(V, T, end), space(end)[:2]), "nats off"),
    "filtered": (lambda end: Filtered(Hot(V, T, end), [Uniform(V, T, end)], [-50.0], 10, 10), "nats off"),
    "a normaliser": (
        lambda end: filtered(end, claimed=0.5),
        r"of 4000 proposals pass its filters; of 10000 new ones",
    ),
    "a normaliser inside": (lambda end: Mixture([Uniform(V, T, end), filtered(end, claimed=0.5)]), "of 4000 proposals"),
    "a large normaliser": (lambda end: filtered(end, claimed=1.05), "of 4000 proposals"),
}


@every_end
@pytest.mark.parametrize("kind", LIARS)
def test_a_liar_is_refused(kind, end):
    make, says = LIARS[kind]
    with pytest.raises(BadPolicy, match=says):
        check_draws(make(end), problem(end), np.random.default_rng(0), FALSE_ALARM / 16)


@every_end
def test_normalisers_alone(end):
    check_draws(Hot(V, T, end), problem(end), np.random.default_rng(0), normalisers_only=True)
    with pytest.raises(BadPolicy, match="of 4000 proposals"):
        check_draws(filtered(end, claimed=0.5), problem(end), np.random.default_rng(0), normalisers_only=True)


class Once(Hot):
    """Draws something else the first time it is asked."""

    asked = 0

    def sample(self, n, rng):
        self.asked += 1
        return (Hot if self.asked == 1 else Stepped).sample(self, n, rng)


def test_one_failure_is_not_enough():
    policy = Once(V, T, None)
    check_draws(policy, problem(None), np.random.default_rng(0))
    assert policy.asked == 2


# --- the bound


def mean_factor(p, scores, slope):
    """E exp(l D - psi(|l|) v) of one token from the distribution p [V]: what has to be at most 1."""
    mean = (p * scores).sum()
    v = (p * (scores - mean) ** 2).sum()
    psi = (np.expm1(abs(slope) * CAP) - abs(slope) * CAP) / CAP**2
    return float((p * np.exp(slope * (scores - mean) - psi * v)).sum())


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.floats(0, 40), st.sampled_from([1, -1]))
def test_one_token_multiplies_the_evidence_by_at_most_1_on_average(weights, spread, sign):
    p = np.array(weights) ** spread + 1e-30
    p /= p.sum()
    for slope in SLOPES:
        surprise = np.minimum(-np.log(p), CAP)
        signs = CAP / 2 * (-1.0) ** np.arange(len(p))
        assert max(mean_factor(p, scores, sign * slope) for scores in (surprise, signs)) <= 1 + 1e-12


def test_the_bound_is_not_idle():
    """Half of the variance in psi would break it: the factor is what Bennett's inequality needs."""
    p = np.array([0.5, 0.5 - 1e-3, 1e-3])
    surprise = np.minimum(-np.log(p), CAP)
    mean = (p * surprise).sum()
    v = (p * (surprise - mean) ** 2).sum()
    slope = 0.1
    assert (p * np.exp(slope * (surprise - mean) - 0.5 * slope**2 / 2 * v)).sum() > 1


def test_the_statistic_by_hand():
    """Two tokens of 3/4 and 1/4; entropy and variance of the surprise worked out on paper."""
    small = Problem("test/Pair-v0", ("a", "b"), 1, 1, partial(Uniform, 2, 1, None))

    class Pair(Uniform):
        def step(self, last, position, state):
            return np.tile(np.log([0.75, 0.25]), (state, 1)), state

    policy = Pair(2, 1, None)
    seen = Scores(policy, small, np.random.default_rng(0))
    along(policy, np.array([[0], [0], [1]]), small, seen)
    entropy = 0.75 * np.log(4 / 3) + 0.25 * np.log(4)
    assert seen.excess[0] == pytest.approx(2 * np.log(4 / 3) + np.log(4) - 3 * entropy)
    assert seen.variance[0] == pytest.approx(3 * 0.75 * 0.25 * np.log(3) ** 2)
    for k, (a, b) in enumerate(seen.signs.T, 1):
        assert seen.excess[k] == pytest.approx(2 * a + b - 3 * (0.75 * a + 0.25 * b))
        assert seen.variance[k] == pytest.approx(3 * 0.75 * 0.25 * (a - b) ** 2)


def evidence(policy: Policy, end, n, rng):
    seen = Scores(policy, problem(end), rng)
    along(policy, policy.sample(n, rng), problem(end), seen)
    return seen.log_evidence()


def test_the_evidence_is_at_most_1_on_average_and_rarely_large():
    """400 honest tests at a bar of 1 in 20: fewer fail than the bound lets, by exact binomial limits."""
    rng = np.random.default_rng(0)
    policies = [
        Stepped(V, T, None),
        Uniform(V, T, 3),
        Tempered(Stepped(V, T, 3), 0.4),
        Tempered(Stepped(V, T, None), 3.0),
    ]
    found = np.array([evidence(policies[k % 4], policies[k % 4].end, 60, rng) for k in range(400)])
    over = int((found > np.log(20)).sum())
    assert clopper_pearson(over, 400)[0] <= 1 / 20
    assert np.exp(found).mean() < 1.5  # its expectation is at most 1
    assert found.std() > 0


def test_a_large_vocabulary_is_drawn_in_small_numbers(monkeypatch):
    monkeypatch.setattr("banel_envs.measure.draws.NUMBERS", 100 * V)
    sizes = []

    class Counts(Stepped):
        def sample(self, n, rng):
            sizes.append(n)
            return super().sample(n, rng)

    check_draws(Counts(V, T, None), problem(None), np.random.default_rng(0))
    assert sizes == [100]
    check_draws(Counts(V, T, None), problem(None), np.random.default_rng(0), most=7)
    assert sizes == [100, 7]
