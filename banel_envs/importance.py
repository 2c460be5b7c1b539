"""Rare success rates without enumeration: multiple importance sampling with the balance heuristic.

A task that cannot list its successes may ship a Pool: sequences drawn once from proposals that succeed often, of which
only the successes need to be kept (a failure adds nothing). A policy p is measured over that pool and n samples of its
own: every success x of either counts p(x) / (n p(x) + sum of N_q q(x)), which is unbiased whatever the proposals are,
and at most 1/n for any one sequence. The error is estimated within each proposal; its interval is symmetric in the
logarithm. Successes that p can write and the pool hardly covers are what the error cannot see: with a pool fitted to
119 of 23,741 successes three intervals in ten missed the exact rate. So no number is given below an effective sample
size of 100, nor where the largest counts have a heavy tail (a fitted Pareto shape above 0.4; 0.5 would be an infinite
variance); instead the limits of plain Monte Carlo. `python -m benchmarks.importance` counts how often that still errs.
Source: Veach and Guibas 1995; Owen 2013, chapter 9; the tail: Vehtari et al. 2024, fitted as in Zhang and Stephens 2009.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banel_envs.policies.autoregressive import Floats, Ints, logsumexp
from banel_envs.policies.protocol import Policy

LEAST_EFFECTIVE = 100.0  # effective sample size below which an estimate is no number
HEAVIEST_TAIL = 0.4  # Pareto shape of the largest counts above which it is none either
Z95 = 1.959964
SAME = 1e-6  # nats between the log-probabilities of one policy computed twice


@dataclass(frozen=True)
class Proposal:
    """A policy that succeeds often, and what it drew once."""

    policy: Policy
    drawn: int  # N_q: sequences drawn from it
    successes: Ints  # those of them that succeed [S, T], repeats kept


@dataclass(frozen=True)
class Pool:
    """What a task ships so that rare success rates can be estimated."""

    proposals: tuple[Proposal, ...]
    fresh: int = 5_000  # n: samples drawn from the policy that is measured


@dataclass(frozen=True)
class Weighed:
    """The successes that an estimate rests on, each with what it counts."""

    log_counts: Floats  # [S]: log of p(x) / (n p(x) + sum of N_q q(x))
    stratum: NDArray[np.int64]  # [S]: 0 drawn from the policy itself, k from proposal k-1
    drawn: tuple[int, ...]  # sequences drawn in each stratum, failures included
    own: tuple[int, ...]  # strata drawn from the policy itself: the first, and any proposal that is the same policy

    def monte_carlo(self, counted: NDArray[np.bool_]) -> tuple[int, int]:
        """Successes that count among the policy's own samples, and how many samples those are."""
        hits = int((counted & np.isin(self.stratum, self.own)).sum())
        return hits, sum(self.drawn[k] for k in self.own)

    def estimate(self, counted: NDArray[np.bool_]) -> Estimate:
        """The rate over the successes that count [S]."""
        logs, stratum = self.log_counts[counted], self.stratum[counted]
        total = logsumexp(logs)
        if total == -math.inf:
            return Estimate(-math.inf, math.inf, 0.0, math.inf)
        share = np.exp(logs - total)  # of the estimate: sums to 1
        variance = 0.0  # of the estimate, relative to its square
        for k, n in enumerate(self.drawn):
            own = share[stratum == k]
            variance += n / max(n - 1, 1) * float((own**2).sum() - own.sum() ** 2 / n)
        return Estimate(total, math.sqrt(max(variance, 0.0)), 1 / float((share**2).sum()), tail_shape(share))


@dataclass(frozen=True)
class Estimate:
    """An importance-sampled rate."""

    log: float  # natural log of the rate
    error: float  # standard error relative to the rate
    effective: float  # (sum of counts)^2 / sum of their squares: sequences that carry it
    tail: float  # see tail_shape

    @property
    def reliable(self) -> bool:
        """Whether enough sequences carry it, and evenly enough, for the number to be shown."""
        return self.effective >= LEAST_EFFECTIVE and self.tail <= HEAVIEST_TAIL

    @property
    def log_interval(self) -> tuple[float, float]:
        """95%, symmetric in the logarithm."""
        return self.log - Z95 * self.error, min(0.0, self.log + Z95 * self.error)


def tail_shape(values: Floats) -> float:
    """The shape of a generalised Pareto distribution fitted to the largest of these [S]; +inf for fewer than 25.

    Below 0 the values are bounded, from 0.5 on their variance is infinite. The posterior mean of Zhang and Stephens
    2009 over a grid of the other parameter, drawn a little towards 0.5 as in Vehtari et al. 2024.
    """
    m = int(min(0.2 * len(values), 3 * math.sqrt(len(values))))
    if m < 5:
        return math.inf
    largest = np.sort(values)[-m - 1 :]
    x = np.maximum(largest[1:] - largest[0], 1e-12 * largest[-1])  # above the threshold [m]; ties at it are all but 0
    grid = 30 + int(math.sqrt(m))
    theta = 1 / x[-1] + (1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))) / (3 * x[int(m / 4 + 0.5) - 1])
    shape = np.log1p(-theta[:, None] * x).mean(axis=1)  # [grid]
    log_likelihood = m * (np.log(-theta / shape) - shape - 1)
    weight = np.exp(log_likelihood - log_likelihood.max())
    mean = float((theta * weight).sum() / weight.sum())
    fitted = float(np.log1p(-mean * x).mean())
    return (m * fitted + 10 * 0.5) / (m + 10)


def weigh(policy: Policy, hits: Ints, pool: Pool) -> tuple[Ints, Weighed]:
    """Every known success [S, T] with its count, `hits` being those among `pool.fresh` samples of the policy."""
    groups: Sequence[Ints] = [hits, *(q.successes for q in pool.proposals)]
    tokens = np.concatenate(groups)
    drawn = (pool.fresh, *(q.drawn for q in pool.proposals))
    log_p = policy.log_prob(tokens)
    log_q = [q.policy.log_prob(tokens) for q in pool.proposals]
    mixture = [log_p + math.log(pool.fresh), *(q + math.log(n) for q, n in zip(log_q, drawn[1:], strict=True))]
    with np.errstate(invalid="ignore"):
        log_counts = log_p - np.logaddexp.reduce(np.stack(mixture))  # [S]
    stratum = np.repeat(np.arange(len(groups)), [len(g) for g in groups])
    same = [k for k, q in enumerate(log_q, 1) if len(q) and np.allclose(q, log_p, rtol=0, atol=SAME)]
    return tokens, Weighed(log_counts, stratum, drawn, (0, *same))
