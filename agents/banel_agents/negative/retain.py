"""What a loss on failures needs beside it: sequences to stay likely. They are samples of the base policy, which cost no NRE."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from banel_envs import Problem
from banel_envs.problem import Tokens

if TYPE_CHECKING:
    from banel_envs.policies.torch_policy import TorchPolicy


def base_samples(base: TorchPolicy, problem: Problem, n: int, rng: np.random.Generator) -> Tokens:
    """N samples of the base policy, less those that leave the public grammar: they fail for certain, so nothing keeps them."""
    tokens = base.sample(n, rng)
    kept: Tokens = tokens[problem.well_formed(tokens)]
    return kept
