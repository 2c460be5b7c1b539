"""Check that a policy is a probability over sequences. Whoever measures a policy does this.

Without the check, a policy whose log_prob is 0 everywhere would get a success rate of 1 or more. So the log-probabilities of
the sequences that matter (a success set, a task's pool) are computed here, from the policy's next-token distributions
along these sequences. Each distinct prefix is asked once, the shorter ones first, and each distribution has to sum to 1
within TOLERANCE. By the chain rule the probabilities of distinct sequences then sum to at most 1, whatever the policy is.
It would not be enough to check prefixes that are drawn at random, because a policy can add probability to the successes
alone. The policy's own log_prob has to give the same numbers.

A composed policy is checked by its parts. A mixture is checked by its members. A policy that excludes a set is checked by
its inner policy, and the probability of the set is computed again. A filtered policy is checked by its inner policy and
its failure models, and its normaliser must follow from its counts. draws.py checks what only draws can show.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from banel_envs.binomial import clopper_pearson
from banel_envs.errors import BadPolicy
from banel_envs.policies.autoregressive import Autoregressive, Floats, Ints, Watch, logsumexp
from banel_envs.policies.composed.excluding import Excluding
from banel_envs.policies.composed.filtered import Filtered
from banel_envs.policies.composed.guided import Guided
from banel_envs.policies.composed.mixture import Mixture, log_mean
from banel_envs.policies.composed.tempered import Tempered
from banel_envs.policies.grammar import Masked
from banel_envs.policies.mark import Mark, is_stored_whole
from banel_envs.policies.protocol import Policy, is_plainly, parts_of
from banel_envs.policies.weights import blame
from banel_envs.problem import Problem, Tokens

TOLERANCE = 1e-5  # how far the sum of a distribution may be from 1: about the accuracy of float32
ABSOLUTE, RELATIVE = 1e-3, 1e-5  # nats, and parts, by which two computations of one log-probability may differ
MOST_TOLERANCE = 0.5  # nats: the most that a policy's own `tolerance` may put in the place of ABSOLUTE
NOTHING = -700.0  # lower log-probabilities are taken to be equal, because e^-700 is about the smallest float64
NUMBERS = 2**22  # the most numbers in the distributions that are asked at once, where only next_log_probs can be used
LEAST_PROPOSED = 1_000  # a filtered policy must count so many proposals; with fewer its interval would be too wide
FALSE_ALARM = 1e-6  # the probability that an honest policy is refused for its draws, over a whole run

_last_set: tuple[str | None, Tokens, Floats] = (None, np.empty((0, 0), np.int64), np.empty(0))
"""The excluded set that was scored last: the digest of its inner policy, the set, and its log-probabilities."""

WALK = ("log_prob", "next_log_probs", "watched_log_prob", "_score_from", "_score_sorted")


class Watched(Watch):
    """Checks that every distribution of a walk sums to 1, and that a prefix has the same distribution whenever it is asked.

    A long set is walked in parts. The prefixes that two parts share are asked once in each part, along the last sequence
    of the first part and the first sequence of the next. There the two distributions are compared.
    """

    def __init__(self, policy: Policy, problem: Problem) -> None:
        self.policy, self.V, self.off = policy, problem.V, tolerance(policy)
        self.walked = 0  # how many sequences have been walked or are being walked
        self._tokens = np.empty((0, problem.T), np.int64)
        self._last: list[Floats] = []  # the distributions along the last sequence of the part

    def start(self, tokens: Ints) -> None:
        """See Watch."""
        shared = 0
        if len(self._tokens) and len(tokens):
            shared = int(np.logical_and.accumulate(self._tokens[-1] == tokens[0]).sum())
        self._before, self._last = self._last[: shared + 1], []
        self.walked += len(tokens)
        self._tokens = tokens

    def see(self, position: int, log_probs: Floats, alive: Ints, node: Ints, column: Ints) -> None:
        """See Watch."""
        if log_probs.ndim != 2 or log_probs.shape[1] != self.V:
            raise BadPolicy(f"its next-token distributions have shape {list(log_probs.shape)}, not [m, {self.V}]")
        masses = np.exp(log_probs).sum(axis=1)
        if not np.abs(masses - 1).max(initial=0.0) <= TOLERANCE:
            self._refuse(position, masses, alive, node)
        if alive[0] == 0 and position < len(self._before):
            agree(
                self._before[position],
                log_probs[node[0]],
                "a prefix that is asked twice has two distributions",
                self.off,
            )
        if alive[-1] == len(self._tokens) - 1:
            self._last.append(log_probs[node[-1]])

    def _refuse(self, position: int, masses: Floats, alive: Ints, node: Ints) -> None:
        wrong = np.flatnonzero(~(np.abs(masses - 1) <= TOLERANCE))[0]
        prefix = self._tokens[alive[np.flatnonzero(node == wrong)[0]], :position].tolist()
        why = blame(self.policy) if not math.isfinite(masses[wrong]) else ""
        raise BadPolicy(
            f"its next-token distribution after the prefix {prefix} sums to {masses[wrong]:.6g}, not to 1 "
            f"within {TOLERANCE:g}{why}"
        )


def checked_log_prob(policy: Policy, tokens: Tokens, problem: Problem) -> Floats:
    """log_prob [n] of sequences [n, T], after the checks that the module describes.

    For a policy of this package it equals `policy.log_prob(tokens)` to the last bit.

    Raises:
        BadPolicy: says what is no probability.
    """
    if is_plainly(policy, Mixture):
        return log_mean(np.stack([checked_log_prob(m, tokens, problem) for m in policy.members]))
    if is_plainly(policy, Excluding):
        return _excluding(policy, tokens, problem)
    if is_plainly(policy, Filtered):
        return _filtered(policy, tokens, problem)
    total = along(policy, tokens, problem, Watched(policy, problem))
    if not walks(policy):
        own = np.asarray(policy.log_prob(tokens), np.float64)
        if own.shape != total.shape:
            raise BadPolicy(f"its log_prob answers shape {list(own.shape)} to {len(tokens)} sequences")
        agree(own, total, "its log_prob is not the sum of its next_log_probs", tolerance(policy))
    return total


@dataclass(frozen=True)
class Checked:
    """A policy whose log_prob is `checked_log_prob`, for estimates that use log-probabilities."""

    policy: Policy
    problem: Problem

    def sample(self, n: int, rng: np.random.Generator) -> Ints:
        """The policy's own."""
        return self.policy.sample(n, rng)

    def log_prob(self, tokens: Ints) -> Floats:
        """See checked_log_prob."""
        return checked_log_prob(self.policy, tokens, self.problem)

    def next_log_probs(self, prefix: Ints) -> Floats:
        """The policy's own."""
        return self.policy.next_log_probs(prefix)


