"""The trie of prefixes, against a dictionary of them."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_envs.errors import BadTokens, BadValue
from banel_envs.policies.steps.compiled_training import Trie
from tests.kernel.nets import compiled_here

pytestmark = compiled_here
ARRAYS = ("last", "depth", "parent", "first", "newest")


def read(trie, end=None):
    """Of every node its prefix, and of every prefix and token its weight in the edges, as the kernel's lists say."""
    struct = trie.struct

    def array(name, n, kind=ctypes.c_int64):
        return list((kind * n).from_address(getattr(struct, name))) if n else []

    last, depth, parent, first, newest = (array(name, trie.nodes) for name in ARRAYS)
    token, following = (array(name, struct.edges) for name in ("token", "next"))
    weight = array("weight", struct.edges, ctypes.c_double)
    prefixes, edges = [], {}
    for node in range(trie.nodes):
        assert node == 0 or parent[node] < node  # what the kernel counts on
        prefix = () if node == 0 else (*prefixes[parent[node]], last[node])
        assert depth[node] == len(prefix)
        prefixes.append(prefix)
        edge, final = first[node], -1
        while edge >= 0:
            # only a last token may have several edges
            assert (*prefix, token[edge]) not in edges or len(prefix) == trie.horizon - 1 or token[edge] == end
            edges[*prefix, token[edge]] = edges.get((*prefix, token[edge]), 0) + weight[edge]
            edge, final = following[edge], edge
        assert final == newest[node]
    assert len(edges) <= struct.edges
    return prefixes, edges


def live(row, end):
    """A sequence up to its end token, which belongs to it."""
    row = tuple(row)
    return row[: row.index(end) + 1] if end in row else row


@st.composite
def batches(draw):
    V, T, n = draw(st.integers(1, 4)), draw(st.integers(1, 7)), draw(st.integers(1, 40))
    seed = draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, V, (n, T))
    tokens = tokens[rng.integers(0, n, n)] if draw(st.booleans()) else tokens  # more duplicates
    end = draw(st.sampled_from([None, V - 1]))
    if end is not None:
        tokens[np.cumsum(tokens == end, axis=1) > 0] = end
    return tokens, V, end, rng


@given(batches())
@settings(max_examples=300, deadline=None)
def test_nodes_are_the_distinct_prefixes_and_edges_carry_the_weights(batch):
    tokens, V, end, rng = batch
    weights = rng.integers(-4, 5, len(tokens)).astype(np.float64)  # whole numbers, so that the order of sums is nothing
    trie = Trie(tokens, V, end, weights=weights)
    expected, positions = {}, 0
    for row, weight in zip(tokens.tolist(), weights, strict=True):
        written = live(row, end)
        positions += len(written)
        for t in range(1, len(written) + 1):
            expected[written[:t]] = expected.get(written[:t], 0) + weight
    prefixes, edges = read(trie, end)
    assert edges == expected
    assert set(prefixes) == {edge[:-1] for edge in expected} and len(set(prefixes)) == len(prefixes)
    assert prefixes == sorted(prefixes)  # preorder
    assert trie.positions == positions
    assert trie.last.tolist() == [V, *(prefix[-1] for prefix in prefixes[1:])]


@given(batches())
@settings(max_examples=300, deadline=None)
def test_every_prefix_reaches_its_node(batch):
    tokens, V, _, rng = batch
    lengths = rng.integers(0, tokens.shape[1], len(tokens))
    for unread in (tokens, np.where(np.arange(tokens.shape[1]) < lengths[:, None], tokens, -7)):
        trie = Trie(unread, V, lengths=lengths)
        prefixes, edges = read(trie)
        wanted = [tuple(row[:length]) for row, length in zip(tokens.tolist(), lengths, strict=True)]
        assert [prefixes[node] for node in trie.reached] == wanted
        assert set(prefixes) == {w[:t] for w in wanted for t in range(len(w) + 1)} and len(set(prefixes)) == len(
            prefixes
        )
        assert not edges


@pytest.mark.parametrize(
    ("rows", "end", "wrong"),
    [
        ([[0, 1, 2], [0, 3, 0]], None, 1),
        ([[0, -1, 2]], None, 0),
        ([[0, 1, 2**40]], None, 0),
        ([[0, 2, 2], [2, 2, 2], [2, 1, 2]], 2, 2),
        ([[1, 2, 0]], 2, 0),
    ],
)
def test_what_is_no_sequence_is_refused(rows, end, wrong):
    with pytest.raises(BadTokens, match=rf"sequence {wrong} is \[.*tokens are 0..2"):
        Trie(np.array(rows), 3, end, weights=np.ones(len(rows)))


def test_the_end_token_is_a_token_like_others_where_there_is_none():
    assert Trie(np.array([[2, 1, 2]]), 3, None, weights=np.ones(1)).nodes == 3


@pytest.mark.parametrize("lengths", [[0, 3], [-1, 2], [0], [0, 1, 2]], ids=str)
def test_lengths_that_would_write_beyond_the_arrays_are_refused(lengths):
    with pytest.raises(BadValue, match="length"):
        Trie(np.zeros((2, 3), np.int64), 3, lengths=np.array(lengths))


@pytest.mark.parametrize("weights", [np.ones(1), np.ones(3), np.ones((2, 1)), np.ones(())], ids=lambda w: str(w.shape))
def test_there_is_one_weight_for_each_sequence(weights):
    with pytest.raises(BadValue, match=r"2 sequences take \[2\]"):
        Trie(np.zeros((2, 3), np.int64), 3, weights=weights)


def test_tokens_that_are_no_integers_are_refused():
    with pytest.raises(BadTokens, match="float64; they must be integers"):
        Trie(np.full((2, 3), 0.7), 3, weights=np.ones(2))


def test_other_layouts_of_the_arrays():
    tokens = np.random.default_rng(0).integers(0, 3, (5, 30)).astype(np.int16)
    expected = read(Trie(tokens.T.copy().astype(np.int64), 3, weights=np.arange(30.0)))
    assert read(Trie(tokens.T, 3, weights=np.repeat(np.arange(30, dtype=np.float32), 2)[::2])) == expected
