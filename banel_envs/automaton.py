"""Automaton: a grammar with few states, as tables. An environment then follows it in constant time for each token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BadValue


@dataclass(frozen=True, eq=False)
class Automaton:
    """A grammar whose action mask depends only on a state, which each token changes. It can be a Problem's `allowed`.

    Raises:
        BadValue: the two tables have different shapes, or a token leads to a state that does not exist.
    """

    mask: NDArray[
        np.int8
    ]  # [S, V]: which tokens keep a sequence well-formed in each state; state 0 is the empty sequence's
    following: NDArray[np.int64]  # [S, V]: the state after each token, those that the mask forbids included

    def __post_init__(self) -> None:
        if self.mask.ndim != 2 or self.mask.shape != self.following.shape:
            shapes = f"{list(self.mask.shape)} and {list(self.following.shape)}"
            raise BadValue(f"the tables have the shapes {shapes}; both are [states, vocabulary]")
        states = len(self.mask)
        if self.following.size and not 0 <= self.following.min() <= self.following.max() < states:
            limits = f"{self.following.min()}..{self.following.max()}"
            raise BadValue(f"the states that follow are {limits}; they must be among 0..{states - 1}")

    def __call__(self, prefix: NDArray[np.int64]) -> NDArray[np.int8]:
        """Prefixes [n, t] to the mask [n, V] of tokens that keep each of them well-formed."""
        return self.mask.take(self.states(prefix), axis=0)

    def states(self, prefix: NDArray[np.int64]) -> NDArray[np.int64]:
        """The states [n] after prefixes [n, t]."""
        state = np.zeros(len(prefix), np.int64)
        for column in prefix.T:
            state = self.step(state, column)
        return state

    def step(self, state: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """The states [n] after one more token each, tokens [n]."""
        following: NDArray[np.int64] = self.following.take(state * self.following.shape[1] + tokens)
        return following
