"""Count-based exploration: REINFORCE on the reward plus a bonus for states that were rarely met in the whole run.

A state phi is a position and the last `context` tokens; N(phi) counts it over every sequence told so far, this
round's included. The bonus of a sequence is beta x mean over its states of 1 / sqrt(N). This is the hashed count of
Tang et al. 2017 (section 2), the hash being the position and the last tokens: every state that shares them is one. It
is not the pseudo-count of Bellemare et al. 2016, which a density model of whole states gives. The mean, not the sum:
a sum would pay for length alone.

What it does here: it flattens the first tokens until leading zeros come up, which raises both addition attacks from
failures alone (and as much in its oracle-free twin: novelty, not failure, teaches it), and lets the reward take over
where successes are told. Malformed strings are new too, and far more: with no penalty it ends in them within a few
rounds; bonus / kl of 30 to 50 keeps most strings well-formed, at 100 some runs lose them. Counting whole prefixes
finds less (nearly every one is new after three tokens), and so does leaving the position out. A beta as large as the
reward costs no success and keeps hundreds of successes alive; a tenth of it ends on about ten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from banel_agents.base import Answers
from banel_agents.limits import Context, Weight
from banel_agents.shared.gradient import Floats, GradientConfig, rounds
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy
from banel_envs.problem import Tokens

State: TypeAlias = tuple[int, bytes]
"""A position and the last tokens up to and with it."""


@dataclass(frozen=True)
class CountConfig(GradientConfig):
    """REINFORCE on reward plus the bonus of hashed counts."""

    bonus: Weight = 1.0  # beta: reward units of a sequence whose every state is new; scanned from 0.1 to 3
    context: Context = 3  # tokens in a state, its own included; scanned from 2 to 4, and all of them


class StateCounts:
    """How often each state was met in the sequences added so far."""

    def __init__(self, problem: Problem, context: int) -> None:
        self.problem, self.context = problem, context
        self.counts: Counter[State] = Counter()

    def add(self, tokens: Tokens) -> None:
        """Count every state of the sequences [n, T], up to and with their first end token."""
        for states in self._states(tokens):
            self.counts.update(states)

    def bonus(self, tokens: Tokens) -> Floats:
        """Mean of 1 / sqrt(N) over each sequence's states: [n]. The sequences must have been added."""
        return np.array([np.mean([self.counts[s] ** -0.5 for s in states]) for states in self._states(tokens)])

    def _states(self, tokens: Tokens) -> Iterator[list[State]]:
        rows = np.ascontiguousarray(tokens)
        for row, length in zip(rows, self.problem.lengths(rows), strict=True):
            yield [(i, row[max(0, i + 1 - self.context) : i + 1].tobytes()) for i in range(length)]


class Count:
    """See the module."""

    name = "count"
    Config = CountConfig

    def __init__(self, config: CountConfig | None = None) -> None:
        self.config = config or CountConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each round."""
        counts = StateCounts(problem, self.config.context)

        def score(told: Answers) -> Floats:
            counts.add(told.tokens)
            return told.rewards + self.config.bonus * counts.bonus(told.tokens)

        return rounds(problem, oracle, rng, self.config, score)
