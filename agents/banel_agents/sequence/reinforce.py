"""REINFORCE: the score-function gradient of the reward, with a batch-mean baseline and a penalty for leaving the base.

The rounds are those of `banel_agents.shared.gradient`, and the score is the reward alone. Source: Williams 1992.

What it does here: until the first success all rewards of a round are the same, so the policy stays exactly at the base
policy. From failures alone that is the whole run; on AdditionAttackHard it nearly always is. After the first success the
success rate rises to nearly 1 within some tens of rounds.

How it was set: without the penalty the policy ends with a handful of successes, which it has asked already. With kl = 0.03 it
keeps hundreds of them at nearly the same success rate. With 0.1 it keeps more of them, but the rate is lower and rises
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
    asks_from = "yielded"

    def __init__(self, config: GradientConfig | None = None) -> None:
        self.config = config or GradientConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each step. There is no step before the first success is told."""
        return rounds(problem, oracle, rng, self.config, lambda told: told.rewards.astype(np.float64))
