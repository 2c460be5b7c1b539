"""Policies that keep to a grammar with few states. Their probabilities are exact, and they can be stored.

UniformGrammar writes every well-formed sequence with equal probability. Masked is another policy whose tokens the grammar
forbids have probability 0: the others are divided by what is left, token by token. So Masked is no conditional
distribution p(x | well-formed), whose normaliser is a sum over all sequences; it is what a masked policy samples.
A grammar is a table [S, V] of the state that follows each token, with -1 for a token that it forbids; state 0 is the empty
sequence's. A state from which no token is legal is a dead end; UniformGrammar never enters one, and Masked writes there
whatever its inner policy writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.automaton import Automaton
from banel_envs.errors import BadValue
from banel_envs.kernel import portable
from banel_envs.policies.autoregressive import Autoregressive, Floats, Ints
from banel_envs.policies.storage import checks

NONE = -1  # in the table: the token is forbidden
MOST_WORK = 2**28  # the most entries of a table times tokens of a sequence, when completions are counted


def table_of(grammar: Automaton) -> Ints:
    """An automaton as one table [S, V]: the state after each token, NONE where the token is forbidden."""
    table: Ints = np.where(grammar.mask == 1, grammar.following, NONE)
    return table


def automaton_of(following: Ints) -> Automaton:
    """The inverse of table_of."""
    return Automaton((following != NONE).astype(np.int8), np.maximum(following, 0))


class UniformGrammar(Autoregressive):
    """Every well-formed sequence with equal probability.

    A token's probability is the share of the well-formed sequences that go on with it: N(state after it) / N(state), N being
    the number of ways to complete a sequence. The numbers are kept as logarithms, because they may be very large.

    Raises:
        BadValue: no sequence is well-formed, or the grammar has too many states for this horizon.
    """

    kind = "grammar"

    def __init__(self, following: Ints, horizon: int, end: int | None) -> None:
        """`following` [S, V], see the module."""
        self.following = np.ascontiguousarray(following, np.int64)
        self.vocabulary, self.horizon, self.end = self.following.shape[1], horizon, end
        self._left = completions(self.following, horizon, end)  # [T + 1, S]
        if self._left[0, 0] == -np.inf:
            raise BadValue(f"the grammar has no well-formed sequence of {horizon} tokens; check its mask")

    @property
    def log_sequences(self) -> float:
        """The natural log of how many sequences are well-formed."""
        return float(self._left[0, 0])

    def start(self) -> Ints:
        """The automaton's state."""
        return np.zeros(1, np.int64)

    def step(self, last: Ints, position: int, state: Ints) -> tuple[Floats, Ints]:
        """The share of the completions that each token has: log-probabilities [m, V]."""
        state = _moved(self.following, last, position, state)
        log_probs = _after(self.following[state], self._left[position + 1], self.end)  # [m, V]
        total = self._left[position, state][:, None]
        # Behind a forbidden token or at a dead end there is nothing to complete. Any distribution will do, as it has
        # probability 0.
        uniform = -float(portable.log(self.vocabulary))
        dead = np.isneginf(total)
        return np.where(dead, uniform, log_probs - np.where(dead, 0.0, total)), state

    def select(self, state: Ints, rows: Ints) -> Ints:
        """The states of these prefixes."""
        return state[rows]

    def spec(self) -> dict[str, Any]:
        """What `from_spec` needs beside the table, as JSON."""
        return {"horizon": self.horizon, "end": self.end}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The table."""
        return {"following": self.following}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> UniformGrammar:
        """The inverse of spec and arrays; ValueError for what no grammar has."""
        checks.keys("the structure", spec, ("kind", "horizon", "end"))
        checks.keys("the set of arrays", dict(arrays), ("following",))
        table = arrays["following"]
        checks.automaton("following", table)
        horizon = checks.whole("horizon", spec["horizon"], 1, checks.MOST_HORIZON)
        return cls(table, horizon, checks.end(spec["end"], table.shape[1]))


class Masked(Autoregressive):
    """A policy that writes no token which the grammar forbids; the other tokens share what is left of the probability."""

    kind = "masked"

    def __init__(self, policy: Autoregressive, following: Ints) -> None:
        """`following` [S, V], see the module."""
        self.following = np.ascontiguousarray(following, np.int64)
        if self.following.shape[1] != policy.vocabulary:
            sizes = f"{self.following.shape[1]} tokens, and the policy {policy.vocabulary}"
            raise BadValue(f"the grammar has {sizes}; both must have the same vocabulary")
        self.policy = policy
        self.vocabulary, self.horizon, self.end = policy.vocabulary, policy.horizon, policy.end

    def start(self) -> Any:
        """The inner policy's state and the automaton's."""
        return self.policy.start(), np.zeros(1, np.int64)

    def step(self, last: Ints, position: int, state: Any) -> tuple[Floats, Any]:
        """The inner policy's step, forbidden tokens left out."""
        inner, at = state
        log_probs, inner = self.policy.step(last, position, inner)
        at = _moved(self.following, last, position, at)
        legal = self.following[at] != NONE  # [m, V]
        legal[~legal.any(axis=1)] = True
        kept = np.where(legal, log_probs, -np.inf)
        never = np.isneginf(kept).all(axis=1)  # the inner policy writes none of the legal tokens
        kept[never] = np.where(legal[never], 0.0, -np.inf)
        kept -= kept.max(axis=1, keepdims=True)
        return kept - portable.log(portable.total(portable.exp(kept)))[:, None], (inner, at)

    def select(self, state: Any, rows: Ints) -> Any:
        """Both states of these prefixes."""
        inner, at = state
        return self.policy.select(inner, rows), at[rows]


def completions(following: Ints, horizon: int, end: int | None) -> Floats:
    """The natural log of how many well-formed sequences go on from each state after t tokens: [T + 1, S]."""
    states, vocabulary = following.shape
    if states * vocabulary * horizon > MOST_WORK:
        work = f"{states:,} states x {vocabulary:,} tokens x {horizon:,} positions"
        raise BadValue(f"the grammar has {work}; its sequences are counted up to {MOST_WORK:,}")
    left = np.zeros((horizon + 1, states))
    for t in range(horizon - 1, -1, -1):
        ways = _after(following, left[t + 1], end)  # [S, V]
        most = ways.max(axis=1)
        most = np.where(np.isneginf(most), 0.0, most)
        left[t] = most + portable.log(portable.total(portable.exp(ways - most[:, None])))
    return left


def _after(following: Ints, left: Floats, end: int | None) -> Floats:
    """How many completions each token leaves, as logs: states that follow [m, V] to [m, V]. An end token leaves one."""
    ways: Floats = np.where(following == NONE, -np.inf, left[np.maximum(following, 0)])
    if end is not None:
        ways[:, end] = np.where(following[:, end] == NONE, -np.inf, 0.0)
    return ways


def _moved(following: Ints, last: Ints, position: int, state: Ints) -> Ints:
    """The states after one more token each. Behind a forbidden token it is any state: nothing writes such a prefix."""
    return np.maximum(following[state, last], 0) if position else state
