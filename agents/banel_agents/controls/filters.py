"""Controls of BaNEL's filter: its rounds with a filter that knows nothing of failures.

random_filter   keeps 1 in f candidates by chance. What it gains is gained by imitating well-formed samples again and again.
low_likelihood  keeps the 1 in f candidates that p_theta itself finds least likely. What it gains is gained by flattening.

Both draw, drop malformed candidates and distil as `banel` does with the same settings, and read no answer: each is its own
oracle-free twin. Source: the rounds of Lee, Amos, Fanti 2025 (arXiv 2510.09596, section 4), with other scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from banel_agents.base import Answers, base_trainable
from banel_agents.shared.distil import DistilConfig, Score, best_of, distil_rounds
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy, Trainable


class RandomFilter:
    """BaNEL with a filter that keeps candidates by chance."""

    name = "random_filter"
    Config = DistilConfig
    asks_from = "yielded"

    def __init__(self, config: DistilConfig | None = None) -> None:
        self.config = config or DistilConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then the policy after each round."""
        base = base_trainable(problem)
        yield base
        score = partial(self.score, rng=rng)
        yield from distil_rounds(base, problem, oracle, rng, self.config, score, best_of(self.config.f))

    def score(self, theta: Trainable, told: Answers, rng: np.random.Generator) -> Score:
        """What the filter keeps the highest of."""
        return lambda candidates: rng.random(len(candidates))


class LowLikelihood(RandomFilter):
    """BaNEL with a filter that keeps the candidates which the policy itself finds least likely."""

    name = "low_likelihood"

    def score(self, theta: Trainable, told: Answers, rng: np.random.Generator) -> Score:
        """What the filter keeps the highest of."""
        return lambda candidates: -theta.log_prob(candidates)
