"""Importance-sampled success rates: against exact ones, by hand, and where no number may be given."""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import numpy as np
import pytest
import torch

from banel_envs import Problem, Task, success_rate
from banel_envs.binomial import clopper_pearson
from banel_envs.measure.certified import Counted
from banel_envs.measure.importance import Weighed, tail_shape, weigh
from banel_envs.measure.success import score
from banel_envs.policies import Mixture, Repeating, Uniform
from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.pool import Pool, Proposal

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


def weighed(counts, times):
    """Successes of which each counts and was drawn as said, none of them met while counting."""
    counting = Counted(np.zeros(len(counts)), np.ones(len(counts), bool), np.zeros(len(counts), int), 10)
    return Weighed(np.log(counts), np.array(times), counting)


def test_two_sequences_by_hand():
    """p = 1/4 on each of 4 sequences; q all on the first; 2 drawn from p (one hit), 3 from q (all hits)."""
    a, b = 0.25 / (2 * 0.25 + 3 * 1.0), 0.25 / (2 * 0.25)
    found = weighed([a, b], [3, 1]).estimate(np.ones(2, bool))
    assert math.exp(found.log) == pytest.approx(3 * a + b)
    assert found.effective == pytest.approx((3 * a + b) ** 2 / ((3 * a) ** 2 + b**2))  # sequences, not draws
    nothing = weighed([a, b], [3, 1]).estimate(np.zeros(2, bool))
    assert nothing.log == -math.inf and nothing.effective == 0 and not nothing.reliable(-math.inf, 0.0)


def test_copies_of_a_few_sequences_are_a_few():
    """Ten sequences drawn a thousand times each: by copies they would be 10,000, and as even as can be."""
    few = weighed(np.full(10, 1e-8), np.full(10, 1_000)).estimate(np.ones(10, bool))
    assert few.effective == pytest.approx(10) and not few.reliable(few.log, few.log)
    many = weighed(np.full(400, 1e-8), np.ones(400, int)).estimate(np.ones(400, bool))
    assert many.effective == pytest.approx(400) and many.reliable(many.log, many.log)


def test_a_number_needs_the_certified_interval():
    even = weighed(np.full(400, 1e-8), np.ones(400, int)).estimate(np.ones(400, bool))
    near, far = even.log + 0.69, even.log + 0.70  # twice is .693
    assert even.reliable(even.log - 9, near) and not even.reliable(even.log - 9, far)
    assert not even.reliable(even.log + 0.1, near) and not even.reliable(even.log - 9, even.log - 0.1)


def test_every_count_is_its_balance_heuristic():
    policy, q = policies()
    hits = SPACE[[0, 0, 1, 2]]
    pool = Pool((Proposal(q, 70, SPACE[[5, 6, 7, 7, 8]]), Proposal(Uniform(V, T, None), 30, SPACE[20:22])))
    tokens, found = weigh(policy, hits, 11, pool, known=SPACE[[2, 30]])
    assert np.array_equal(tokens, np.concatenate((SPACE[:3], SPACE[5:9], SPACE[20:22], SPACE[30:31])))
    p, u = np.exp(policy.log_prob(tokens)), V**-T
    assert np.exp(found.log_counts) == pytest.approx(p / (11 * p + 70 * np.exp(q.log_prob(tokens)) + 30 * u))
    assert found.times.tolist() == [2, 1, 1, 1, 1, 2, 1, 1, 1, 0]  # what is known beside the pool was not drawn
    counting = found.counting
    assert counting.log_probs == pytest.approx(np.log(p)) and counting.samples == 11
    assert counting.met.tolist() == [2, 1, 1, *[0] * 7]
    assert counting.known.tolist() == [False, False, True, *[True] * 7]


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
    counts = np.concatenate((np.linspace(0.9, 1.1, 400), [19.0, 20.0, 21.0])) * 1e-8
    uneven = weighed(counts, np.ones(403, int)).estimate(np.ones(403, bool))
    assert uneven.effective > 100 and uneven.tail > 0.4 and not uneven.reliable(uneven.log, uneven.log)
    even = weighed(counts[:400], np.ones(400, int)).estimate(np.ones(400, bool))
    assert even.reliable(even.log, even.log)


def test_a_proposal_that_is_the_policy_itself_counts_as_samples_of_it():
    rng, (_, q) = np.random.default_rng(7), policies()
    exact = success_rate(EXACT, q).log10
    rate = success_rate(sampled(rng, [(q.clone(), 40_000)], fresh=1_000), q, rng)
    assert rate.samples == 41_000 and rate.low <= exact <= rate.high and rate.method in ("monte_carlo", "certified")
    other = success_rate(sampled(rng, [(network(5, 2.0), 40_000)], fresh=1_000), q, rng)
    assert other.samples == 1_000


