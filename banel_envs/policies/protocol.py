"""The methods that every policy has. They take and give NumPy arrays, so a policy can be written in JAX or PyTorch or by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeGuard, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

K = TypeVar("K")

METHODS = ("sample", "log_prob", "next_log_probs")
"""The names of a Policy's methods."""


@runtime_checkable
class Policy(Protocol):
    """A generative model over token sequences (see Problem for the space)."""

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Independent sequences [n, T]. All randomness comes from rng."""
        ...

    def log_prob(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """The natural log of each sequence's probability: [n, T] to [n]. It is exact, and the probabilities sum to 1."""
        ...

    def next_log_probs(self, prefix: NDArray[np.int64]) -> NDArray[np.float64]:
        """The natural log of the next token's distribution [n, V] after prefixes [n, t], where t < T."""
        ...


@runtime_checkable
class Trainable(Policy, Protocol):
    """A policy that can be fitted to sequences: what the agents that train need of it. TorchPolicy is one.

    Agents that read the hidden states of a network need a TorchPolicy.
    """

    vocabulary: int  # V
    horizon: int  # T
    end: int | None  # the end token; None where every sequence has T tokens

    def parameters(self) -> Iterable[Tensor]:
        """The weights that are trained."""
        ...

    def train(self, mode: bool = True) -> None:
        """Before and after it is trained: whether what is only used in training, such as dropout, may be on."""
        ...

    def loss(self, tokens: NDArray[np.int64], weights: NDArray[np.floating] | None = None) -> Tensor:
        """Differentiable: the mean of weight x negative log-likelihood of sequences [n, T]; weights [n] or [n, T], or all 1."""
        ...

    def clone(self) -> Self:
        """A copy with the same weights, which learns nothing of what this one is taught."""
        ...

    def with_new_weights(self, rng: np.random.Generator) -> Self:
        """A fresh copy: what this policy was before anything was learnt, its random weights drawn from rng."""
        ...

    def tempered(self, temperature: float) -> Self:
        """A copy whose temperature is multiplied by `temperature`."""
        ...

    def token_log_probs(self, tokens: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of sequences [n, T] the log-probability of each token and the largest there: [n, T] each, 0 behind the end."""
        ...


def is_plainly(policy: object, cls: type[K]) -> TypeGuard[K]:
    """Whether the policy is of exactly this class, and no method was replaced on the object itself."""
    return type(policy) is cls and not any(name in vars(policy) for name in METHODS)


def parts_of(policy: Any) -> list[Any]:
    """The policies that a composed policy is made of, found under the names that the policies of this package use."""
    inner = getattr(policy, "policy", None)
    return [
        *([] if inner is None else [inner]),
        *getattr(policy, "members", ()),
        *getattr(policy, "failure_models", ()),
    ]


def has_own_model(policy: Any) -> bool:
    """Whether the policy, or one that it is made of, is of a user's class and gives an ONNX model of itself."""
    own = getattr(policy, "kind", None) == "onnx" and not type(policy).__module__.startswith("banel_envs.")
    return own or any(map(has_own_model, parts_of(policy)))
