"""Soft BaNEL: BaNEL's rounds with weights in place of a filter.

1. Ask samples of p_theta; 2. fit p_phi, from p_theta, to the round's failures by maximum likelihood; 3. draw candidates
from p_theta that keep to the grammar; 4. give each the weight w(x) = (p_theta(x) / p_phi(x))^alpha, mean 1; 5. fit p_theta to
all of them by weighted maximum likelihood. The target is p_theta(x) w(x), which BaNEL's posterior (Lee, Amos, Fanti 2025,
arXiv 2510.09596, section 4) becomes when its indicator of p_theta / p_phi >= tau is replaced by a power.

alpha is found anew in each round, so that the effective number of candidates, (sum w)^2 / sum w^2, is 1 in `f` of them: `f`
means what it means in `banel`, and nothing depends on the scale of the ratio. All settings are those of `banel`.

What it does here: from failures alone it ends at 10^-0.04 to 10^0 of success on AdditionAttack-v0 and at 10^-1.11, 10^-0.33 and
10^-0.03 on AdditionAttackHard, on 1 to 309 effective successes; its twin ends at 10^-2.99 to 10^-2.49 there
(`python -m benchmarks.agents --agents soft_banel --feedback failures [--twin]`, seeds 100 to 102).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from banel_agents.base import Answers, base_trainable, fit
from banel_agents.limits import Epochs, LearningRate
from banel_agents.shared.distil import DistilConfig, Floats, Score, distil_rounds
from banel_envs import Oracle, Problem
from banel_envs.kernel import portable
from banel_envs.policies import Policy, Trainable
from banel_envs.problem import Tokens

HALVINGS = 40  # of the interval that holds alpha
MOST_ALPHA = 64.0  # where even this power leaves the weights nearly equal, the ratio says nothing


@dataclass(frozen=True)
class SoftBaNELConfig(DistilConfig):
    """The settings of BaNEL with weights: f says that the effective number of candidates is 1 in f of them."""

    phi_epochs: Epochs = 5.0  # passes of p_phi over the round's failures; as in `banel`
    phi_lr: LearningRate = 1e-3  # Adam; as in `banel`


class SoftBaNEL:
    """See the module."""

    name = "soft_banel"
    Config = SoftBaNELConfig
    asks_from = "yielded"

    def __init__(self, config: SoftBaNELConfig | None = None) -> None:
        self.config = config or SoftBaNELConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then the policy after each round."""
        c = self.config
        base = base_trainable(problem)
        yield base

        def make_score(theta: Trainable, told: Answers) -> Score:
            phi = theta.clone()
            fit(phi, told.failures, rng, epochs=c.phi_epochs, lr=c.phi_lr, batch=c.minibatch)
            return lambda x: theta.log_prob(x) - phi.log_prob(x)

        def choose(candidates: Tokens, scores: Floats) -> tuple[Tokens, Floats | None]:
            return candidates, weights_of(scores, c.f)

        yield from distil_rounds(base, problem, oracle, rng, c, make_score, choose)


def weights_of(scores: Floats, f: float) -> Floats:
    """exp(alpha x score) with mean 1: [n] to [n], alpha such that the effective number of them is n / f, or MOST_ALPHA."""
    low, high = 0.0, MOST_ALPHA
    for _ in range(HALVINGS):
        alpha = (low + high) / 2
        if effective(_powers(scores, alpha)) > len(scores) / f:
            low = alpha
        else:
            high = alpha
    weights = _powers(scores, low)
    made: Floats = weights * (len(weights) / float(portable.total(weights)))
    return made


def effective(weights: Floats) -> float:
    """(sum w)^2 / sum w^2: of k equal weights beside zeros it is k."""
    return float(portable.total(weights)) ** 2 / float(portable.total(weights * weights))


def _powers(scores: Floats, alpha: float) -> Floats:
    return portable.exp(alpha * (scores - scores.max()))
