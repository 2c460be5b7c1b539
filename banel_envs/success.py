"""SuccessRate: the probability that one sample of a policy is a success, with its interval and how it was got.

Exact where the success set can be enumerated: the logsumexp of the policy's log-probabilities over it, so that 5e-21
is as measurable as 0.5. Where it cannot, but the task ships a pool of successes, importance sampling (see importance.py);
where too little carries the estimate that gives no number, but the limits of plain Monte Carlo. Otherwise Monte Carlo
with a Clopper-Pearson interval. Never metered, never shown to an agent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from banel_envs.answers import succeeded
from banel_envs.errors import BadValue
from banel_envs.importance import LEAST_EFFECTIVE, Weighed, weigh
from banel_envs.policies.autoregressive import logsumexp
from banel_envs.policies.filtered import Filtered
from banel_envs.policies.protocol import Policy
from banel_envs.problem import Tokens
from banel_envs.statistics import clopper_pearson
from banel_envs.task import Task

LN10 = math.log(10)


@dataclass(frozen=True)
class SuccessRate:
    """A success rate in log10.

    `log10` is None where the rate is zero (exact), where nothing was hit (Monte Carlo), and where too few sequences
    carry an estimate (upper_limit): `high`, and `low` where anything was hit, are then what can be said.
    """

    log10: float | None
    low: float | None  # log10 of the 95% interval's lower end; None where that is zero
    high: float | None  # log10 of its upper end; equal to log10 where exact
    method: Literal["exact", "filtered", "monte_carlo", "importance", "upper_limit"]
    """filtered: exact but for an estimated normaliser; upper_limit: too little met for a number."""
    samples: int  # drawn from the policy for it; 0 where exact
    effective: float | None  # exp(entropy of p(x | success)): how many distinct successes carry the rate; exact only

    @property
    def zero(self) -> bool:
        """Whether the rate is zero, or only an upper limit of it is known."""
        return self.log10 is None


def success_rate(
    task: Task,
    policy: Policy,
    rng: np.random.Generator | None = None,
    samples: int = 100_000,
    exclude: Tokens | None = None,
) -> SuccessRate:
    """The probability that a sample of the policy is a success.

    Args:
        task: gives the success set where it can be enumerated, the reward otherwise.
        policy: what is measured.
        rng: draws the samples where the rate is not exact; must be the caller's own evaluation stream.
        samples: how many of them; a task with a pool says so itself.
        exclude: sequences [k, T] that do not count: with the successes already asked, the *fresh* success rate.

    Raises:
        BadValue: the rate cannot be exact and there is no rng, or the task's oracle is paid.
    """
    return score(task, policy, rng, samples).rate(exclude)


@dataclass(frozen=True)
class Scored:
    """A policy measured once; its rates with any set excluded follow without asking it again."""

    tokens: Tokens  # [N, T]: the whole success set where exact, else the sampled successes
    log_probs: NDArray[np.float64] | None  # [N]: the policy's, where exact
    samples: int  # drawn; 0 where exact
    log_normaliser_error: tuple[float, float] | None = None  # a filtered policy's 95% interval about its log normaliser
    weighed: Weighed | None = None  # where importance-sampled

    def rate(self, exclude: Tokens | None = None) -> SuccessRate:
        """The success rate, sequences [k, T] excluded."""
        counted = ~_member(self.tokens, exclude)
        if self.weighed is not None:
            return _importance_rate(self.weighed, counted)
        if self.log_probs is None:
            return _monte_carlo_rate(int(counted.sum()), self.samples)
        rate = exact_rate(self.log_probs[counted])
        if self.log_normaliser_error is None or rate.log10 is None:
            return rate
        low, high = (error / LN10 for error in self.log_normaliser_error)
        return replace(rate, low=rate.log10 - high, high=min(0.0, rate.log10 - low), method="filtered")


def score(task: Task, policy: Policy, rng: np.random.Generator | None = None, samples: int = 100_000) -> Scored:
    """Measure a policy; arguments and errors as for success_rate."""
    successes = task.successes()
    if successes is not None:
        error = None
        if isinstance(policy, Filtered):
            low, high = policy.log_normaliser_interval
            error = (low - policy.log_normaliser, high - policy.log_normaliser)
        return Scored(successes, policy.log_prob(successes), 0, error)
    if not task.free_evaluation:
        raise BadValue(f"{task.problem.id}: its reward is paid for and is never evaluated off the meter")
    if not isinstance(rng, np.random.Generator):
        given = "" if rng is None else f", not {rng!r}"
        raise BadValue(f"{task.problem.id}: its rate is estimated from samples; give rng, a numpy Generator{given}")
    pool = task.pool()
    tokens = policy.sample(samples if pool is None else pool.fresh, rng)
    hits = tokens[succeeded(task, tokens)]
    if pool is None or isinstance(policy, Filtered):  # a filtered policy's log_prob is itself an estimate
        return Scored(hits, None, len(tokens))
    known, weighed = weigh(policy, hits, pool)
    return Scored(known, None, len(tokens), weighed=weighed)


def _importance_rate(weighed: Weighed, counted: NDArray[np.bool_]) -> SuccessRate:
    estimate, (hits, samples) = weighed.estimate(counted), weighed.monte_carlo(counted)
    if estimate.reliable:
        low, high = estimate.log_interval
        return SuccessRate(estimate.log / LN10, low / LN10, high / LN10, "importance", samples, None)
    plain = _monte_carlo_rate(hits, samples)
    return plain if hits >= LEAST_EFFECTIVE else replace(plain, log10=None, method="upper_limit")


def _monte_carlo_rate(k: int, samples: int) -> SuccessRate:
    low, high = clopper_pearson(k, samples)
    middle, low10 = (math.log10(k / samples), math.log10(low)) if k else (None, None)
    return SuccessRate(middle, low10, math.log10(high), "monte_carlo", samples, None)


def exact_rate(log_probs: NDArray[np.float64]) -> SuccessRate:
    """The exact rate from the log-probabilities [N] of every success that counts."""
    total = logsumexp(log_probs)
    if total == -math.inf:
        return SuccessRate(None, None, None, "exact", 0, None)
    share = np.exp(log_probs - total)  # p(x | success)
    entropy = -float((share * np.log(np.where(share > 0, share, 1))).sum())
    value = total / LN10
    return SuccessRate(value, value, value, "exact", 0, math.exp(entropy))


def _member(tokens: Tokens, others: Tokens | None) -> NDArray[np.bool_]:
    """Which rows of tokens [n, T] are among others [k, T]: [n]."""
    if others is None or len(others) == 0:
        return np.zeros(len(tokens), bool)
    known = set(map(bytes, np.ascontiguousarray(others, np.int64)))
    return np.fromiter((bytes(row) in known for row in np.ascontiguousarray(tokens, np.int64)), bool, len(tokens))
