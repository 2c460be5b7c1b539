"""Automaton: a grammar with few states, as tables. An environment then follows it in constant time for each token."""

from __future__ import annotations

from collections.abc import Callable
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


MOST_STATES = 100_000
"""A grammar that is explored may have so many states. More would take minutes."""


def explored(
    allowed: Callable[[NDArray[np.int64]], NDArray[np.int8]],
    future: Callable[[NDArray[np.int64]], NDArray[np.int64]],
    horizon: int,
) -> Automaton:
    """The automaton of a grammar that is given as a function, over its well-formed prefixes.

    It asks the function once for each state, after the first prefix that leads there.

    Args:
        allowed: the action mask: prefixes [n, t] to tokens [n, V].
        future: prefixes [n, t] to numbers [n, k]. Well-formed prefixes with the same numbers must go on in the same way; so
            where the mask depends on how much room is left, one of the numbers is t.
        horizon: T. No prefix of T tokens goes on.

    Raises:
        BadValue: the numbers tell more than 100,000 states apart.
    """
    level = np.empty((1, 0), np.int64)  # [m, t]: the first prefix of each state that is new at this length
    known = {future(level)[0].tobytes(): 0}
    masks: list[NDArray[np.int8]] = []
    following: list[NDArray[np.int64]] = []
    for t in range(horizon):
        mask = allowed(level)  # [m, V]
        masks.append(mask)
        rows, tokens = np.nonzero(mask == 1)
        longer = np.concatenate((level[rows], tokens[:, None]), axis=1)  # [k, t + 1]
        table, new = np.zeros(mask.shape, np.int64), []
        if t + 1 < horizon:  # what follows the last token is never asked, and state 0 will do
            for k, numbers in enumerate(future(longer)):
                before = len(known)
                table[rows[k], tokens[k]] = known.setdefault(numbers.tobytes(), before)
                if len(known) > before:
                    new.append(k)
        following.append(table)
        level = longer[new]
        if len(known) > MOST_STATES:
            raise BadValue(f"{len(known):,} states after {t + 1} tokens; a grammar may have {MOST_STATES:,}")
        if not len(level):
            break
    return Automaton(np.concatenate(masks), np.concatenate(following))
