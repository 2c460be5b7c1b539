"""Tempered SFT: sample at a temperature until a success is told, then fine-tune on the successes.

1. Ask samples of the base policy at `temperature`.
2. Whenever a success is told, fit the policy a little further to all distinct successes so far, by maximum likelihood.
3. Ask samples of the fitted policy at the same temperature, so that it finds more successes near those that it knows.

It is the simplest way to learn from successes (expert iteration with a temperature), and so a good comparison under the
feedback `full`. Under `failures` it is the same as `tempered`.
Source: Anthony et al. 2017 (expert iteration) and Singh et al. 2023 (ReST-EM), both in their simplest form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from banel_agents.base import ask_samples, base_network, fit
from banel_agents.limits import BatchSize, LearningRate, Steps, Temperature, check_settings
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy


@dataclass(frozen=True)
class TemperedSFTConfig:
    """The settings of sampling at a temperature and fine-tuning."""

    temperature: Temperature = 2.0  # temperature of the samples that are asked; as in `tempered`
    batch: BatchSize = 500  # sequences in a question
    steps: Steps = 100  # gradient steps after each question that brought new successes
    lr: LearningRate = 1e-3  # learning rate of Adam
    minibatch: BatchSize = 64  # sequences in a gradient step

    def __post_init__(self) -> None:
        check_settings(self)


class TemperedSFT:
    """See the module."""

    name = "tempered_sft"
    Config = TemperedSFTConfig
    learns_from = "successes"

    def __init__(self, config: TemperedSFTConfig | None = None) -> None:
        self.config = config or TemperedSFTConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy at the temperature, then each fine-tuned policy, without that temperature."""
        c = self.config
        policy = base_network(problem)
        asking = policy.tempered(c.temperature)
        yield asking
        known = np.empty((0, problem.T), np.int64)
        while oracle.left:
            told = ask_samples(oracle, asking, c.batch, rng).successes
            grown = np.unique(np.concatenate((known, told)), axis=0)
            if len(grown) == len(known):
                continue
            known = grown
            fit(
                policy,
                known,
                rng,
                epochs=c.steps * min(c.minibatch, len(known)) / len(known),
                lr=c.lr,
                batch=c.minibatch,
            )
            asking = policy.tempered(c.temperature)
            yield policy.clone()
