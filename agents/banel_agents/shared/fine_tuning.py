"""Fine-tuning on successes by a number of gradient steps: what tempered_sft, expert_iteration, omission and the bandit do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from banel_agents.base import fit
from banel_agents.limits import BatchSize, LearningRate, Steps, Temperature, check_settings
from banel_envs.policies import Trainable
from banel_envs.problem import Tokens


@dataclass(frozen=True)
class FineTuningConfig:
    """The settings of sampling at a temperature and fine-tuning."""

    temperature: Temperature = 2.0  # temperature of the samples that are asked; as in `tempered`
    batch: BatchSize = 500  # sequences in a question
    steps: Steps = 100  # gradient steps after each question that brought new successes
    lr: LearningRate = 1e-3  # learning rate of Adam
    minibatch: BatchSize = 64  # sequences in a gradient step

    def __post_init__(self) -> None:
        check_settings(self)


def fine_tune(
    policy: Trainable, successes: Tokens, rng: np.random.Generator, *, steps: int, lr: float, minibatch: int
) -> None:
    """Train a policy in place on sequences [k, T], k at least 1, by `steps` steps of at most `minibatch` of them."""
    size = min(minibatch, len(successes))
    fit(policy, successes, rng, epochs=steps * size / len(successes), lr=lr, batch=minibatch)
