"""Count-based exploration: REINFORCE on the reward plus a bonus for states that were rarely met in the whole run.

A state phi is a position and the last `context` tokens. N(phi) says how often the state was met in all sequences told so
far, those of this round included. The bonus of a sequence is beta x the mean of 1 / sqrt(N) over its states. It is a mean
and not a sum, because a sum would reward length alone. This is the hashed count of Tang et al. 2017 (section 2): the hash
is the position and the last tokens, so that all states which share these count as one. It is not the pseudo-count of
Bellemare et al. 2016, which comes from a density model of whole states.

What it does here: the first tokens become more even, until leading zeros are written. This raises success on both addition
attacks from failures alone. It does so just as much in the oracle-free twin, so the agent learns from novelty and not from
failures. Where successes are told, the reward takes over.

How it was set: malformed strings are new as well, and there are far more of them. Only sequences within the grammar get the
bonus (`banel_agents.shared.bonus`), and then no penalty for leaving the base policy is needed. From failures alone it ends,
in log10 of success, at -1.44 to -0.94 on AdditionAttack-v0 and -2.22 to -1.01 on Hard; with `gated=false kl=0.03`, which it
was before, at -1.94 to -1.83 and -2.60 to -2.57 (`python -m benchmarks.agents --agents count --feedback failures`, seeds 100
to 102). Counting whole prefixes finds fewer successes, because nearly every prefix is new after three tokens. Leaving the
position out finds fewer, too. A beta as large as the reward costs no success, and the policy keeps hundreds of different
successes; with a tenth of it the policy ends with about ten.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from banel_agents.limits import Context
from banel_agents.shared.bonus import BonusConfig, novelty_rounds
from banel_agents.shared.gradient import Floats
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy
from banel_envs.problem import Tokens

State: TypeAlias = tuple[int, bytes]
"""A position and the last tokens up to and with it."""


@dataclass(frozen=True)
class CountConfig(BonusConfig):
    """The settings of REINFORCE with a bonus from hashed counts."""

    context: Context = 3  # tokens in a state, its own included; tried from 2 to 4, and with all tokens


class StateCounts:
    """Counts how often each state was met in the sequences that were added so far."""

    def __init__(self, problem: Problem, context: int) -> None:
        self.problem, self.context = problem, context
        self.counts: Counter[State] = Counter()

    def add(self, tokens: Tokens) -> None:
        """Count every state of the sequences [n, T], up to and with their first end token."""
        for states in self._states(tokens):
            self.counts.update(states)

    def bonus(self, tokens: Tokens) -> Floats:
        """The mean of 1 / sqrt(N) over the states of each sequence: [n]. The sequences must have been added before."""
        # Square roots and divisions are rounded in one way on every processor; a power of -1/2 need not be.
        return np.array(
            [sum(1 / math.sqrt(self.counts[s]) for s in states) / len(states) for states in self._states(tokens)]
        )

    def _states(self, tokens: Tokens) -> Iterator[list[State]]:
        rows = np.ascontiguousarray(tokens)
        for row, length in zip(rows, self.problem.lengths(rows), strict=True):
            yield [(i, row[max(0, i + 1 - self.context) : i + 1].tobytes()) for i in range(length)]


class Count:
    """See the module."""

    name = "count"
    Config = CountConfig
    asks_from = "yielded"

    def __init__(self, config: CountConfig | None = None) -> None:
        self.config = config or CountConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each round."""
        counts = StateCounts(problem, self.config.context)

        def bonus(tokens: Tokens) -> Floats:
            counts.add(tokens)  # first, so that no count is 0 when the bonus divides by its root
            return counts.bonus(tokens)

        return novelty_rounds(problem, oracle, rng, self.config, bonus)
