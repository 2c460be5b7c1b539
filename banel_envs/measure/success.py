"""SuccessRate: the probability that one sample of a policy is a success, with its interval and how it was got.

Exact where the success set can be enumerated: the logsumexp of the policy's log-probabilities over it, so that 5e-21
is as measurable as 0.5. Where it cannot, but the task ships a pool of successes: Monte Carlo where at least 100 samples
succeed; else importance sampling where enough carries it (importance.py); else a certified interval and no
number (certified.py). Without a pool, Monte Carlo with a Clopper-Pearson interval. Never metered, never shown to an agent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from banel_envs.binomial import clopper_pearson
from banel_envs.errors import BadValue
from banel_envs.measure.importance import LEAST_EFFECTIVE, Weighed, weigh
from banel_envs.measure.probability import Checked, at_most_one, check_structure, checked_log_prob
from banel_envs.meter.answers import succeeded
from banel_envs.policies.autoregressive import logsumexp
from banel_envs.policies.composed.filtered import Filtered
from banel_envs.policies.protocol import Policy
from banel_envs.problem import Tokens
from banel_envs.task import Task

LN10 = math.log(10)
SAMPLES = 100_000  # of a policy whose rate is not exact, where the task has no pool
CHUNK = 10_000  # sequences drawn and judged at a time


@dataclass(frozen=True)
class SuccessRate:
    """A success rate in log10.

    `log10` is None where the rate is zero (exact), where nothing was hit (Monte Carlo), and where all that can be said
    is that it lies between `low` and `high` (certified).
    """

    log10: float | None
    low: float | None  # log10 of the 95% interval's lower end; None where that is zero
    high: float | None  # log10 of its upper end; equal to log10 where exact
    method: Literal["exact", "filtered", "monte_carlo", "importance", "certified"]
    """filtered: exact but for an estimated normaliser; certified: an interval and no number."""
    samples: int  # drawn from the policy for it; 0 where exact
    effective: float | None  # exp(entropy of p(x | success)): how many distinct successes carry the rate; exact only

    @property
    def zero(self) -> bool:
        """Whether the rate is zero, or nothing but an upper limit of it is known."""
        return self.log10 is None and self.low is None


def success_rate(
    task: Task,
    policy: Policy,
    rng: np.random.Generator | None = None,
    samples: int | None = None,
    exclude: Tokens | None = None,
    known: Tokens | None = None,
) -> SuccessRate:
    """The probability that a sample of the policy is a success.

    Args:
        task: gives the success set where it can be enumerated, the reward otherwise.
        policy: what is measured.
        rng: draws the samples where the rate is not exact; must be the caller's own evaluation stream.
        samples: how many of them; None for as many as the task's pool says, 100,000 where it has none.
        exclude: sequences [k, T] that do not count: with the successes already asked, the *fresh* success rate.
        known: sequences [m, T] that may be successes, such as those that a run asked or draws at another temperature: the
            exact mass of those that are raises the lower end of a certified interval. Not chosen by looking at `rng`'s draws.

    Raises:
        BadValue: the rate cannot be exact and there is no rng, or the task's oracle is paid.
        BadPolicy: what the policy answers is no probability.
    """
    return score(task, policy, rng, samples, known).rate(exclude)


@dataclass(frozen=True)
class Scored:
    """A policy measured once; its rates with any set excluded follow without asking it again."""

    tokens: Tokens  # [N, T]: the whole success set where exact; with a pool the distinct successes known or met; else the met
    log_probs: NDArray[np.float64] | None  # [N]: the policy's, where exact
    samples: int  # drawn; 0 where exact
    log_normaliser_error: tuple[float, float] | None = None  # a filtered policy's 95% interval about its log normaliser
    weighed: Weighed | None = None  # where the task has a pool

    def counted(self, exclude: Tokens | None = None) -> NDArray[np.bool_]:
        """Which rows of `tokens` are not among the sequences [k, T]: [N]."""
        return ~_member(self.tokens, exclude)

    def weighed_log10(self, exclude: Tokens | None = None) -> float | None:
        """log10 of the importance-sampled estimate, even where `rate` gives no number; None without a pool."""
        return None if self.weighed is None else self.weighed.estimate(self.counted(exclude)).log / LN10

    def rate(self, exclude: Tokens | None = None) -> SuccessRate:
        """The success rate, sequences [k, T] excluded."""
        counted = self.counted(exclude)
        if self.weighed is not None:
            return _pooled_rate(self.weighed, counted)
        if self.log_probs is None:
            return _monte_carlo_rate(int(counted.sum()), self.samples)
        rate = exact_rate(self.log_probs[counted])
        if self.log_normaliser_error is None or rate.log10 is None:
            return rate
        low, high = (error / LN10 for error in self.log_normaliser_error)
        middle = min(0.0, rate.log10)  # its normaliser is an estimate: a rate near 1 may come out above
        return replace(
            rate, log10=middle, low=min(0.0, rate.log10 - high), high=min(0.0, rate.log10 - low), method="filtered"
        )


def score(
    task: Task,
    policy: Policy,
    rng: np.random.Generator | None = None,
    samples: int | None = None,
    known: Tokens | None = None,
) -> Scored:
    """Measure a policy; arguments and errors as for success_rate."""
    check_structure(policy)
    successes = task.successes()
    if successes is not None:
        error = None
        if isinstance(policy, Filtered):
            low, high = policy.log_normaliser_interval
            error = (low - policy.log_normaliser, high - policy.log_normaliser)
        log_probs = checked_log_prob(policy, successes, task.problem)
        at_most_one(policy, log_probs)
        return Scored(successes, log_probs, 0, error)
    return _estimated(task, policy, rng, samples, known)


def _estimated(
    task: Task, policy: Policy, rng: np.random.Generator | None, samples: int | None, known: Tokens | None
) -> Scored:
    """Where the success set cannot be enumerated."""
    if not task.free_evaluation:
        raise BadValue(f"{task.problem.id}: its reward is paid for and is never evaluated off the meter")
    if not isinstance(rng, np.random.Generator):
        given = "" if rng is None else f", not {rng!r}"
        raise BadValue(f"{task.problem.id}: its rate is estimated from samples; give rng, a numpy Generator{given}")
    pool = task.pool()
    if samples is None:
        samples = SAMPLES if pool is None else pool.samples
    if samples < 1:
        raise BadValue(f"{task.problem.id}: samples is {samples}; its rate is estimated from at least 1")
    if pool is None or isinstance(policy, Filtered):  # a filtered policy's log_prob is itself an estimate
        tokens = policy.sample(samples, rng)
        return Scored(tokens[succeeded(task, tokens)], None, samples)
    if known is not None:
        known = task.problem.check_tokens(known)
        known = known[succeeded(task, known)]  # before the counting sample is drawn
    tokens, weighed = weigh(Checked(policy, task.problem), _draw_hits(task, policy, samples, rng), samples, pool, known)
    return Scored(tokens, None, samples, weighed=weighed)


def _draw_hits(task: Task, policy: Policy, samples: int, rng: np.random.Generator) -> Tokens:
    """The successes [k, T] among new samples of the policy, drawn in parts: a million fit in memory."""
    parts = []
    for start in range(0, samples, CHUNK):
        tokens = policy.sample(min(CHUNK, samples - start), rng)
        parts.append(tokens[succeeded(task, tokens)])
    return np.concatenate(parts)


def _pooled_rate(weighed: Weighed, counted: NDArray[np.bool_]) -> SuccessRate:
    counting = weighed.counting
    # The interval is the certified one, however many samples hit: if their number chose it, the errors of two would add up.
    low, high = counting.log_interval(counted)
    low10, high10 = (None if low == -math.inf else low / LN10), high / LN10
    if counting.hits(counted) >= LEAST_EFFECTIVE:
        number = counting.log_estimate(counted) / LN10
        return SuccessRate(number, low10, high10, "monte_carlo", counting.samples, None)
    estimate = weighed.estimate(counted)
    if estimate.reliable(low, high):
        return SuccessRate(estimate.log / LN10, low10, high10, "importance", counting.samples, None)
    return SuccessRate(None, low10, high10, "certified", counting.samples, None)


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
    tokens, others = (np.ascontiguousarray(rows, np.int64) for rows in (tokens, others))
    # Nearly all rows are told apart by a 64-bit hash; only those whose hash is among the others' are compared.
    odd = np.random.default_rng(0).integers(1 << 63, size=tokens.shape[1], dtype=np.uint64) | np.uint64(1)
    alike = np.flatnonzero(np.isin(tokens.view(np.uint64) @ odd, others.view(np.uint64) @ odd))
    known = set(map(bytes, others))
    found = np.zeros(len(tokens), bool)
    found[alike] = [bytes(row) in known for row in tokens[alike]]
    return found
