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

import numpy as np
from numpy.typing import NDArray

from banel_agents.base import Answers, base_trainable
from banel_agents.limits import Weight
from banel_agents.shared.steps import Step, StepConfig, rounds_of_steps
from banel_envs import Oracle, Problem
from banel_envs.policies import Trainable

Floats = NDArray[np.float64]

Score = Callable[[Answers], Floats]
"""Gives the scores [m] of the told sequences, m at least 1, before the penalty: reward plus bonus."""


@dataclass(frozen=True)
class GradientConfig(StepConfig):
    """The settings that all policy-gradient agents have: a round is one question and one step."""

    kl: Weight = 0.03  # reward units for a nat of log p_phi(x) - log p_theta(x); tried out on both addition attacks


def rounds(
    problem: Problem, oracle: Oracle, rng: np.random.Generator, config: GradientConfig, score: Score
) -> Iterator[Trainable]:
    """Yield the base policy, then a snapshot after each gradient step, until the budget is spent.

    A round has no gradient if nothing was told or if all scores are equal. Then no step is taken and nothing is yielded.
    """
    base = base_trainable(problem)
    moved = False

    def steps(policy: Trainable, told: Answers) -> Iterator[Step]:
        nonlocal moved
        scores = score(told)  # [m]
        # Before the first step the policy is the base policy and the penalty is zero, so it is not computed.
        if config.kl and moved:
            scores = scores - config.kl * (policy.log_prob(told.tokens) - base.log_prob(told.tokens))
        advantages = centred(scores)
        moved = moved or bool(advantages.any())
        yield told.tokens, advantages

    return rounds_of_steps(problem, oracle, rng, config, steps)


def centred(scores: Floats) -> Floats:
    """Scores [m] minus their mean, which is the baseline. They are exactly zero if all scores are equal.

    Up to the factor (m - 1) / m this is the leave-one-out baseline, which keeps the gradient unbiased.
    """
    if len(scores) == 0 or (scores == scores[0]).all():
        return np.zeros(len(scores))
    advantages: Floats = scores - scores.mean()
    return advantages
