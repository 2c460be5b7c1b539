"""What every policy answers, in NumPy: so a JAX, a torch or a hand-written model can be one."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Policy(Protocol):
    """A generative model over token sequences (see Problem for the space)."""

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Independent sequences [n, T], drawn from rng alone."""
        ...

    def log_prob(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """Natural log of the probability of each sequence [n, T]: [n], exact, summing to 1 over the whole space."""
        ...

    def next_log_probs(self, prefix: NDArray[np.int64]) -> NDArray[np.float64]:
        """Natural log of the next token's distribution after prefixes [n, t], t < T: [n, V]."""
        ...
