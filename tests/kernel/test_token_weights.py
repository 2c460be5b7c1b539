"""A weight for each token: on the edges of the trie, in the gradient, and in a step; with the kernel and in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from banel_envs import kernel
from banel_envs.errors import BadValue
from banel_envs.policies.cost import COST
from banel_envs.policies.steps.compiled_training import CompiledTraining, Trie
from banel_envs.policies.steps.token_weights import laid_on_edges
from banel_envs.policies.training import Trainer
from tests.kernel.nets import KINDS, compiled_here, distance, gradients, policy, uniform_sequences
from tests.kernel.test_trie import batches, live, read

kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@compiled_here
@given(batches())
@settings(max_examples=200, deadline=None)
def test_each_edge_has_the_sum_of_its_tokens_weights(batch):
    tokens, V, end, rng = batch
    weights = rng.integers(-4, 5, tokens.shape).astype(np.float64)
    expected = {}
    for row, own in zip(tokens.tolist(), weights, strict=True):
        written = live(row, end)
        for t in range(1, len(written) + 1):
            expected[written[:t]] = expected.get(written[:t], 0) + own[t - 1]
    rows, sums = laid_on_edges(tokens, weights, end)
    trie = Trie(rows, V, end, weights=np.zeros(len(rows)))
    trie.weigh(sums)
    assert read(trie, end)[1] == expected


def test_the_sums_of_a_batch_known_by_hand():
    tokens = np.array([[0, 1, 2], [0, 2, 2], [0, 1, 2], [1, 2, 2]])  # 2 ends a sequence
    rows, sums = laid_on_edges(tokens, np.arange(1.0, 13).reshape(4, 3), 2)
    assert rows.tolist() == [[0, 1, 2], [0, 2, 2], [1, 2, 2]]
    # 0 in three sequences, then 1 and the end in two of them, the end after 0, then 1 and its end; nothing behind an end.
    assert sums.tolist() == [1 + 4 + 7, 2 + 8, 3 + 9, 5, 10, 11]


@compiled_here
@kinds
@pytest.mark.parametrize("end", [None, 0, 4])
def test_the_gradient_is_autograds(kind, end):
    p = policy(kind=kind, end=end, temperature=1.3)
    tokens = uniform_sequences(80, p)
    weights = np.random.default_rng(1).normal(size=tokens.shape)
    loss, exact = gradients(p.double(), tokens, weights)
    training = CompiledTraining(p.network, end, 1.3)
    trie = training.trie(tokens, weights)
    assert training.likelihood(trie) == pytest.approx(loss, rel=1e-5, abs=1e-5)
    assert distance(training.gradient.astype(float), exact) < 1e-5


@kinds
def test_equal_weights_are_those_of_sequences(kind):
    losses = []
    for shape in ((40,), (40, 6)):
        p = policy(kind=kind, end=4)
        tokens, before = uniform_sequences(40, p), COST.trained
        own = np.arange(40.0) - 20
        weights = own if len(shape) == 1 else np.repeat(own[:, None], 6, axis=1)
        trainer = Trainer(p, 1e-3)
        losses.append([trainer.step(tokens, weights) for _ in range(5)] + [COST.trained - before])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@compiled_here
@kinds
def test_the_kernel_steps_as_torch_does(kind):
    weights = np.random.default_rng(1).normal(size=(40, 6))
    found = []
    for which in ("compiled", "torch"):
        p = policy(kind=kind, end=4)
        with kernel.using(which):
            trainer = Trainer(p, 3e-3)
            found.append([trainer.step(uniform_sequences(40, p, k), weights) for k in range(10)])
    np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-4)


@compiled_here
def test_weights_of_another_shape_are_refused():
    p = policy()
    with pytest.raises(BadValue, match=r"weights have the shape \[3, 2\]; the tokens have \[3, 6\]"):
        Trainer(p, 1e-3).step(uniform_sequences(3, p), np.ones((3, 2)))
    with pytest.raises(BadValue, match="2 weights for the 3 edges"):
        Trie(np.array([[0, 1, 2]]), 3, weights=np.ones(1)).weigh(np.ones(2))


@kinds
@pytest.mark.parametrize("which", ["compiled", "torch"])
def test_token_log_probs_sum_to_the_sequences(kind, which):
    p = policy(kind=kind, end=4)
    tokens = uniform_sequences(30, p)
    with kernel.using(which if kernel.library() is not None else "torch"):
        own, largest = p.token_log_probs(tokens)
        np.testing.assert_allclose(own.sum(axis=1), p.log_prob(tokens), atol=1e-4)
        first = p.next_log_probs(np.empty((30, 0), np.int64))
    np.testing.assert_allclose(largest[:, 0], first.max(axis=1), atol=1e-5)
    assert (own <= largest).all() and (largest <= 0).all()
    ended = np.cumsum(tokens == 4, axis=1) - (tokens == 4) > 0
    assert not own[ended].any() and not largest[ended].any() and (own[~ended] < 0).all()
