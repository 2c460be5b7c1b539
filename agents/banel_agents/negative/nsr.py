"""NSR, negative sample reinforcement: makes the failures of each round less likely, and nothing more likely.

In each round: 1. ask samples of the policy; 2. take one step up the mean of A(x) log p(x), A = -1 for a failure and 0 for a
success. No group mean, no standard deviation, no replay. Source: Zhu et al. 2025 (arXiv 2506.01347, the objective L_NSR of
section 2, with rewards of 1 and -1).

What moves it: over all samples the mean of the gradient of log p is 0, so minus its mean over the failures is its mean over
the successes. In expectation the step is that of `reinforce`, from failures alone too: what is not told is missing from the
sum. But each single failure adds its own gradient of size 1, where `reinforce` adds 0. While nothing has succeeded this noise is
all there is. It is no pure noise: what was sampled loses mass to what was not, so the policy becomes more even.

What it does here: where one sequence in a hundred succeeds it learns from the gaps that withheld successes leave
(tests/agents). On the addition attack, one in a thousand, the noise wins: it wanders about the base rate, under full
feedback too, and with larger steps out of the grammar. How it was set: with the batch and learning rate of `reinforce` all
strings were malformed after a third of the budget; of seven settings tried this one moves most and still writes well-formed
strings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from banel_agents.base import Answers
from banel_agents.limits import BatchSize, LearningRate
from banel_agents.shared.steps import Floats, StepConfig, rounds_of_steps
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy


@dataclass(frozen=True)
class NSRConfig(StepConfig):
    """The settings of negative sample reinforcement."""

    batch: BatchSize = 250  # sequences in a round, which is one question and one step
    lr: LearningRate = 3e-4  # learning rate of Adam


class NSR:
    """See the module."""

    name = "nsr"
    Config = NSRConfig
    learns_from = "failures"
    asks_from = "yielded"

    def __init__(self, config: NSRConfig | None = None) -> None:
        self.config = config or NSRConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each round."""
        return rounds_of_steps(
            problem, oracle, rng, self.config, lambda _, told: [(told.tokens, advantages(told, success=0.0))]
        )


def advantages(told: Answers, success: float) -> Floats:
    """A [m] of the told sequences: `success` for a success, -1 for a failure."""
    return np.where(told.rewards == 1, success, -1.0)
