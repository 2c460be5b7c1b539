"""Mixture: draws from one of several policies, each as likely as another. Its probabilities are exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from banel_envs.errors import BadValue
from banel_envs.kernel import portable
from banel_envs.policies.autoregressive import CHUNK, NUMBERS, Floats, Ints, in_blocks
from banel_envs.policies.protocol import Policy, parts_of


class Mixture:
    """An even mixture of policies: each sequence is drawn by a random member, and its probability is the members' mean."""

    kind = "mixture"

    def __init__(self, members: Sequence[Policy]) -> None:
        if not members:
            raise BadValue("a mixture needs at least 1 member")
        self.members = tuple(members)

    def sample(self, n: int, rng: np.random.Generator) -> Ints:
        """Sequences [n, T], each from a member that is drawn for it."""
        owner = rng.integers(len(self.members), size=n)
        parts = [m.sample(int((owner == k).sum()), rng) for k, m in enumerate(self.members)]
        tokens = np.concatenate(parts)  # in the order of the members; the next line puts each at the place drawn for it
        tokens[np.argsort(owner, kind="stable")] = tokens.copy()
        return tokens

    def log_prob(self, tokens: Ints) -> Floats:
        """Log of the members' mean probability: [n]."""
        return log_mean(np.stack([m.log_prob(tokens) for m in self.members]))

    def next_log_probs(self, prefix: Ints) -> Floats:
        """The members' next-token distributions [n, V], each weighted by the probability that it wrote the prefix."""
        size = max(1, min(CHUNK, NUMBERS // max(1, len(self.members) * vocabulary_of(self))))
        return in_blocks(self._next_log_probs, prefix, size)

    def _next_log_probs(self, prefix: Ints) -> Floats:
        n, t = prefix.shape
        written = np.zeros((len(self.members), n))  # [members, n]
        for i in range(t):
            for k, m in enumerate(self.members):
                written[k] += m.next_log_probs(prefix[:, :i])[np.arange(n), prefix[:, i]]
        written[:, np.isneginf(written).all(axis=0)] = 0.0  # no member writes this prefix, so all have the same weight
        weight = written - log_mean(written)
        steps = np.stack([m.next_log_probs(prefix) for m in self.members])
        return log_mean(steps + weight[:, :, None])


def vocabulary_of(policy: Any) -> int:
    """V of a composed policy: its parts'; 1 where they do not say, which is a policy of one's own."""
    return max((vocabulary_of(part) for part in parts_of(policy)), default=getattr(policy, "vocabulary", 1))


def log_mean(logs: Floats) -> Floats:
    """Log of the mean of exp(logs) over the first axis."""
    most = logs.max(axis=0)
    most = np.where(np.isneginf(most), 0.0, most)  # where all are -inf, so is the result
    result: Floats = most + portable.log(portable.total(np.moveaxis(portable.exp(logs - most), 0, -1)) / len(logs))
    return result
