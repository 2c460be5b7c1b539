"""GRPO, RLOO, Dr. GRPO and MaxRL: policy gradients that differ in one formula, the advantage within a group.

There is one prompt, so the samples of a round are one group of m. In each round: 1. ask samples of the policy; 2. take the
advantage A of each from the group's rewards; 3. take `epochs` steps up the mean over the group of
1 / s x sum_t min(rho_t A, clip(rho_t, 1 - clip, 1 + clip) A) - kl x k_t, rho_t being the ratio of the token's probability to
that when it was asked and k_t = q - log q - 1, q = p_theta / p of the token. With one epoch every rho is 1 and the clip does
nothing.

GRPO      A = (r - mean) / (standard deviation + 1e-8), s = length, kl 0.04: Shao et al. 2024 (arXiv 2402.03300, section 4.1)
RLOO      A = r - mean of the others = m / (m - 1) (r - mean), s = 1: Ahmadian et al. 2024 (arXiv 2402.14740, section 3)
Dr. GRPO  A = r - mean, s = T: Liu et al. 2025 (arXiv 2503.20783, section 3)
MaxRL     A = (r - mean) / mean, s = 1, which ascends log P(success): arXiv 2602.02710

What to expect: where all rewards are equal every A is 0, so until a success is told nothing moves, not by a bit. RLOO and
Dr. GRPO differ by a constant factor, which Adam divides out: they take nearly the same path, that of `reinforce` without its
penalty. GRPO and MaxRL give a round with few successes the same weight as one with many.

What they do here: on the addition attack all four are at a success rate near 1 after half of the budget, on some hundred
different successes. GRPO, with its KL term, is the quickest of them and keeps the most.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from banel_agents.base import Answers, base_trainable
from banel_agents.limits import Range, Steps, Weight
from banel_agents.shared.gradient import centred
from banel_agents.shared.steps import Floats, Step, StepConfig, rounds_of_steps
from banel_envs import Oracle, Problem
from banel_envs.kernel import portable
from banel_envs.policies import Policy, Trainable

MOST = 20.0  # of log q: e^20 is far beyond what a clipped gradient in float32 can tell


@dataclass(frozen=True)
class GroupConfig(StepConfig):
    """The settings of the group-relative policy gradients."""

    epochs: Steps = 1  # steps on a group; one, as in the papers' own code
    clip: Annotated[float, Range(0, 1, above=True)] = 0.2  # how far rho may be from 1; the papers'
    kl: Weight = 0.0  # weight of the KL estimate, in reward units a nat; 0 but for GRPO


@dataclass(frozen=True)
class GRPOConfig(GroupConfig):
    """The settings of GRPO."""

    kl: Weight = 0.04  # weight of the KL estimate; the paper's


class Group(ABC):
    """What the four have in common."""

    name = "group"
    Config: type[GroupConfig] = GroupConfig
    learns_from = "successes"
    asks_from = "yielded"

    def __init__(self, config: GroupConfig | None = None) -> None:
        self.config = config or self.Config()

    @staticmethod
    @abstractmethod
    def advantages(deviations: Floats, mean: float) -> Floats:
        """A [m] from the rewards' deviations from their mean [m], and the mean."""

    @staticmethod
    def share(lengths: Floats, horizon: int) -> Floats:
        """By what the sum over a sequence's tokens is divided [m], from the lengths [m] and T."""
        return np.ones(len(lengths))

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each round. There is none before the first success is told."""
        c, base = self.config, base_trainable(problem)

        def steps(policy: Trainable, told: Answers) -> Iterator[Step]:
            rewards = told.rewards.astype(np.float64)
            share = self.share(problem.lengths(told.tokens).astype(np.float64), problem.T)
            A = self.advantages(centred(rewards), float(rewards.mean())) / share
            if c.epochs == 1 and not c.kl:
                yield told.tokens, A
                return
            penalty = c.kl / share
            asked, reference = policy.token_log_probs(told.tokens)[0], base.token_log_probs(told.tokens)[0]
            for epoch in range(c.epochs):
                now = policy.token_log_probs(told.tokens)[0] if epoch else asked
                yield told.tokens, clipped(A, now - asked, c.clip) + penalty[:, None] * pull(reference - now)

        return rounds_of_steps(problem, oracle, rng, c, steps)


def clipped(A: Floats, log_rho: Floats, clip: float) -> Floats:
    """The weights [m, T] of a step up sum_t min(rho_t A, clip(rho_t) A), from A [m] and log rho [m, T]."""
    rho = portable.exp(log_rho)
    inside = np.where(A[:, None] > 0, rho <= 1 + clip, rho >= 1 - clip)
    weights: Floats = A[:, None] * rho * inside
    return weights


def pull(log_q: Floats) -> Floats:
    """The weights [m, T] of a step down sum_t k_t, k = q - log q - 1, from log q = log(p_theta / p) [m, T]."""
    weights: Floats = portable.exp(np.minimum(log_q, MOST)) - 1
    return weights


class GRPO(Group):
    """GRPO: the reward's deviation from the group's mean, in standard deviations, divided by the sequence's length."""

    name = "grpo"
    Config = GRPOConfig

    @staticmethod
    def advantages(deviations: Floats, mean: float) -> Floats:
        """(r - mean) / (standard deviation + 1e-8)."""
        variance = float(portable.total(deviations**2)) / max(len(deviations) - 1, 1)
        A: Floats = deviations / (np.sqrt(variance) + 1e-8)
        return A

    @staticmethod
    def share(lengths: Floats, horizon: int) -> Floats:
        """The length."""
        return lengths


class RLOO(Group):
    """RLOO, REINFORCE leave-one-out: the reward less the mean of the others in the group."""

    name = "rloo"

    @staticmethod
    def advantages(deviations: Floats, mean: float) -> Floats:
        """Reward - mean of the others."""
        m = len(deviations)
        return deviations * (m / max(m - 1, 1))


class DrGRPO(Group):
    """Dr. GRPO: the reward's deviation from the group's mean, divided by a constant in place of the length."""

    name = "dr_grpo"

    @staticmethod
    def advantages(deviations: Floats, mean: float) -> Floats:
        """Reward - mean."""
        return deviations

    @staticmethod
    def share(lengths: Floats, horizon: int) -> Floats:
        """T."""
        return np.full(len(lengths), float(horizon))


class MaxRL(Group):
    """MaxRL: the reward's deviation from the group's mean, divided by that mean, so that log P(success) is ascended."""

    name = "maxrl"

    @staticmethod
    def advantages(deviations: Floats, mean: float) -> Floats:
        """(r - mean) / (mean + 1e-8)."""
        return deviations / (mean + 1e-8)
