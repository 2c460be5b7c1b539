"""BaNEL as its paper describes it: a row of its own beside `banel`, whose defaults were changed by what was learnt here.

1. Ask samples of the current posterior. 2. Fit p_phi, from the base policy, to *all* failures so far by maximum likelihood.
3. Add the rejection region {x : p_theta(x) / p_phi(x) < tau}, tau set so that 1 in f of what is left passes. 4. The posterior is
p_theta outside the regions of all rounds. 5. When less than `least` of p_theta's samples lie outside, distil the posterior
into p_theta, and begin again without regions.

Source: Lee, Amos, Fanti 2025 (arXiv 2510.09596, section 4). f is the paper's filter factor: 2 on the addition attack, 1.032 on
ZeroToSix; where the paper has no such task, 2. The paper does not say here how p_phi starts, when it distils, or with which
learning rates: these are ours, as in `banel`, and were not tuned. The grammar is not used.

What it does here: from failures alone it ends at 10^-2.86 and 10^-2.39 of success on AdditionAttackHard (base 10^-5.09), on 7 to
9 effective successes (`python -m benchmarks.agents --agents banel_paper --feedback failures`, seeds 100 and 101).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from banel_agents.base import ask_samples, base_trainable, fit
from banel_agents.limits import BatchSize, Epochs, LearningRate, Range, check_settings
from banel_agents.shared.distil import FilterFactor, threshold
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy, Trainable
from banel_envs.policies.composed.filtered import LEAST_ACCEPTANCE, Filtered
from banel_envs.problem import Tokens

BY_TASK = {"ZeroToSix": 1.032}
"""The paper's filter factor on tasks whose id holds this word."""
FEWEST = 2  # candidates outside all regions: a threshold needs two


@dataclass(frozen=True)
class BaNELPaperConfig:
    """The settings of BaNEL after its paper."""

    batch: BatchSize = 500  # sequences asked a round: 15 rounds of the addition attack's 7,500, as in the paper
    f: FilterFactor = 2.0  # the paper's on the addition attack
    by_task: bool = True  # take the paper's other factor where it has one for the task
    phi_epochs: Epochs = 5.0  # passes of p_phi over all failures; as in `banel`
    phi_lr: LearningRate = 1e-3  # Adam; as in `banel`
    pool: BatchSize = 10_000  # samples of p_theta that set tau and count what is left; as in `banel`
    least: Annotated[float, Range(LEAST_ACCEPTANCE, 1)] = (
        0.02  # share of p_theta outside the regions, below which it distils
    )
    distil_epochs: Epochs = 1.0  # passes over `pool` samples of the posterior; as in `banel`
    distil_lr: LearningRate = 1e-3  # Adam; as in `banel`
    minibatch: BatchSize = 128  # sequences a gradient step; as in `banel`

    def __post_init__(self) -> None:
        check_settings(self)


class BaNELPaper:
    """See the module."""

    name = "banel_paper"
    Config = BaNELPaperConfig
    asks_from = "yielded"

    def __init__(self, config: BaNELPaperConfig | None = None) -> None:
        self.config = config or BaNELPaperConfig()
        self.reported: dict[str, float] = {"distilled": 0.0}

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then the posterior of each round."""
        c = self.config
        base = base_trainable(problem)
        f = next((f for word, f in BY_TASK.items() if c.by_task and word in problem.id), c.f)
        regions, policy = Regions(base, c.pool), base
        yield policy
        failures = np.empty((0, problem.T), np.int64)
        posterior: Policy = policy
        while oracle.left:
            failures = np.concatenate((failures, ask_samples(oracle, posterior, c.batch, rng).failures))
            phi = base.clone()
            fit(phi, failures, rng, epochs=c.phi_epochs, lr=c.phi_lr, batch=c.minibatch)
            if not regions.add(phi, f, c.least, rng):
                regions = Regions(self._distilled(regions.theta, posterior, rng), c.pool)
                regions.add(phi, f, c.least, rng)
            posterior = regions.posterior(rng)
            yield posterior

    def _distilled(self, theta: Trainable, posterior: Policy, rng: np.random.Generator) -> Trainable:
        """A copy of p_theta, fitted to samples of the posterior."""
        c = self.config
        self.reported["distilled"] += 1
        theta = theta.clone()
        samples = posterior.sample(c.pool, rng)
        fit(theta, samples, rng, epochs=c.distil_epochs, lr=c.distil_lr, batch=c.minibatch)
        return theta


class Regions:
    """p_theta and the rejection regions of the rounds since it was last distilled."""

    def __init__(self, theta: Trainable, pool: int) -> None:
        self.theta, self.pool = theta, pool
        self.models: list[Trainable] = []
        self.log_taus: list[float] = []

    def add(self, phi: Trainable, f: float, least: float, rng: np.random.Generator) -> bool:
        """Add the region of p_phi, unless it would leave less than `least` of p_theta; whether it was added."""
        candidates, log_probs = self._drawn(rng)
        ratio = (log_probs - phi.log_prob(candidates))[self._inside(candidates, log_probs)]
        if len(ratio) / f < max(least * self.pool, FEWEST):
            return False
        self.models.append(phi)
        self.log_taus.append(threshold(ratio, f))
        return True

    def posterior(self, rng: np.random.Generator) -> Policy:
        """p_theta outside all regions, its mass counted on samples that set no tau; p_theta itself if that is too little."""
        if not self.models:
            return self.theta
        candidates, log_probs = self._drawn(rng)
        accepted = int(self._inside(candidates, log_probs).sum())
        if accepted < max(LEAST_ACCEPTANCE * self.pool, 1):
            return self.theta
        return Filtered(self.theta, self.models, self.log_taus, self.pool, accepted)

    def _drawn(self, rng: np.random.Generator) -> tuple[Tokens, np.ndarray]:
        candidates = self.theta.sample(self.pool, rng)
        return candidates, self.theta.log_prob(candidates)

    def _inside(self, candidates: Tokens, log_probs: np.ndarray) -> np.ndarray:
        if not self.models:
            return np.ones(len(candidates), bool)
        return Filtered(self.theta, self.models, self.log_taus, 1, 1).accepts(candidates, log_probs)
