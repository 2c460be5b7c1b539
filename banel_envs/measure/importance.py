"""Rare success rates without enumeration: multiple importance sampling with the balance heuristic.

A task that cannot list its successes may ship a Pool: sequences drawn once from proposals that succeed often, of which
only the successes need to be kept (a failure adds nothing). A policy p is measured over that pool and n samples of its
own: every draw of a success x in either counts p(x) / (n p(x) + sum of N_q q(x)), which is unbiased whatever the
proposals are. What no spread of these counts can show are successes that p writes and the pool never drew: a pool that
collapsed onto a few sequences looks perfect. So the estimate's own error is never shown. A number is given only where

- distinct sequences carry it, the equivalent of 100 and not a few drawn again and again,
- the largest of their counts have no heavy tail (a fitted Pareto shape above 0.4; 0.5 would be an infinite variance),
- the certified interval (certified.py) holds it and ends at most at twice it: the policy's own samples leave little room.

The number then stands in the certified interval; elsewhere that interval stands alone. `python -m benchmarks.importance`
counts how often either errs, with pools made to mislead among them.
Source: Veach and Guibas 1995; Owen 2013, chapter 9; the tail: Vehtari et al. 2024, fitted as in Zhang and Stephens 2009.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from banel_envs.measure.certified import Counted, Mask
from banel_envs.policies.autoregressive import Floats, Ints, logsumexp
from banel_envs.policies.protocol import Policy

LEAST_EFFECTIVE = 100.0  # effective number of distinct sequences below which an estimate is no number
HEAVIEST_TAIL = 0.4  # Pareto shape of their largest counts above which it is none either
MOST_ROOM = math.log(2)  # nats between it and the upper end of the certified interval above which it is none either
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
    final: int = 50_000  # the same for the last policy of a run, where more of them are worth their time


@dataclass(frozen=True)
class Weighed:
    """The distinct successes that an estimate rests on, each with what one draw of it counts."""

    log_counts: Floats  # [S]: log of p(x) / (n p(x) + sum of N_q q(x))
    times: Ints  # [S]: how often it was drawn, from the policy and all proposals
    counting: Counted  # the same successes, the policy's own samples being the counting sample

    def estimate(self, counted: Mask) -> Estimate:
        """The rate over the successes that count [S]."""
        logs, times = self.log_counts[counted], self.times[counted]
        with np.errstate(divide="ignore"):
            total = logsumexp(logs + np.log(times))
        if total == -math.inf:
            return Estimate(-math.inf, 0.0, math.inf)
        share: Floats = np.exp(logs - total) * times  # by one sequence, however often it was drawn: sums to 1
        return Estimate(total, 1 / float((share**2).sum()), tail_shape(np.exp(logs[share > 0] - total)))


@dataclass(frozen=True)
class Estimate:
    """An importance-sampled rate."""

    log: float  # natural log of the rate
    effective: float  # 1 / sum of squared shares: distinct sequences that carry it
    tail: float  # of what one draw of each counts: see tail_shape

    def reliable(self, low: float, high: float) -> bool:
        """Whether it may be shown as a number, the certified interval being from `low` to `high` (natural logs)."""
        carried = self.effective >= LEAST_EFFECTIVE and self.tail <= HEAVIEST_TAIL
        return carried and low <= self.log <= high <= self.log + MOST_ROOM


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


def weigh(policy: Policy, hits: Ints, samples: int, pool: Pool, known: Ints | None = None) -> tuple[Ints, Weighed]:
    """Every distinct success that is known or was met [S, T], and what is to be said of it.

    Args:
        policy: what is measured.
        hits: the successes [k, T] among `samples` of the policy, repeats kept.
        samples: how many were drawn.
        pool: the task's.
        known: further successes [m, T], none of them chosen by looking at `hits`.
    """
    extra = np.empty((0, hits.shape[1]), np.int64) if known is None else known
    groups: Sequence[Ints] = [hits, *(q.successes for q in pool.proposals), extra]
    tokens, row = np.unique(np.concatenate(groups), axis=0, return_inverse=True)
    times = np.zeros((len(tokens), len(groups)), np.int64)
    np.add.at(times, (row.reshape(-1), np.repeat(np.arange(len(groups)), [len(g) for g in groups])), 1)
    drawn = (samples, *(q.drawn for q in pool.proposals))
    log_p = policy.log_prob(tokens)
    log_q = [q.policy.log_prob(tokens) for q in pool.proposals]
    mixture = [log_p + math.log(samples), *(q + math.log(n) for q, n in zip(log_q, drawn[1:], strict=True))]
    with np.errstate(invalid="ignore"):
        log_counts = np.where(np.isneginf(log_p), -np.inf, log_p - np.logaddexp.reduce(np.stack(mixture)))  # [S]
    # A proposal that is the policy itself drew samples of it: they count beside its own, and are not known before.
    same = [k for k, q in enumerate(log_q, 1) if len(q) and np.allclose(q, log_p, rtol=0, atol=SAME)]
    own, others = [0, *same], [k for k in range(1, len(groups)) if k not in same]
    counting = Counted(log_p, times[:, others].sum(axis=1) > 0, times[:, own].sum(axis=1), sum(drawn[k] for k in own))
    return tokens, Weighed(log_counts, times[:, :-1].sum(axis=1), counting)
