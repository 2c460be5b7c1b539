"""DPG to a target that failures alone define: P(x) = p_theta(x) x (p_theta(x) / p_phi(x))^b for well-formed x, else 0.

Each round: 1. ask samples of the policy pi; 2. fit p_phi, which starts as the base policy, a little further to all failures so
far; 3. draw `pool` samples of pi, weigh each by P(x) / pi(x), and fit pi to them by weighted likelihood. This is the
distributional policy gradient E_pi[P / (Z pi) grad log pi] (Khalifa et al. 2021, arXiv 2012.11635) with pi as the
proposal, refreshed every round. The weights are divided by their mean, which takes the place of Z, and capped.

The target is ours. With p_phi proportional to p_theta(x) P(x fails) it is p_theta(x) / P(x fails)^b: what fails for certain keeps
the share that the base policy gives it, and what does not gains. Unlike in BaNEL nothing compounds: however many rounds, the
target is tied to p_theta. What the public grammar excludes has no mass in it.

What it does here: on AdditionAttack-v0 it asks five times as many successes as the base policy, and its final rate is near
where it began (10^-2.37 [-3.05, -1.83] on the board, base 10^-2.89; on Hard 10^-2.81, base 10^-5.09): p_phi is fitted to what
pi asked, so the target moves on from wherever pi has been, as a bonus for novelty would. Its oracle-free twin asks somewhat
fewer. With b from 1 to 5 it finds fewer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from banel_agents.base import ask_samples, base_trainable, fit
from banel_agents.limits import BatchSize, Epochs, LearningRate, Range, check_settings
from banel_agents.shared.steps import Floats
from banel_envs import Oracle, Problem
from banel_envs.kernel import portable
from banel_envs.policies import Policy, Trainable
from banel_envs.problem import Tokens


@dataclass(frozen=True)
class DPGFailuresConfig:
    """The settings of DPG to a failure-only target."""

    batch: BatchSize = 250  # sequences in a round
    b: Annotated[float, Range(0, 100)] = 10.0  # how far the target leans away from the failures
    phi_epochs: Epochs = 1.0  # passes of p_phi over all failures so far, each round
    phi_lr: LearningRate = 1e-3  # Adam
    pool: BatchSize = 5_000  # samples of pi a round, which are not asked
    cap: Annotated[float, Range(1, 1_000)] = 10.0  # the largest weight, in units of the mean one
    epochs: Epochs = 1.0  # passes of pi over the weighted pool
    lr: LearningRate = 1e-3  # Adam
    minibatch: BatchSize = 128  # sequences in a gradient step

    def __post_init__(self) -> None:
        check_settings(self)


class DPGFailures:
    """See the module."""

    name = "dpg_failures"
    Config = DPGFailuresConfig
    learns_from = "failures"
    asks_from = "yielded"

    def __init__(self, config: DPGFailuresConfig | None = None) -> None:
        self.config = config or DPGFailuresConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then the policy after each round."""
        c, base = self.config, base_trainable(problem)
        policy, phi = base.clone(), base.clone()
        failures = np.empty((0, problem.T), np.int64)
        yield base
        while oracle.left:
            failures = np.concatenate((failures, ask_samples(oracle, policy, c.batch, rng).failures))
            fit(phi, failures, rng, epochs=c.phi_epochs, lr=c.phi_lr, batch=c.minibatch)
            pool = policy.sample(c.pool, rng)
            pool = pool[problem.well_formed(pool)]
            if len(pool):
                weights = capped(log_target(base, phi, pool, c.b) - policy.log_prob(pool), c.cap)
                fit(policy, pool, rng, epochs=c.epochs, lr=c.lr, batch=c.minibatch, weights=weights)
            yield policy.clone()


def log_target(base: Trainable, phi: Trainable, tokens: Tokens, b: float) -> Floats:
    """Log P [n] of well-formed sequences [n, T], but for a constant."""
    log_base = base.log_prob(tokens)
    target: Floats = log_base + b * (log_base - phi.log_prob(tokens))
    return target


def capped(log_weights: Floats, cap: float) -> Floats:
    """Weights [n] of mean 1 from their logarithms, none above the cap before they are divided by the mean again."""
    weights = portable.exp(log_weights - log_weights.max())
    weights = np.minimum(weights, cap * portable.total(weights) / len(weights))
    means: Floats = weights * (len(weights) / portable.total(weights))
    return means
