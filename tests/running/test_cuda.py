"""The same code on a GPU: `--device cuda`. Skipped where torch finds none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from banel_agents import AGENTS
from banel_envs.policies.networks.gru import GRU, GRUConfig
from banel_envs.policies.networks.markov_transformer import ChainedTransformer
from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.policies.torch_policy import FEW, TorchPolicy
from banel_leaderboard import run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

V, T = 5, 12
NETWORKS = {
    "transformer": lambda: Transformer(TransformerConfig(V, T, 16, 2, heads=2)),
    "gru": lambda: GRU(GRUConfig(V, T, 16)),
    "chained": lambda: ChainedTransformer(TransformerConfig(V, T, 16, 2, heads=4)),
}


@pytest.mark.parametrize("n", [3, FEW + 1, 1500])
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_policy_there_is_the_policy_here(kind, n):
    network = NETWORKS[kind]()
    network.initialise(np.random.default_rng(0))
    here = TorchPolicy(network.eval(), end=V - 1)
    there = here.double().to("cuda")
    tokens = here.double().sample(n, np.random.default_rng(1))
    assert np.array_equal(there.sample(n, np.random.default_rng(1)), tokens)
    exact = here.double().log_prob(tokens)
    np.testing.assert_allclose(there.log_prob(tokens), exact, rtol=1e-9)
    np.testing.assert_allclose(here.clone().to("cuda").log_prob(tokens), exact, rtol=1e-3)  # TF32 products may be on
    np.testing.assert_allclose(
        there.next_log_probs(tokens[:, :1]), here.double().next_log_probs(tokens[:, :1]), rtol=1e-9
    )
    assert there.loss(tokens).item() == pytest.approx(here.double().loss(tokens).item())


@pytest.mark.parametrize("agent", sorted(AGENTS))
def test_every_agent_runs_there(agent, tmp_path):
    record = run("tests.shared.small:network", agent, 0, out=tmp_path, device="cuda", feedback="full")
    assert record.points[-1].nre == record.ledger.count <= record.budget
