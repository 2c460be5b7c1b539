"""Excluding: a policy that never writes the sequences of a known set. Its probabilities are exact."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BadValue
from banel_envs.kernel import portable
from banel_envs.policies.autoregressive import CHUNK, Floats, Ints, in_blocks, logsumexp, rows_at_once
from banel_envs.policies.composed.mixture import vocabulary_of
from banel_envs.policies.protocol import Policy


class Excluding:
    """A policy that never writes a sequence of a known set: the inner policy, conditioned on that.

    It samples by rejection. The set's probability is known, so its log-probabilities are exact: log p(x) - log(1 - p(set)).
    """

    kind = "excluding"

    def __init__(self, policy: Policy, excluded: Ints, log_probs: Floats | None = None) -> None:
        """`excluded` [k, T] are distinct sequences; `log_probs` [k] are their log-probabilities, if these are known."""
        self.policy = policy
        self.excluded = np.asarray(excluded, np.int64)
        self.excluded_log_probs = policy.log_prob(self.excluded) if log_probs is None else log_probs
        self._keys = set(map(bytes, np.ascontiguousarray(self.excluded)))
        # A sequence given twice would be counted twice in the probability that is taken away.
        if len(self._keys) != len(self.excluded):
            repeats = len(self.excluded) - len(self._keys)
            raise BadValue(f"{repeats} of the {len(self.excluded)} excluded sequences are repeats; give each once")
        mass = float(portable.exp(logsumexp(self.excluded_log_probs)))
        if mass >= 1 - 1e-9:
            raise BadValue(f"the excluded set holds all but {1 - mass:.1e} of the policy's mass: nothing is left")
        self.log_left = float(portable.log(1 - mass))

    def sample(self, n: int, rng: np.random.Generator) -> Ints:
        """Independent sequences [n, T] outside the set."""
        parts: list[Ints] = []
        missing, left = n, float(portable.exp(self.log_left))
        while missing or not parts:
            # As many as are needed on average. One draw for each missing sequence would take for ever where the set holds
            # nearly all of the probability.
            drawn = self.policy.sample(min(CHUNK, math.ceil(missing / left)), rng)
            kept = drawn[~self.contains(drawn)][:missing]
            parts.append(kept)
            missing -= len(kept)
        return np.concatenate(parts)

    def contains(self, tokens: Ints) -> NDArray[np.bool_]:
        """Which rows of [n, T] are in the excluded set: [n]."""
        rows = np.ascontiguousarray(tokens, np.int64)
        return np.fromiter((bytes(row) in self._keys for row in rows), bool, len(rows))

    def log_prob(self, tokens: Ints) -> Floats:
        """Log-probability [n]: -inf inside the set; outside, the inner policy's divided by the probability that is left."""
        scored = self.policy.log_prob(tokens) - self.log_left
        return np.where(self.contains(tokens), -np.inf, scored)

    def next_log_probs(self, prefix: Ints) -> Floats:
        """Next-token distributions [n, V]: from each token's probability, that of the excluded sequences after it is taken."""
        return in_blocks(self._next_log_probs, prefix, rows_at_once(vocabulary_of(self)))

    def _next_log_probs(self, prefix: Ints) -> Floats:
        steps = self.policy.next_log_probs(prefix)  # [n, V]
        written = np.zeros(len(prefix))
        for i in range(prefix.shape[1]):
            written += self.policy.next_log_probs(prefix[:, :i])[np.arange(len(prefix)), prefix[:, i]]
        mass = portable.exp(steps + written[:, None])
        for row, begun in enumerate(prefix):
            behind = (self.excluded[:, : len(begun)] == begun).all(axis=1)
            np.subtract.at(mass[row], self.excluded[behind, len(begun)], portable.exp(self.excluded_log_probs[behind]))
        mass = mass.clip(0)
        # After a prefix that is never written, no probability is left to divide by, so the inner policy's tokens are used.
        never = mass.sum(axis=1) == 0
        mass[never] = portable.exp(steps[never])
        return portable.log(mass / portable.total(mass)[:, None])
