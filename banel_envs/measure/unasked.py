"""How much of a policy's probability lies on sequences that a run has not asked.

Fresh success divided by it is the *next-question rate*: the success rate of the policy, conditioned on not asking a sequence
twice. Fresh success alone punishes whoever has found much.
"""

from __future__ import annotations

import math

import numpy as np

from banel_envs.measure.probability import checked_log_prob
from banel_envs.policies.composed.filtered import Filtered
from banel_envs.policies.protocol import Policy
from banel_envs.problem import Problem, Tokens

LEAST = 1e-4  # of a smaller remainder too many digits are the rounding of the sum


def log10_unasked(policy: Policy, asked: Tokens, problem: Problem) -> float | None:
    """The log10 of the probability that a sample is none of the sequences asked [n, T], repeats among them allowed.

    None for a filtered policy: its normaliser is estimated, so no such number is exact, even where its success rate is 0 exactly.

    It is one minus a sum of float32 log-probabilities, so it is good to about 1e-5 of probability, and no smaller than
    log10(LEAST).

    Raises:
        BadPolicy: what the policy answers is no probability.
    """
    if isinstance(policy, Filtered):
        return None
    if len(asked) == 0:
        return 0.0
    mass = float(np.exp(checked_log_prob(policy, np.unique(asked, axis=0), problem)).sum())
    return math.log10(min(1.0, max(LEAST, 1 - mass)))
