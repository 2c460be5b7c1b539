"""BaNEL: learn from failed attempts alone (Lee, Amos, Fanti 2025, arXiv 2510.09596, section 4).

Each round: 1. ask samples of p_theta; 2. fit a failure model p_phi to the failures by maximum likelihood; 3. keep the
candidates with p_theta(x) / p_phi(x) >= tau, tau being set so that 1 in `f` passes; 4. distil them into p_theta
(`form="distil"`), or keep p_theta as it is and accumulate the regions of all rounds (`form="regions"`).

What it does here: from failures alone it climbs to nearly 1 on both addition attacks, two decades above its oracle-free twin,
and ends on a handful of successes; on v0 one seed in ten falls below the base. What made it work: p_phi starts from the
current policy and is fitted to the round's own failures, so that the ratio compares like with like, and a light touch in
every step. A tie at tau (one sequence with much of the mass) must not pass whole. What each setting does, by ten seeds on six
tasks (`python -m benchmarks.findings.ablation`, docs/findings.md, 3): f = 2, the paper's, arrives in fewer seeds and drifts
less where nothing is gained; p_phi on all failures does as well on the attacks and loses 1 to 8 decades elsewhere; malformed
candidates, if kept, cost 1.6 decades on the Hard attack and none on v0. On the other four tasks no setting gains over its
twin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from banel_agents.base import Answers, ask_samples, base_trainable, fit
from banel_agents.limits import Epochs, LearningRate, OneOf
from banel_agents.shared.distil import DistilConfig, Floats, Score, best_of, distil_rounds, threshold
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy, Trainable
from banel_envs.policies.composed.filtered import LEAST_ACCEPTANCE, Filtered
from banel_envs.problem import Tokens


@dataclass(frozen=True)
class BaNELConfig(DistilConfig):
    """BaNEL's knobs; the defaults suit the addition attacks (docs/findings.md, 3, has what each of them does)."""

    form: Annotated[str, OneOf("distil", "regions")] = "distil"
    phi_init: Annotated[str, OneOf("base", "current", "fresh")] = "current"  # where p_phi starts; fresh: new weights
    phi_data: Annotated[str, OneOf("all", "round")] = "round"  # p_phi is fitted to this round's failures, or all so far
    phi_epochs: Epochs = 5.0  # passes over them
    phi_lr: LearningRate = 1e-3  # Adam


class BaNEL:
    """See the module."""

    name = "banel"
    Config = BaNELConfig
    asks_from = "yielded"

    def __init__(self, config: BaNELConfig | None = None) -> None:
        self.config = config or BaNELConfig()
        self.reported: dict[str, float] = {}

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then the policy after each round."""
        base = base_trainable(problem)
        yield base
        learn = self._distil if self.config.form == "distil" else self._accumulate
        yield from learn(base, problem, oracle, rng)

    def _distil(self, base: Trainable, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        failures = np.empty((0, problem.T), np.int64)

        def make_score(theta: Trainable, told: Answers) -> Score:
            nonlocal failures
            failures = self._collected(failures, told.failures)
            phi = self._failure_model(base, theta, failures, rng)
            return lambda x: theta.log_prob(x) - phi.log_prob(x)

        return distil_rounds(base, problem, oracle, rng, self.config, make_score, self._choose)

    def _choose(self, candidates: Tokens, scores: Floats) -> tuple[Tokens, Floats | None]:
        """The candidates that pass the filter, by the logarithms of their ratios."""
        return best_of(self.config.f)(candidates, scores)

    def _accumulate(
        self, base: Trainable, problem: Problem, oracle: Oracle, rng: np.random.Generator
    ) -> Iterator[Policy]:
        c = self.config
        policy: Policy = base
        models: list[Trainable] = []
        log_taus: list[float] = []
        failures = np.empty((0, problem.T), np.int64)
        candidates = base.sample(c.pool, rng)
        log_probs = base.log_prob(candidates)
        inside = problem.well_formed(candidates) if c.well_formed else np.ones(len(candidates), bool)
        while oracle.left:
            failures = self._collected(failures, ask_samples(oracle, policy, c.batch, rng).failures)
            if inside.sum() / c.f < max(LEAST_ACCEPTANCE * c.pool, 2):
                continue  # the next region would leave too few candidates to set its tau by
            phi = self._failure_model(base, base, failures, rng)
            ratio = log_probs - phi.log_prob(candidates)
            log_taus.append(threshold(ratio[inside], c.f))
            models.append(phi)
            inside &= ratio >= log_taus[-1]
            policy = self._filtered(base, models, log_taus, problem, rng)
            yield policy

    def _filtered(
        self,
        base: Trainable,
        models: list[Trainable],
        log_taus: list[float],
        problem: Problem,
        rng: np.random.Generator,
    ) -> Filtered:
        """The regions so far, their mass counted on proposals that set no tau."""
        draft = Filtered(base, models, log_taus, 1, 1)
        proposals = base.sample(self.config.pool, rng)
        accepted = int(draft.accepts(proposals, base.log_prob(proposals)).sum())
        return Filtered(base, models, log_taus, len(proposals), accepted)

    def _collected(self, failures: Tokens, new: Tokens) -> Tokens:
        """What p_phi is fitted to."""
        return np.concatenate((failures, new)) if self.config.phi_data == "all" else new

    def _failure_model(
        self, base: Trainable, theta: Trainable, failures: Tokens, rng: np.random.Generator
    ) -> Trainable:
        c = self.config
        phi = base.with_new_weights(rng) if c.phi_init == "fresh" else (base if c.phi_init == "base" else theta).clone()
        fit(phi, failures, rng, epochs=c.phi_epochs, lr=c.phi_lr, batch=c.minibatch)
        return phi
