"""DPG, the distributional policy gradient: approaches the base policy conditioned on success, p(x) = p_theta(x) 1[r(x) = 1] / Z.

In each round: 1. ask samples of the policy pi; 2. update Z, the mean of w = P(x) / pi(x) over all that was told so far,
P = p_theta x 1[r = 1]; 3. take one step up the mean of (w - mean w) / Z x log pi(x). It descends the forward divergence
KL(p || pi). The mean of w over the round is the baseline. Its expectation is Z, so that w / Z - 1 is the advantage of Korbak et
al. 2022 (arXiv 2206.00761); with 1 itself a round without a success would push all its samples down, and some runs were lost
to that. Target and gradient: Khalifa et al. 2021 (GDC, arXiv 2012.11635, with a pointwise constraint).

What to expect: a success gets 1 / Z, so the first one moves the policy as far as many later ones; one that is already likely
gets little. At the optimum every success has the share that the base policy gives it: none is dropped for another. Dead until a
success is told: Z is 0 and there is no target. On the addition attack it finds two to three times as many different successes as
`reinforce`, at a lower rate; where few successes exist (Countdown) it gains nothing by that.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from banel_agents.base import Answers, base_trainable
from banel_agents.shared.gradient import centred
from banel_agents.shared.steps import Step, StepConfig, rounds_of_steps
from banel_envs import Oracle, Problem
from banel_envs.kernel import portable
from banel_envs.policies import Policy, Trainable


class DPG:
    """See the module."""

    name = "dpg"
    Config = StepConfig
    learns_from = "successes"
    asks_from = "yielded"

    def __init__(self, config: StepConfig | None = None) -> None:
        self.config = config or StepConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each step. There is none before the first success is told."""
        base = base_trainable(problem)
        told_so_far, mass = 0, 0.0

        def steps(policy: Trainable, told: Answers) -> Iterator[Step]:
            nonlocal told_so_far, mass
            ratios = told.rewards * portable.exp(base.log_prob(told.tokens) - policy.log_prob(told.tokens))  # P / pi
            told_so_far, mass = told_so_far + len(ratios), mass + float(portable.total(ratios))
            if mass:
                yield told.tokens, centred(ratios) / (mass / told_so_far)

        return rounds_of_steps(problem, oracle, rng, self.config, steps)
