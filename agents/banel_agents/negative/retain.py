"""What a loss on failures needs beside it: sequences to stay likely or to become so.

They are samples of the base policy, which cost no NRE, and what is known to succeed.
"""

from __future__ import annotations

import numpy as np

from banel_envs import Problem
from banel_envs.policies import Trainable
from banel_envs.problem import Tokens


class Successes:
    """The distinct successes told so far."""

    def __init__(self, horizon: int) -> None:
        self.tokens: Tokens = np.empty((0, horizon), np.int64)

    def drawn(self, told: Tokens, n: int, rng: np.random.Generator) -> Tokens:
        """Keep what was told [k, T], and draw n of all that is kept, with repeats; none where there are none."""
        if len(told):
            self.tokens = np.unique(np.concatenate((self.tokens, told)), axis=0)
        rows: Tokens = self.tokens[rng.integers(len(self.tokens), size=n)] if len(self.tokens) else self.tokens
        return rows


def base_samples(base: Trainable, problem: Problem, n: int, rng: np.random.Generator) -> Tokens:
    """N samples of the base policy, less those that leave the public grammar: they fail for certain, so nothing keeps them."""
    tokens = base.sample(n, rng)
    kept: Tokens = tokens[problem.well_formed(tokens)]
    return kept
