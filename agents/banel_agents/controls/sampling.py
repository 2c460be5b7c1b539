"""Controls: agents that learn nothing, or the least that can be learnt. An agent that does not beat them has learnt nothing.

base                 samples the base policy.
tempered             samples the base policy at a higher temperature, which was chosen without any answer.
without_replacement  samples the base policy and never asks a sequence twice; its policy never writes a known failure.
memorise             samples the base policy until it is told a success, and then repeats that sequence for ever: its
                     success rate is 1 and its fresh success rate 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from banel_agents.base import ask_samples
from banel_agents.limits import BatchSize, Temperature, check_settings
from banel_agents.shared.asked import without_replacement
from banel_envs import Oracle, Problem
from banel_envs.errors import BadValue
from banel_envs.policies import Autoregressive, Policy, Repeating, Tempered, Trainable


@dataclass(frozen=True)
class BatchConfig:
    """The settings of a control."""

    batch: BatchSize = 500  # sequences a question; 15 of them are the addition attack's budget

    def __post_init__(self) -> None:
        check_settings(self)


def unchanged(policy: Policy, oracle: Oracle, batch: int, rng: np.random.Generator) -> Iterator[Policy]:
    """Yield the policy, and ask samples of it until the budget is spent."""
    yield policy
    while oracle.left:
        ask_samples(oracle, policy, batch, rng)


class Base:
    """Samples the base policy until the budget is spent."""

    name = "base"
    Config = BatchConfig
    asks_from = "base"

    def __init__(self, config: BatchConfig | None = None) -> None:
        self.config = config or BatchConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, and ask samples of it."""
        return unchanged(problem.base_policy(), oracle, self.config.batch, rng)


class Memorise:
    """Repeats the first success that it is told for ever. Only the fresh success rate shows that it finds no other."""

    name = "memorise"
    Config = BatchConfig
    asks_from = "yielded"

    def __init__(self, config: BatchConfig | None = None) -> None:
        self.config = config or BatchConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, and when a success is told, a policy that writes only this success."""
        policy = problem.base_policy()
        yield policy
        while oracle.left:
            told = ask_samples(oracle, policy, self.config.batch, rng).successes
            if len(told) and not isinstance(policy, Repeating):
                policy = Repeating(told[0], problem.V)
                yield policy


@dataclass(frozen=True)
class TemperedConfig:
    """The settings of sampling at a temperature."""

    temperature: Temperature = 2.0  # divides every logit; early experiments on the addition attack used 2
    batch: BatchSize = 500  # sequences a question

    def __post_init__(self) -> None:
        check_settings(self)


class TemperedBase:
    """Samples the base policy at a temperature."""

    name = "tempered"
    Config = TemperedConfig
    asks_from = "yielded"

    def __init__(self, config: TemperedConfig | None = None) -> None:
        self.config = config or TemperedConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy at the temperature, and ask samples of it."""
        policy = tempered(problem.base_policy(), self.config.temperature)
        return unchanged(policy, oracle, self.config.batch, rng)


def tempered(policy: Policy, temperature: float) -> Policy:
    """The policy at a temperature. A network gives a network again."""
    if isinstance(policy, Trainable):
        return policy.tempered(temperature)
    if isinstance(policy, Autoregressive):
        return Tempered(policy, temperature)
    raise BadValue(
        f"a {type(policy).__name__} gives no next-token distribution to temper; give an Autoregressive policy"
    )


class WithoutReplacement:
    """Samples the base policy and never asks a sequence twice. Every learner has to beat it."""

    name = "without_replacement"
    Config = BatchConfig
    asks_from = "unasked"

    def __init__(self, config: BatchConfig | None = None) -> None:
        self.config = config or BatchConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, conditioned on writing no known failure. End when nothing new is left to ask."""
        return without_replacement(problem.base_policy(), problem, oracle, self.config.batch, rng)
