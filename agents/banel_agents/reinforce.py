"""REINFORCE."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy

from banel_agents.gradient import GradientConfig, rounds


@dataclass(frozen=True)
class Config(GradientConfig):
    """REINFORCE with a batch-mean baseline."""


class Reinforce:
    """See the module."""

    name = "reinforce"
    Config = Config
    learns_from = "successes"

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each round that told a success."""
        return rounds(problem, oracle, rng, self.config, lambda told: told.rewards.astype(np.float64))
