"""Count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy
from banel_envs.problem import Tokens

from banel_agents.base import Answers
from banel_agents.gradient import Floats, GradientConfig, rounds


@dataclass(frozen=True)
class Config(GradientConfig):
    """REINFORCE on reward plus a count bonus."""

    bonus: float = 0.1  # beta: reward units of the bonus of a sequence whose every prefix is new


class PrefixCounts:
    """How often each prefix was written in the sequences told so far."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.counts: Counter[bytes] = Counter()

    def add(self, tokens: Tokens) -> None:
        """Count every prefix of the sequences [n, T]."""
        for prefixes in self._prefixes(tokens):
            self.counts.update(prefixes)

    def bonus(self, tokens: Tokens) -> Floats:
        """Mean of 1 / sqrt(N(prefix)) over each sequence's prefixes: [n], 1 where all were written once."""
        return np.array([np.mean([self.counts[p] ** -0.5 for p in prefixes]) for prefixes in self._prefixes(tokens)])

    def _prefixes(self, tokens: Tokens) -> Iterator[list[bytes]]:
        rows = np.ascontiguousarray(tokens)
        for row, length in zip(rows, self.problem.lengths(rows), strict=True):
            key = row.tobytes()
            yield [key[: 8 * i] for i in range(1, length + 1)]


class Count:
    """See the module."""

    name = "count"
    Config = Config

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each round."""
        counts = PrefixCounts(problem)

        def score(told: Answers) -> Floats:
            counts.add(told.tokens)
            return told.rewards + self.config.bonus * counts.bonus(told.tokens)

        return rounds(problem, oracle, rng, self.config, score)
