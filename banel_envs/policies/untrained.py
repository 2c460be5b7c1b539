"""Policies that need no training: Uniform writes every token with equal probability, Repeating one sequence only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.kernel import portable
from banel_envs.policies.autoregressive import Autoregressive, Floats, Ints
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
