"""Novelty bonuses equal their definitions on cases worked out by hand, and malformed sequences get none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from banel_agents import make_agent
from banel_agents.novelty.coin_flip import CoinFlipConfig, CoinFlips
from banel_agents.novelty.dp_novelty import Clusters
from banel_agents.novelty.elliptical import Ellipse, HiddenStates
from banel_agents.novelty.pseudo_count import Density, pseudo_counts
from banel_envs import Oracle
from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.policies.torch_policy import TorchPolicy
from tests.shared.beginnings import END, EVERY, T, V, base, task

NAMES = ("count", "rnd", "pseudo_count", "coin_flip", "elliptical", "dp_novelty")
OFTEN, RARE = np.array([[0, 1, 0, 1, 0, 1]]), np.array([[2, 2, 1, 0, 2, 2]])


# Elliptical


@pytest.mark.parametrize("ridge", [1.0, 0.25, 3.0])
@pytest.mark.parametrize("visits", [0, 1, 2, 10])
def test_orthonormal_states_after_n_visits(ridge, visits):
    ellipse = Ellipse(4, ridge)
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    ellipse.add(np.repeat(axes[:1], visits, axis=0))
    np.testing.assert_allclose(ellipse.div(axes), [1 / (ridge + visits)] + [1 / ridge] * 3, rtol=1e-12)


def test_the_ellipse_is_that_of_the_inverse():
    states = np.random.default_rng(0).normal(size=(30, 5))
    ellipse = Ellipse(5, 0.7)
    ellipse.add(states)
    sigma = 0.7 * np.eye(5) + states.T @ states
    expected = np.einsum("nd,de,ne->n", states, np.linalg.inv(sigma), states)
    np.testing.assert_allclose(ellipse.div(states), expected, rtol=1e-10)


def test_hidden_states_are_the_means_of_the_inputs_of_the_head():
    policy, rng = base(), np.random.default_rng(0)
    hidden = HiddenStates(task().problem, policy, np.random.default_rng(0))
    rows = EVERY[[0, 5, 100, 700]]
    lengths = task().problem.lengths(rows)
    with torch.no_grad():
        whole = policy.network.features(torch.from_numpy(rows[:, :-1]))  # [n, T, width]
    means = np.stack([f[:k].mean(dim=0).numpy() for f, k in zip(whole, lengths, strict=True)])
    drawn = hidden(base().sample(500, rng))
    np.testing.assert_allclose(hidden(rows), (means - hidden._centre) * hidden._scale, atol=1e-4)
    assert np.abs(drawn.mean(axis=0)).max() < 1e-6 and np.linalg.norm(drawn, axis=1).mean() == pytest.approx(1)


def test_wide_states_are_projected():
    network = Transformer(TransformerConfig(V, T, width=80, layers=1, heads=2))
    network.initialise(np.random.default_rng(0))
    hidden = HiddenStates(task().problem, TorchPolicy(network.eval(), END), np.random.default_rng(0))
    assert hidden(EVERY[:7]).shape == (7, 64)


# Coin flips


def test_n_visits_have_a_bonus_of_the_root_of_1_in_n():
    """With many coins the mean of their squares is near its expectation; the network must find the mean coin by itself."""
    config = CoinFlipConfig(coins=400, predictor_steps=25, minibatch=64, context=6)
    flips = CoinFlips(task().problem, config, np.random.default_rng(0))
    flips.normalise(base().sample(500, np.random.default_rng(1)))
    for n in range(1, 65):
        flips.visit(OFTEN)
        if n & (n - 1) == 0:
            assert flips.bonus(OFTEN)[0] == pytest.approx(n**-0.5, rel=0.2), n


def test_a_state_that_was_never_met_has_a_bonus_of_about_1():
    flips = CoinFlips(task().problem, CoinFlipConfig(), np.random.default_rng(0))
    samples = base().sample(500, np.random.default_rng(1))
    flips.normalise(samples)
    met = flips.states.windows(samples)
    assert (flips.of_states(met) ** 2).mean() == pytest.approx(1, abs=1e-5)  # that of an output that was never trained
    for _ in range(64):
        flips.visit(OFTEN)
    assert flips.bonus(RARE)[0] > 0.5 and flips.bonus(OFTEN)[0] < 0.2


# Pseudo-counts


@pytest.mark.parametrize(("count", "total"), [(3, 10), (1, 2), (1, 10**6), (999, 1000)])
def test_the_pseudo_count_of_a_model_that_counts_is_its_count(count, total):
    before, after = np.log([count / total]), np.log([(count + 1) / (total + 1)])
    assert pseudo_counts(before, after)[0] == pytest.approx(count, rel=1e-6)


def test_a_pseudo_count_known_by_hand():
    """rho = 0.1 and rho' = 0.2: 0.1 x 0.8 / 0.1. Nothing learnt: infinite. Far too rare to be a number: e^-1000, doubled."""
    found = pseudo_counts(np.log([0.1, 0.2, 0.2]), np.log([0.2, 0.2, 0.1]))
    assert found[0] == pytest.approx(0.8) and np.isinf(found[1:]).all()
    assert pseudo_counts(np.array([-1000.0]), np.array([-1000 + np.log(2)]))[0] == pytest.approx(1)


