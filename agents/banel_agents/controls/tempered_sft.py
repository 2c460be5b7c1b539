"""Tempered SFT: sample at a temperature until a success is told, then fine-tune on the successes.

1. Ask samples of the base policy at `temperature`.
2. Whenever a success is told, fit the policy a little further to all distinct successes so far, by maximum likelihood.
3. Ask samples of the fitted policy at the same temperature, so that it finds more successes near those that it knows.

It is the simplest way to learn from successes (expert iteration with a temperature), and so a good comparison under the
feedback `full`. Under `failures` it is the same as `tempered`.
Source: Anthony et al. 2017 (expert iteration) and Singh et al. 2023 (ReST-EM), both in their simplest form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from banel_agents.base import Answers, ask_samples, base_trainable
from banel_agents.shared.fine_tuning import FineTuningConfig, fine_tune
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy


class TemperedSFT:
    """See the module."""

    name = "tempered_sft"
    Config = FineTuningConfig
    learns_from = "successes"

    def __init__(self, config: FineTuningConfig | None = None) -> None:
        self.config = config or FineTuningConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy at the temperature, then each fine-tuned policy, without that temperature."""
        c = self.config
        policy = base_trainable(problem)
        asking = policy.tempered(c.temperature)
        yield asking
        known = np.empty((0, problem.T), np.int64)
        ask = self.asker(oracle, rng)
        while oracle.left:
            told = ask(asking).successes
            grown = np.unique(np.concatenate((known, told)), axis=0)
            if len(grown) == len(known):
                continue
            known = grown
            fine_tune(policy, known, rng, steps=c.steps, lr=c.lr, minibatch=c.minibatch)
            asking = policy.tempered(c.temperature)
            yield policy.clone()

    def asker(self, oracle: Oracle, rng: np.random.Generator) -> Callable[[Policy], Answers]:
        """What asks samples of a policy in one run."""
        return lambda policy: ask_samples(oracle, policy, self.config.batch, rng)
