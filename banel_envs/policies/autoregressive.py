"""Autoregressive: exact sampling and scoring for any model that predicts one token after another.

A subclass gives three small methods over a batch of prefixes (`start`, `step`, `select`). Sampling and scoring
stand here once, and compute each distinct prefix once: n samples walk the tree of prefixes that they really
reach, and a set of sequences is scored along its trie. In the first positions that is a handful of rows for
any n. Log-probabilities are summed in float64.

A vocabulary may be large. Then fewer sequences are walked at once (`rows_at_once`), and no table of nodes x V is made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BadPolicy, BadTokens, BadValue
from banel_envs.kernel import portable
from banel_envs.policies.cost import COST
from banel_envs.policies.weights import blame

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

CHUNK = 16_384  # sequences walked at once: bounds memory, still shares nearly every short prefix
NUMBERS = (
    2**24
)  # the most numbers in the distributions of a walk at one position; above V = 1,024 it bounds the sequences
TABLE = 2**22  # the most entries of a table of prefixes x V; where it would have more, what is reached is sorted


def rows_at_once(vocabulary: int) -> int:
    """How many sequences over V tokens are walked at once: CHUNK, or fewer where their distributions would need more room."""
    return max(1, min(CHUNK, NUMBERS // vocabulary))


class Watch(Protocol):
    """Is shown every next-token distribution that a set of sequences is scored by, and may raise."""

    def start(self, tokens: Ints) -> None:
        """A walk starts along these sequences [n, T], in lexicographic order."""
        ...

    def see(self, position: int, log_probs: Floats, alive: Ints, node: Ints, column: Ints) -> None:
        """The distributions [m, V] at a position, after each distinct prefix once.

        `alive` [k] are the sequences that reach the position, `node` [k] the prefix that each of them stands at, and
        `column` [k] its token there.
        """
        ...


class Autoregressive(ABC):
    """A policy given by its next-token distribution; V, T and end as in Problem."""

    vocabulary: int  # V
    horizon: int  # T
    end: int | None

    @abstractmethod
    def start(self) -> Any:
        """The state of the one empty prefix."""

    @abstractmethod
    def step(self, last: Ints, position: int, state: Any) -> tuple[Floats, Any]:
        """Next-token log-probabilities [m, V] after appending `last` [m] (V at position 0), and the new state."""

    @abstractmethod
    def select(self, state: Any, rows: Ints) -> Any:
        """The state of the prefixes `rows` [k], repeats allowed."""

    def sample(self, n: int, rng: np.random.Generator) -> Ints:
        """Independent sequences [n, T]: one uniform number a token, inverted through the next-token distribution."""
        if n < 0:
            raise BadValue(f"{n} samples asked; n must be at least 0")
        if n == 0:
            return np.empty((0, self.horizon), np.int64)
        size = rows_at_once(self.vocabulary)
        pieces = [self._sample(min(size, n - i), rng) for i in range(0, n, size)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _sample(self, n: int, rng: np.random.Generator) -> Ints:
        V, T = self.vocabulary, self.horizon
        tokens = np.full((n, T), -1 if self.end is None else self.end, np.int64)  # [n, T]
        uniform = rng.random((T, n))
        alive = np.arange(n)  # sequences not yet ended
        node = np.zeros(n, np.int64)  # the distinct prefix that each of them stands at
        last, state = np.array([V]), self.start()
        for position in range(T):
            try:
                chosen, state = self._draw(last, position, state, node, uniform[position, alive])
            except BadPolicy as error:
                raise BadPolicy(f"{error}, at position {position}{blame(self)}") from None
            tokens[alive, position] = chosen
            COST.sampled += len(alive)
            if position == T - 1:
                break
            if self.end is not None:
                going = np.flatnonzero(chosen != self.end)
                if len(going) == 0:
                    break
                alive, node, chosen = alive[going], node[going], chosen[going]
            parents, last, node = _children(node, chosen, len(last), V)
            state = self.select(state, parents)
        return tokens

    def _draw(self, last: Ints, position: int, state: Any, node: Ints, uniform: Floats) -> tuple[Ints, Any]:
        """One step, and the tokens [k] that uniform numbers [k] choose after the prefixes `node` [k]; and the new state."""
        log_probs, state = self.step(last, position, state)  # [m, V]
        return invert(log_probs, node, uniform), state

    def log_prob(self, tokens: Ints) -> Floats:
        """Log-probability [n] of sequences [n, T], each distinct prefix computed once."""
        return self.watched_log_prob(tokens)

    def watched_log_prob(self, tokens: Ints, watch: Watch | None = None) -> Floats:
        """log_prob [n]; `watch` is shown every distribution of the walk, where the sequences are scored by one.

        Raises:
            BadPolicy: a log-probability is NaN.
        """
        tokens = np.asarray(tokens)
        if tokens.dtype.kind not in "iu":
            raise BadTokens(f"tokens are {tokens.dtype}, not integers")
        tokens = tokens.astype(np.int64, copy=False)
        if tokens.ndim != 2 or tokens.shape[1] != self.horizon:
            raise BadTokens(f"tokens have shape {list(tokens.shape)}; this policy scores [n, {self.horizon}]")
        if tokens.size and not (tokens.min() >= 0 and tokens.max() < self.vocabulary):
            raise BadTokens(f"tokens must lie in 0..{self.vocabulary - 1}, got {tokens.min()}..{tokens.max()}")
        if self.end is not None and ((tokens[:, :-1] == self.end) & (tokens[:, 1:] != self.end)).any():
            raise BadTokens(f"a token follows the end token {self.end}; pad with the end token")
        order = np.lexsort(tokens.T[::-1])
        result = np.empty(len(tokens), np.float64)
        size = rows_at_once(self.vocabulary)
        for i in range(0, len(tokens), size):
            rows = order[i : i + size]
            result[rows] = self._score_sorted(tokens[rows], watch)
        if np.isnan(result).any():
            raise BadPolicy(f"its log-probability of a sequence is NaN{blame(self)}")
        return result

    def token_log_probs(self, tokens: Ints) -> tuple[Floats, Floats]:
        """Of sequences [n, T] the log-probability of each token, and the largest one that it could have had there: [n, T] each.

        Both are 0 behind the first end token.
        """
        tokens = np.asarray(tokens, np.int64)
        order = np.lexsort(tokens.T[::-1])
        own, largest = np.zeros(tokens.shape), np.zeros(tokens.shape)
        size = rows_at_once(self.vocabulary)
        for i in range(0, len(tokens), size):
            rows = order[i : i + size]
            kept = _Kept(len(rows), self.horizon)
            self._score_from(self.start(), tokens[rows], kept)
            own[rows], largest[rows] = kept.own, kept.largest
        return own, largest

    def _score_sorted(self, tokens: Ints, watch: Watch | None = None) -> Floats:
        """log_prob of rows in lexicographic order, where equal prefixes are neighbours."""
        return self._score_from(self.start(), tokens, watch)

    def _score_from(self, state: Any, tokens: Ints, watch: Watch | None = None) -> Floats:
        """The same, from the state of the empty prefix."""
        V = self.vocabulary
        if watch is not None:
            watch.start(tokens)
        total = np.zeros(len(tokens))
        alive = np.arange(len(tokens))
        node = np.zeros(len(tokens), np.int64)
        last = np.array([V])
        for position in range(self.horizon):
            log_probs, state = self.step(last, position, state)  # [m, V]
            column = tokens[alive, position]
            if watch is not None:
                watch.see(position, log_probs, alive, node, column)
            total[alive] += log_probs[node, column]
            COST.scored += len(alive)
            going = column != self.end
            if position == self.horizon - 1 or not going.any():
                break
            alive, parent, column = alive[going], node[going], column[going]
            first = np.ones(len(alive), bool)  # where a new distinct prefix begins
            first[1:] = (parent[1:] != parent[:-1]) | (column[1:] != column[:-1])
            node = np.cumsum(first) - 1
            last = column[first]
            state = self.select(state, parent[first])
        return total

    def next_log_probs(self, prefix: Ints) -> Floats:
        """Next-token log-probabilities [n, V] after prefixes [n, t]; a prefix that has ended gives the end token."""
        prefix = np.asarray(prefix, np.int64)
        t = prefix.shape[1]
        if t >= self.horizon:
            raise BadTokens(f"a prefix of {t} tokens has no next token; the horizon is {self.horizon}")
        return in_blocks(self._next_log_probs, prefix, rows_at_once(self.vocabulary))

    def _next_log_probs(self, prefix: Ints) -> Floats:
        log_probs = self._after(prefix)
        if self.end is not None and prefix.shape[1]:
            ended = prefix[:, -1] == self.end
            log_probs[ended] = -np.inf
            log_probs[ended, self.end] = 0.0
        return log_probs

    def _after(self, prefix: Ints) -> Floats:
        """Next-token log-probabilities [n, V] after prefixes [n, t], whatever those behind an end token are."""
        n, t = prefix.shape
        state = self.select(self.start(), np.zeros(n, np.int64))
        last = np.full(n, self.vocabulary)
        for position in range(t):
            _, state = self.step(last, position, state)
            last = prefix[:, position]
        return self.step(last, t, state)[0]


class _Kept:
    """A Watch that keeps the log-probability of each token and the largest one beside it."""

    def __init__(self, n: int, horizon: int) -> None:
        self.own, self.largest = np.zeros((n, horizon)), np.zeros((n, horizon))

    def start(self, tokens: Ints) -> None:
        """Nothing to prepare."""

    def see(self, position: int, log_probs: Floats, alive: Ints, node: Ints, column: Ints) -> None:
        """Keep what is asked for."""
        self.own[alive, position] = log_probs[node, column]
        self.largest[alive, position] = log_probs.max(axis=1)[node]


def invert(log_probs: Floats, node: Ints, uniform: Floats) -> Ints:
    """Tokens drawn by inverting each row's cumulative distribution: log_probs [m, V], node and uniform [k] to [k]."""
    size = max(1, TABLE // log_probs.shape[1])
    if max(len(log_probs), len(node)) <= size:
        chosen: Ints = (_cumulative(log_probs).take(node, axis=0) > uniform[:, None]).argmax(axis=1)
        return chosen
    chosen = np.empty(len(node), np.int64)
    order = np.argsort(node, kind="stable")
    for low in range(0, len(log_probs), size):
        cumulative = _cumulative(log_probs[low : low + size])
        for k in order[slice(*np.searchsorted(node, (low, low + size), sorter=order))]:
            chosen[k] = cumulative[node[k] - low].searchsorted(uniform[k], side="right")  # the first that is larger
    return chosen


def _cumulative(log_probs: Floats) -> Floats:
    """The cumulative distributions of log_probs [m, V]; BadPolicy where a row is none."""
    cumulative: Floats = np.add.accumulate(portable.exp(log_probs), axis=1)
    mass = cumulative[:, -1:]
    if not ((mass > 0) & (mass < np.inf)).all():
        raise BadPolicy("its next-token probabilities are NaN, infinite or all 0")
    cumulative /= mass  # the last is 1 exactly, and above every uniform number
    return cumulative


def in_blocks(answer: Callable[[Ints], Floats], prefix: Ints, size: int) -> Floats:
    """What a function of prefixes [n, t] answers, [n, V], asked of at most `size` of them at once."""
    if len(prefix) <= size:
        return answer(prefix)
    return np.concatenate([answer(prefix[low : low + size]) for low in range(0, len(prefix), size)])


def _children(node: Ints, chosen: Ints, m: int, V: int) -> tuple[Ints, Ints, Ints]:
    """The distinct prefixes that sequences reach from m nodes: parent [k] and token [k], in order; which one each [n]."""
    if len(node) == 1:
        return node, chosen, np.zeros(1, np.int64)
    key = node * V + chosen
    if m * V > TABLE:
        reached, place = np.unique(key, return_inverse=True)
        return *np.divmod(reached, V), place
    taken = np.zeros(m * V, bool)
    taken[key] = True
    reached = np.flatnonzero(taken)
    parents, last = np.divmod(reached, V)
    place = np.empty(m * V, np.int64)
    place[reached] = np.arange(len(reached))
    return parents, last, place[key]


def logsumexp(values: Floats) -> float:
    """log(sum(exp(values))) without overflow; -inf for none."""
    if len(values) == 0 or (top := float(values.max())) == -np.inf:
        return -np.inf
    return top + float(portable.log(portable.total(portable.exp(values - top))))
