"""What the policy-gradient agents share: rounds of asking, a baseline, one gradient step.

1. Sample the current policy, ask, and drop what is withheld.
2. The score of a told sequence is its reward, plus the agent's bonus, less kl x log(p_phi(x) / p_theta(x)).
3. One Adam step along the mean of (score - mean score) x gradient of log p_phi(x): Williams 1992 (REINFORCE).
The penalty is the KL-regularised objective of Jaques et al. 2017 and Ziegler et al. 2019 (section 2), per sequence.
Adam does not see the scale of the scores, only their ratios: bonus / kl sets how far novelty may pull.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banel_agents.base import Answers, ask_samples, base_network, optimiser
from banel_agents.limits import BatchSize, LearningRate, Weight, check_settings
from banel_envs import Oracle, Problem
from banel_envs.policies.gradient_step import descend
from banel_envs.policies.torch_policy import TorchPolicy

Floats = NDArray[np.float64]

Score = Callable[[Answers], Floats]
"""What the told sequences [m] are worth, m at least 1, before the penalty: reward plus bonus, [m]."""


@dataclass(frozen=True)
class GradientConfig:
    """What every agent of this family sets."""

    batch: BatchSize = 50  # sequences a round: one question and one step; 100 halves the steps and learns later
    lr: LearningRate = 1e-3  # of Adam; as in the other agents here
    kl: Weight = 0.03  # reward units a nat of log p_phi(x) - log p_theta(x); scanned on both addition attacks

    def __post_init__(self) -> None:
        check_settings(self)


def rounds(
    problem: Problem, oracle: Oracle, rng: np.random.Generator, config: GradientConfig, score: Score
) -> Iterator[TorchPolicy]:
    """Yield the base policy, then a snapshot after each gradient step, until the budget is spent.

    A round that told nothing, or whose scores are all alike, has no gradient: no step, nothing yielded.
    """
    policy, base = base_network(problem), base_network(problem)
    opt = optimiser(policy, config.lr)
    yield policy.clone()
    moved = False
    while oracle.left:
        told = ask_samples(oracle, policy, config.batch, rng)
        if len(told.tokens) == 0:
            continue
        scores = score(told)  # [m]
        # Before the first step the penalty is zero for every sequence: not worth two forward passes.
        if config.kl and moved:
            scores = scores - config.kl * (policy.log_prob(told.tokens) - base.log_prob(told.tokens))
        advantages = centred(scores)
        if not advantages.any():
            continue
        descend(opt, policy.loss(told.tokens, advantages))
        moved = True
        yield policy.clone()


def centred(scores: Floats) -> Floats:
    """Scores [m] less their mean, the baseline; exactly zero where they are all alike.

    Up to the factor (m - 1) / m this is the leave-one-out baseline, which keeps the gradient unbiased.
    """
    if len(scores) == 0 or (scores == scores[0]).all():
        return np.zeros(len(scores))
    advantages: Floats = scores - scores.mean()
    return advantages
