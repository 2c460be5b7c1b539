"""REINFORCE, count, RND, PPO and MaskablePPO: what they learn, what they may not read, what they leave alone."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_agents import make_agent
from banel_agents.novelty.count import StateCounts
from banel_agents.novelty.rnd import Novelty, RNDConfig, Spread
from banel_agents.sequence.maskable_ppo import ContribPPO, MaskableActorCritic
from banel_agents.sequence.ppo import PPOConfig, build
from banel_agents.shared.gradient import centred
from banel_agents.shared.grammar import within_grammar
from banel_envs import Oracle, success_rate
from banel_envs.errors import BadValue
from banel_envs.policies import COST
from tests.shared.beginnings import BUDGET, END, EVERY, GRAMMAR, SUCCESSES, T, V, base, gated, task

NAMES = ("reinforce", "count", "rnd", "ppo", "maskable_ppo")
OWN_RANDOMNESS = ("reinforce", "count", "rnd")  # PPO is Stable-Baselines3's and owns the global generators


def run(name, made=None, *, seed=0, feedback="full", budget=BUDGET, settings=None):
    """The last policy and the oracle of one run."""
    oracle = Oracle(made or task(), budget=budget, feedback=feedback)
    return list(make_agent(name, settings).learn(oracle.problem, oracle, np.random.default_rng(seed)))[-1], oracle


def asked(oracle):
    return np.concatenate([oracle.ledger.tokens(ask) for ask in oracle.ledger.asks])


def weights(policy):
    return torch.cat([w.flatten() for w in policy.network.state_dict().values()])


def rate(policy):
    return 10 ** success_rate(task(), policy).log10


def test_the_tiny_task_is_what_it_says():
    assert len(EVERY) == 1093 and np.exp(base().log_prob(EVERY)).sum() == pytest.approx(1)
    assert len(SUCCESSES) == 121 and 3e-3 < rate(base()) < 3e-2


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_learns_where_success_is_told(name, seed):
    policy, oracle = run(name, seed=seed)
    assert oracle.left == 0 and rate(policy) > 0.5


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", ["count", "rnd"])
def test_a_bonus_reaches_more_distinct_sequences(name, seed):
    _, oracle = run(name, task().blind(), seed=seed)
    plain = base().sample(BUDGET, np.random.default_rng(seed))
    assert len(np.unique(asked(oracle), axis=0)) > 1.2 * len(np.unique(plain, axis=0))


@pytest.mark.parametrize(
    ("name", "settings"), [("reinforce", {}), ("ppo", {"entropy": 0.0}), ("maskable_ppo", {"entropy": 0.0})]
)
def test_without_a_success_the_base_stays(name, settings):
    trained = COST.trained
    policy, oracle = run(name, feedback="failures", budget=200, settings=settings)
    assert oracle.left == 0 and torch.equal(weights(policy), weights(base()))
    if name == "reinforce":
        assert COST.trained == trained


@pytest.mark.parametrize("name", ["reinforce", "ppo", "maskable_ppo"])
def test_from_failures_it_is_its_own_oracle_free_twin(name):
    (one, first), (two, second) = (
        run(name, made, feedback="failures", budget=200) for made in (task(), task().blind())
    )
    np.testing.assert_array_equal(asked(first), asked(second))
    assert torch.equal(weights(one), weights(two))


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_fixes_questions_and_weights(name):
    (one, first), (two, second) = (run(name, seed=5, budget=200) for _ in range(2))
    other = run(name, seed=6, budget=200)[1]
    assert first.ledger.head == second.ledger.head != other.ledger.head
    assert torch.equal(weights(one), weights(two))


@pytest.mark.parametrize("budget", [1, 7, 133])
@pytest.mark.parametrize("name", NAMES)
def test_asks_exactly_the_budget(name, budget):
    policy, oracle = run(name, budget=budget)
    assert oracle.count == budget == len(asked(oracle))
    assert np.isfinite(policy.log_prob(EVERY)).all()


@pytest.mark.parametrize("name", NAMES)
def test_snapshots_are_frozen_and_the_first_is_the_base(name):
    oracle = Oracle(task(), budget=250)
    policies, seen = [], []
    for policy in make_agent(name).learn(oracle.problem, oracle, np.random.default_rng(0)):
        if not policies:
            assert oracle.count == 0 and torch.equal(weights(policy), weights(base()))
        policies.append(policy)
        seen.append(weights(policy).clone())
    assert len(policies) > 2 and not torch.equal(seen[0], seen[-1])
    assert all(torch.equal(weights(p), w) for p, w in zip(policies, seen, strict=True))


@pytest.mark.parametrize("name", ["count", "rnd"])
def test_withheld_rows_are_read_by_nothing(name, monkeypatch):
    """A run that is never shown the withheld rows takes the same path as one that is told NaN for them."""
    through, oracle = run(name, feedback="failures", budget=500)
    assert any((ask.rewards == 1).any() for ask in oracle.ledger.asks)

    from banel_agents import base

    def only_failures(oracle, tokens):
        tokens = tokens[: oracle.left]
        failed = oracle(tokens) == 0
        return base.Answers(tokens[failed], np.zeros(failed.sum(), np.float32))

    monkeypatch.setattr(base, "ask", only_failures)
    without, _ = run(name, feedback="full", budget=500)
    assert torch.equal(weights(through), weights(without))


@pytest.mark.parametrize("name", OWN_RANDOMNESS)
def test_everything_withheld_is_nothing_learnt(name):
    policy, oracle = run(name, task(lambda tokens: np.ones(len(tokens), np.int8)), feedback="failures", budget=200)
    assert oracle.count == 200 and torch.equal(weights(policy), weights(base()))


@pytest.mark.parametrize("name", OWN_RANDOMNESS)
def test_global_generators_are_left_alone(name):
    before = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()
    run(name, budget=200)
    assert random.getstate() == before[0] and np.random.get_state()[1].tobytes() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_the_baseline_is_the_mean():
    assert centred(np.array([1.0, 0, 0, 3])).tolist() == [0, -1, -1, 2]
    assert not centred(np.full(7, 0.1)).any()  # whose mean is not 0.1 in floating point
    assert len(centred(np.empty(0))) == 0


def test_counts_known_by_hand():
    counts = StateCounts(task().problem, context=2)
    counts.add(np.array([[0, 1, 3, 3, 3, 3], [0, 2, 3, 3, 3, 3], [1, 1, 3, 3, 3, 3], [0, 1, 0, 1, 0, 1]]))
    # Position 0: a 3, b 1. Position 1: ab 2, ac 1, bb 1. Position 2: b. 2 (of "ab." and "bb."), c. 1, ba 1.
    ab, ac, unseen_end = counts.bonus(np.array([[0, 1, 3, 3, 3, 3], [0, 2, 3, 3, 3, 3], [1, 1, 3, 3, 3, 3]]))
    third, half = 3**-0.5, 2**-0.5
    assert ab == pytest.approx((third + half + half) / 3)
    assert ac == pytest.approx((third + 1 + 1) / 3)
    assert unseen_end == pytest.approx((1 + 1 + half) / 3)
    counts.add(np.array([[0, 2, 3, 3, 3, 3]] * 3))
    assert counts.bonus(np.array([[0, 2, 3, 3, 3, 3]])) == pytest.approx((6**-0.5 + 0.5 + 0.5) / 3)


def test_counting_looks_at_the_context_alone():
    near, far = np.array([[0, 0, 1, 2, 3, 3]]), np.array([[1, 0, 1, 2, 3, 3]])
    for context, last_two_known in ((2, 3), (6, 0)):  # the states of `far` that `near` has met
        counts = StateCounts(task().problem, context)
        counts.add(np.concatenate((near, near, near, near)))
        counts.add(far)
        expected = ((5 - last_two_known) + last_two_known * 5**-0.5) / 5
        assert counts.bonus(far) == pytest.approx(expected)


def test_distillation_error_falls_where_it_looked_and_stays_elsewhere():
    novelty = Novelty(task().problem, RNDConfig(), np.random.default_rng(0))
    often, never = np.array([[0, 1, 0, 1, 0, 1]] * 20), np.array([[2, 2, 1, 0, 2, 2]])
    before = novelty.mean_errors(often)[0], novelty.mean_errors(never)[0]
    for _ in range(40):
        novelty.learn(often)
    after = novelty.mean_errors(often)[0], novelty.mean_errors(never)[0]
    assert after[0] < 0.02 * before[0]
    assert after[1] > 0.2 * before[1] and after[1] > 10 * after[0]


def test_the_bonus_is_in_running_standard_deviations():
    novelty = Novelty(task().problem, RNDConfig(), np.random.default_rng(0))
    rows = EVERY[::7]
    first = novelty.bonus(rows)
    assert first.std() == pytest.approx(1)
    rare = EVERY[3:5]
    raw = np.concatenate((novelty.mean_errors(rows), novelty.mean_errors(rare)))
    assert novelty.bonus(rare) == pytest.approx(novelty.mean_errors(rare) / raw.std())


numbers = st.floats(-1e6, 1e6, allow_subnormal=False)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(numbers, max_size=9), max_size=6))
def test_the_running_deviation_is_that_of_all_numbers_so_far(batches):
    spread, so_far = Spread(), []
    for batch in batches:
        spread.add(np.array(batch))
        so_far += map(Fraction, batch)
        mean = sum(so_far) / max(1, len(so_far))
        exact = math.sqrt(sum((x - mean) ** 2 for x in so_far) / max(1, len(so_far)))
        if len(set(so_far)) < 2:
            assert spread.std == 1.0
        elif exact > 1e-9 * max(map(abs, so_far)):
            assert spread.std == pytest.approx(exact, rel=1e-6)


@settings(max_examples=200, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.lists(st.integers(1, 60), min_size=1, max_size=5))
def test_equal_numbers_have_no_deviation_whatever_they_are(number, sizes):
    spread = Spread()
    for size in sizes:
        spread.add(np.full(size, number))
        assert spread.std == 1.0


@pytest.mark.parametrize("centre", [0.0, 1.0, 1e6, -1e9, 1e12])
def test_a_deviation_far_from_zero_does_not_cancel(centre):
    """The mean of the squares less the square of the mean is off by all its digits from 1e8 deviations on."""
    values = centre + np.random.default_rng(0).normal(0, 1e-2, 20_000)
    spread = Spread()
    for batch in np.array_split(values, 37):
        spread.add(batch)
    assert spread.std == pytest.approx((values - centre).std(), rel=1e-9)


def every_prefix(t, token_count=END):
    """The prefixes of t tokens that have not ended [n, t], of the first `token_count` tokens, and SB3's observation of them."""
    prefix = np.unique(EVERY[:, :t], axis=0)
    prefix = prefix[(prefix < token_count).all(axis=1)]
    tokens = np.full((len(prefix), T), V)
    tokens[:, :t] = prefix
    return prefix, {"tokens": torch.from_numpy(tokens), "position": torch.full((len(prefix),), t)}


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_ppo_acts_by_the_base_policys_own_softmax(temperature):
    made = task(temperature=temperature)
    model, network = build(made.problem, Oracle(made), PPOConfig(), seed=0)
    policy = made.problem.base_policy()
    for t in range(T):
        prefix, observation = every_prefix(t)
        expected = policy.next_log_probs(prefix)
        actor = model.policy.get_distribution(observation).distribution.logits.detach().numpy()
        np.testing.assert_allclose(actor, expected, atol=1e-5)
        np.testing.assert_allclose(network.next_log_probs(prefix), expected, atol=1e-5)
        action = torch.arange(len(prefix)) % V
        values, log_probs, _ = model.policy.evaluate_actions(observation, action)
        np.testing.assert_allclose(log_probs.detach().numpy(), expected[np.arange(len(prefix)), action], atol=1e-5)
        assert not values.any()


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_maskable_ppo_acts_by_the_base_policy_within_the_grammar(temperature):
    """In sampling and in the update alike, with the entropy of the legal tokens; at first and after an update."""
    made = gated(temperature)
    model, network = build(made.problem, Oracle(made), PPOConfig(), 0, ContribPPO, MaskableActorCritic)
    for policy in (made.problem.base_policy(), network):
        masked = within_grammar(made.problem, policy)
        for t in range(T):
            prefix, observation = every_prefix(t, 2)  # "c" is forbidden
            expected = masked.next_log_probs(prefix)
            legal = np.tile(GRAMMAR.mask[0], (len(prefix), 1))
            action = torch.from_numpy(np.array([0, 1, END])[np.arange(len(prefix)) % 3])
            given = model.policy.evaluate_actions(observation, action, torch.from_numpy(legal))
            np.testing.assert_allclose(given[1].detach(), expected[np.arange(len(prefix)), action], atol=1e-5)
            chances = np.exp(expected)
            entropy = -(chances * np.where(chances > 0, expected, 0)).sum(axis=1)
            np.testing.assert_allclose(given[2].detach(), entropy, atol=1e-5)
        model.learn(model.n_envs * model.n_steps)
    assert not torch.equal(weights(network), weights(base(temperature)))


