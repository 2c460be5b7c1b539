"""Controls: agents that learn nothing, or the least that can be learnt. An agent that does not beat them has learnt nothing.

base                 samples the base policy.
tempered             samples the base policy at a higher temperature, which was chosen without any answer.
without_replacement  samples the base policy and never asks a sequence twice; its policy never writes a known failure.
memorise             samples the base policy until it is told a success, and then repeats that sequence for ever: its
                     success rate is 1 and its fresh success rate 0.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from banel_agents.base import ask, ask_samples
from banel_agents.limits import BatchSize, Temperature, check_settings
from banel_envs import Oracle, Problem
from banel_envs.errors import BadValue
from banel_envs.policies import Autoregressive, Excluding, Policy, Repeating, Tempered
from banel_envs.problem import Tokens


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

    def __init__(self, config: BatchConfig | None = None) -> None:
        self.config = config or BatchConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, and ask samples of it."""
        return unchanged(problem.base_policy(), oracle, self.config.batch, rng)


class Memorise:
    """Repeats the first success that it is told for ever. Only the fresh success rate shows that it finds no other."""

    name = "memorise"
    Config = BatchConfig

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

    def __init__(self, config: TemperedConfig | None = None) -> None:
        self.config = config or TemperedConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy at the temperature, and ask samples of it."""
        policy = tempered(problem.base_policy(), self.config.temperature)
        return unchanged(policy, oracle, self.config.batch, rng)


def tempered(policy: Policy, temperature: float) -> Policy:
    """The policy at a temperature. A network gives a network again."""
    network = sys.modules.get("banel_envs.policies.torch_policy")  # not imported here, because it would load PyTorch
    if network is not None and isinstance(policy, network.TorchPolicy):
        made: Policy = policy.tempered(temperature)
        return made
    if isinstance(policy, Autoregressive):
        return Tempered(policy, temperature)
    raise BadValue(
        f"a {type(policy).__name__} gives no next-token distribution to temper; give an Autoregressive policy"
    )


@dataclass
class Asked:
    """The sequences that were asked so far, and a sampler that repeats none of them."""

    known: set[bytes] = field(default_factory=set)

    def sample(self, policy: Policy, n: int, rng: np.random.Generator, patience: int = 20) -> Tokens:
        """N new, distinct sequences [n, T].

        There are fewer if `patience` times in a row n draws bring nothing new. Then nearly everything that the policy
        writes was asked already.
        """
        new: list[Tokens] = []
        dry = 0
        while len(new) < n and dry < patience:
            before = len(new)
            # Always n draws, however few are missing: when the policy is nearly exhausted, most draws are repeats.
            for row in policy.sample(n, rng):
                key = row.tobytes()
                if key not in self.known and len(new) < n:
                    self.known.add(key)
                    new.append(row)
            dry = dry + 1 if len(new) == before else 0
        return np.stack(new) if new else np.empty((0, 0), np.int64)


class WithoutReplacement:
    """Samples the base policy and never asks a sequence twice. Every learner has to beat it."""

    name = "without_replacement"
    Config = BatchConfig

    def __init__(self, config: BatchConfig | None = None) -> None:
        self.config = config or BatchConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, conditioned on writing no known failure. End when nothing new is left to ask."""
        base = problem.base_policy()
        yield base
        asked = Asked()
        failures = np.empty((0, problem.T), np.int64)
        log_probs = np.empty(0)
        while oracle.left:
            tokens = asked.sample(base, min(self.config.batch, oracle.left), rng)
            if len(tokens) == 0:
                return
            told = ask(oracle, tokens).failures
            failures = np.concatenate((failures, told))
            # Kept, because Excluding would otherwise score all failures again in each round.
            log_probs = np.concatenate((log_probs, base.log_prob(told)))
            yield Excluding(base, failures, log_probs)
