"""Unlikelihood training: every token of a failure becomes less likely where it stands, the base policy's own samples stay likely.

In each round: 1. ask samples of the policy; 2. take one step down L = L_MLE + alpha L_UL, where L_UL is the mean over the
failures of sum_t -log(1 - p(x_t | x_<t)) and L_MLE the mean negative log-likelihood of base samples, which take the place of
the paper's training data, plus that of the successes told. Source: Welleck et al. 2020 (arXiv 1908.04319, the token-level
objective).

The gradient of -log(1 - p) is p / (1 - p) times that of log p: it is large where the policy is sure and fades as the token
becomes unlikely. So the loss flattens the policy, also where every answer is the same.

What it does here: from failures alone the rate stays at the base policy's on most tasks of the board, and rises to 10^-3.52
[-3.65, -2.97] on AdditionAttackHard (base 10^-5.09), as that of any flatter policy would. A token that leaves the grammar is
unlikely, so hardly anything pushes it down, and there are many of them: with the paper's alpha of 1 half of all strings are
malformed, with 0.1 one in ten. Successes told lift the rate within a few rounds, and it keeps more than a thousand different
ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from banel_agents.base import Answers, base_trainable
from banel_agents.limits import BatchSize, Weight
from banel_agents.negative.retain import Successes, base_samples
from banel_agents.shared.steps import Floats, Step, StepConfig, joined, rounds_of_steps
from banel_envs import Oracle, Problem
from banel_envs.kernel import portable
from banel_envs.policies import Policy, Trainable
from banel_envs.problem import Tokens

LEAST = 1e-5  # of 1 - p, as fairseq's unlikelihood criterion has it: a token that is certain would have an infinite gradient


@dataclass(frozen=True)
class UnlikelihoodConfig(StepConfig):
    """The settings of unlikelihood training."""

    alpha: Weight = 0.1  # weight of the failures' loss beside that of what is retained; the module says why (paper: 1)
    retained: BatchSize = 50  # base samples in a step, and as many of the successes told; as many as are asked


class Unlikelihood:
    """See the module."""

    name = "unlikelihood"
    Config = UnlikelihoodConfig
    learns_from = "both"
    asks_from = "yielded"

    def __init__(self, config: UnlikelihoodConfig | None = None) -> None:
        self.config = config or UnlikelihoodConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each round."""
        c, base, successes = self.config, base_trainable(problem), Successes(problem.T)

        def steps(policy: Trainable, told: Answers) -> Iterator[Step]:
            kept = base_samples(base, problem, c.retained, rng)
            known = successes.drawn(told.successes, c.retained, rng)
            yield joined(
                (told.failures, unlikelihood(policy, told.failures), c.alpha),
                (kept, np.ones(len(kept)), 1.0),
                (known, np.ones(len(known)), 1.0),
            )

        return rounds_of_steps(problem, oracle, rng, c, steps)


def unlikelihood(policy: Trainable, tokens: Tokens) -> Floats:
    """The weights [n, T] of a step down the mean over the sequences of sum_t -log(1 - p(x_t | x_<t))."""
    p = portable.exp(policy.token_log_probs(tokens)[0])
    weights: Floats = -p / np.maximum(1 - p, LEAST)
    return weights
