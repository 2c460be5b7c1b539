"""draws: whether a policy draws what its next-token distributions say, and a filtered one passes what it says.

For rates that rest on draws. Every token of a drawn sequence gets scores: its surprise -log p(x_t | x_<t), CAP nats at
most; and, since a policy that says "uniform" is never surprised, in a few lists of random signs the one of the token, times
CAP / 2. Each score is held against its mean under the distribution that the policy itself gives there. Under honest sampling
the differences D are a martingale's: |D| <= CAP, mean 0, and a variance v that is known from the distribution. So (Freedman
1975, by Bennett's bound on each step), for any number l,

    E exp(l S - psi(|l|) V) <= 1,  S = sum of D,  V = sum of v,  psi(l) = (exp(l CAP) - 1 - l CAP) / CAP^2.

The mean of this over the scores and a fixed list of l of either sign (`SLOPES`) has an expectation of at most 1 as well, and
by Markov's inequality reaches 1 / alarm with a probability of at most `alarm`. That is a Bernstein inequality that need
not know V beforehand: it is reached where |S| of a score is beyond about sqrt(2 V L) + 2 CAP L / 3, L = log(1 / alarm) +
log(number of means). A policy fails if that happens twice, the second time on fresh draws, so `alarm` is a bound with room
to spare (`python -m benchmarks.false_alarms` counts).

What it cannot see: draws from another policy whose scores have the same mean, or one too near for the number of draws
(the error message of a failure gives the scale), and a policy that draws otherwise only when it is not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from banel_envs.errors import BadPolicy
from banel_envs.measure.binomial import clopper_pearson
from banel_envs.measure.probability import FALSE_ALARM, Watched, along, walks
from banel_envs.policies.autoregressive import Floats, Ints, logsumexp
from banel_envs.policies.composed import Excluding, Mixture
from banel_envs.policies.filtered import Filtered
from banel_envs.policies.protocol import Policy, is_plainly
from banel_envs.problem import Problem

DRAWS = 1_000  # sequences drawn of a policy, over all its parts
FEWER = 250  # of one that is asked by next_log_probs, which may compute every prefix from its beginning
LEAST = 100  # and of each part
NUMBERS = 2**24  # in the distributions of all prefixes of one length: fewer draws where the vocabulary is large
PROPOSALS = 10_000  # drawn to count again how many pass a filter
CAP = 10.0  # nats: rarer tokens than 1 in 22,000 count as if they were no rarer
SIGNS = 8  # lists of random signs
SLOPES = 2.0 ** np.arange(-12, 3) / CAP  # l; the largest serve a V of a few nats^2, the smallest one of millions

Test = Callable[[Problem, np.random.Generator, float, int], str | None]
"""What is wrong with the draws of a part (of so many parts), if an honest one would look so with a probability of at most
`alarm`; None if nothing is."""


class Scores(Watched):
    """Adds S and V of every score up along a walk; the first is the surprise."""

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
        """Log of the mean over scores and slopes, which exceeds log(1 / alarm) with a probability of at most `alarm`."""
        psi = (np.expm1(SLOPES * CAP) - SLOPES * CAP) / CAP**2
        gains, prices = np.outer(SLOPES, self.excess), np.outer(psi, self.variance)  # [slopes, 1 + SIGNS]
        exponents = np.concatenate((gains - prices, -gains - prices)).ravel()
        return logsumexp(exponents) - math.log(len(exponents))

    def worst(self) -> int:
        """The score that is the most standard errors off; 0 is the surprise."""
        return int(np.argmax(np.abs(self.excess) / np.sqrt(np.maximum(self.variance, 1e-12))))


def check_draws(
    policy: Policy,
    problem: Problem,
    rng: np.random.Generator,
    alarm: float = FALSE_ALARM,
    *,
    normalisers_only: bool = False,
) -> None:
    """Refuse a policy that twice draws what it says it hardly ever would.

    Args:
        policy: what is checked; of a composed one its parts are.
        problem: whose sequences it writes.
        rng: draws; a stream of its own, so that no measurement depends on this one.
        alarm: the probability that an honest policy is refused is at most this.
        normalisers_only: check no more than what filtered policies say of their normalisers: all that matters where the
            log-probabilities of successes are known to be a probability's.

    Raises:
        BadPolicy: says what was drawn and what should have been.
    """
    tests = list(_tests(policy, normalisers_only))
    for test in tests:
        for _ in range(2):
            doubt = test(problem, rng, alarm / len(tests), len(tests))
            if doubt is None:
                break
        else:
            raise BadPolicy(f"{doubt}; an honest policy would look so less than once in {1 / alarm:.0e} times")


def _tests(policy: Policy, normalisers_only: bool) -> Iterator[Test]:
    """What is to be tested of a policy: its parts."""
    if is_plainly(policy, Mixture):
        for member in policy.members:
            yield from _tests(member, normalisers_only)
    elif is_plainly(policy, Excluding):
        yield from _tests(policy.policy, normalisers_only)
    elif is_plainly(policy, Filtered):
        yield partial(_normaliser_doubt, policy)
        yield from _tests(policy.policy, normalisers_only)
    elif not normalisers_only:
        yield partial(_draws_doubt, policy)


def _draws_doubt(policy: Policy, problem: Problem, rng: np.random.Generator, alarm: float, parts: int) -> str | None:
    n = max(LEAST, min((DRAWS if walks(policy) else FEWER) // parts, NUMBERS // problem.V))
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
    """Whether the share of fresh proposals that pass, and the share that is claimed, have intervals that do not meet.

    Each interval misses the true share with a probability of at most alarm / 2.
    """
    n = min(PROPOSALS, max(1, NUMBERS // problem.V))
    tokens = policy.policy.sample(n, rng)
    passed = int(policy.accepts(tokens, policy.policy.log_prob(tokens)).sum())
    low, high = clopper_pearson(passed, n, 1 - alarm / 2)
    claimed_low, claimed_high = clopper_pearson(policy.accepted, policy.proposed, 1 - alarm / 2)
    if low <= claimed_high and claimed_low <= high:
        return None
    return f"it says that {policy.accepted} of {policy.proposed} proposals pass its filters; of {n} fresh ones {passed} did"
