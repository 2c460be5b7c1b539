"""Policies that need no training, and policies that are composed of other policies. Their probabilities are exact.

Uniform writes every token with equal probability. Tempered changes the temperature of a policy. Mixture draws from one of
several policies. Excluding never writes the sequences of a known set. Repeating writes one sequence only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BadValue
from banel_envs.kernel import portable
from banel_envs.policies.autoregressive import (
    CHUNK,
    NUMBERS,
    Autoregressive,
    Floats,
    Ints,
    in_blocks,
    logsumexp,
    rows_at_once,
)
from banel_envs.policies.protocol import Policy, parts_of
from banel_envs.policies.storage import checks


class Uniform(Autoregressive):
    """A policy that writes every token with equal probability at every position."""

    kind = "uniform"

    def __init__(self, vocabulary: int, horizon: int, end: int | None) -> None:
        self.vocabulary, self.horizon, self.end = vocabulary, horizon, end

    def start(self) -> int:
        """The number of prefixes; nothing else of them matters."""
        return 1

    def step(self, last: Ints, position: int, state: int) -> tuple[Floats, int]:
        """log(1/V) everywhere."""
        return np.full((state, self.vocabulary), -float(portable.log(self.vocabulary))), state

    def select(self, state: int, rows: Ints) -> int:
        """The number of selected prefixes."""
        return len(rows)

    def spec(self) -> dict[str, Any]:
        """What `from_spec` needs, as JSON."""
        return {"vocabulary": self.vocabulary, "horizon": self.horizon, "end": self.end}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """No arrays are needed."""
        return {}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Uniform:
        """The inverse of spec; ValueError for sizes that no policy has."""
        checks.keys("the structure", spec, ("kind", "vocabulary", "horizon", "end"))
        vocabulary = checks.whole("vocabulary", spec["vocabulary"], 1, checks.MOST_VOCABULARY)
        horizon = checks.whole("horizon", spec["horizon"], 1, checks.MOST_HORIZON)
        checks.keys("the set of arrays", dict(arrays), ())
        return cls(vocabulary, horizon, checks.end(spec["end"], vocabulary))


class Tempered(Autoregressive):
    """A policy at a temperature: each next-token probability is raised to 1 / temperature, and then all are normalised."""

    kind = "tempered"

    def __init__(self, policy: Autoregressive, temperature: float) -> None:
        if not temperature > 0:
            raise BadValue(f"temperature is {temperature!r}; it must be a number above 0")
        self.policy, self.temperature = policy, temperature
        self.vocabulary, self.horizon, self.end = policy.vocabulary, policy.horizon, policy.end

    def start(self) -> Any:
        """The inner policy's state."""
        return self.policy.start()

    def step(self, last: Ints, position: int, state: Any) -> tuple[Floats, Any]:
        """The inner policy's step at the temperature."""
        log_probs, state = self.policy.step(last, position, state)
        log_probs = log_probs / self.temperature
        log_probs -= log_probs.max(axis=1, keepdims=True)  # so that exp cannot overflow
        return log_probs - portable.log(portable.total(portable.exp(log_probs)))[:, None], state

    def select(self, state: Any, rows: Ints) -> Any:
        """The inner policy's state of these prefixes."""
        return self.policy.select(state, rows)