def check_structure(policy: Policy) -> None:
    """Refuse policies whose rate would hide the error of an estimate, or whose check would cost more with every level.

    The normaliser of a filtered policy is an estimate. Its interval becomes part of the rate's interval, but only where the
    filtered policy is the whole policy. Inside another policy each level could claim a little more than is true.

    Raises:
        BadPolicy: a filtered policy is inside another policy or counted too few proposals, or a policy that excludes a
            set is inside another such policy.
    """
    inside = _descendants(policy)
    if any(isinstance(part, Filtered) for part in inside):
        raise BadPolicy(f"a filtered policy stands inside a {type(policy).__name__}; distil it into a network first")
    if isinstance(policy, Filtered) and policy.proposed < LEAST_PROPOSED:
        raise BadPolicy(f"its normaliser rests on {policy.proposed:,} proposals; count at least {LEAST_PROPOSED:,}")
    for outer in (policy, *inside):
        if isinstance(outer, Excluding) and any(isinstance(part, Excluding) for part in _descendants(outer)):
            raise BadPolicy("a policy that excludes a set stands inside another; exclude both sets in one")


def _descendants(policy: Any) -> list[Any]:
    """Every policy that a policy of this package is made of, at any depth, without the policy itself."""
    found: list[Any] = []
    waiting = [policy]
    while waiting:
        part = waiting.pop()
        inner = [*getattr(part, "members", ()), *getattr(part, "failure_models", ())]
        if isinstance(part, Excluding | Filtered | Guided | Masked | Tempered):
            inner.append(part.policy)
        found += inner
        waiting += inner
    return found


