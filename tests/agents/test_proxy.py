"""The proxy: its features and regressions by definition, what it asks, and what it may not read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from banel_agents import make_agent
from banel_agents.novelty.elliptical import HiddenStates
from banel_agents.search.learner import Learner
from banel_agents.search.logistic import Ensemble, Features, Rows, joined
from banel_agents.search.proxy import ProxyConfig
from banel_envs import Oracle, Problem, success_rate
from banel_envs.policies import Uniform
from tests.shared.beginnings import END, EVERY, SUCCESSES, T, V, base, gated, task

SMALL = {"batch": 50, "pool": 400, "fit_steps": 20, "steps": 30, "lr": 3e-3}


def run(made=None, *, seed=0, feedback="full", budget=400, settings=None):
    """All policies and the oracle of one run."""
    made = made or task()
    oracle = Oracle(made, budget=budget, feedback=feedback)
    agent = make_agent("proxy", SMALL | (settings or {}))
    return list(agent.learn(made.problem, oracle, np.random.default_rng(seed))), oracle


def asked(oracle):
    return np.concatenate([oracle.ledger.tokens(ask) for ask in oracle.ledger.asks])


def found(oracle):
    rows, rewards = asked(oracle), np.concatenate([ask.rewards for ask in oracle.ledger.asks])
    return len(np.unique(rows[rewards == 1], axis=0))


# The classifier


def test_the_features_of_a_sequence_by_hand():
    """Tokens and neighbours at their positions, up to and with the first end token; no sequence shares all with another."""
    problem = Problem("me/X-v0", ("a", "b", "."), 3, 9, base=lambda: Uniform(3, 3, 2), end=2)
    features = Features(problem)
    rows = features(np.array([[1, 0, 2], [0, 2, 2]]))
    none = features.count
    assert none == 3 * 3 + 2 * 9
    # Tokens b at 0, a at 1, the end at 2; pairs (b, a) at 0 and (a, end) at 1. Then a, the end; the pair (a, end) at 0.
    assert rows.places.tolist() == [[1, 3, 8, 9 + 3, 9 + 9 + 2], [0, 5, none, 9 + 2, none]]
    assert rows.dense.tolist() == [[1.0], [1.0]]
    assert len(np.unique(Features(task().problem)(EVERY).places, axis=0)) == len(EVERY)


def test_pairs_further_apart_and_wherever_they_stand():
    """Blocks of 9 for each gap: at 0, at 1, anywhere; then, two apart, at 0 and anywhere. `bbb` holds bb twice."""
    problem = Problem("me/X-v0", ("a", "b", "."), 3, 9, base=lambda: Uniform(3, 3, 2), end=2)
    features = Features(problem, reach=9, anywhere=True)
    none = features.count
    assert none == 9 + 3 * 9 + 2 * 9 and list(features.gaps) == [1, 2]
    near, anywhere, far, far_anywhere = 9, 9 + 18, 9 + 27, 9 + 36
    assert features(np.array([[1, 1, 1], [0, 2, 2]])).places.tolist() == [
        [1, 4, 7, near + 4, near + 9 + 4, anywhere + 4, anywhere + 4, far + 4, far_anywhere + 4],
        [0, 5, none, near + 2, none, anywhere + 2, none, none, none],
    ]
    alone = Problem("me/X-v0", ("a", "b"), 1, 9, base=lambda: Uniform(2, 1))
    assert Features(alone, reach=3, anywhere=True)(np.array([[1]])).places.tolist() == [[1]]


def test_pairs_are_as_far_apart_as_there_is_room_for():
    """With 50 positions of 20 tokens, a gap of g has (50 - g) x 400 features, and there are at most 100,000."""
    problem = Problem("me/X-v0", tuple(f"t{k}" for k in range(20)), 50, 9, base=lambda: Uniform(20, 50))
    features = Features(problem, reach=50)
    assert features.count == 1_000 + 400 * sum(50 - gap for gap in features.gaps) <= 100_000
    assert features.count + 400 * (50 - len(features.gaps) - 1) > 100_000


def test_hidden_states_stand_beside_them():
    hidden = HiddenStates(task().problem, base(), np.random.default_rng(0))
    rows = Features(task().problem, hidden)(EVERY[:5])
    np.testing.assert_array_equal(rows.dense[:, 1:], hidden(EVERY[:5]))


def random_rows(n, rng, count=7):
    return Rows(rng.integers(count + 1, size=(n, 3)), rng.normal(size=(n, 2)))


def test_the_gradient_is_that_of_the_log_loss():
    rng = np.random.default_rng(0)
    ensemble, rows = Ensemble(2, 7, 2, lr=0.1, ridge=0.3), random_rows(9, rng)
    ensemble.weights[:, :-1], ensemble.dense[:] = rng.normal(size=(2, 7)), rng.normal(size=(2, 2))
    signs = np.where(rng.random(9) < 0.5, 1.0, -1.0)
    w = torch.tensor(ensemble.weights[1], requires_grad=True)
    d = torch.tensor(ensemble.dense[1], requires_grad=True)
    logits = w[torch.from_numpy(rows.places)].sum(dim=1) + torch.from_numpy(rows.dense) @ d
    np.testing.assert_allclose(ensemble.logits(rows)[1], logits.detach(), rtol=1e-12)
    loss = torch.nn.functional.softplus(-torch.from_numpy(signs) * logits).mean()
    (loss + 0.15 * ((w**2).sum() + (d**2).sum())).backward()
    w.grad[-1] = 0  # what is empty has no weight
    sparse, dense = ensemble.gradient(1, rows, signs)
    np.testing.assert_allclose(sparse, w.grad, atol=1e-12)
    np.testing.assert_allclose(dense, d.grad, atol=1e-12)


def test_a_step_is_adagrads():
    """The first step goes lr along the sign of each derivative, the second one lr x g2 / sqrt(g1^2 + g2^2)."""
    rng = np.random.default_rng(1)
    ensemble, rows, signs = Ensemble(1, 7, 2, lr=0.5, ridge=0.0), random_rows(6, rng), np.array([1.0, -1] * 3)
    g1 = ensemble.gradient(0, rows, signs)[1]
    ensemble.step(0, rows, signs)
    np.testing.assert_allclose(ensemble.dense[0], -0.5 * np.sign(g1), rtol=1e-5)
    g2, before = ensemble.gradient(0, rows, signs)[1], ensemble.dense[0].copy()
    ensemble.step(0, rows, signs)
    np.testing.assert_allclose(before - ensemble.dense[0], 0.5 * g2 / np.sqrt(g1**2 + g2**2), rtol=1e-5)


def test_a_member_learns_from_its_own_rows_and_tells_the_classes_apart():
    """Both classes weigh the same, however many rows they have; a row that does not count for a member is not read."""
    features = Features(task().problem)
    start = SUCCESSES[0, :2]
    others = EVERY[~(EVERY[:, :2] == start).all(axis=1)]
    positives, negatives = features(SUCCESSES[::4]), features(others[::3])
    ensemble = Ensemble(2, features.count, 1, lr=0.3, ridge=1e-3)
    counts = np.ones((2, len(positives)), bool), np.ones((2, len(negatives)), bool)
    ensemble.fit(positives, negatives, counts, np.random.default_rng(0), steps=100, minibatch=32)
    unseen = np.concatenate((SUCCESSES[1::4], others[1::3]))
    right = np.arange(len(unseen)) < len(SUCCESSES[1::4])
    odds = ensemble.logits(features(unseen))
    assert (odds[:, right] > 0).mean() > 0.9 and (odds[:, ~right] < 0).mean() > 0.9
    # Member 0 never sees the positives from 5 on, member 1 never those before.
    positives, halves = features(SUCCESSES[:10]), np.arange(10) < 5
    nothing = features(others[:1])
    for k, seen in enumerate((halves, ~halves)):
        alone = Ensemble(1, features.count, 1, lr=0.3, ridge=0.0)
        alone.fit(positives[np.flatnonzero(seen)], nothing, (np.ones((1, 5), bool), np.ones((1, 1), bool)),
                  np.random.default_rng(0), steps=9, minibatch=8)  # fmt: skip
        both = Ensemble(2, features.count, 1, lr=0.3, ridge=0.0)
        both.fit(positives, nothing, (np.stack((halves, ~halves)), np.ones((2, 1), bool)),
                 np.random.default_rng(0), steps=9, minibatch=8)  # fmt: skip
        unseen = np.setdiff1d(
            positives[np.flatnonzero(~seen)].places, joined(positives[np.flatnonzero(seen)], nothing).places
        )
        assert not both.weights[k, unseen].any()
        if k == 0:
            np.testing.assert_allclose(both.weights[0], alone.weights[0])


# The agent


@pytest.mark.parametrize("feedback", ["full", "failures"])
def test_it_asks_well_formed_sequences_and_nothing_twice(feedback):
    made = gated()
    policies, oracle = run(made, feedback=feedback, budget=60, settings={"batch": 20})
    rows = asked(oracle)
    assert len(rows) == 60 and len(np.unique(rows, axis=0)) == 60 and made.problem.well_formed(rows).all()
    assert len(policies) > 1


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("hidden", [False, True])
def test_it_finds_more_distinct_successes_than_the_ladder(hidden, seed):
    policies, oracle = run(seed=seed, settings={"hidden": hidden})
    other = Oracle(task(), budget=400)
    list(make_agent("ladder", {"batch": 50}).learn(other.problem, other, np.random.default_rng(seed)))
    assert found(oracle) > 60 and found(oracle) > 1.5 * found(other)
    assert 10 ** success_rate(task(), policies[-1]).log10 > 0.3


def test_from_failures_it_comes_to_prefer_what_never_fails():
    """Where everything behind one first token is withheld, its absence among the failures is there to be learnt."""
    token = int(np.argmin(np.abs(base().next_log_probs(np.empty((1, 0), np.int64))[0] - np.log(0.1))))
    made = task(lambda tokens: tokens[:, 0] == token)
    held = EVERY[EVERY[:, 0] == token]
    told, twin = (
        np.mean([np.exp(policy.log_prob(held)).sum() for policy in run(one, feedback="failures", budget=500)[0][-4:]])
        for one in (made, made.blind())
    )
    assert told > 0.9 and told > twin + 0.1  # the twin wanders


def test_its_odds_change_their_meaning_with_the_first_success():
    problem = task().problem
    learner = Learner(problem, ProxyConfig(fit_steps=60), np.random.default_rng(0))
    failures, fresh = EVERY[EVERY[:, 0] == 0][:50], EVERY[EVERY[:, 0] == 1][:50]
    learner.learn(SUCCESSES[:0], failures, fresh)
    unlike = learner.odds(np.concatenate((failures[:5], fresh[:5]))).mean(axis=0)
    assert (unlike[:5] < 0).all() and (unlike[5:] > 0).all()
    learner.learn(EVERY[EVERY[:, 0] == 2][:1], EVERY[EVERY[:, 0] == 1][:50], fresh)
    assert (
        learner.odds(fresh).mean(axis=0) < 0
    ).mean() > 0.9  # now they are failures, and what is unasked says nothing


def test_withheld_rows_are_read_by_nothing(monkeypatch):
    """A run that is never shown the withheld rows takes the same path as one that is told NaN for them."""
    through, oracle = run(feedback="failures", budget=300)
    assert any((ask.rewards == 1).any() for ask in oracle.ledger.asks)

    from banel_agents.base import Answers
    from banel_agents.search import proxy

    def only_failures(oracle, tokens):
        failed = oracle(tokens) == 0
        return Answers(tokens[failed], np.zeros(failed.sum(), np.float32))

    monkeypatch.setattr(proxy, "ask", only_failures)
    without, other = run(budget=300)
    np.testing.assert_array_equal(asked(oracle), asked(other))
    np.testing.assert_array_equal(through[-1].log_prob(EVERY), without[-1].log_prob(EVERY))


def test_it_ends_with_the_space_and_learns_nothing_where_all_is_withheld():
    _, oracle = run(budget=2_000, settings={"batch": 200})
    assert 1_000 < len(asked(oracle)) <= len(EVERY)
    policies, oracle = run(task(lambda tokens: np.ones(len(tokens), np.int8)), feedback="failures", budget=100)
    assert oracle.left == 0 and len(policies) == 1 and (END, T, V) == (3, 6, 4)
