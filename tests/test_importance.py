"""Importance-sampled success rates: against exact ones, by hand, and where no number may be given."""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import numpy as np
import pytest
import torch

from banel_envs import Problem, Task, success_rate
from banel_envs.importance import Pool, Proposal, Weighed, tail_shape, weigh
from banel_envs.policies import Uniform
from banel_envs.policies.network import TorchPolicy
from banel_envs.policies.transformer import Transformer, TransformerConfig
from banel_envs.statistics import clopper_pearson

torch.set_num_threads(1)

V, T = 4, 6
SPACE = np.stack(np.meshgrid(*[np.arange(V)] * T, indexing="ij"), -1).reshape(-1, T)


def network(seed, sharpness):
    net = Transformer(TransformerConfig(V, T, width=8, layers=1, heads=2))
    net.initialise(np.random.default_rng(seed))
    return TorchPolicy(net.eval(), None, temperature=1 / sharpness)


@cache
def policies():
    return network(0, 5.0), network(1, 2.0)


def rare(tokens):
    """1 for the 200 sequences that the measured policy likes least among every seventh."""
    return np.isin(tokens @ V ** np.arange(T), RARE).astype(np.int8)


CANDIDATES = SPACE[::7]
RARE = (CANDIDATES[np.argsort(policies()[0].log_prob(CANDIDATES))[:200]]) @ V ** np.arange(T)
PROBLEM = Problem("test/Rare-v0", tuple("abcd"), T, 10, base=lambda: policies()[0])
EXACT = Task(PROBLEM, rare, successes=lambda: SPACE[rare(SPACE) == 1])


def sampled(rng, drawn, fresh=500):
    """The task with its successes hidden behind a pool drawn from these (policy, number)."""
    proposals = []
    for policy, n in drawn:
        tokens = policy.sample(n, rng)
        proposals.append(Proposal(policy, n, tokens[rare(tokens) == 1]))
    return dataclasses.replace(EXACT, successes=lambda: None, pool=lambda: Pool(tuple(proposals), fresh))


def test_two_sequences_by_hand():
    """p = 1/4 on each of 4 sequences; q all on the first; 2 drawn from p (one hit), 3 from q (all hits)."""
    counts = np.log([0.25 / (2 * 0.25 + 3 * 1.0)] * 3 + [0.25 / (2 * 0.25)])
    weighed = Weighed(counts, np.array([1, 1, 1, 0]), (2, 3), (0,))
    found = weighed.estimate(np.ones(4, bool))
    a, b = 0.25 / 3.5, 0.5
    assert math.exp(found.log) == pytest.approx(3 * a + b)
    assert found.effective == pytest.approx((3 * a + b) ** 2 / (3 * a**2 + b**2)) and not found.reliable
    own = 2 / 1 * (b**2 - b**2 / 2)  # within the policy's own two draws; q's three are all alike and add nothing
    assert found.error * math.exp(found.log) == pytest.approx(math.sqrt(own))
    nothing = weighed.estimate(np.zeros(4, bool))
    assert nothing.log == -math.inf and not nothing.reliable


def test_every_count_is_its_balance_heuristic():
    policy, q = policies()
    hits, pool = SPACE[:3], Pool((Proposal(q, 70, SPACE[5:9]), Proposal(Uniform(V, T, None), 30, SPACE[20:22])), 11)
    tokens, weighed = weigh(policy, hits, pool)
    assert np.array_equal(tokens, np.concatenate((SPACE[:3], SPACE[5:9], SPACE[20:22])))
    p, u = np.exp(policy.log_prob(tokens)), V**-T
    assert np.exp(weighed.log_counts) == pytest.approx(p / (11 * p + 70 * np.exp(q.log_prob(tokens)) + 30 * u))
    assert (
        weighed.stratum.tolist() == [0] * 3 + [1] * 4 + [2] * 2
        and weighed.drawn == (11, 70, 30)
        and weighed.own == (0,)
    )


@pytest.mark.parametrize("shape", [-0.3, 0.2, 0.7, 1.2])
def test_the_tail_of_a_pareto_distribution_is_found(shape):
    u = np.random.default_rng(0).random(4_000)
    found = tail_shape((u**-shape - 1) / shape)  # the inverse of its distribution function
    assert found == pytest.approx(shape, abs=0.25)


