"""Certified intervals: the limits of a success rate where the successes cannot be enumerated.

A set K of known successes is fixed first. Then n sequences are drawn from the policy; they are the counting sample, and h of
them are successes outside K. The success rate is the mass of K, which is an exact sum of the policy's probabilities, plus
the mass of the successes outside K, which the counting sample bounds. So

    upper end = mass of K + the one-sided 97.5% Clopper-Pearson limit on h of n
    lower end = the larger of: the mass of K and of the successes that the counting sample met, by their probabilities;
                the mass of K + the one-sided 97.5% lower limit on h of n

The interval holds the rate in at least 95% of cases, whatever K is and however the policy spreads its mass. Where h = 0 the
rate can only be above the interval, and it is so in at most 2.5% of cases.

A success that was met in the counting sample raises the lower end only. It must not be added to K: the limit on the rest
would then come from the same sample that decided what the rest is. K may hold any other successes: those of a task's
pool, those that a run asked, draws at another temperature.

Where h = 0 the upper end is the mass of K + 3.7 / n. The second term is 10^-3.4 for 10,000 samples, 10^-4.4 for 100,000 and
10^-5.4 for 1,000,000.
Source: Clopper and Pearson 1934.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banel_envs.binomial import clopper_pearson
from banel_envs.policies.autoregressive import Floats, logsumexp

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Counted:
    """Distinct successes of a policy, and how often each of them is in the counting sample."""

    log_probs: Floats  # [S]: their log-probabilities under the policy
    known: Mask  # [S]: whether each is in K, which was fixed before the counting sample was drawn
    met: NDArray[np.int64]  # [S]: how often each is in the counting sample
    samples: int  # n: the size of the counting sample

    def hits(self, counted: Mask) -> int:
        """How many sequences of the counting sample, repeats included, are successes that count (`counted` [S])."""
        return int(self.met[counted].sum())

    def log_interval(self, counted: Mask) -> tuple[float, float]:
        """Both ends as natural logarithms, for the successes that count (`counted` [S]); a lower end of zero is -inf."""
        known = logsumexp(self.log_probs[counted & self.known])
        seen = logsumexp(self.log_probs[counted & (self.known | (self.met > 0))])
        low, high = clopper_pearson(self.hits(counted & ~self.known), self.samples)
        least = min(0.0, max(seen, float(np.logaddexp(known, _log(low)))))
        # What was met may be likelier than its count says; then the lower end is the larger one, and is both.
        return least, max(least, min(0.0, float(np.logaddexp(known, _log(high)))))

    def log_estimate(self, counted: Mask) -> float:
        """Natural log of: the mass of K + h / n, moved into the interval. -inf where nothing is known or met."""
        known = logsumexp(self.log_probs[counted & self.known])
        hits = self.hits(counted & ~self.known)
        low, high = self.log_interval(counted)
        return min(high, max(low, float(np.logaddexp(known, _log(hits / self.samples)))))


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf
