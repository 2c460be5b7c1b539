"""One weight for each token of each sequence, laid on the edges of the trie that the kernel builds.

With a weight w[i, t] a step goes down the mean over i of sum_t w[i, t] x -log p(token t of sequence i). The gradient of every
loss that reads only the probabilities of written tokens is of this form: w is minus the loss's derivative by their logarithm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from banel_envs.policies.autoregressive import Floats, Ints


def written(tokens: Ints, end: int | None) -> NDArray[np.bool_]:
    """The positions [n, T] that a policy wrote: up to the first end token, which belongs to them."""
    live = np.ones(tokens.shape, bool)
    if end is not None:
        live[:, 1:] = tokens[:, :-1] != end  # behind an end token there are end tokens only
    return live


def laid_on_edges(tokens: Ints, weights: Floats, end: int | None) -> tuple[Ints, Floats]:
    """The distinct sequences [k, T] in the trie's order, and the sum of the weights [n, T] on each edge of their trie [edges].

    Where a sequence leaves the one before it, new edges begin; the tokens that they share are the same edges. The sums are
    added one after the other, so their bits are the same on every processor.
    """
    rows, which = np.unique(tokens, axis=0, return_inverse=True)
    live = written(rows, end)
    shared = np.zeros(len(rows), np.int64)  # tokens in common with the sequence before
    shared[1:] = (rows[1:] == rows[:-1]).cumprod(axis=1).sum(axis=1)
    begins = live & (np.arange(rows.shape[1]) >= shared[:, None])
    edges = np.where(begins, np.cumsum(begins).reshape(begins.shape) - 1, 0)  # numbered along the sequences
    edges = np.maximum.accumulate(edges, axis=0)
    sums = np.zeros(int(begins.sum()))
    told = written(tokens, end)
    np.add.at(sums, edges[which.reshape(-1)][told], weights[told])
    return rows, sums
