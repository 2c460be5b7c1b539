"""What every policy answers, in NumPy: so a JAX, a torch or a hand-written model can be one."""

from __future__ import annotations

from typing import Any, Protocol, TypeGuard, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

K = TypeVar("K")

METHODS = ("sample", "log_prob", "next_log_probs")
"""What a Policy has."""


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


def is_plainly(policy: object, kind: type[K]) -> TypeGuard[K]:
    """Whether it is of this very kind, no subclass, and has no method of its own."""
    return type(policy) is kind and not any(name in vars(policy) for name in METHODS)


def parts_of(policy: Any) -> list[Any]:
    """The policies that a composed one is made of, by the names that the kinds of this package use."""
    inner = getattr(policy, "policy", None)
    return [
        *([] if inner is None else [inner]),
        *getattr(policy, "members", ()),
        *getattr(policy, "failure_models", ()),
    ]