class Mixture:
    """An even mixture of policies: each sequence is drawn by a random member, and its probability is the members' mean."""

    kind = "mixture"

    def __init__(self, members: Sequence[Policy]) -> None:
        if not members:
            raise BadValue("a mixture needs at least 1 member")
        self.members = tuple(members)

    def sample(self, n: int, rng: np.random.Generator) -> Ints:
        """Sequences [n, T], each from a member that is drawn for it."""
        owner = rng.integers(len(self.members), size=n)
        parts = [m.sample(int((owner == k).sum()), rng) for k, m in enumerate(self.members)]
        tokens = np.concatenate(parts)  # in the order of the members; the next line puts each at the place drawn for it
        tokens[np.argsort(owner, kind="stable")] = tokens.copy()
        return tokens

    def log_prob(self, tokens: Ints) -> Floats:
        """Log of the members' mean probability: [n]."""
        return log_mean(np.stack([m.log_prob(tokens) for m in self.members]))

    def next_log_probs(self, prefix: Ints) -> Floats:
        """The members' next-token distributions [n, V], each weighted by the probability that it wrote the prefix."""
        size = max(1, min(CHUNK, NUMBERS // max(1, len(self.members) * _vocabulary(self))))
        return in_blocks(self._next_log_probs, prefix, size)

    def _next_log_probs(self, prefix: Ints) -> Floats:
        n, t = prefix.shape
        written = np.zeros((len(self.members), n))  # [members, n]
        for i in range(t):
            for k, m in enumerate(self.members):
                written[k] += m.next_log_probs(prefix[:, :i])[np.arange(n), prefix[:, i]]
        written[:, np.isneginf(written).all(axis=0)] = 0.0  # no member writes this prefix, so all have the same weight
        weight = written - log_mean(written)
        steps = np.stack([m.next_log_probs(prefix) for m in self.members])
        return log_mean(steps + weight[:, :, None])


def _vocabulary(policy: Any) -> int:
    """V of a composed policy: its parts'; 1 where they do not say, which is a policy of one's own."""
    return max((_vocabulary(part) for part in parts_of(policy)), default=getattr(policy, "vocabulary", 1))


def log_mean(logs: Floats) -> Floats:
    """Log of the mean of exp(logs) over the first axis."""
    most = logs.max(axis=0)
    most = np.where(np.isneginf(most), 0.0, most)  # where all are -inf, so is the result
    result: Floats = most + portable.log(portable.total(np.moveaxis(portable.exp(logs - most), 0, -1)) / len(logs))
    return result


class Excluding:
    """A policy that never writes a sequence of a known set: the inner policy, conditioned on that.

    It samples by rejection. The set's probability is known, so its log-probabilities are exact: log p(x) - log(1 - p(set)).
    """

    kind = "excluding"

    def __init__(self, policy: Policy, excluded: Ints, log_probs: Floats | None = None) -> None:
        """`excluded` [k, T] are distinct sequences; `log_probs` [k] are their log-probabilities, if these are known."""
        self.policy = policy
        self.excluded = np.asarray(excluded, np.int64)
        self.excluded_log_probs = policy.log_prob(self.excluded) if log_probs is None else log_probs
        self._keys = set(map(bytes, np.ascontiguousarray(self.excluded)))
        # A sequence given twice would be counted twice in the probability that is taken away.
        if len(self._keys) != len(self.excluded):
            repeats = len(self.excluded) - len(self._keys)
            raise BadValue(f"{repeats} of the {len(self.excluded)} excluded sequences are repeats; give each once")
        mass = float(portable.exp(logsumexp(self.excluded_log_probs)))
        if mass >= 1 - 1e-9:
            raise BadValue(f"the excluded set holds all but {1 - mass:.1e} of the policy's mass: nothing is left")
        self.log_left = float(portable.log(1 - mass))

    def sample(self, n: int, rng: np.random.Generator) -> Ints:
        """Independent sequences [n, T] outside the set."""
        parts: list[Ints] = []
        missing, left = n, float(portable.exp(self.log_left))
        while missing or not parts:
            # As many as are needed on average. One draw for each missing sequence would take for ever where the set holds
            # nearly all of the probability.
            drawn = self.policy.sample(min(CHUNK, math.ceil(missing / left)), rng)
            kept = drawn[~self.contains(drawn)][:missing]
            parts.append(kept)
            missing -= len(kept)
        return np.concatenate(parts)

    def contains(self, tokens: Ints) -> NDArray[np.bool_]:
        """Which rows of [n, T] are in the excluded set: [n]."""
        rows = np.ascontiguousarray(tokens, np.int64)
        return np.fromiter((bytes(row) in self._keys for row in rows), bool, len(rows))

    def log_prob(self, tokens: Ints) -> Floats:
        """Log-probability [n]: -inf inside the set; outside, the inner policy's divided by the probability that is left."""
        scored = self.policy.log_prob(tokens) - self.log_left
        return np.where(self.contains(tokens), -np.inf, scored)

    def next_log_probs(self, prefix: Ints) -> Floats:
        """Next-token distributions [n, V]: from each token's probability, that of the excluded sequences after it is taken."""
        return in_blocks(self._next_log_probs, prefix, rows_at_once(_vocabulary(self)))

    def _next_log_probs(self, prefix: Ints) -> Floats:
        steps = self.policy.next_log_probs(prefix)  # [n, V]
        written = np.zeros(len(prefix))
        for i in range(prefix.shape[1]):
            written += self.policy.next_log_probs(prefix[:, :i])[np.arange(len(prefix)), prefix[:, i]]
        mass = portable.exp(steps + written[:, None])
        for row, begun in enumerate(prefix):
            behind = (self.excluded[:, : len(begun)] == begun).all(axis=1)
            np.subtract.at(mass[row], self.excluded[behind, len(begun)], portable.exp(self.excluded_log_probs[behind]))
        mass = mass.clip(0)
        # After a prefix that is never written, no probability is left to divide by, so the inner policy's tokens are used.
        never = mass.sum(axis=1) == 0
        mass[never] = portable.exp(steps[never])
        return portable.log(mass / portable.total(mass)[:, None])


class Repeating:
    """A policy that writes one sequence only."""

    kind = "repeating"

    def __init__(self, tokens: Ints, vocabulary: int) -> None:
        """`tokens` [T] and the size V of the vocabulary."""
        self.tokens = np.asarray(tokens, np.int64)
        self.vocabulary, self.horizon = vocabulary, len(self.tokens)

    def sample(self, n: int, rng: np.random.Generator) -> Ints:
        """The sequence n times: [n, T]."""
        return np.tile(self.tokens, (n, 1))

    def log_prob(self, tokens: Ints) -> Floats:
        """0 for the sequence, -inf for every other: [n]."""
        return np.where((np.asarray(tokens) == self.tokens).all(axis=1), 0.0, -np.inf)

    def next_log_probs(self, prefix: Ints) -> Floats:
        """The next token of the sequence has probability 1: [n, V]."""
        result = np.full((len(prefix), self.vocabulary), -np.inf)
        result[:, self.tokens[prefix.shape[1]]] = 0.0
        return result

    def spec(self) -> dict[str, Any]:
        """What `from_spec` needs beside the sequence."""
        return {"vocabulary": self.vocabulary}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The sequence."""
        return {"tokens": self.tokens}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Repeating:
        """The inverse of spec and arrays; ValueError unless the sequence is of the vocabulary."""
        checks.keys("the structure", spec, ("kind", "vocabulary"))
        checks.keys("the set of arrays", dict(arrays), ("tokens",))
        vocabulary = checks.whole("vocabulary", spec["vocabulary"], 1, checks.MOST_VOCABULARY)
        checks.sequences("tokens", arrays["tokens"], 1, vocabulary)
        return cls(arrays["tokens"], vocabulary)