def test_what_a_density_model_saw_often_counts_more():
    density = Density(base(), 1e-3)
    first = density.counts(OFTEN)[0]
    for _ in range(60):
        again = density.counts(OFTEN)[0]
    assert again > 3 * first and density.counts(RARE)[0] < again / 3


# Dirichlet process


def test_the_probability_of_a_new_cluster_by_hand():
    """One number, one cluster of two states at 1, alpha 1, S^2 = 3, s^2 = 1: normals of variance 4 at 0 and 1.5 at 1."""
    clusters = Clusters(1, 3.0, 1.0, 1.0)
    clusters.add(np.ones((2, 1)))
    assert clusters.k == 1 or clusters.counts[: clusters.k].sum() == 2
    clusters.k, clusters.counts[0], clusters.means[0] = 1, 2, 1
    new = np.exp(-(2.0**2) / 8) / np.sqrt(4)
    known = 2 * np.exp(-(1.0**2) / 3) / np.sqrt(1.5)
    assert clusters.new(np.array([[2.0]]))[0] == pytest.approx(new / (new + known))
    assert Clusters(1, 3.0, 1.0, 1.0).new(np.array([[2.0]]))[0] == 1


def test_of_three_normals_the_one_that_was_never_met_is_new():
    rng = np.random.default_rng(0)
    draw = lambda centre, n: rng.normal(0, 0.2, (n, 8)) + centre  # noqa: E731
    centres = np.eye(8)[:3] * 2
    clusters = Clusters(8, 1.0, 0.05, 1.0)
    clusters.add(np.concatenate((draw(centres[0], 200), draw(centres[1], 200))))
    known = clusters.new(np.concatenate((draw(centres[0], 100), draw(centres[1], 100))))
    held_out = clusters.new(draw(centres[2], 100))
    assert (held_out[:, None] > known).mean() > 0.99  # the area under the curve
    assert clusters.k < 10


# All of them


def gated_task():
    """The tiny task with a grammar: no "c" anywhere."""
    mask = np.array([1, 1, 0, 1], np.int8)
    plain = task()
    return replace(plain, problem=replace(plain.problem, allowed=lambda prefix: np.tile(mask, (len(prefix), 1))))


@pytest.mark.parametrize("name", NAMES)
def test_malformed_sequences_get_no_bonus(name):
    """With the gate the policy writes fewer of them than without it."""

    def malformed(gated):
        made = gated_task().blind()
        oracle = Oracle(made, budget=1_000, feedback="failures")
        agent = make_agent(name, {"gated": gated, "kl": 0.0})
        *_, last = agent.learn(made.problem, oracle, np.random.default_rng(0))
        return 1 - np.exp(last.log_prob(EVERY[gated_task().problem.well_formed(EVERY)])).sum()

    assert malformed(True) < 0.5 * malformed(False)


@pytest.mark.parametrize("name", NAMES)
def test_new_sequences_are_sought(name):
    made = task().blind()
    oracle = Oracle(made, budget=2_000, feedback="failures")
    list(make_agent(name).learn(made.problem, oracle, np.random.default_rng(0)))
    asked = np.concatenate([oracle.ledger.tokens(ask) for ask in oracle.ledger.asks])
    plain = base().sample(2_000, np.random.default_rng(0))
    assert len(np.unique(asked, axis=0)) > 1.2 * len(np.unique(plain, axis=0))
