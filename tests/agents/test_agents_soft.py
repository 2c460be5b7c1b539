"""KL-regularised RL, DPG, SPO and trajectory balance: their gradients, their optima, what lives on failures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from banel_agents import make_agent
from banel_agents.base import Answers
from banel_agents.shared.gradient import centred
from banel_agents.shared.steps import joined
from banel_agents.soft.dpg_failures import capped, log_target
from banel_agents.soft.spo import Replay, reach
from banel_agents.soft.trajectory_balance import vargrad
from banel_envs import Oracle, Problem, Task, success_rate
from banel_envs.policies.gradient_step import Adam, descend
from tests.shared import toy
from tests.shared.beginnings import EVERY, SUCCESSES, base, task

EVERY_TOY = toy.every()
HITS = (EVERY_TOY[:, 0] == 1).astype(float)  # the reward of the toy
BETA = 0.3


def logs(p):
    return p.differentiable_log_prob(EVERY_TOY)


def both():
    """A policy, its log-probabilities, those of a base policy, and how often each sequence is among len samples."""
    p = toy.policy()
    S, q = logs(p), logs(toy.policy(1)).detach()
    return p, S, q, S.detach().exp().numpy() * len(EVERY_TOY)


def centre(x, often):
    return x - x @ often / often.sum()


def test_kl_rl_ascends_its_objective():
    """Over every sequence, each as often as the policy writes it."""
    p, S, q, often = both()
    loss = BETA * (S.exp() * (S - q)).sum() - (S.exp() * torch.tensor(HITS)).sum()
    ratios = (S - q).detach().numpy()
    step = joined((EVERY_TOY, often * centre(HITS, often), 1.0), (EVERY_TOY, -often * centre(ratios, often), BETA))
    toy.assert_descends(p, *step, loss)


def test_dpg_descends_the_forward_kl():
    p, S, q, often = both()
    P = q.exp().numpy() * HITS
    target = P / P.sum()
    loss = -(torch.tensor(target) * S).sum()  # the KL divergence but for the entropy of the target
    ratios = P / S.detach().exp().numpy()
    assert ratios @ often / len(often) == pytest.approx(P.sum())  # Z is their mean
    toy.assert_descends(p, EVERY_TOY, often * centre(ratios, often) / P.sum(), loss)


@pytest.mark.parametrize("b", [0.0, 1.5])
def test_dpg_failures_descends_the_forward_kl_to_its_target(b):
    p, phi = toy.policy(), toy.policy(2)
    _, S, _, often = both()
    target = (1 + b) * logs(toy.policy(1)).detach() - b * logs(phi).detach()
    loss = -(torch.softmax(target, 0) * logs(p)).sum()
    log_weights = log_target(toy.policy(1), phi, EVERY_TOY, b) - S.detach().numpy()
    weights = capped(log_weights, 1e9)
    toy.assert_descends(p, EVERY_TOY, often * weights / (often @ weights) * len(EVERY_TOY), loss)


def test_weights_are_capped_and_have_mean_one():
    weights = capped(np.log([1.0, 1.0, 1.0, 97.0]), 2.0)
    np.testing.assert_allclose(weights, np.array([1, 1, 1, 50]) / 13.25)
    np.testing.assert_allclose(capped(np.array([-2_000.0, -2_000.0]), 1.0), 1.0)


def test_the_trajectory_losses_gradient():
    """The loss with its own minimiser v, or log Z, in it: that has a gradient too, which is 0."""
    p, S, q, _ = both()
    ratios, r = S - q, torch.tensor(HITS)
    v = (r - BETA * ratios).mean()
    toy.assert_descends(
        p,
        EVERY_TOY,
        2 * BETA * centred(HITS - BETA * ratios.detach().numpy()),
        ((v + BETA * ratios - r) ** 2).mean(),
    )
    p, S, q, _ = both()
    log_Z = (r / BETA - S + q).mean()
    toy.assert_descends(
        p, EVERY_TOY, vargrad((S - q).detach().numpy(), HITS / BETA), ((log_Z + S - q - r / BETA) ** 2).mean()
    )


@pytest.mark.parametrize("lam", [1.0, 0.5, 0.0])
def test_the_prefix_losses_gradient(lam):
    """From the lambda-returns themselves: G_t = Q of the next prefix less its reward-to-go, or r at the end."""
    p, reference = toy.policy(), toy.policy(1)
    ratios = p.differentiable_token_log_probs(EVERY_TOY) - reference.differentiable_token_log_probs(EVERY_TOY).detach()
    lengths = [list(row).index(toy.END) + 1 if toy.END in row else 3 for row in EVERY_TOY]
    v = float((HITS - BETA * ratios.sum(dim=1).detach().numpy()).mean())
    loss = torch.zeros((), dtype=torch.float64)
    for row, L, r in zip(ratios, lengths, HITS, strict=True):
        Q = v + BETA * row.cumsum(0)  # of each prefix
        fixed = row.detach()
        for t in range(L):
            # n-step soft returns: after n tokens the soft value there, less what the policy's own log-ratios add on the way
            steps = [Q.detach()[t + n] - BETA * fixed[t + 1 : t + n + 1].sum() for n in range(1, L - t)]
            whole = r - BETA * fixed[t + 1 : L].sum()
            G = sum((1 - lam) * lam ** (n - 1) * step for n, step in enumerate(steps, 1)) + lam ** (L - t - 1) * whole
            loss = loss + (Q[t] - G) ** 2 / L
    found = 2 * BETA * (HITS - v - BETA * ratios.sum(dim=1).detach().numpy())
    toy.assert_descends(p, EVERY_TOY, found[:, None] * reach(np.array(lengths), 3, lam), loss / len(EVERY_TOY))


@pytest.mark.parametrize("which", ["balance", "kl_rl"])
def test_the_optimum_is_the_base_policy_times_exp_of_the_reward(which):
    p, _, q, _ = both()
    optimiser = Adam(p.network.parameters(), 0.02)
    for _ in range(1_500):
        S = logs(p).detach().numpy()
        ratios, often = S - q.numpy(), np.exp(S) * len(EVERY_TOY)
        weights = vargrad(ratios, HITS / BETA) if which == "balance" else often * centre(HITS - BETA * ratios, often)
        descend(optimiser, p.loss(EVERY_TOY, weights))
    expected = torch.log_softmax(q + torch.tensor(HITS) / BETA, 0).numpy()
    np.testing.assert_allclose(np.exp(p.log_prob(EVERY_TOY)), np.exp(expected), atol=0.01)


def test_a_minibatch_has_its_share_of_successes():
    replay = Replay(base(), EVERY.shape[1])
    replay.add(Answers(EVERY[:200], np.zeros(200, np.float32)))
    rng = np.random.default_rng(0)
    assert (replay.rewards[replay.rows(64, 0.25, rng)] == 0).all()
    replay.add(Answers(SUCCESSES[:1], np.ones(1, np.float32)))
    rows = replay.rows(64, 0.25, rng)
    assert len(rows) == 64 and 16 <= (rows == 200).sum() <= 20
    np.testing.assert_allclose(replay.reference, base().log_prob(replay.tokens), atol=1e-6)


@pytest.mark.parametrize("form", ["trajectory", "prefix"])
def test_spo_keeps_many_successes(form):
    """The base policy conditioned on success would write 32 different ones in as many draws."""
    oracle = Oracle(task(), budget=1_000)
    *_, last = make_agent("spo", {"form": form, "beta": 0.1}).learn(oracle.problem, oracle, np.random.default_rng(0))
    assert success_rate(task(), last).log10 > -0.3
    told = np.concatenate([oracle.ledger.tokens(a)[a.rewards == 1] for a in oracle.ledger.asks])
    assert len(np.unique(told, axis=0)) > 24


def only_a_and_c():
    """The task of these tests with a grammar: no b."""

    def allowed(prefix):
        mask = np.ones((len(prefix), 4), np.int8)
        mask[:, 1] = 0
        return mask

    made = task().problem
    problem = Problem(made.id, made.vocabulary, made.T, made.budget, made.base, made.end, allowed=allowed)
    return Task(problem, lambda tokens: np.zeros(len(tokens), np.int8), lambda: EVERY[:0])


@pytest.mark.parametrize("name", ["gafn", "dpg_failures"])
def test_what_is_malformed_earns_nothing(name):
    """Every answer is a failure: within the grammar the policy moves, and it leaves it no more often than before."""
    made = only_a_and_c()
    inside = made.problem.well_formed(EVERY)
    before = np.exp(base().log_prob(EVERY))
    for seed in range(3):
        oracle = Oracle(made, budget=1_000, feedback="failures")
        agent = make_agent(name, {"batch": 100, "pool": 1_000} if name == "dpg_failures" else {})
        *_, last = agent.learn(oracle.problem, oracle, np.random.default_rng(seed))
        after = np.exp(last.log_prob(EVERY))
        assert after[inside].sum() > before[inside].sum()
        within = after[inside] / after[inside].sum(), before[inside] / before[inside].sum()
        assert np.abs(within[0] - within[1]).sum() > 0.05
