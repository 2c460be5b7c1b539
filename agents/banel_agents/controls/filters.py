"""Controls of BaNEL's filter: its rounds with a filter that knows nothing of failures.

random_filter   keeps 1 in f candidates by chance. What it gains is gained by imitating well-formed samples again and again.
low_likelihood  keeps the 1 in f candidates that p_theta itself finds least likely. What it gains is gained by flattening.

Both draw, drop malformed candidates and distil as `banel` does with the same settings, and read no answer: each is its own
oracle-free twin. Source: the rounds of Lee, Amos, Fanti 2025 (arXiv 2510.09596, section 4), with other scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from banel_agents.base import base_network
from banel_agents.limits import BatchSize, Epochs, LearningRate, check_settings
from banel_agents.shared.distil import FilterFactor, Score, best_of, distil_rounds
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy
from banel_envs.problem import Tokens

if TYPE_CHECKING:
    from banel_envs.policies.torch_policy import TorchPolicy


@dataclass(frozen=True)
class FilterConfig:
    """The settings of a control of the filter; all defaults are those of `banel`."""

    batch: BatchSize = 500  # sequences asked a round
    f: FilterFactor = 3.0  # 1 in f candidates is kept
    pool: BatchSize = 10_000  # candidates a round
    well_formed: bool = True  # drop candidates that leave the problem's public grammar (its action mask)
    distil_epochs: Epochs = 1.0  # passes over the kept candidates
    distil_lr: LearningRate = 1e-3  # Adam
    minibatch: BatchSize = 128  # sequences a gradient step

    def __post_init__(self) -> None:
        check_settings(self)


class RandomFilter:
    """BaNEL with a filter that keeps candidates by chance."""

    name = "random_filter"
    Config = FilterConfig

    def __init__(self, config: FilterConfig | None = None) -> None:
        self.config = config or FilterConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then the policy after each round."""
        base = base_network(problem)
        yield base

        def make_score(theta: TorchPolicy, failures: Tokens) -> Score:
            return lambda candidates: rng.random(len(candidates))

        yield from distil_rounds(base, problem, oracle, rng, self.config, make_score, best_of(self.config.f))


class LowLikelihood:
    """BaNEL with a filter that keeps the candidates which the policy itself finds least likely."""

    name = "low_likelihood"
    Config = FilterConfig

    def __init__(self, config: FilterConfig | None = None) -> None:
        self.config = config or FilterConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then the policy after each round."""
        base = base_network(problem)
        yield base

        def make_score(theta: TorchPolicy, failures: Tokens) -> Score:
            return lambda candidates: -theta.log_prob(candidates)

        yield from distil_rounds(base, problem, oracle, rng, self.config, make_score, best_of(self.config.f))
