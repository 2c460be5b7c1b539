"""Mark: what a policy was when it was yielded. Whoever measures it later can then see whether it was changed.

A mark holds the digest of the policy's stored form. A policy that is not of this package may have parts that its stored
form does not hold. For such a policy the mark also holds a few sequences that it drew, and their log-probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BadValue, PolicyChanged
from banel_envs.policies.autoregressive import Floats, Ints
from banel_envs.policies.cost import COST
from banel_envs.policies.protocol import Policy, is_plainly, parts_of
from banel_envs.policies.storage import store
from banel_envs.policies.storage.kinds import KINDS

DRAWN = 16  # sequences that are kept in the mark of a policy that is not of this package
CLOSE = 1e-4  # nats by which their log-probabilities may change, because an accelerator may sum in another order

TORCH_POLICY = "banel_envs.policies.torch_policy:TorchPolicy"  # the class of every stored network


@dataclass(frozen=True, eq=False)
class Mark:
    """What a policy was at one moment."""

    digest: str | None  # the digest of its stored form; None if it has none
    drawn: Ints | None  # [DRAWN, T]
    log_probs: Floats | None  # [DRAWN]

    @classmethod
    def of(cls, policy: Policy) -> Mark:
        """The mark of the policy as it is now. What this computes does not count as the agent's cost."""
        digest = _digest(policy)
        if digest is not None and is_stored_whole(policy):
            return cls(digest, None, None)
        with COST.paused():
            drawn = policy.sample(DRAWN, np.random.default_rng(0))
            return cls(digest, drawn, policy.log_prob(drawn))

    def fits(self, policy: Policy) -> bool:
        """Whether the policy is still what it was."""
        if _digest(policy) != self.digest:
            return False
        if self.drawn is None or self.log_probs is None:
            return True
        with COST.paused():
            return _close(policy.log_prob(self.drawn), self.log_probs)

    def check(self, policy: Policy) -> None:
        """Raise PolicyChanged unless the policy is still what it was."""
        if not self.fits(policy):
            raise PolicyChanged("it was changed after it was yielded; yield policy.clone(), or another copy of it")


def _digest(policy: Policy) -> str | None:
    try:
        return store.digest(policy)
    except BadValue:
        return None


def is_stored_whole(policy: Any) -> bool:
    """Whether the stored form holds the whole policy: it is of this package and has no methods of its own, nor its parts."""
    cls = type(policy)
    ours = f"{cls.__module__}:{cls.__qualname__}" in {TORCH_POLICY, *(known.where for known in KINDS.values())}
    return ours and is_plainly(policy, cls) and all(map(is_stored_whole, parts_of(policy)))


def _close(now: NDArray[Any], then: NDArray[Any]) -> bool:
    """Whether the numbers are equal up to CLOSE, with -inf and NaN in the same places."""
    return np.shape(now) == np.shape(then) and bool(np.allclose(now, then, rtol=CLOSE, atol=CLOSE, equal_nan=True))
