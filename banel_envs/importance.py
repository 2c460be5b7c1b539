"""Rare success rates without enumeration: multiple importance sampling with the balance heuristic.

A task that cannot list its successes may ship a Pool: sequences drawn once from proposals that succeed often, of which
only the successes need to be kept (a failure adds nothing). A policy p is measured over that pool and n samples of its
own: every success x of either counts p(x) / (n p(x) + sum of N_q q(x)), which is unbiased whatever the proposals are,
and at most 1/n for any one sequence. The error is estimated within each proposal; its interval is symmetric in the
logarithm. What p can write and neither the proposals nor its own n samples met is what the error cannot see: below an
effective sample size of 100 no number is given. Coverage is checked by `python -m benchmarks.importance`.
Source: Veach and Guibas 1995; Owen 2013, chapter 9.
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
Z95 = 1.959964


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

    def estimate(self, counted: NDArray[np.bool_]) -> Estimate:
        """The rate over the successes that count [S]."""
        logs, stratum = self.log_counts[counted], self.stratum[counted]
        total = logsumexp(logs)
        if total == -math.inf:
            return Estimate(-math.inf, math.inf, 0.0)
        share = np.exp(logs - total)  # of the estimate: sums to 1
        variance = 0.0  # of the estimate, relative to its square
        for k, n in enumerate(self.drawn):
            own = share[stratum == k]
            variance += n / max(n - 1, 1) * float((own**2).sum() - own.sum() ** 2 / n)
        return Estimate(total, math.sqrt(max(variance, 0.0)), 1 / float((share**2).sum()))


@dataclass(frozen=True)
class Estimate:
    """An importance-sampled rate."""

    log: float  # natural log of the rate
    error: float  # standard error relative to the rate
    effective: float  # (sum of counts)^2 / sum of their squares: sequences that carry it

    @property
    def reliable(self) -> bool:
        """Whether enough sequences carry it for the number to be shown."""
        return self.effective >= LEAST_EFFECTIVE

    @property
    def log_interval(self) -> tuple[float, float]:
        """95%, symmetric in the logarithm."""
        return self.log - Z95 * self.error, min(0.0, self.log + Z95 * self.error)


def weigh(policy: Policy, hits: Ints, pool: Pool) -> tuple[Ints, Weighed]:
    """Every known success [S, T] with its count, `hits` being those among `pool.fresh` samples of the policy."""
    groups: Sequence[Ints] = [hits, *(q.successes for q in pool.proposals)]
    tokens = np.concatenate(groups)
    drawn = (pool.fresh, *(q.drawn for q in pool.proposals))
    log_p = policy.log_prob(tokens)
    mixture = [log_p + math.log(pool.fresh)]
    mixture += [q.policy.log_prob(tokens) + math.log(q.drawn) for q in pool.proposals]
    with np.errstate(invalid="ignore"):
        log_counts = log_p - np.logaddexp.reduce(np.stack(mixture))  # [S]
    stratum = np.repeat(np.arange(len(groups)), [len(g) for g in groups])
    return tokens, Weighed(log_counts, stratum, drawn)
