"""Gated bonuses: REINFORCE on the reward plus a novelty bonus that malformed sequences do not get.

    score(x) = reward(x) + beta x bonus(x) x [x keeps to the grammar]

Malformed sequences are new as well, and there are far more of them: without the gate a bonus leads out of the grammar, and
only a penalty for leaving the base policy (KL) holds it back. With the gate no penalty is needed, and by default there is
none. The rounds are those of `banel_agents.shared.gradient`. What a bonus remembers, it remembers for the whole run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from banel_agents.base import Answers
from banel_agents.limits import Weight
from banel_agents.shared.gradient import Floats, GradientConfig, rounds
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy
from banel_envs.problem import Tokens


@dataclass(frozen=True)
class BonusConfig(GradientConfig):
    """The settings that all agents with a novelty bonus have."""

    kl: Weight = 0.0  # reward units for a nat of log p_phi(x) - log p_theta(x); none, as the gate does its work
    bonus: Weight = 1.0  # beta: how much a bonus of 1 is, in reward units
    gated: bool = True  # whether malformed sequences get no bonus


def novelty_rounds(
    problem: Problem,
    oracle: Oracle,
    rng: np.random.Generator,
    config: BonusConfig,
    bonus: Callable[[Tokens], Floats],
) -> Iterator[Policy]:
    """Yield the base policy, then a snapshot after each gradient step.

    Args:
        problem: what is asked of, and its grammar.
        oracle: the meter.
        rng: all randomness.
        config: the agent's settings.
        bonus: told sequences [m, T] to bonuses [m]; it is called once a round, and also remembers the sequences.
    """

    def score(told: Answers) -> Floats:
        found = bonus(told.tokens)
        if config.gated and problem.allowed is not None:
            found = found * problem.well_formed(told.tokens)
        scores: Floats = told.rewards + config.bonus * found
        return scores

    return rounds(problem, oracle, rng, config, score)
