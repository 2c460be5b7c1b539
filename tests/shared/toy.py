"""A policy over three tokens, to compare an agent's gradient with autograd of the objective that its module states."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.policies.torch_policy import TorchPolicy

V, T, END = 3, 3, 2


def policy(seed=0, end=END):
    """In float64."""
    network = Transformer(TransformerConfig(V, T, width=8, layers=1, heads=1))
    network.initialise(np.random.default_rng(seed))
    with torch.no_grad():
        network.head.weight.mul_(4.0)
    return TorchPolicy(network.eval(), end).double()


def every(end=END):
    """All sequences [n, T]."""
    rows = [row for row in itertools.product(range(V), repeat=T)]
    if end is not None:
        rows = [row for row in rows if all(b == end for a, b in itertools.pairwise(row) if a == end)]
    return np.array(rows, np.int64)


def flat(p, loss):
    """The gradient of a scalar by all weights [all]."""
    p.network.zero_grad()
    loss.backward()
    return np.concatenate([w.grad.numpy().ravel() for w in p.network.parameters()])


def of_step(p, tokens, weights):
    """The gradient that a step with these weights descends."""
    return flat(p, p.loss(tokens, weights))


def assert_descends(p, tokens, weights, loss):
    """A step with these weights goes down the loss: its gradient is autograd's."""
    expected = flat(p, loss)
    assert np.abs(expected).max() > 1e-6
    np.testing.assert_allclose(of_step(p, tokens, weights), expected, rtol=1e-9, atol=1e-12)
