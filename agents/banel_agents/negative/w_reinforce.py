"""W-REINFORCE: NSR with a small weight on successes.

The rounds are those of `nsr`, with A = lambda for a success and -1 for a failure, lambda 0.1: L = lambda L_PSR + L_NSR of
Zhu et al. 2025 (arXiv 2506.01347, section 5). From failures alone it is `nsr`. On the addition attack a success in a
thousand failures does not show at this weight: it goes where `nsr` goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from banel_agents.limits import Weight
from banel_agents.negative.nsr import NSRConfig, advantages
from banel_agents.shared.steps import rounds_of_steps
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy


@dataclass(frozen=True)
class WReinforceConfig(NSRConfig):
    """The settings of W-REINFORCE."""

    success: Weight = 0.1  # lambda, the weight of a success beside 1 for a failure; the paper's


class WReinforce:
    """See the module."""

    name = "w_reinforce"
    Config = WReinforceConfig
    learns_from = "both"
    asks_from = "yielded"

    def __init__(self, config: WReinforceConfig | None = None) -> None:
        self.config = config or WReinforceConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each round."""
        success = self.config.success
        return rounds_of_steps(
            problem, oracle, rng, self.config, lambda _, told: [(told.tokens, advantages(told, success))]
        )
