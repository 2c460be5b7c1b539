"""ESRL with dynamic sampling as its paper describes it: the more able the policy, the fewer and the hotter its samples.

In each round, c being the capability that the round before it showed, from 0 to 1 (0 in the first):
1. Sample k = ceil(batch x (1 - c)) sequences, at least `least` x batch, at the temperature cold + c x (hot - cold).
2. Ask all of them, and take one step of REINFORCE with the round's mean reward as baseline: the two stages of `esrl`.
3. Estimate c anew. `capability` says how: `reward` is the mean reward told, and `confidence` the mean largest next-token
   probability of the samples.

Source: Wang et al. 2024 (arXiv 2308.02223), whose text says that a capability estimate sets the number of samples and the
temperature, and in which direction. Its formulas were not found: both formulas of step 1, both estimates and all constants are
ours. The gradient is not corrected for the temperature. The code released with the paper does something else: see `esrl`.

What it does here: on AdditionAttack it meets 373 to 448 distinct successes, where `esrl` meets 186 to 342; both end at a success
rate of 1, on 8 to 46 effective successes against 2 to 4. With `capability=confidence` it meets 82 to 409 and ends on 1 to 7. On
AdditionAttackHard none of them meets a success within the budget, so nothing moves (`python -m benchmarks.agents --agents
esrl_paper esrl`, seeds 100 to 102, on which the default was chosen of the two).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from banel_agents.base import Answers
from banel_agents.limits import OneOf, Range, Temperature
from banel_agents.sequence.esrl import confidence, two_stage_rounds
from banel_agents.shared.steps import StepConfig
from banel_envs import Oracle, Problem
from banel_envs.kernel import portable
from banel_envs.policies import Policy, Trainable
from banel_envs.problem import Tokens


@dataclass(frozen=True)
class ESRLPaperConfig(StepConfig):
    """The settings of ESRL as in the paper."""

    capability: Annotated[str, OneOf("reward", "confidence")] = "reward"  # what c is; ours
    least: Annotated[float, Range(0.01, 1)] = 0.2  # the least share of the batch that is asked; ours
    cold: Temperature = 1.0  # the temperature at c = 0; ours
    hot: Temperature = 1.5  # the temperature at c = 1; ours


class ESRLPaper:
    """See the module."""

    name = "esrl_paper"
    Config = ESRLPaperConfig
    learns_from = "successes"

    def __init__(self, config: ESRLPaperConfig | None = None) -> None:
        self.config = config or ESRLPaperConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each step. There is none before the first success is told."""
        c = self.config
        able = 0.0

        def sample(policy: Trainable, told: Answers) -> Tokens:
            nonlocal able
            if c.capability == "reward" and len(told.rewards):
                able = float(told.rewards.mean(dtype=np.float64))
            n, temperature = dynamic(able, c)
            tokens = policy.tempered(temperature).sample(n, rng)
            if c.capability == "confidence":
                able = float(portable.total(confidence(policy, tokens, weighted=False))) / n
            return tokens

        return two_stage_rounds(problem, oracle, c.lr, sample)


def dynamic(able: float, config: ESRLPaperConfig) -> tuple[int, float]:
    """How many sequences are sampled, and at which temperature, at a capability from 0 to 1."""
    most = config.batch
    n = min(most, max(1, math.ceil(config.least * most), math.ceil(most * (1 - able))))
    return n, config.cold + able * (config.hot - config.cold)