def at_most_one(policy: Policy, log_probs: Floats) -> None:
    """Refuse a policy that gives distinct sequences, of these log-probabilities [n], a probability above 1 in all."""
    total = logsumexp(log_probs)
    if not total <= _slack(policy):
        raise BadPolicy(
            f"it gives the successes a probability of {math.exp(min(total, 700.0)):.6g} in all; it is at most 1 "
            f"(unless the task lists a success twice)"
        )


def _slack(policy: Policy) -> float:
    """How far, in nats, the log of an honest policy's total probability may be above 0.

    It is TOLERANCE for a policy that is not composed. A policy that excludes a set divides by the probability that is left,
    so an error in it grows by that factor. For a filtered policy the normaliser may have been estimated too low.
    """
    if isinstance(policy, Mixture):
        return max(map(_slack, policy.members))
    if isinstance(policy, Excluding):
        return math.log1p(TOLERANCE / math.exp(policy.log_left)) + _slack(policy.policy)
    if isinstance(policy, Filtered):
        high = clopper_pearson(policy.accepted, policy.proposed, 1 - FALSE_ALARM)[1]
        return math.log(high) - policy.log_normaliser + _slack(policy.policy)
    return TOLERANCE


def walks(policy: Any) -> bool:
    """Whether the policy's log_prob is this package's own walk along the prefixes, whatever its distributions are."""
    network = sys.modules.get("banel_envs.policies.torch_policy")  # not imported here, because it would load PyTorch
    ours = [Autoregressive] if network is None else [Autoregressive, network.Fitted]
    return isinstance(policy, Autoregressive) and all(
        name not in vars(policy) and getattr(type(policy), name) in [vars(cls).get(name) for cls in ours]
        for name in WALK
    )


def along(policy: Any, tokens: Tokens, problem: Problem, watch: Watched) -> Floats:
    """Log-probabilities [n] from next-token distributions, which `watch` is shown. For policies that are not composed."""
    if not walks(policy):
        return _by_prefixes(policy, tokens, problem, watch)
    scored: Floats = policy.watched_log_prob(tokens, watch)
    if watch.walked < len(tokens):  # a network scored the last few rows at all positions at once
        rest = np.lexsort(tokens.T[::-1])[watch.walked :]
        stepped = policy._score_from(policy.start(), tokens[rest], watch)
        agree(scored[rest], stepped, "its network, fed whole sequences, is not what it is token by token", watch.off)
    return scored


