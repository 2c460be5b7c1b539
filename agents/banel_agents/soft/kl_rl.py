"""KL-regularised RL: ascends E[r] - beta KL(p || p_theta), whose optimum is p_theta(x) exp(r(x) / beta) / Z.

In each round: 1. ask samples of the policy p; 2. draw `pool` more, which are not asked; 3. take one step up
mean over the asked of (r - mean r) log p(x) - beta x mean over the pool of (l - mean l) log p(x), l = log p(x) / p_theta(x).
The objective is the reverse KL divergence to that optimum: Korbak et al. 2022 (arXiv 2205.11275).

`reinforce` estimates both terms on what was asked. The KL term needs no answer, so here it is estimated on many more samples,
and a round without a success pulls towards the base policy with less noise. Dead until a success is told: l is 0 everywhere.

What it does here: it ends where `reinforce` ends, so the noise of the KL term was not what held that back. With beta 0.1 it
climbs later and keeps somewhat more different successes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from banel_agents.base import Answers, base_trainable
from banel_agents.limits import BatchSize, Range
from banel_agents.shared.gradient import centred
from banel_agents.shared.steps import Step, StepConfig, joined, rounds_of_steps
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy, Trainable


@dataclass(frozen=True)
class KLRLConfig(StepConfig):
    """The settings of KL-regularised RL."""

    beta: Annotated[float, Range(1e-3, 100)] = 0.03  # reward units for a nat of divergence; as kl in `reinforce`
    pool: BatchSize = 250  # samples for the KL term, which are not asked


class KLRL:
    """See the module."""

    name = "kl_rl"
    Config = KLRLConfig
    learns_from = "successes"
    asks_from = "yielded"

    def __init__(self, config: KLRLConfig | None = None) -> None:
        self.config = config or KLRLConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each step. There is none before the first success is told."""
        c, base, moved = self.config, base_trainable(problem), False

        def steps(policy: Trainable, told: Answers) -> Iterator[Step]:
            nonlocal moved
            asked = (told.tokens, centred(told.rewards.astype(np.float64)), 1.0)
            moved = moved or bool(asked[1].any())
            if moved:  # before, the policy is the base policy and the pool has no gradient
                pool = policy.sample(c.pool, rng)
                yield joined(asked, (pool, -centred(policy.log_prob(pool) - base.log_prob(pool)), c.beta))

        return rounds_of_steps(problem, oracle, rng, c, steps)
