"""Count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy
from banel_envs.problem import Tokens

from banel_agents.base import Answers
from banel_agents.gradient import Floats, GradientConfig, rounds


@dataclass(frozen=True)
class Config(GradientConfig):
    """REINFORCE on reward plus a count bonus."""

    kl: float = 0.002
    bonus: float = 0.1  # beta: reward units of the bonus of a sequence whose every state is new
    context: int = 3  # tokens of a state, beside its position


State: TypeAlias = tuple[int, bytes]


class StateCounts:
    """How often each state was met in the sequences told so far; a state is a position and the last `context` tokens."""

    def __init__(self, problem: Problem, context: int) -> None:
        self.problem, self.context = problem, context
        self.counts: Counter[State] = Counter()

    def add(self, tokens: Tokens) -> None:
        """Count the states of the sequences [n, T], those within one sequence included."""
        for states in self._states(tokens):
            self.counts.update(states)

    def bonus(self, tokens: Tokens) -> Floats:
        """Mean of 1 / sqrt(N(state)) over each sequence's states: [n], 1 where each was met once."""
        return np.array([np.mean([self.counts[s] ** -0.5 for s in states]) for states in self._states(tokens)])

    def _states(self, tokens: Tokens) -> Iterator[list[State]]:
        rows = np.ascontiguousarray(tokens)
        for row, length in zip(rows, self.problem.lengths(rows), strict=True):
            yield [(i, row[max(0, i + 1 - self.context) : i + 1].tobytes()) for i in range(length)]


class Count:
    """See the module."""

    name = "count"
    Config = Config

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each round."""
        counts = StateCounts(problem, self.config.context)

        def score(told: Answers) -> Floats:
            counts.add(told.tokens)
            return told.rewards + self.config.bonus * counts.bonus(told.tokens)

        return rounds(problem, oracle, rng, self.config, score)