def _by_prefixes(policy: Policy, tokens: Tokens, problem: Problem, watch: Watched) -> Floats:
    """The same, from next_log_probs alone.

    Each distribution is divided by its sum. Otherwise a policy could add up to TOLERANCE to each of its distributions.
    """
    order = np.lexsort(tokens.T[::-1])
    rows = np.asarray(tokens, np.int64)[order]  # [n, T]
    total = np.zeros(len(rows))
    alive = np.arange(len(rows))
    watch.start(rows)
    for position in range(problem.T):
        prefixes = rows[alive, :position]
        node = _nodes(prefixes)
        heads = np.flatnonzero(np.diff(node, prepend=-1))  # the first row of each distinct prefix
        size = max(1, NUMBERS // problem.V)
        for low in range(0, len(heads), size):
            block = slice(*np.searchsorted(node, (low, low + size)))
            here, column = alive[block], rows[alive[block], position]
            steps = np.asarray(policy.next_log_probs(prefixes[heads[low : low + size]]), np.float64)  # [<= size, V]
            _count(steps, min(size, len(heads) - low))
            watch.see(position, steps, here, node[block] - low, column)
            steps = steps - np.log(np.exp(steps).sum(axis=1, keepdims=True))
            total[here] += steps[node[block] - low, column]
        # After a prefix of probability 0 no distribution is defined, and after an end token the rest is certain.
        alive = alive[(rows[alive, position] != problem.end) & ~np.isneginf(total[alive])]
        if len(alive) == 0:
            break
    result = np.empty(len(rows))
    result[order] = total
    return result


def _count(steps: Floats, asked: int) -> None:
    if len(steps) != asked:
        raise BadPolicy(f"its next_log_probs answers {len(steps)} rows to {asked} prefixes")


def _nodes(prefixes: Ints) -> Ints:
    """Number the distinct prefixes among these sorted ones [k, t] from 0, and give the number of each: [k]."""
    new = np.zeros(len(prefixes), np.int64)
    new[1:] = (prefixes[1:] != prefixes[:-1]).any(axis=1)
    return np.cumsum(new)


def _excluding(policy: Excluding, tokens: Tokens, problem: Problem) -> Floats:
    known = set(map(bytes, np.ascontiguousarray(policy.excluded, np.int64)))
    if len(known) != len(policy.excluded):
        raise BadPolicy(f"{len(policy.excluded) - len(known)} of the sequences that it excludes are repeats")
    mass = math.exp(logsumexp(_excluded_log_probs(policy.policy, np.asarray(policy.excluded), problem)))
    claimed = -math.expm1(policy.log_left)
    if not abs(mass - claimed) <= TOLERANCE:
        raise BadPolicy(f"it says that it excludes {claimed:.6g} of its inner policy's mass; that set holds {mass:.6g}")
    scored = checked_log_prob(policy.policy, tokens, problem) - policy.log_left
    rows = np.ascontiguousarray(tokens, np.int64)
    excluded = np.fromiter((bytes(row) in known for row in rows), bool, len(rows))
    return np.where(excluded, -np.inf, scored)


def _excluded_log_probs(inner: Policy, excluded: Tokens, problem: Problem) -> Floats:
    """checked_log_prob [k] of an excluded set.

    Between two points of a run the set only grows. So if the inner policy is the same as last time, by the digest of its
    stored form, only the sequences that are new in the set are scored.
    """
    global _last_set
    digest = Mark.of(inner).digest if is_stored_whole(inner) else None
    last_digest, last_excluded, last = _last_set
    known = len(last) if digest is not None and digest == last_digest else 0
    if not np.array_equal(excluded[:known], last_excluded[:known]):
        known = 0
    found = np.concatenate((last[:known], checked_log_prob(inner, excluded[known:], problem)))
    if digest is not None:
        _last_set = (digest, excluded.copy(), found)
    return found


def _filtered(policy: Filtered, tokens: Tokens, problem: Problem) -> Floats:
    parts = (policy.policy, policy.failure_models, policy.log_taus, policy.proposed, policy.accepted)
    counted = Filtered(*parts)
    if policy.log_normaliser != counted.log_normaliser:
        raise BadPolicy(
            f"it takes exp({policy.log_normaliser:.6g}) for its normaliser, and says that {policy.accepted} of "
            f"{policy.proposed} proposals passed"
        )
    if policy.log_normaliser_interval != counted.log_normaliser_interval:
        raise BadPolicy(f"the interval of its log normaliser is {policy.log_normaliser_interval}, not from its counts")
    log_probs = checked_log_prob(policy.policy, tokens, problem)
    inside = np.ones(len(tokens), bool)
    for phi, log_tau in zip(policy.failure_models, policy.log_taus, strict=True):
        rows = np.flatnonzero(inside)
        inside[rows] = log_probs[rows] - checked_log_prob(phi, tokens[rows], problem) >= log_tau
    return np.where(inside, log_probs - policy.log_normaliser, -np.inf)


def tolerance(policy: Any) -> float:
    """How far, in nats, two computations of one log-probability of a policy may differ: ABSOLUTE, or more where it says so.

    A network in bfloat16 gives other numbers in a batch of another size, so a policy may state a `tolerance` of its own. It
    is no licence: the probabilities that count are computed here, from distributions that sum to 1.

    Raises:
        BadPolicy: the tolerance is no number from 0 to MOST_TOLERANCE.
    """
    stated = getattr(policy, "tolerance", ABSOLUTE)
    if type(stated) not in (int, float) or not 0 <= stated <= MOST_TOLERANCE:
        raise BadPolicy(f"its tolerance is {stated!r}; it is a number of nats from 0 to {MOST_TOLERANCE:g}")
    return float(max([ABSOLUTE, stated, *map(tolerance, parts_of(policy))]))


def agree(found: Floats, expected: Floats, complaint: str, off: float = ABSOLUTE) -> None:
    """Refuse log-probabilities [n] that are not the expected ones [n] within `off` nats and the accuracy of float32."""
    a, b = np.maximum(found, NOTHING), np.maximum(expected, NOTHING)
    near = np.abs(a - b) <= off + RELATIVE * np.abs(b)
    if not near.all():
        worst = int(np.flatnonzero(~near)[0])
        raise BadPolicy(f"{complaint}: {found[worst]:.6g} against {expected[worst]:.6g} nats, more than {off:g} apart")
