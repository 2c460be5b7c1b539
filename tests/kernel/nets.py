"""Networks of every kind that the kernel knows, for its tests, with weights that leave nothing at 0 or 1."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from banel_envs import kernel
from banel_envs.policies.networks.gru import GRU, GRUConfig
from banel_envs.policies.networks.markov_transformer import ChainedTransformer
from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.policies.torch_policy import TorchPolicy

torch.set_num_threads(1)
compiled_here = pytest.mark.skipif(kernel.library() is None, reason="no C compiler built the kernel")
KINDS = (Transformer, ChainedTransformer, GRU)


def policy(width=16, heads=2, layers=2, V=5, T=6, *, kind=Transformer, seed=0, scale=3.0, end=None, temperature=1.0):
    sizes = GRUConfig(V, T, width, layers) if kind is GRU else TransformerConfig(V, T, width, layers, heads)
    net = kind(sizes)
    net.initialise(np.random.default_rng(seed))
    rng = np.random.default_rng(seed)  # PyTorch's numbers would depend on the processor
    with torch.no_grad():
        for weight in net.parameters():  # biases and norms too, so that leaving one out shows
            weight.add_(torch.from_numpy(rng.normal(0, 0.1, tuple(weight.shape))))
        net.head.weight.mul_(scale)
    return TorchPolicy(net.eval(), end, temperature)


def uniform_sequences(n, p, seed=0):
    """Sequences [n, T] of any tokens; behind an end token there are end tokens only."""
    tokens = np.random.default_rng(seed).integers(0, p.vocabulary, (n, p.horizon))
    if p.end is not None:
        tokens[np.cumsum(tokens == p.end, axis=1) > 0] = p.end
    return tokens


def gradients(p, tokens, weights=None):
    """The loss and its gradient [all weights], by autograd, in the precision of the network."""
    p.network.zero_grad()
    loss = p.loss(tokens, weights)
    loss.backward()
    return loss.item(), np.concatenate([w.grad.double().numpy().ravel() for w in p.network.parameters()])


def distance(found, exact):
    """The norm of the difference, relative to the norm of what is exact."""
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
