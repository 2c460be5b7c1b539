"""GRPO, RLOO, Dr. GRPO, MaxRL, MRT and ESRL: their gradients, and that they are dead on failures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from banel_agents import AGENTS, make_agent
from banel_agents.sequence.esrl import confidence, eliminated
from banel_agents.sequence.esrl_paper import ESRLPaperConfig, dynamic
from banel_agents.sequence.group import GRPO, RLOO, DrGRPO, MaxRL, clipped, pull
from banel_agents.sequence.mrt import risk
from banel_agents.shared.gradient import centred
from banel_envs import Oracle
from banel_envs.policies.torch_policy import TorchPolicy
from tests.shared import toy
from tests.shared.beginnings import base, task

DEAD = [name for name, shipped in AGENTS.items() if shipped.dead_on_failures]
TOKENS = np.array([[0, 1, 2], [2, 2, 2], [1, 1, 0], [0, 0, 2]])
REWARDS = np.array([0.0, 1, 0, 1])
CENTRED = torch.tensor([-0.5, 0.5, -0.5, 0.5], dtype=torch.float64)
LENGTHS = torch.tensor([3.0, 1, 3, 3], dtype=torch.float64)


def weights(policy):
    return torch.cat([w.flatten() for w in policy.network.state_dict().values()])


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("name", DEAD)
def test_until_a_success_is_told_no_weight_moves(name, blind):
    """By not one bit, in every policy that is yielded; where nothing succeeds under full feedback too."""
    for made, feedback in ((task().blind() if blind else task(), "failures"), (task().blind(), "full")):
        oracle = Oracle(made, budget=400, feedback=feedback)
        for policy in make_agent(name).learn(oracle.problem, oracle, np.random.default_rng(0)):
            assert torch.equal(weights(policy), weights(base()))
        assert oracle.left == 0


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", DEAD)
def test_once_successes_are_told_it_climbs(name, seed):
    oracle = Oracle(task(), budget=3_000)
    *_, last = make_agent(name).learn(oracle.problem, oracle, np.random.default_rng(seed))
    asked = [oracle.ledger.tokens(ask) for ask in oracle.ledger.asks]
    rewards = [ask.rewards for ask in oracle.ledger.asks]
    assert np.concatenate(rewards[-5:]).mean() > 0.1  # ten times the base policy's rate
    assert len(np.concatenate(asked)) == 3_000 and not torch.equal(weights(last), weights(base()))


@pytest.mark.parametrize(
    ("form", "loss"),
    [
        (GRPO, lambda S: -(CENTRED / (CENTRED.std() + 1e-8) * S / LENGTHS).mean()),
        (
            RLOO,
            lambda S: -(torch.tensor([-2 / 3, 2 / 3, -2 / 3, 2 / 3], dtype=torch.float64) * S).mean(),
        ),  # 1 - (0 + 0 + 1) / 3
        (DrGRPO, lambda S: -(CENTRED * S / 3).mean()),
        (MaxRL, lambda S: -(2 * CENTRED * S).mean() / (1 + 2e-8)),
    ],
)
def test_each_advantage_is_its_formula(form, loss):
    p = toy.policy()
    A = form.advantages(centred(REWARDS), REWARDS.mean()) / form.share(LENGTHS.numpy(), 3)
    toy.assert_descends(p, TOKENS, A, loss(p.differentiable_log_prob(TOKENS)))


def test_maxrl_is_the_likelihood_of_the_successes():
    """Over every sequence, each as often as it is written: the gradient of log P(success)."""
    p, every = toy.policy(), toy.every()
    hits = (every[:, 0] == 1).astype(float)
    chance = p.differentiable_log_prob(every).exp()
    P = float(chance.detach().numpy() @ hits)
    step = MaxRL.advantages(hits - P, P) * chance.detach().numpy() * len(every)
    toy.assert_descends(p, every, step, -torch.log(chance @ torch.tensor(hits)) / (1 + 1e-8 / P))


@pytest.mark.parametrize("clip", [0.2, 0.01])
def test_the_clipped_ratio_is_ppos(clip):
    """Some ratios are clipped and some are not, for advantages of either sign."""
    p, before = toy.policy(), toy.policy(1)
    A = np.array([1.0, -2.0, 3.0, -0.5])
    now, old = (q.differentiable_token_log_probs(TOKENS) for q in (p, before))
    rho, each = (now - old.detach()).exp(), torch.tensor(A)[:, None]
    loss = -torch.minimum(rho * each, rho.clamp(1 - clip, 1 + clip) * each).sum(dim=1).mean()
    toy.assert_descends(p, TOKENS, clipped(A, (now - old).detach().numpy(), clip), loss)


def test_the_pull_is_the_gradient_of_the_kl_estimate():
    p, reference = toy.policy(), toy.policy(1)
    log_q = reference.differentiable_token_log_probs(TOKENS).detach() - p.differentiable_token_log_probs(TOKENS)
    toy.assert_descends(p, TOKENS, pull(log_q.detach().numpy()), (log_q.exp() - log_q - 1).sum(dim=1).mean())
    assert not pull(np.zeros((2, 3))).any()


@pytest.mark.parametrize("name", ["grpo", "rloo"])
def test_more_epochs_go_further_and_the_clip_holds_them(name):
    def moved(settings):
        oracle = Oracle(task(), budget=600)
        *_, last = make_agent(name, settings).learn(oracle.problem, oracle, np.random.default_rng(3))
        return float((weights(last) - weights(base())).norm())

    assert moved({"epochs": 4}) > moved({"epochs": 4, "clip": 1e-3}) > 0


@pytest.mark.parametrize("sharpness", [5e-3, 1.0, 4.0])
def test_mrt_is_the_gradient_of_the_expected_risk(sharpness):
    p = toy.policy()
    S = p.differentiable_log_prob(TOKENS)
    loss = (torch.softmax(sharpness * S, dim=0) * (1 - torch.tensor(REWARDS))).sum()
    toy.assert_descends(p, TOKENS, risk(S.detach().numpy(), REWARDS, sharpness), loss)


def test_two_stages_have_the_gradient_of_one():
    """ESRL's first claim: sampling with the whole graph kept, and one pass over what was sampled without it."""
    p = toy.policy()
    rng, A = np.random.default_rng(0), torch.tensor(np.random.default_rng(1).normal(size=30))
    uniform = rng.random((toy.T, 30))
    alive = torch.ones(30, dtype=torch.bool)
    tokens, total = torch.full((30, toy.T), toy.END), torch.zeros(30, dtype=torch.float64)
    for t in range(toy.T):  # one stage: each token is drawn from a distribution that has a gradient
        log_probs = torch.log_softmax(p.network(tokens[:, : t + 1].clone())[:, t], dim=-1)  # reads the tokens before t
        drawn = (log_probs.exp().cumsum(dim=1) < torch.tensor(uniform[t])[:, None]).sum(dim=1).clamp(max=toy.V - 1)
        drawn = torch.where(alive, drawn, toy.END)
        tokens[:, t] = drawn
        total = total + torch.where(alive, log_probs.gather(1, drawn[:, None])[:, 0], 0.0)
        alive = alive & (drawn != toy.END)
    one = toy.flat(p, -(A * total).mean())
    two = toy.of_step(p, tokens.numpy(), A.numpy())
    np.testing.assert_allclose(two, one, atol=1e-6 * np.abs(one).max())


