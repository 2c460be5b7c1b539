"""Trajectory balance: the policy as a GFlowNet whose terminal flow is p_theta(x) exp(r(x) / beta).

In each round: 1. ask samples of the policy p; 2. take one step down the mean of
(log Z + log p(x) - log p_theta(x) - r(x) / beta)^2, where log Z is the mean of r / beta + log p_theta - log p over the round, so
that the loss is the variance of that number. Written left to right every sequence has one way to it: the backward policy is 1.
Sources: Malkin et al. 2022 (arXiv 2201.13259, section 3) for the loss; Zhang et al. 2023 (arXiv 2302.05446) for log Z (VarGrad);
Bartoldson et al. 2025 (TBA, arXiv 2503.18929) for the form with a base policy.

It is `spo` without replay, divided by beta^2. On policy its gradient is 2 / beta times that of `kl_rl` with both terms
estimated on what was asked. It climbs later than `spo`: a squared residual pulls on every failure that is a little off, and
without replay a success counts once. With beta 0.1 it climbs later still. If all rewards are equal the optimum is
p_theta, so it is dead on failures. `gafn` adds a bonus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from banel_agents.base import Answers, base_trainable
from banel_agents.limits import Range
from banel_agents.shared.gradient import centred
from banel_agents.shared.steps import Floats, Step, StepConfig, rounds_of_steps
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy, Trainable


@dataclass(frozen=True)
class BalanceConfig(StepConfig):
    """The settings of trajectory balance."""

    beta: Annotated[float, Range(1e-3, 100)] = 0.05  # reward units for a nat: a success ends 1 / beta nats up


class TrajectoryBalance:
    """See the module."""

    name = "trajectory_balance"
    Config = BalanceConfig
    learns_from = "successes"
    asks_from = "yielded"

    def __init__(self, config: BalanceConfig | None = None) -> None:
        self.config = config or BalanceConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each step. There is none before the first success is told."""
        return balanced(problem, oracle, rng, self.config, lambda told: told.rewards.astype(np.float64))


def balanced(
    problem: Problem,
    oracle: Oracle,
    rng: np.random.Generator,
    config: BalanceConfig,
    reward: Callable[[Answers], Floats],
) -> Iterator[Trainable]:
    """The rounds, with rewards [m] of what was told, in reward units."""
    base = base_trainable(problem)

    def steps(policy: Trainable, told: Answers) -> Iterator[Step]:
        yield (
            told.tokens,
            vargrad(policy.log_prob(told.tokens) - base.log_prob(told.tokens), reward(told) / config.beta),
        )

    return rounds_of_steps(problem, oracle, rng, config, steps)


def vargrad(log_ratios: Floats, log_rewards: Floats) -> Floats:
    """The weights [m] of a step down mean (log Z + log p / p_theta - r / beta)^2, from log p / p_theta [m] and r / beta [m]."""
    return 2 * centred(log_rewards - log_ratios)
