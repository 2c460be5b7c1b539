"""REINFORCE: the score-function gradient of the reward, with a batch-mean baseline and a penalty for leaving the base.

The rounds are those of `gradient`, the score is the reward alone. Source: Williams 1992.

What it does here: until the first success every round's rewards are alike, so it stays exactly at the base policy and
pays for sampling only; from failures that is the whole run, and on AdditionAttackHard nearly always. From the first
success on it climbs to nearly 1 within some tens of rounds. Without the penalty it ends on a handful of successes
that it has asked already; kl = 0.03 holds hundreds of them at nearly the same success, 0.1 more of them but lower and
later.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from banel_agents.shared.gradient import GradientConfig, rounds
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy


class Reinforce:
    """See the module."""

    name = "reinforce"
    Config = GradientConfig
    learns_from = "successes"

    def __init__(self, config: GradientConfig | None = None) -> None:
        self.config = config or GradientConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each step; the first step is the first told success."""
        return rounds(problem, oracle, rng, self.config, lambda told: told.rewards.astype(np.float64))
