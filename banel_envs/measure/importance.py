"""Rare success rates without enumeration: multiple importance sampling with the balance heuristic.

A task whose successes cannot be enumerated may ship a Pool: sequences that were drawn once from proposals, which are
policies that succeed often. Only the successes among them need to be kept, because a failure adds nothing. A policy p is
measured over the pool and over n samples of its own. Every draw of a success x, in the pool or among the samples, counts
p(x) / (n p(x) + sum of N_q q(x)), where N_q sequences were drawn from the proposal q. This is unbiased whatever the
proposals are, since each success that p writes can be drawn from p.

The spread of these counts does not show how large the error is: it cannot show successes that p writes and the pool never
drew. The spread is smallest where a pool collapsed onto a few sequences. So this error is never shown, and a number is
given only if all of these hold:

- many distinct sequences carry it: effectively at least 100, and not a few that were drawn again and again;
- the largest counts have no heavy tail: a fitted Pareto shape of at most 0.4 (from 0.5 on the variance is infinite);
- the certified interval (certified.py) contains it, and ends at most at twice the number, so that the policy's own samples
  leave little room for successes that were never drawn.

The number is then given with the certified interval; otherwise the interval is given alone.
`python -m benchmarks.tasks.importance` counts how often either of them errs, also with pools that were made to mislead.
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
from banel_envs.pool import Pool

# An estimate is given as a number only within these three limits.
LEAST_EFFECTIVE = 100.0  # the fewest effective distinct sequences that must carry it
HEAVIEST_TAIL = 0.4  # the largest Pareto shape of the largest counts
MOST_ROOM = math.log(2)  # the most nats from the number to the upper end of the certified interval
SAME = 1e-6  # nats by which the log-probabilities of one policy may differ when they are computed twice


@dataclass(frozen=True)
class Weighed:
    """The distinct successes of an estimate, and what one draw of each of them counts."""

    log_counts: Floats  # [S]: log of p(x) / (n p(x) + sum of N_q q(x))
    times: Ints  # [S]: how often it was drawn, from the policy and all proposals
    counting: Counted  # the same successes; here the policy's own samples are the counting sample

    def estimate(self, counted: Mask) -> Estimate:
        """The estimate of the rate, over the successes that count (`counted` [S])."""
        logs, times = self.log_counts[counted], self.times[counted]
        with np.errstate(divide="ignore"):
            total = logsumexp(logs + np.log(times))
        if total == -math.inf:
            return Estimate(-math.inf, 0.0, math.inf)
        share: Floats = np.exp(logs - total) * times  # each sequence's share of the rate, over all its draws; sums to 1
        return Estimate(total, 1 / float((share**2).sum()), tail_shape(np.exp(logs[share > 0] - total)))


@dataclass(frozen=True)
class Estimate:
    """An importance-sampled rate."""

    log: float  # natural log of the rate
    effective: float  # 1 / sum of squared shares: how many distinct sequences carry the rate
    tail: float  # the Pareto shape of what one draw of each sequence counts: see tail_shape

    def reliable(self, low: float, high: float) -> bool:
        """Whether it may be given as a number. `low` and `high` are the ends of the certified interval (natural logs)."""
        carried = self.effective >= LEAST_EFFECTIVE and self.tail <= HEAVIEST_TAIL
        return carried and low <= self.log <= high <= self.log + MOST_ROOM


def tail_shape(values: Floats) -> float:
    """The shape of a generalised Pareto distribution that is fitted to the largest of these values [S].

    A shape below 0 means that the values are bounded; from 0.5 on their variance is infinite. It is +inf for fewer than 25
    values, which are too few to fit. As in Vehtari et al. 2024, it is fitted to the largest min(0.2 S, 3 sqrt(S)) values.
    The other parameter, theta, is the posterior mean over a grid (Zhang and Stephens 2009). Then the shape is moved a
    little towards 0.5, as if ten more values had that shape: with few values a fit is uncertain.
    """
    m = int(min(0.2 * len(values), 3 * math.sqrt(len(values))))
    if m < 5:
        return math.inf
    largest = np.sort(values)[-m - 1 :]
    x = np.maximum(largest[1:] - largest[0], 1e-12 * largest[-1])  # above the threshold [m]; ties must not give 0
    grid = 30 + int(math.sqrt(m))
    theta = 1 / x[-1] + (1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))) / (3 * x[int(m / 4 + 0.5) - 1])
    shape = np.log1p(-theta[:, None] * x).mean(axis=1)  # [grid]
    log_likelihood = m * (np.log(-theta / shape) - shape - 1)
    weight = np.exp(log_likelihood - log_likelihood.max())
    mean = float((theta * weight).sum() / weight.sum())
    fitted = float(np.log1p(-mean * x).mean())
    return (m * fitted + 10 * 0.5) / (m + 10)


def weigh(policy: Policy, hits: Ints, samples: int, pool: Pool, known: Ints | None = None) -> tuple[Ints, Weighed]:
    """Every distinct success that is known or was met [S, T], and what an estimate needs of them.

    Args:
        policy: the policy that is measured.
        hits: the successes [k, T] among the samples of the policy, repeats kept.
        samples: how many samples were drawn from the policy.
        pool: the task's pool.
        known: further successes [m, T]. They must not be chosen by looking at `hits`.
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
    # If a proposal is the policy itself, what it drew are samples of the policy. They belong to the counting sample, and
    # so they are not known successes.
    same = [k for k, q in enumerate(log_q, 1) if len(q) and np.allclose(q, log_p, rtol=0, atol=SAME)]
    own, others = [0, *same], [k for k in range(1, len(groups)) if k not in same]
    counting = Counted(log_p, times[:, others].sum(axis=1) > 0, times[:, own].sum(axis=1), sum(drawn[k] for k in own))
    return tokens, Weighed(log_counts, times[:, :-1].sum(axis=1), counting)