def test_maskable_ppo_never_leaves_the_grammar_and_is_ppo_where_there_is_none():
    made = gated()
    oracle = Oracle(made, budget=300)
    policies = list(make_agent("maskable_ppo").learn(made.problem, oracle, np.random.default_rng(0)))
    inside = made.problem.well_formed(EVERY)
    assert made.problem.well_formed(asked(oracle)).all() and len(policies) > 2
    for policy in policies:
        assert np.isneginf(policy.log_prob(EVERY[~inside])).all()
        assert np.exp(policy.log_prob(EVERY[inside])).sum() == pytest.approx(1, abs=1e-5)
    first, second = (asked(run(name, budget=200)[1]) for name in ("ppo", "maskable_ppo"))
    np.testing.assert_array_equal(first[:30], second[:30])  # later on the last bits of an entropy make a difference


def test_maskable_ppo_refuses_a_grammar_that_no_policy_could_be_stored_with():
    plain = gated()
    made = replace(plain, problem=replace(plain.problem, allowed=lambda prefix: np.ones((len(prefix), V), np.int8)))
    with pytest.raises(BadValue, match="function of whole prefixes"):
        run("maskable_ppo", made)


@pytest.mark.parametrize("budget", [40, 333, 7_500])
def test_a_ppo_rollout_is_at_most_a_twentieth_of_the_budget(budget):
    made = task()
    model, _ = build(made.problem, Oracle(made, budget=budget), PPOConfig(), seed=0)
    assert model.n_envs * model.n_steps <= budget / 20  # each step ends at most one sequence a copy