def test_the_most_confident_are_not_asked():
    p = toy.policy()
    tokens = toy.every()
    scores = []
    for row in tokens:
        length = list(row).index(2) + 1 if 2 in row else 3
        prefixes = [np.exp(p.next_log_probs(row[None, :t])[0].max()) for t in range(length)]
        scores.append(np.mean([np.exp(x) * x for x in prefixes]))
        assert confidence(p, row[None], weighted=False) == pytest.approx(np.mean(prefixes))
    np.testing.assert_allclose(confidence(p, tokens, weighted=True), scores)
    kept = eliminated(p, tokens, 0.3)
    assert len(kept) == len(tokens) - int(0.3 * len(tokens))
    assert max(np.array(scores)[kept]) <= min(np.delete(scores, kept))
    assert len(eliminated(p, tokens[:1], 1.0)) == 1


@pytest.mark.parametrize(("sampling", "asked"), [("released", 35), ("none", 50)])
def test_elimination_asks_fewer(sampling, asked):
    oracle = Oracle(task().blind(), budget=300)
    list(make_agent("esrl", {"sampling": sampling}).learn(oracle.problem, oracle, np.random.default_rng(0)))
    sizes = [len(ask.rewards) for ask in oracle.ledger.asks]
    assert set(sizes[:-1]) == {asked}


@pytest.mark.parametrize(
    ("able", "n", "temperature"),
    [(0.0, 50, 1.0), (0.25, 38, 1.125), (0.5, 25, 1.25), (0.9, 10, 1.45), (1.0, 10, 1.5)],
)
def test_the_more_able_the_fewer_and_the_hotter_are_the_samples(able, n, temperature):
    assert dynamic(able, ESRLPaperConfig()) == (n, pytest.approx(temperature))


@pytest.mark.parametrize("capability", ["confidence", "reward"])
def test_dynamic_sampling_goes_by_the_capability_of_the_round_before(capability, monkeypatch):
    """Of confidence in every round, of reward only where something succeeds."""
    heat = []
    tempered = TorchPolicy.tempered
    monkeypatch.setattr(TorchPolicy, "tempered", lambda self, t: heat.append(t) or tempered(self, t))
    oracle = Oracle(task().blind(), budget=300)
    settings = {"capability": capability}
    list(make_agent("esrl_paper", settings).learn(oracle.problem, oracle, np.random.default_rng(0)))
    sizes = [len(ask.rewards) for ask in oracle.ledger.asks]
    assert (sizes[0], heat[0]) == (50, 1.0)  # before the first round nothing is known of what it can do
    if capability == "reward":
        assert set(sizes) == {50} and set(heat) == {1.0}  # nothing succeeds
        return
    first = oracle.ledger.tokens(oracle.ledger.asks[0])
    able = confidence(base(), first, weighted=False).mean()
    assert (sizes[1], pytest.approx(heat[1])) == dynamic(able, ESRLPaperConfig())
    assert max(sizes[1:]) < 50 and max(heat) > 1
