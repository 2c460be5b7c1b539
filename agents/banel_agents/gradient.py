"""What the policy-gradient agents share: rounds of asking, a baseline, one gradient step.

A round samples the current policy, asks, and follows the score-function gradient of E[score]: the score of a sequence
is its reward plus the agent's bonus, less a penalty for leaving the base policy. Williams 1992 (REINFORCE).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from banel_envs import Oracle, Problem
from banel_envs.policies.network import TorchPolicy
from numpy.typing import NDArray

from banel_agents.base import Answers, ask, base_network, optimiser, update

Floats = NDArray[np.float64]
Score = Callable[[Answers], Floats]
"""What the told sequences [m] are worth to the agent: [m]."""


@dataclass(frozen=True)
class GradientConfig:
    """What every policy-gradient agent sets."""

    batch: int = 50  # sequences a round, which is one question and one gradient step: 150 rounds in 7,500 NRE
    lr: float = 1e-3  # Adam, as in the other agents here
    kl: float = 0.0  # reward units a nat of log p_phi(x) - log p_theta(x): what leaving the base policy costs


def rounds(
    problem: Problem, oracle: Oracle, rng: np.random.Generator, config: GradientConfig, score: Score
) -> Iterator[TorchPolicy]:
    """Yield the base policy, then a snapshot after each gradient step, until the budget is spent.

    A round whose scores are all alike has no gradient: it takes no step and yields nothing.
    """
    policy, base = base_network(problem), base_network(problem)
    opt = optimiser(policy, config.lr)
    yield policy.clone()
    moved = False
    while oracle.left:
        told = ask(oracle, policy.sample(config.batch, rng))
        scores = score(told)  # [m]
        if config.kl and moved:
            scores = scores - config.kl * (policy.log_prob(told.tokens) - base.log_prob(told.tokens))
        advantage = centred(scores)
        if not advantage.any():
            continue
        update(opt, policy.loss(told.tokens, advantage))
        moved = True
        yield policy.clone()


def centred(scores: Floats) -> Floats:
    """Scores [m] less their mean, the baseline; exactly zero where they are all alike.

    Up to the factor (m - 1) / m, which Adam cancels, it is the leave-one-out baseline, which leaves the gradient unbiased.
    """
    if len(scores) == 0 or (scores == scores[0]).all():
        return np.zeros(len(scores))
    return scores - scores.mean()


def written(problem: Problem, tokens: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which tokens of sequences [n, T] the policy emitted, the first end token included: [n, T]."""
    mask: NDArray[np.bool_] = np.arange(problem.T) < problem.lengths(tokens)[:, None]
    return mask
