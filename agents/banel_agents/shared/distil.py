"""The rounds of the agents that distil a choice of their own samples: ask, score candidates, keep some, imitate them.

In each round: 1. ask samples of p_theta; 2. make a score from the failures told; 3. draw `pool` candidates from p_theta and
keep to the grammar; 4. choose among them, or weigh them, by the score; 5. fit p_theta to them by maximum likelihood.
BaNEL's score is p_theta / p_phi; its controls have others. Source: Lee, Amos, Fanti 2025 (arXiv 2510.09596, section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray

from banel_agents.base import Answers, ask_samples, fit
from banel_agents.limits import BatchSize, Epochs, LearningRate, Range, check_settings
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy, Trainable
from banel_envs.problem import Tokens

Floats: TypeAlias = NDArray[np.float64]

FilterFactor = Annotated[float, Range(1, 1_000, above=True)]
"""1 in so many candidates is kept."""

Score: TypeAlias = Callable[[Tokens], Floats]
"""Candidates [n, T] to scores [n]; the highest are kept."""

Choose: TypeAlias = Callable[[Tokens, Floats], "tuple[Tokens, Floats | None]"]
"""Candidates [n, T] and their scores [n] to the rows [k, T] to imitate and their weights [k], None for 1."""


@dataclass(frozen=True)
class DistilConfig:
    """The settings that all agents with these rounds have; the defaults are those of `banel`."""

    batch: BatchSize = 500  # sequences asked a round: 15 rounds of the addition attack's budget, as in the paper
    f: FilterFactor = 3.0  # 1 in f candidates is kept; the paper has 2 on the addition attack (docs/findings.md, 3)
    pool: BatchSize = 10_000  # candidates a round
    well_formed: bool = True  # drop candidates that leave the problem's public grammar (its action mask)
    distil_epochs: Epochs = 1.0  # passes over the kept candidates
    distil_lr: LearningRate = 1e-3  # Adam
    minibatch: BatchSize = 128  # sequences a gradient step

    def __post_init__(self) -> None:
        check_settings(self)


def distil_rounds(
    base: Trainable,
    problem: Problem,
    oracle: Oracle,
    rng: np.random.Generator,
    config: DistilConfig,
    make_score: Callable[[Trainable, Answers], Score],
    choose: Choose,
) -> Iterator[Trainable]:
    """Yield the policy after each round, until the budget is spent; not the base policy, which the agent yields.

    Args:
        base: p_theta at the start.
        problem: what is asked of.
        oracle: the meter.
        rng: all randomness.
        config: the agent's settings.
        make_score: the current p_theta and what was told in this round to a score of candidates.
        choose: what is imitated.
    """
    theta = base
    while oracle.left:
        score = make_score(theta, ask_samples(oracle, theta, config.batch, rng))
        candidates = candidates_of(theta, problem, config.pool, config.well_formed, rng)
        chosen, weights = choose(candidates, score(candidates))
        theta = theta.clone()
        fit(
            theta,
            chosen,
            rng,
            epochs=config.distil_epochs,
            lr=config.distil_lr,
            batch=config.minibatch,
            weights=weights,
        )
        yield theta


def candidates_of(theta: Policy, problem: Problem, pool: int, well_formed: bool, rng: np.random.Generator) -> Tokens:
    """Samples of the policy, those outside the grammar dropped unless all are."""
    candidates = theta.sample(pool, rng)
    if not well_formed:
        return candidates
    legal = candidates[problem.well_formed(candidates)]
    return legal if len(legal) else candidates


def best_of(f: float) -> Choose:
    """Keep the best 1 in f by the score."""
    return lambda candidates, scores: (candidates[scores >= threshold(scores, f)], None)


def threshold(ratio: Floats, f: float) -> float:
    """Log tau: the smallest of the ratios [n] that at most 1 in f reach; the largest, where one sequence alone is more.

    Ties count: a sequence with much of the mass stands among the candidates many times with one ratio, and a quantile
    that falls on it would let all of them pass.
    """
    ordered = np.sort(ratio)
    tau = ordered[min(len(ordered) - int(len(ordered) / f), len(ordered) - 1)]
    above = ordered[ordered > tau]
    tied = (ratio >= tau).sum() > max(1, len(ratio) / f)
    return float(above[0] if tied and len(above) else tau)
