"""Whether a policy draws what its next-token distributions say; and whether as many sequences pass a filter as it says.

These tests are for rates that rest on draws. Each token of a drawn sequence gets several scores. The first one is its
surprise -log p(x_t | x_<t), but at most CAP. Surprise alone is not enough: under a uniform distribution every token has the
same. So each of the other scores has a list with a random sign for every token of the vocabulary, and is the token's sign
times CAP / 2. Each score is compared with its mean under the distribution that the policy itself gives at that place. If
sampling is honest, the differences D form a martingale: |D| <= CAP, their mean is 0, and their variance v is known from the
distribution. So (Freedman 1975, with Bennett's bound on each step), for any number l,

    E exp(l S - psi(|l|) V) <= 1,  S = sum of D,  V = sum of v,  psi(l) = (exp(l CAP) - 1 - l CAP) / CAP^2.

The mean of this expression over all scores, and over a fixed list of l of both signs (`SLOPES`), has an expectation of at
most 1 as well. By Markov's inequality it reaches 1 / alarm with a probability of at most `alarm`. This is a Bernstein
inequality for which V need not be known before: the bound is reached where |S| of some score is beyond about
sqrt(2 V L) + 2 CAP L / 3, with L = log(1 / alarm) + log(number of terms in the mean). A policy fails only if this happens
twice, the second time with new draws. So honest policies fail less often than `alarm` says
(`python -m benchmarks.false_alarms` counts them).

Three things cannot be seen: draws from another policy whose scores have the same mean; draws from a policy that is too
near for this number of draws (the error message of a failure gives the scale); and a policy that draws honestly only
while it is tested.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from banel_envs.binomial import clopper_pearson
from banel_envs.errors import BadPolicy
from banel_envs.measure.probability import FALSE_ALARM, Watched, along, walks
from banel_envs.policies.autoregressive import Floats, Ints, logsumexp
from banel_envs.policies.composed.excluding import Excluding
from banel_envs.policies.composed.filtered import Filtered
from banel_envs.policies.composed.mixture import Mixture
from banel_envs.policies.protocol import Policy, is_plainly
from banel_envs.problem import Problem

DRAWS = 1_000  # sequences drawn from a policy, over all its parts
FEWER = 250  # the same where only next_log_probs can be used, which may compute every prefix from its beginning
LEAST = 100  # sequences drawn from each part at least
NUMBERS = 2**24  # the most numbers in the distributions at one position; a large vocabulary gets fewer draws
PROPOSALS = 10_000  # proposals drawn to count again how many of them pass a filter
CAP = 10.0  # the most nats of surprise: a token rarer than 1 in 22,000 counts as if it were no rarer
SIGNS = 8  # how many lists of random signs there are
SLOPES = (
    2.0 ** np.arange(-12, 3) / CAP
)  # the l: the largest are for a V of a few nats^2, the smallest for one of millions

Test = Callable[[Problem, np.random.Generator, float, int], str | None]
"""Tests one part of a policy, which has so many parts. It says what is wrong with the part's draws, or gives None. For an
honest part it says so with a probability of at most `alarm`."""


class Scores(Watched):
    """Sums S and V of every score along a walk. Score 0 is the surprise."""

    def __init__(self, policy: Policy, problem: Problem, rng: np.random.Generator) -> None:
        super().__init__(policy, problem)
        self.signs = rng.choice((-CAP / 2, CAP / 2), (problem.V, SIGNS))
        self.excess = np.zeros(1 + SIGNS)  # S
        self.variance = np.zeros(1 + SIGNS)  # V
        self.impossible = 0  # tokens drawn that have probability 0

    def see(self, position: int, log_probs: Floats, alive: Ints, node: Ints, column: Ints) -> None:
        """See Watch."""
        super().see(position, log_probs, alive, node, column)
        p = np.exp(log_probs)  # [m, V]
        p /= p.sum(axis=1, keepdims=True)
        surprise = np.minimum(-log_probs, CAP)
        mean = (p * surprise).sum(axis=1)
        variance = (p * (surprise - mean[:, None]) ** 2).sum(axis=1)
        signed = p @ self.signs  # [m, SIGNS]
        self.excess[0] += (surprise[node, column] - mean[node]).sum()
        self.excess[1:] += (self.signs[column] - signed[node]).sum(axis=0)
        self.variance[0] += variance[node].sum()
        self.variance[1:] += ((CAP / 2) ** 2 - signed**2)[node].sum(axis=0)
        self.impossible += int(np.isneginf(log_probs[node, column]).sum())

    def log_evidence(self) -> float:
        """The log of the mean over scores and slopes. If sampling is honest, exp of it reaches 1 / alarm with at most `alarm`."""
        psi = (np.expm1(SLOPES * CAP) - SLOPES * CAP) / CAP**2
        gains, prices = np.outer(SLOPES, self.excess), np.outer(psi, self.variance)  # [slopes, 1 + SIGNS]
        exponents = np.concatenate((gains - prices, -gains - prices)).ravel()
        return logsumexp(exponents) - math.log(len(exponents))

    def worst(self) -> int:
        """The score that is the most standard errors away from its mean; 0 is the surprise."""
        return int(np.argmax(np.abs(self.excess) / np.sqrt(np.maximum(self.variance, 1e-12))))


def check_draws(
    policy: Policy,
    problem: Problem,
    rng: np.random.Generator,
    alarm: float = FALSE_ALARM,
    *,
    normalisers_only: bool = False,
    most: int | None = None,
) -> None:
    """Refuse a policy that draws, twice, what by its own distributions it would hardly ever draw.

    Args:
        policy: the policy to check; a composed policy is checked by its parts.
        problem: the problem whose sequences it writes.
        rng: a random stream of its own for the draws, so that no measurement depends on this check.
        alarm: an honest policy is refused with at most this probability.
        normalisers_only: check only the normalisers of filtered policies. This is enough where the rate is computed from
            log-probabilities that are known to be a probability's, and not from draws.
        most: draw at most so many sequences at once, as where the rate itself rests on so few; None for DRAWS.

    Raises:
        BadPolicy: says what was drawn and what should have been drawn.
    """
    tests = list(_tests(policy, normalisers_only, most))
    for test in tests:
        for _ in range(2):
            doubt = test(problem, rng, alarm / len(tests), len(tests))
            if doubt is None:
                break
        else:
            raise BadPolicy(f"{doubt}; for an honest policy this happens less than once in {1 / alarm:.0e} times")


def _tests(policy: Policy, normalisers_only: bool, most: int | None) -> Iterator[Test]:
    """The tests of a policy, one or more for each of its parts."""
    if is_plainly(policy, Mixture):
        for member in policy.members:
            yield from _tests(member, normalisers_only, most)
    elif is_plainly(policy, Excluding):
        yield from _tests(policy.policy, normalisers_only, most)
    elif is_plainly(policy, Filtered):
        yield partial(_normaliser_doubt, policy)
        yield from _tests(policy.policy, normalisers_only, most)
    elif not normalisers_only:
        yield partial(_draws_doubt, policy, most)


def _draws_doubt(
    policy: Policy, most: int | None, problem: Problem, rng: np.random.Generator, alarm: float, parts: int
) -> str | None:
    n = max(LEAST, min((DRAWS if walks(policy) else FEWER) // parts, NUMBERS // problem.V))
    n = n if most is None else min(n, most)
    seen = Scores(policy, problem, rng)
    along(policy, problem.check_tokens(policy.sample(n, rng)), problem, seen)
    if seen.impossible:
        return f"it drew {seen.impossible} tokens in {n} sequences that have probability 0 by its next_log_probs"
    if seen.log_evidence() < math.log(1 / alarm):
        return None
    worst = seen.worst()
    what, unit = ("surprise", "nats") if worst == 0 else (f"sum of random signs of {CAP / 2:g}", "units")
    return (
        f"it draws sequences whose {what} is {seen.excess[worst] / n:+.3g} {unit} off what its next_log_probs say on average, "
        f"over {n} draws, with a standard error of {math.sqrt(seen.variance[worst]) / n:.2g}"
    )


def _normaliser_doubt(policy: Filtered, problem: Problem, rng: np.random.Generator, alarm: float, _: int) -> str | None:
    """What is wrong with the normaliser of a filtered policy; None if nothing is.

    Two intervals are compared: one from the counts that the policy claims, one from new proposals. Each of them misses the
    true share with a probability of at most alarm / 2. So if they do not overlap, the claim is refused.
    """
    n = min(PROPOSALS, max(1, NUMBERS // problem.V))
    tokens = policy.policy.sample(n, rng)
    passed = int(policy.accepts(tokens, policy.policy.log_prob(tokens)).sum())
    low, high = clopper_pearson(passed, n, 1 - alarm / 2)
    claimed_low, claimed_high = clopper_pearson(policy.accepted, policy.proposed, 1 - alarm / 2)
    if low <= claimed_high and claimed_low <= high:
        return None
    return (
        f"it says that {policy.accepted} of {policy.proposed} proposals pass its filters; of {n} new ones {passed} did"
    )