def test_tails_of_ties_and_of_too_few():
    assert tail_shape(np.full(500, 0.2)) < 0.4  # as even as can be
    assert tail_shape(np.ones(20)) == math.inf
    few_rule = np.concatenate((np.full(500, 1e-6), np.full(3, 1e-3)))
    assert tail_shape(few_rule) > 0.4


def test_a_heavy_tail_gives_no_number():
    """Three sequences of which each counts as much as twenty others: how many more would another pool hold?"""
    counts = np.log(np.concatenate((np.linspace(0.9, 1.1, 400), [19.0, 20.0, 21.0])) * 1e-8)
    uneven = Weighed(counts, np.ones(403, np.int64), (10, 10_000), (0,)).estimate(np.ones(403, bool))
    assert uneven.effective > 100 and uneven.tail > 0.4 and not uneven.reliable
    even = Weighed(counts[:400], np.ones(400, np.int64), (10, 10_000), (0,)).estimate(np.ones(400, bool))
    assert even.reliable


def test_a_proposal_that_is_the_policy_itself_counts_as_samples_of_it():
    rng, (_, q) = np.random.default_rng(7), policies()
    exact = success_rate(EXACT, q).log10
    rate = success_rate(sampled(rng, [(q.clone(), 40_000)], fresh=1_000), q, rng)
    assert rate.samples == 41_000 and rate.low <= exact <= rate.high and rate.method in ("importance", "monte_carlo")
    other = success_rate(sampled(rng, [(network(5, 2.0), 40_000)], fresh=1_000), q, rng)
    assert other.samples == 1_000


@pytest.mark.parametrize("q", ["uniform", "both"])
def test_the_interval_covers_the_exact_rate(q):
    """150 pools: unbiased, and the 95% interval holds the exact rate as often as it says."""
    rng, exact = np.random.default_rng(3), success_rate(EXACT, policies()[0]).log10
    drawn = {"uniform": [(Uniform(V, T, None), 6_000)], "both": [(Uniform(V, T, None), 6_500), (policies()[1], 500)]}[q]
    rates = [success_rate(sampled(rng, drawn), policies()[0], rng) for _ in range(150)]
    assert {r.method for r in rates} == {"importance"} and all(r.samples == 500 for r in rates)
    held = sum(r.low <= exact <= r.high for r in rates)
    low, high = clopper_pearson(held, len(rates), confidence=0.9999)
    assert low <= 0.95 <= high
    values = np.array([10**r.log10 for r in rates])
    assert abs(values.mean() - 10**exact) < 5 * values.std() / math.sqrt(len(values))
    assert exact < -4  # where plain Monte Carlo of 500 samples sees nothing


def test_too_little_is_an_upper_limit_and_never_a_number():
    rng, policy = np.random.default_rng(4), policies()[0]
    rate = success_rate(sampled(rng, [(Uniform(V, T, None), 500)]), policy, rng)  # some 24 successes
    assert rate.method == "upper_limit" and rate.log10 is None and rate.low is None and rate.zero
    assert rate.high == pytest.approx(math.log10(clopper_pearson(0, 500)[1]))


def test_a_policy_that_succeeds_often_needs_no_pool():
    rng, q = np.random.default_rng(5), policies()[1]
    often = dataclasses.replace(EXACT, reward=lambda t: (t[:, 0] == 0).astype(np.int8), successes=lambda: None)
    task = dataclasses.replace(often, pool=lambda: Pool((), 5_000))
    rate = success_rate(task, q, rng)
    exact = math.log10(np.exp(q.log_prob(SPACE[SPACE[:, 0] == 0])).sum())
    assert rate.method == "importance" and rate.low <= exact <= rate.high


def test_what_was_asked_does_not_count_as_fresh():
    rng, policy = np.random.default_rng(6), policies()[0]
    task, successes = sampled(rng, [(Uniform(V, T, None), 20_000)]), EXACT.successes()
    known = successes[np.argsort(-policy.log_prob(successes))[:40]]  # what carries the rate
    fresh, exact = success_rate(task, policy, rng, exclude=known), success_rate(EXACT, policy, exclude=known).log10
    assert fresh.method == "importance" and fresh.low - 0.02 <= exact <= fresh.high + 0.02
    assert success_rate(task, policy, rng).log10 > fresh.log10 + 0.1
