"""NSR, W-REINFORCE, unlikelihood and NPO: their gradients, what they read, where they go."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from banel_agents import make_agent
from banel_agents.base import Answers
from banel_agents.negative.npo import npo
from banel_agents.negative.nsr import advantages
from banel_agents.negative.retain import base_samples
from banel_agents.negative.unlikelihood import unlikelihood
from banel_agents.shared.steps import joined
from banel_envs import Oracle, Problem, success_rate
from tests.shared import toy
from tests.shared.beginnings import base, task

TOKENS = np.array([[0, 1, 2], [2, 2, 2], [1, 1, 0], [0, 1, 2], [0, 0, 2]])
REWARDS = np.array([0, 1, 0, 0, 1], np.float32)
NAMES = ("nsr", "w_reinforce", "unlikelihood", "npo")


def logs(p, tokens=TOKENS):
    return p.differentiable_log_prob(tokens)


@pytest.mark.parametrize("success", [0.0, 0.1])
def test_nsr_and_w_reinforce_ascend_their_objective(success):
    p = toy.policy()
    objective = (torch.tensor([-1, success, -1, -1, success], dtype=torch.float64) * logs(p)).mean()
    toy.assert_descends(p, TOKENS, advantages(Answers(TOKENS, REWARDS), success), -objective)


@pytest.mark.parametrize("end", [toy.END, None])
def test_unlikelihood_is_the_gradient_of_minus_log_of_one_minus_p(end):
    p = toy.policy(end=end)
    each = p.differentiable_token_log_probs(TOKENS)
    live = torch.ones_like(each) if end is None else torch.tensor(np.cumsum(end == TOKENS, axis=1) <= (end == TOKENS))
    loss = -(torch.log(1 - each.exp()).nan_to_num(neginf=0) * live).sum(dim=1).mean()
    assert torch.isfinite(loss)
    expected = toy.flat(p, -(torch.log1p(-torch.where(live.bool(), each, -1.0).exp()) * live).sum(dim=1).mean())
    np.testing.assert_allclose(toy.of_step(p, TOKENS, unlikelihood(p, TOKENS)), expected, rtol=1e-9, atol=1e-12)


def test_a_certain_token_has_a_finite_weight():
    p = toy.policy()
    with torch.no_grad():
        p.network.head.weight.zero_()
        p.network.head.bias.copy_(torch.tensor([80.0, 0.0, 0.0]))
    assert unlikelihood(p, np.zeros((1, 3), np.int64)) == pytest.approx(-1e5)


@pytest.mark.parametrize("beta", [0.1, 3.0])
def test_npo_is_the_gradient_of_its_loss(beta):
    p, reference = toy.policy(), toy.policy(1)
    ratios = logs(p) - logs(reference).detach()
    loss = -(2 / beta) * torch.nn.functional.logsigmoid(-beta * ratios).mean()
    toy.assert_descends(p, TOKENS, npo(ratios.detach().numpy(), beta), loss)


def test_retaining_base_samples_is_the_gradient_of_the_kl_term():
    """Over every sequence, each as often as the base policy writes it: the step is that of the exact KL(p_theta || p)."""
    p, reference, every = toy.policy(), toy.policy(1), toy.every()
    q = reference.differentiable_log_prob(every).detach()
    kl = (q.exp() * (q - p.differentiable_log_prob(every))).sum()
    toy.assert_descends(p, every, q.exp().numpy() * len(every), kl)


def test_joined_is_the_sum_of_the_means():
    p = toy.policy()
    one, two = TOKENS[:2], TOKENS[2:]
    each = np.arange(9.0).reshape(3, 3)
    loss = 2 * -(torch.tensor([3.0, -1.0]) * logs(p, one)).mean()
    loss = loss + 0.5 * -(torch.tensor(each) * p.differentiable_token_log_probs(two)).sum(dim=1).mean()
    step = joined((one, np.array([3.0, -1.0]), 2.0), (two, each, 0.5), (TOKENS[:0], np.empty(0), 1.0))
    toy.assert_descends(p, *step, loss)


def test_malformed_base_samples_are_not_retained():
    def allowed(prefix):
        mask = np.ones((len(prefix), 4), np.int8)
        mask[:, 1] = 0  # no b
        return mask

    made = task().problem
    problem = Problem(made.id, made.vocabulary, made.T, made.budget, made.base, made.end, allowed=allowed)
    kept = base_samples(base(), problem, 400, np.random.default_rng(0))
    plain = base_samples(base(), made, 400, np.random.default_rng(0))
    assert len(plain) == 400 and 0 < len(kept) < 400
    np.testing.assert_array_equal(kept, plain[(plain != 1).all(axis=1)])


@pytest.mark.parametrize("name", NAMES)
def test_failures_alone_move_it_and_it_spends_its_budget(name):
    oracle = Oracle(task(), budget=300, feedback="failures")
    *_, last = make_agent(name).learn(oracle.problem, oracle, np.random.default_rng(0))
    assert oracle.left == 0
    asked = np.concatenate([oracle.ledger.tokens(ask) for ask in oracle.ledger.asks])
    rewards = np.concatenate([ask.rewards for ask in oracle.ledger.asks])
    failed = np.unique(asked[rewards == 0], axis=0)
    before, after = np.exp(base().log_prob(failed)).sum(), np.exp(last.log_prob(failed)).sum()
    assert after < before  # what failed has less of the mass


def finals(name, made, feedback, settings=None, budget=1_500, seeds=3):
    """The median final success over a few seeds, log10."""
    rates = []
    for seed in range(seeds):
        oracle = Oracle(made, budget=budget, feedback=feedback)
        *_, last = make_agent(name, settings).learn(oracle.problem, oracle, np.random.default_rng(seed))
        rates.append(success_rate(task(), last).log10)
    return np.median(rates)


@pytest.mark.parametrize("name", ["nsr", "w_reinforce"])
def test_what_is_missing_among_the_failures_is_learnt(name):
    """One sequence in a hundred succeeds and is withheld. That it is not pushed down lifts it; the twin, told failure, is not."""
    fast = {"batch": 50, "lr": 1e-3}  # the budget is small
    assert finals(name, task(), "failures", fast) > -0.1
    assert finals(name, task().blind(), "failures", fast) < -1


@pytest.mark.parametrize("name", ["unlikelihood", "npo"])
def test_successes_told_are_learnt_from(name):
    assert finals(name, task(), "full") > finals(name, task(), "failures") + 0.3
