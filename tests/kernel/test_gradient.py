"""The kernel's loss and gradient against autograd in float64, and its step of Adam against PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_envs.errors import BadTokens, BadValue
from banel_envs.policies.networks.gru import GRU
from banel_envs.policies.networks.markov_transformer import ChainedTransformer
from banel_envs.policies.networks.transformer import Transformer
from banel_envs.policies.steps.compiled_training import CompiledTraining
from tests.kernel.nets import KINDS, compiled_here, distance, gradients, policy, uniform_sequences

pytestmark = compiled_here
ALLOWED, FLOOR = 2.0, 2e-7  # times the error of PyTorch in float32, and about three roundings

SHAPES = {  # width, heads, layers, V, T, n; end, temperature, weights
    "smallest": ((8, 1, 1, 1, 1, 1), None, 1.0, "none"),
    "one token": ((8, 1, 1, 2, 1, 3), None, 1.0, "none"),
    "two tokens": ((16, 1, 2, 2, 6, 50), None, 1.0, "any"),
    "an end token": ((16, 2, 2, 4, 5, 64), 3, 1.0, "none"),
    "the first token ends": ((16, 2, 1, 3, 9, 40), 0, 1.0, "any"),
    "weights of 0": ((32, 4, 2, 5, 9, 100), None, 1.0, "some zero"),
    "hot": ((24, 3, 2, 7, 8, 60), 6, 3.0, "any"),
    "cold": ((24, 1, 2, 7, 8, 60), None, 0.4, "none"),
    "three layers": ((48, 2, 3, 7, 7, 90), None, 1.0, "any"),
    "a thousand tokens": ((32, 2, 1, 1_000, 6, 60), 999, 1.0, "any"),
    "long": ((32, 2, 2, 6, 40, 50), None, 1.0, "none"),
    "longer": ((16, 2, 1, 2, 98, 30), None, 1.0, "any"),
    "the package's own": ((64, 4, 2, 12, 10, 200), 11, 1.0, "none"),
    "the same sequence": ((16, 2, 2, 5, 6, 97), None, 1.0, "equal"),
    "wide": ((128, 4, 1, 10, 8, 64), None, 0.8, "large"),
}


def weights_of(name, n, rng):
    drawn = rng.normal(size=n)
    return {
        "none": None,
        "any": drawn,
        "some zero": np.where(rng.random(n) < 0.5, 0, drawn),
        "large": 1e4 * drawn**2,
        "equal": np.full(n, 0.3),
    }[name]


def made(name, kind):
    """A policy, sequences and their weights."""
    (width, heads, layers, V, T, n), end, temperature, weights = SHAPES[name]
    p = policy(width, heads, layers, V, T, kind=kind, end=end, temperature=temperature, seed=len(name), scale=1.5)
    tokens = uniform_sequences(n, p)
    if weights == "equal":
        tokens = np.repeat(tokens[:1], n, axis=0)
    return p, tokens, weights_of(weights, n, np.random.default_rng(n))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", SHAPES)
def test_loss_and_gradient_are_as_accurate_as_torchs(name, kind):
    p, tokens, weights = made(name, kind)
    loss, exact = gradients(p.double(), tokens, weights)
    _, torchs = gradients(p, tokens, weights)
    training = CompiledTraining(p.network, p.end, p.temperature)
    found = training.likelihood(training.trie(tokens, weights))
    size = np.abs(
        p.double().log_prob(tokens) * (1 if weights is None else weights)
    ).mean()  # signs may cancel in the loss
    assert abs(found - loss) <= 1e-6 * size
    if not exact.any():  # one token only: there is nothing to learn
        assert not training.gradient.any()
    else:
        assert distance(training.gradient.astype(float), exact) <= ALLOWED * distance(torchs, exact) + FLOOR


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_long_recurrent_network_is_as_accurate_as_torch(layers):
    """One chain of sums over all prefixes was four times less accurate here."""
    p = policy(64, layers=layers, V=3, T=196, kind=GRU, scale=1.0)
    tokens = p.sample(24, np.random.default_rng(0))
    _, exact = gradients(p.double(), tokens)
    _, torchs = gradients(p, tokens)
    training = CompiledTraining(p.network, None, 1.0)
    training.likelihood(training.trie(tokens))
    assert distance(training.gradient.astype(float), exact) <= ALLOWED * distance(torchs, exact)


@given(
    kind=st.sampled_from(KINDS),
    features=st.sampled_from([8, 16, 24]),
    heads=st.integers(1, 3),
    layers=st.integers(1, 3),
    V=st.integers(2, 40),
    T=st.integers(1, 9),
    n=st.integers(1, 220),
    ends=st.booleans(),
    seed=st.integers(0, 99),
    temperature=st.sampled_from([1.0, 0.5, 3.0]),
)
@settings(max_examples=40, deadline=None)
def test_the_gradient_of_any_shape(kind, features, heads, layers, V, T, n, ends, seed, temperature):
    p = policy(
        *(features * heads, heads, layers, V, T),
        kind=kind, seed=seed, end=V - 1 if ends else None, temperature=temperature, scale=1.5,
    )  # fmt: skip
    tokens = uniform_sequences(n, p, seed)
    weights = np.random.default_rng(seed).normal(size=n)
    loss, exact = gradients(p.double(), tokens, weights)
    training = CompiledTraining(p.network, p.end, temperature)
    assert training.likelihood(training.trie(tokens, weights)) == pytest.approx(loss, rel=1e-5, abs=1e-5 * T)
    for part, found in zip(torch_parts(p, exact), (training.gradient_of(w) for w in training.tensors), strict=True):
        np.testing.assert_allclose(found.ravel(), part, rtol=1e-3, atol=1e-5 * np.linalg.norm(exact))


def torch_parts(p, flat):
    return np.split(flat, np.cumsum([w.numel() for w in p.network.parameters()])[:-1])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_gradients_add_up_and_a_step_clears_them(kind):
    p = policy(kind=kind)
    tokens = uniform_sequences(30, p)
    training = CompiledTraining(p.network, None, 1.0)
    trie = training.trie(tokens)
    training.likelihood(trie)
    once = training.gradient.copy()
    training.likelihood(trie)
    np.testing.assert_allclose(training.gradient, 2 * once, rtol=1e-4, atol=1e-7)
    training.descend(1e-3)
    assert not training.gradient.any()
    assert not np.array_equal(p.log_prob(tokens), policy(kind=kind).log_prob(tokens))


@pytest.mark.parametrize("size", [1e-4, 30.0], ids=["not clipped", "clipped"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_adam_and_its_clipping_are_torchs(kind, size):
    """Thirty steps along gradients of many sizes, given to both and to Adam in float64."""
    ours, torchs, exact = policy(kind=kind), policy(kind=kind), policy(kind=kind).double()
    training = CompiledTraining(ours.network, None, 1.0)
    optimisers = [torch.optim.Adam(p.network.parameters(), lr=3e-3) for p in (torchs, exact)]
    rng = np.random.default_rng(0)
    for _ in range(30):
        drawn = rng.normal(size=training.gradient.size) * 10.0 ** rng.integers(-6, 1, training.gradient.size)
        training.gradient[:] = size * drawn
        norms = [training.descend(3e-3)]
        for p, optimiser in zip((torchs, exact), optimisers, strict=True):
            for weight, part in zip(p.network.parameters(), torch_parts(p, np.float32(size * drawn)), strict=True):
                weight.grad = torch.from_numpy(part.reshape(tuple(weight.shape))).to(weight.dtype)
            norms.append(float(torch.nn.utils.clip_grad_norm_(p.network.parameters(), 1.0)))
            optimiser.step()
        assert norms[0] == pytest.approx(norms[2], rel=1e-6)
    assert (norms[0] > 1) == (size > 1)
    begun, moved = weights(policy(kind=kind)), weights(exact)
    # float32's own error, for weights near 1, is 6e-8 a step
    assert np.abs(weights(ours) - moved).max() <= 2 * np.abs(weights(torchs) - moved).max() + 1e-7
    assert np.abs(moved - begun).max() > 1e-2


def weights(p):
    return np.concatenate([w.detach().double().numpy().ravel() for w in p.network.parameters()])


@pytest.mark.parametrize("kind", [Transformer, ChainedTransformer, GRU], ids=lambda kind: kind.__name__)
def test_a_batch_in_another_order_has_the_same_bits(kind):
    p = policy(32, kind=kind)
    tokens = np.unique(uniform_sequences(80, p), axis=0)
    found = []
    for rows in (np.arange(len(tokens)), np.random.default_rng(0).permutation(len(tokens))):
        training = CompiledTraining(p.network, None, 1.0)
        found.append((training.likelihood(training.trie(tokens[rows])), training.gradient))
    assert found[0][0] == found[1][0] and np.array_equal(found[0][1], found[1][1])


def test_longer_sequences_than_the_network_has_positions_for_are_refused():
    p = policy(T=6)
    training = CompiledTraining(p.network, None, 1.0)
    for compute in (training.likelihood, training.features):
        with pytest.raises(BadTokens, match="sequences have 7 tokens; the network takes at most 6"):
            compute(training.trie(np.zeros((2, 7), np.int64)))
    shorter = uniform_sequences(20, p)[:, :4]
    loss, exact = gradients(p.double(), shorter)
    assert training.likelihood(training.trie(shorter)) == pytest.approx(loss, rel=1e-6)
    assert distance(training.gradient.astype(float), exact) < 1e-5


@pytest.mark.parametrize(
    "move", [lambda n: n.double(), lambda n: set_data(n.head.weight)], ids=["float64", "new memory"]
)
def test_weights_that_moved_are_not_written_where_they_were(move):
    p = policy()
    training = CompiledTraining(p.network, None, 1.0)
    trie = training.trie(uniform_sequences(5, p))
    training.likelihood(trie)
    held = [w.data for w in p.network.parameters()]  # so that their memory is not given to others
    move(p.network)
    for act in (lambda: training.likelihood(trie), lambda: training.descend(1e-3), lambda: training.features(trie)):
        with pytest.raises(BadValue, match="moved or replaced since its training began"):
            act()
    assert len(held) == len(training.tensors)


def set_data(weight):
    weight.data = weight.data.clone()
