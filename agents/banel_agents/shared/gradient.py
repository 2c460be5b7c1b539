"""The rounds of the policy-gradient agents: questions, a baseline and one gradient step.

In each round:
1. Sample the current policy p_phi, ask the samples, and drop those whose answer is withheld.
2. The score of a told sequence is its reward, plus the agent's bonus, minus kl x log(p_phi(x) / p_theta(x)), where p_theta is
   the base policy.
3. Take one Adam step along the mean of (score - mean score) x gradient of log p_phi(x): Williams 1992 (REINFORCE).

The penalty is the KL-regularised objective of Jaques et al. 2017 and Ziegler et al. 2019 (section 2), for each sequence. Adam
divides by the size of the gradient, so only the ratios of the terms matter: bonus / kl decides how far the bonus can draw
the policy away from the base policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from banel_agents.base import Answers, ask_samples, base_network
from banel_agents.limits import BatchSize, LearningRate, Weight, check_settings
from banel_envs import Oracle, Problem

if TYPE_CHECKING:
    from banel_envs.policies.torch_policy import TorchPolicy

Floats = NDArray[np.float64]

Score = Callable[[Answers], Floats]
"""Gives the scores [m] of the told sequences, m at least 1, before the penalty: reward plus bonus."""


@dataclass(frozen=True)
class GradientConfig:
    """The settings that all policy-gradient agents have."""

    batch: BatchSize = 50  # sequences in a round, which is one question and one step; with 100 it learns later
    lr: LearningRate = 1e-3  # learning rate of Adam; as in the other agents here
    kl: Weight = 0.03  # reward units for a nat of log p_phi(x) - log p_theta(x); tried out on both addition attacks

    def __post_init__(self) -> None:
        check_settings(self)


def rounds(
    problem: Problem, oracle: Oracle, rng: np.random.Generator, config: GradientConfig, score: Score
) -> Iterator[TorchPolicy]:
    """Yield the base policy, then a snapshot after each gradient step, until the budget is spent.

    A round has no gradient if nothing was told or if all scores are equal. Then no step is taken and nothing is yielded.
    """
    from banel_envs.policies.training import Trainer  # here, because it loads PyTorch

    policy, base = base_network(problem), base_network(problem)
    trainer = Trainer(policy, config.lr)
    yield policy.clone()
    moved = False
    while oracle.left:
        told = ask_samples(oracle, policy, config.batch, rng)
        if len(told.tokens) == 0:
            continue
        scores = score(told)  # [m]
        # Before the first step the policy is the base policy and the penalty is zero, so it is not computed.
        if config.kl and moved:
            scores = scores - config.kl * (policy.log_prob(told.tokens) - base.log_prob(told.tokens))
        advantages = centred(scores)
        if not advantages.any():
            continue
        trainer.step(told.tokens, advantages)
        moved = True
        yield policy.clone()


def centred(scores: Floats) -> Floats:
    """Scores [m] minus their mean, which is the baseline. They are exactly zero if all scores are equal.

    Up to the factor (m - 1) / m this is the leave-one-out baseline, which keeps the gradient unbiased.
    """
    if len(scores) == 0 or (scores == scores[0]).all():
        return np.zeros(len(scores))
    advantages: Floats = scores - scores.mean()
    return advantages