@pytest.mark.parametrize("q", ["uniform", "both"])
def test_what_is_said_holds_the_exact_rate(q):
    """150 pools: the estimate is unbiased, and the interval holds the exact rate as often as it says."""
    rng, exact = np.random.default_rng(3), success_rate(EXACT, policies()[0]).log10
    drawn = {"uniform": [(Uniform(V, T, None), 6_000)], "both": [(Uniform(V, T, None), 6_500), (policies()[1], 500)]}[q]
    scored = [score(sampled(rng, drawn), policies()[0], rng) for _ in range(150)]
    rates = [s.rate() for s in scored]
    assert {r.method for r in rates} == {"certified"} and all(r.samples == 500 for r in rates)
    held = sum(r.low <= exact <= r.high for r in rates)
    assert clopper_pearson(held, len(rates), confidence=0.9999)[1] >= 0.95
    values = np.exp([s.weighed.estimate(np.ones(len(s.tokens), bool)).log for s in scored])
    assert abs(values.mean() - 10**exact) < 5 * values.std() / math.sqrt(len(values))
    assert exact < -4  # where 500 samples leave too much room for a number


def test_a_number_where_the_samples_leave_little_room():
    """Some 20 of 1,000 samples succeed: too few for Monte Carlo, enough to bear importance sampling out."""
    rng, policy = np.random.default_rng(4), Mixture([policies()[0], Uniform(V, T, None)])
    exact = success_rate(EXACT, policy).log10
    rates = [success_rate(sampled(rng, [(Uniform(V, T, None), 6_000)], 1_000), policy, rng) for _ in range(60)]
    numbers = [r for r in rates if r.method == "importance"]
    assert len(numbers) > 40 and {r.method for r in rates} <= {"importance", "certified"}
    assert sum(r.low <= exact <= r.high for r in rates) >= 54
    assert all(r.low <= r.log10 <= r.high <= r.log10 + 0.31 for r in numbers)
    assert max(abs(r.log10 - exact) for r in numbers) < 0.2


def test_a_pool_collapsed_onto_a_few_successes_gives_no_number():
    """Pools of ten successes drawn a thousand times each, in which plain importance sampling saw no fault."""
    rng, policy = np.random.default_rng(4), policies()[0]
    exact, few = success_rate(EXACT, policy).log10, Mixture([Repeating(x, V) for x in EXACT.successes()[:10]])
    task = sampled(rng, [(few, 10_000)])
    found = score(task, policy, rng)
    estimate = found.weighed.estimate(np.ones(len(found.tokens), bool))
    assert estimate.log / math.log(10) < exact - 0.4  # 2.5 times off
    rate = found.rate()
    assert rate.method == "certified" and rate.log10 is None and not rate.zero and rate.low <= exact <= rate.high
    assert rate.low == pytest.approx(success_rate(EXACT, policy, exclude=EXACT.successes()[10:]).log10)


def test_too_little_is_an_upper_limit_and_never_a_number():
    rng, policy = np.random.default_rng(4), policies()[0]
    rate = success_rate(sampled(rng, [(Uniform(V, T, None), 500)]), policy, rng)  # some 24 successes
    assert rate.method == "certified" and rate.log10 is None and rate.low < -4 and not rate.zero
    assert rate.high == pytest.approx(math.log10(10**rate.low + clopper_pearson(0, 500)[1]), abs=1e-6)


def test_a_policy_that_succeeds_often_needs_no_pool():
    rng, q = np.random.default_rng(5), policies()[1]
    often = dataclasses.replace(EXACT, reward=lambda t: (t[:, 0] == 0).astype(np.int8), successes=lambda: None)
    task = dataclasses.replace(often, pool=lambda: Pool((), 5_000))
    rate = success_rate(task, q, rng)
    exact = math.log10(np.exp(q.log_prob(SPACE[SPACE[:, 0] == 0])).sum())
    assert rate.method == "monte_carlo" and rate.low <= exact <= rate.high


def test_what_was_asked_does_not_count_as_fresh():
    rng, policy = np.random.default_rng(6), policies()[0]
    task, successes = sampled(rng, [(Uniform(V, T, None), 20_000)]), EXACT.successes()
    known = successes[np.argsort(-policy.log_prob(successes))[:40]]  # what carries the rate
    exact = success_rate(EXACT, policy, exclude=known).log10
    fresh, all_of_them = (success_rate(task, policy, rng, exclude=x, known=known) for x in (known, None))
    assert fresh.low - 1e-6 <= exact <= fresh.high and all_of_them.low > fresh.low + 0.1
