"""Typed BaNEL (ours): BaNEL's rounds for an oracle that says why a sequence failed (the feedback `typed`).

The problem's table gives each type a stage: how far the check came. In each round: 1. ask samples of p_theta; 2. set the bar:
the lowest stage that at most `share` of the failures reach. Those below it are early, those from it on near misses, and the
near misses of earlier rounds stay (`memory`); 3. fit one model to each sort from p_theta, p_early and p_near; 4. keep
the candidates with p_near(x) / p_early(x) >= tau, one in `f` of them, or in 1 / (share of near misses) where that is
less. Known failures are not kept. 5. Distil what is kept into p_theta. Where most failures reach the highest bar, the types
have no more to say, and the policy stays.

Without types there is no near miss, so that p_near is p_theta: the round is `banel`'s with its default settings, to the bit.
`form` has what else was tried: "imitate" fits p_theta to the near misses themselves (the cross-entropy method, Rubinstein 1999),
and "gradient" takes REINFORCE's step on the stage, its mean subtracted, in units of its deviation (Williams 1992).

What it does here (`python -m benchmarks.findings.typed --out FILE`, seeds 100 to 109): told types, it asks its first success
on ListProgram at NRE 1,353 (10 of 10 runs; told failures 3,924, 6 of 10) and on Proof at 4,160 (9 of 10; 2 of 10), with a
policy a decade above the base by then, and ends at 10^-0.50 and 10^-1.58. On ProofHard it meets none; on Countdown types
teach nothing before the first success. `imitate` is behind it, and `gradient` ends below the twin on all four (medians). How
it was set (seeds 1 to 3): passed-over stages with fewer than 30 or 8 near misses made it slow, and without `enough` it went
on to narrow on Countdown. Proof's types were chosen among five by what they gave on seeds 1 and 2. On instances of
ListProgram and Proof that nobody had looked at it meets a success in 10 of 10 runs each, against 4 and 1 told failures
(docs/findings.md has the command).
Source: the rounds of Lee, Amos, Fanti 2025 (arXiv 2510.09596, section 4); the ratio of two models is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray

from banel_agents.base import Answers, base_trainable, fit
from banel_agents.limits import BatchSize, Epochs, LearningRate, OneOf, Range
from banel_agents.shared.distil import DistilConfig, Floats, Score, best_of, distil_rounds
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy, Trainable
from banel_envs.problem import Tokens

Ints: TypeAlias = NDArray[np.int64]
Share = Annotated[float, Range(0, 1, above=True)]
"""A share of the failures of a round."""


@dataclass(frozen=True)
class TypedBaNELConfig(DistilConfig):
    """The settings of typed BaNEL; those of BaNEL have its defaults, and without types no other is read."""

    form: Annotated[str, OneOf("ratio", "imitate", "gradient")] = (
        "ratio"  # what is learnt from the types, see the module
    )
    phi_epochs: Epochs = 5.0  # passes of each failure model over its failures, and of "imitate"; as in `banel`
    phi_lr: LearningRate = 1e-3  # Adam; as in `banel`
    memory: BatchSize = (
        500  # near misses that are kept: distinct failures of the highest stages; as many as a round asks
    )
    share: Share = 0.3  # the bar is the lowest stage that at most this share of a round's failures reach; about 1 / f
    least: BatchSize = 4  # fewest near misses that a model is fitted to; with 8 and 30 the bar stays low too long
    enough: Share = 0.7  # where more of a round's failures than this reach the highest bar, the policy stays


@dataclass
class NearMisses:
    """The best failures so far."""

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
        """The stage from which on failures are near misses, from the stages [n] of this round; None where types say no more.

        It is the lowest stage that at most `share` of the round reach, or the highest of all if that is reached by at most
        `enough`. Stages with fewer than `least` near misses so far are passed over.
        """
        c = self.config
        levels = [int(k) for k in np.unique(self.stages) if (self.stages >= k).sum() >= c.least]
        rare = [k for k in levels if (stages >= k).mean() <= c.share]
        if rare:
            return rare[0]
        return levels[-1] if levels and (stages >= levels[-1]).mean() <= c.enough else None

    def unknown(self, candidates: Tokens) -> NDArray[np.bool_]:
        """Which candidates [n, T] are no known failures; all of them where there would be none."""
        new = np.array([row.tobytes() not in self.known for row in candidates])
        return new if new.any() else ~new


class TypedBaNEL:
    """See the module."""

    name = "typed_banel"
    asks_from = "yielded"
    Config = TypedBaNELConfig

    def __init__(self, config: TypedBaNELConfig | None = None) -> None:
        self.config = config or TypedBaNELConfig()
        self.reported: dict[str, float] = {}

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then the policy after each round."""
        base = base_trainable(problem)
        yield base
        rounds = Rounds(self.config, problem, rng, self.reported)
        yield from distil_rounds(base, problem, oracle, rng, self.config, rounds.score, rounds.choose)


class Rounds:
    """What happens in each round, for `distil_rounds`."""

    def __init__(
        self, config: TypedBaNELConfig, problem: Problem, rng: np.random.Generator, reported: dict[str, float]
    ) -> None:
        self.config, self.rng, self.reported = config, rng, reported
        self.near = NearMisses(config, np.empty((0, problem.T), np.int64))
        self._stage_of = np.array([0, *(one.stage for one in problem.failure_types)])  # 0 for a failure without a type
        self._instead: tuple[Tokens, Floats | None] | None = None  # what is imitated in this round, if not candidates
        self._f = config.f

    def score(self, theta: Trainable, told: Answers) -> Score:
        """The ratio of near misses to early failures, from what was told in this round."""
        self._instead, self._f = None, self.config.f
        early, late = told.failures, told.failures[:0]
        if told.types is not None:
            early, late = self._divided(told.failures, self._stage_of[told.types[told.rewards == 0]])
        if self._instead is not None:
            return lambda candidates: np.zeros(len(candidates))
        p_early, p_near = self._fitted(theta, early), self._fitted(theta, late)
        return lambda candidates: p_near.log_prob(candidates) - p_early.log_prob(candidates)

    def choose(self, candidates: Tokens, scores: Floats) -> tuple[Tokens, Floats | None]:
        """The best candidates that are no known failures."""
        if self._instead is not None:
            return self._instead
        new = self.near.unknown(candidates)
        return best_of(self._f)(candidates[new], scores[new])

    def _divided(self, failures: Tokens, stages: Ints) -> tuple[Tokens, Tokens]:
        """The early failures of this round and the near misses so far; sets what the round does with them."""
        c = self.config
        self.near.add(failures, stages)
        bar = self.near.bar(stages) if len(stages) else None
        self.reported["stage"] = float(stages.mean()) if len(stages) else 0.0
        if bar is None:
            self._instead = failures[:0], None
            return failures, failures[:0]
        reached, late = stages >= bar, self.near.tokens[self.near.stages >= bar]
        self._f = min(c.f, 1 / max(float(reached.mean()), 1 / len(reached)))
        if c.form == "gradient":
            spread = float(stages.std())
            self._instead = failures, (stages - stages.mean()) / (spread or 1.0)
        elif c.form == "imitate":
            self._instead = np.concatenate([late] * max(1, round(c.phi_epochs))), None
        return failures[~reached], late

    def _fitted(self, theta: Trainable, failures: Tokens) -> Trainable:
        c = self.config
        model = theta.clone()
        fit(model, failures, self.rng, epochs=c.phi_epochs, lr=c.phi_lr, batch=c.minibatch)
        return model
