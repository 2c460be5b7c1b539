"""Certified intervals: what is certain of a success rate whose successes cannot be enumerated.

A set K of known successes is fixed before n sequences are drawn from the policy (the counting sample). The policy's
rate is then the exact mass of K, a sum of its probabilities, plus the mass of the successes outside K, of which the
counting sample shows h. So

    upper end = mass of K + the one-sided 97.5% Clopper-Pearson limit on h of n
    lower end = the larger of: the mass of K and of the successes that the counting sample met, by their probabilities;
                the mass of K + the one-sided 97.5% lower limit on h of n

The interval holds the rate in at least 95% of cases, whatever K is and however the policy spreads its mass; where h = 0
it errs above only, in at most 2.5%. What was met while counting raises the lower end alone: were it to count as known,
the limit on the rest would be drawn from the sample that chose it. K may hold anything else: a task's pool, the
successes that a run asked, draws at another temperature. Where nothing outside K was met the upper end is K's mass and
3.7 / n: 10^-3.4 for 10,000 samples, 10^-4.4 for 100,000, 10^-5.4 for 1,000,000.
Source: Clopper and Pearson 1934.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banel_envs.measure.binomial import clopper_pearson
from banel_envs.policies.autoregressive import Floats, logsumexp

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Counted:
    """Distinct successes of a policy, and how often its counting sample met each."""

    log_probs: Floats  # [S]: the policy's
    known: Mask  # [S]: in the set that was fixed before the counting sample was drawn
    met: NDArray[np.int64]  # [S]: times in the counting sample
    samples: int  # n: size of the counting sample

    def hits(self, counted: Mask) -> int:
        """Successes in the counting sample, repeats included, that are among those that count [S]."""
        return int(self.met[counted].sum())

    def log_interval(self, counted: Mask) -> tuple[float, float]:
        """Both ends as natural logarithms, over the successes that count [S]; the lower one is -inf where it is zero."""
        known = logsumexp(self.log_probs[counted & self.known])
        seen = logsumexp(self.log_probs[counted & (self.known | (self.met > 0))])
        low, high = clopper_pearson(self.hits(counted & ~self.known), self.samples)
        least = max(seen, float(np.logaddexp(known, _log(low))))
        return min(0.0, least), min(0.0, float(np.logaddexp(known, _log(high))))


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf
