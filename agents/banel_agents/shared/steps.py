"""Rounds of questions and gradient steps whose weights an agent computes: the loop of every agent that is a formula.

A step is a set of sequences and their weights, [n] or one for each token [n, T]. It goes down the mean of weight x -log p, as
`banel_envs.policies.training.Trainer` says: to descend a loss, the weights are minus its derivative by log p, times n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from banel_agents.base import Answers, ask_samples, base_trainable
from banel_agents.limits import BatchSize, LearningRate, check_settings
from banel_envs import Oracle, Problem
from banel_envs.policies import Trainable
from banel_envs.problem import Tokens

Floats: TypeAlias = NDArray[np.float64]
Step: TypeAlias = tuple[Tokens, Floats]
"""Sequences [n, T] and their weights [n] or [n, T]."""


@dataclass(frozen=True)
class StepConfig:
    """The settings of rounds."""

    batch: BatchSize = 50  # sequences in a round, which is one question; as in `reinforce`
    lr: LearningRate = 1e-3  # learning rate of Adam; as in the other agents here

    def __post_init__(self) -> None:
        check_settings(self)


def rounds_of_steps(
    problem: Problem,
    oracle: Oracle,
    rng: np.random.Generator,
    config: StepConfig,
    steps: Callable[[Trainable, Answers], Iterable[Step]],
) -> Iterator[Trainable]:
    """Yield the base policy, then a snapshot after each round that took a step, until the budget is spent.

    Args:
        problem: its base policy is a network.
        oracle: is asked samples of the current policy.
        rng: draws the samples.
        config: the size of a round and the learning rate.
        steps: gives the steps of a round from the policy, which each step changes, and from what was told, if anything was.
            A step whose weights are all 0 is not taken: Adam would still move by what it remembers.
    """
    from banel_envs.policies.training import Trainer  # here, because it loads PyTorch

    policy = base_trainable(problem)
    trainer = Trainer(policy, config.lr)
    yield policy.clone()
    while oracle.left:
        told = ask_samples(oracle, policy, config.batch, rng)
        if len(told.tokens) == 0:
            continue
        moved = False
        for tokens, weights in steps(policy, told):
            if weights.any():
                trainer.step(tokens, weights)
                moved = True
        if moved:
            yield policy.clone()


def joined(*steps: tuple[Tokens, Floats, float]) -> Step:
    """One step down the sum of factor x the mean over its own sequences: of (tokens [k, T], weights [k] or [k, T], factor)."""
    told = [(tokens, weights, factor) for tokens, weights, factor in steps if len(tokens)]
    n = sum(len(tokens) for tokens, _, _ in told)
    each = any(weights.ndim == 2 for _, weights, _ in told)
    scaled = []
    for tokens, weights, factor in told:
        shares = weights * (factor * n / len(tokens))
        scaled.append(np.repeat(shares[:, None], tokens.shape[1], axis=1) if each and shares.ndim == 1 else shares)
    return np.concatenate([tokens for tokens, _, _ in told]), np.concatenate(scaled)
