"""MRT, minimum risk training: the expected risk over the distinct samples of a round, under the policy renormalised on them.

In each round: 1. ask samples of the policy, and let S be the distinct ones told; 2. take one step down
L = sum over S of Q(x) (1 - r(x)), Q(x) = p(x)^a / sum over S of p^a. Source: Shen et al. 2016 (arXiv 1512.02433, section 3), with
a = 5e-3 and 100 samples as there. The paper adds the reference translation to S; here there is none.

Its gradient is a Q(x) (1 - r(x) - L) times that of log p. With a this small Q is nearly uniform over S: a sequence counts once,
however likely it is, and its weight does not grow with what it has already been given. It climbs as the other policy
gradients do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from banel_agents.base import Answers
from banel_agents.limits import BatchSize, Range
from banel_agents.shared.steps import Floats, Step, StepConfig, rounds_of_steps
from banel_envs import Oracle, Problem
from banel_envs.kernel import portable
from banel_envs.policies import Policy, Trainable


@dataclass(frozen=True)
class MRTConfig(StepConfig):
    """The settings of minimum risk training."""

    batch: BatchSize = 100  # samples in a round, from which S is made; the paper's
    sharpness: Annotated[float, Range(1e-6, 100)] = 5e-3  # a, the exponent of p in Q; the paper's


class MRT:
    """See the module."""

    name = "mrt"
    Config = MRTConfig
    learns_from = "successes"
    asks_from = "yielded"

    def __init__(self, config: MRTConfig | None = None) -> None:
        self.config = config or MRTConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each step. There is none before the first success is told."""

        def steps(policy: Trainable, told: Answers) -> Iterator[Step]:
            if (told.rewards == told.rewards[0]).all():  # then the loss is constant
                return
            tokens, first = np.unique(told.tokens, axis=0, return_index=True)
            yield tokens, risk(policy.log_prob(tokens), told.rewards[first].astype(np.float64), self.config.sharpness)

        return rounds_of_steps(problem, oracle, rng, self.config, steps)


def risk(log_probs: Floats, rewards: Floats, sharpness: float) -> Floats:
    """The weights [n] of a step down sum Q (1 - r), from the log-probabilities [n] and rewards [n] of distinct sequences."""
    scaled = sharpness * log_probs
    powers = portable.exp(scaled - scaled.max())
    Q = powers / portable.total(powers)
    risks = 1 - rewards
    weights: Floats = -len(Q) * sharpness * Q * (risks - portable.total(Q * risks))
    return weights
