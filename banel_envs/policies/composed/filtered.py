"""Filtered: a policy p_theta restricted to the sequences that it writes more readily than failure models do.

A sequence x passes if p_theta(x) / p_phi(x) >= tau for each failure model p_phi with its threshold tau. The normaliser is the
probability that a sequence of p_theta passes. It can only be estimated, by drawing proposals from p_theta and counting
those that pass. Its Clopper-Pearson interval becomes part of the interval of the success rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from banel_envs.binomial import clopper_pearson
from banel_envs.errors import BadPolicy, BadValue
from banel_envs.policies.autoregressive import Floats, Ints
from banel_envs.policies.protocol import Policy

LEAST_ACCEPTANCE = 1e-3  # below it one sample costs over 1,000 proposals, and too few pass to estimate the normaliser
MOST_AT_ONCE = 1 << 18  # the most proposals that are drawn together, so that memory is bounded however few of them pass
PATIENCE = 100  # sampling is given up after so many times the number of proposals that should be needed


class Filtered:
    """p_theta, restricted to the regions of all rounds so far.

    Args:
        policy: p_theta, which draws the proposals.
        failure_models: p_phi of each round.
        log_taus: the natural log of each round's threshold on p_theta / p_phi.
        proposed: how many proposals were drawn to estimate the normaliser.
        accepted: how many of these passed.

    Raises:
        BadValue: fewer than 1 in 1,000 proposals pass.
    """

    kind = "filtered"

    def __init__(
        self, policy: Policy, failure_models: Sequence[Policy], log_taus: Sequence[float], proposed: int, accepted: int
    ) -> None:
        if accepted < LEAST_ACCEPTANCE * proposed:
            raise BadValue(
                f"{accepted} of {proposed} proposals pass the filters, fewer than {LEAST_ACCEPTANCE:g}: "
                f"use fewer rounds or a smaller filter factor, or distil"
            )
        self.policy, self.failure_models, self.log_taus = policy, tuple(failure_models), tuple(log_taus)
        self.proposed, self.accepted = proposed, accepted
        self.log_normaliser = math.log(accepted / proposed)
        low, high = clopper_pearson(accepted, proposed)
        self.log_normaliser_interval = (math.log(low), math.log(high))  # 95%

    def accepts(self, tokens: Ints, log_probs: Floats) -> NDArray[np.bool_]:
        """Which sequences [n, T], with log p_theta [n], lie in every region: [n]."""
        inside = np.ones(len(tokens), bool)
        for phi, log_tau in zip(self.failure_models, self.log_taus, strict=True):
            rows = np.flatnonzero(inside)  # a sequence that one region rejects need not be scored for the next
            inside[rows] = log_probs[rows] - phi.log_prob(tokens[rows]) >= log_tau
        return inside

    def sample(self, n: int, rng: np.random.Generator) -> Ints:
        """N independent sequences [n, T], by rejection.

        Raises:
            BadPolicy: far fewer proposals pass than the normaliser says, so that sampling would take for ever.
        """
        kept: list[Ints] = []
        missing, drawn, most = n, 0, PATIENCE * (64 + n * self.proposed / self.accepted)
        while missing > 0 or not kept:
            if drawn > most:
                says = f"its normaliser says that {self.accepted:,} of {self.proposed:,} do"
                raise BadPolicy(f"a filtered policy passes {n - missing} of {drawn:,} proposals; {says}")
            likely = int(1.2 * missing * self.proposed / self.accepted)  # a fifth more than are needed on average
            tokens = self.policy.sample(min(max(64, likely), MOST_AT_ONCE), rng)
            drawn += len(tokens)
            passed = tokens[self.accepts(tokens, self.policy.log_prob(tokens))][:missing]
            kept.append(passed)
            missing -= len(passed)
        return np.concatenate(kept)

    def log_prob(self, tokens: Ints) -> Floats:
        """The log of p_theta minus the estimated log normaliser, and -inf outside the regions: [n]."""
        log_probs = self.policy.log_prob(tokens)
        return np.where(self.accepts(tokens, log_probs), log_probs - self.log_normaliser, -np.inf)

    def next_log_probs(self, prefix: Ints) -> Floats:
        """Refuse: the next-token distribution inside a region would need a sum over all continuations."""
        raise BadValue("a filtered policy has no next-token distribution; distil it into a network first")
