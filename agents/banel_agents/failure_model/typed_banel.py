"""Typed BaNEL (ours): BaNEL's rounds, for an oracle that says why a sequence failed (feedback `typed`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray

from banel_agents.base import Answers, base_network, fit
from banel_agents.limits import BatchSize, Epochs, LearningRate, OneOf, Range
from banel_agents.shared.distil import DistilConfig, Floats, Score, best_of, distil_rounds
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy
from banel_envs.problem import Tokens

if TYPE_CHECKING:
    from banel_envs.policies.torch_policy import TorchPolicy

Ints: TypeAlias = NDArray[np.int64]
Share = Annotated[float, Range(0, 1, above=True)]
"""A share of the failures of a round."""


@dataclass(frozen=True)
class TypedBaNELConfig(DistilConfig):
    """The settings of typed BaNEL; without types only those of BaNEL are read."""

    form: Annotated[str, OneOf("ratio", "imitate", "gradient")] = "ratio"  # what is learnt from the types, see the module
    phi_epochs: Epochs = 5.0  # passes of each failure model over its failures; as in `banel`
    phi_lr: LearningRate = 1e-3  # Adam; as in `banel`
    memory: BatchSize = 500  # near misses that are kept: the distinct failures of the highest stages so far
    share: Share = 0.3  # the bar is the lowest stage that at most this share of a round's failures reach
    least: BatchSize = 4  # fewest near misses that a model is fitted to
    enough: Share = 0.5  # where more of a round's failures than this reach the last bar, the types have no more to say


@dataclass
class NearMisses:
    """The best failures so far, and the bar that they reach."""

    config: TypedBaNELConfig
    tokens: Tokens  # [m, T] distinct, the highest stage first
    stages: Ints = field(default_factory=lambda: np.empty(0, np.int64))  # [m]
    known: set[bytes] = field(default_factory=set)  # every failure so far

    def add(self, failures: Tokens, stages: Ints) -> None:
        """Remember the failures [n, T] of a round with their stages [n]."""
        self.known.update(row.tobytes() for row in failures)
        tokens, every = np.concatenate((failures, self.tokens)), np.concatenate((stages, self.stages))
        first = np.sort(np.unique(tokens, axis=0, return_index=True)[1])
        best = first[np.argsort(-every[first], kind="stable")][: self.config.memory]
        self.tokens, self.stages = tokens[best], every[best]

    def bar(self, stages: Ints) -> int | None:
        """The stage from which on failures are near misses, from the stages [n] of this round; None where types say no more."""
        c, bar = self.config, None
        for level in np.unique(self.stages)[::-1]:
            reached = (stages >= level).mean()
            if (self.stages >= level).sum() < c.least:
                continue
            if bar is not None and reached > c.share:
                break
            if reached <= c.enough:
                bar = int(level)
            if reached > c.share:
                break
        return bar


class TypedBaNEL:
    """See the module."""

    name = "typed_banel"
    Config = TypedBaNELConfig

    def __init__(self, config: TypedBaNELConfig | None = None) -> None:
        self.config = config or TypedBaNELConfig()
        self.reported: dict[str, float] = {}

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then the policy after each round."""
        c = self.config
        base = base_network(problem)
        yield base
        stage_of = np.array([0, *(one.stage for one in problem.failure_types)])
        near = NearMisses(c, np.empty((0, problem.T), np.int64))
        told_now: tuple[Tokens, Floats | None] | None = None  # what to imitate in this round instead of candidates
        f = c.f

        def make_score(theta: TorchPolicy, told: Answers) -> Score:
            nonlocal told_now, f
            told_now, f = None, c.f
            failures = early = told.failures
            late = failures[:0]
            if told.types is not None:
                stages = stage_of[told.types[told.rewards == 0]]
                near.add(failures, stages)
                bar = near.bar(stages)
                self.reported = {"stage": float(stages.mean()), "bar": float(-1 if bar is None else bar)}
                if bar is None:
                    told_now = (late, None)
                    return lambda x: np.zeros(len(x))
                reached = stages >= bar
                late, early = near.tokens[near.stages >= bar], failures[~reached]
                f = min(c.f, 1 / max(float(reached.mean()), 1e-9))
                self.reported["near"] = len(late)
                if c.form == "gradient":
                    told_now = (failures, (stages - stages.mean()) / (stages.std() + 1e-9))
                elif c.form == "imitate":
                    told_now = (np.concatenate([late] * round(c.phi_epochs)), None)
            phi, near_model = theta.clone(), theta.clone()
            fit(phi, early, rng, epochs=c.phi_epochs, lr=c.phi_lr, batch=c.minibatch)
            fit(near_model, late, rng, epochs=c.phi_epochs, lr=c.phi_lr, batch=c.minibatch)
            return lambda x: near_model.log_prob(x) - phi.log_prob(x)

        def choose(candidates: Tokens, scores: Floats) -> tuple[Tokens, Floats | None]:
            if told_now is not None:
                return told_now
            new = np.array([row.tobytes() not in near.known for row in candidates])
            if new.any():
                candidates, scores = candidates[new], scores[new]
            return best_of(f)(candidates, scores)

        yield from distil_rounds(base, problem, oracle, rng, c, make_score, choose)
