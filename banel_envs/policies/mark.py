"""Mark: what a policy was when it was yielded, so that whoever measures it later sees whether it was changed.

The digest of its stored form; of a policy of another kind, whose stored form need not be all of it, also a few sequences
that it drew and their log-probabilities.
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

DRAWN = 16  # sequences that a policy of another kind is remembered by
CLOSE = 1e-4  # nats by which their log-probabilities may differ: an accelerator may sum in another order

TORCH_POLICY = "banel_envs.policies.torch_policy:TorchPolicy"  # the class of every stored network


@dataclass(frozen=True, eq=False)
class Mark:
    """A policy as it was."""

    digest: str | None  # of its stored form
    drawn: Ints | None  # [DRAWN, T]
    log_probs: Floats | None  # [DRAWN]

    @classmethod
    def of(cls, policy: Policy) -> Mark:
        """The policy as it is now; nothing of this counts as the agent's cost."""
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
    """Whether the stored form is all of it: a kind of this package with nothing of its own, and so are its parts."""
    kind = type(policy)
    ours = f"{kind.__module__}:{kind.__qualname__}" in {TORCH_POLICY, *(known.where for known in KINDS.values())}
    return ours and is_plainly(policy, kind) and all(map(is_stored_whole, parts_of(policy)))


def _close(now: NDArray[Any], then: NDArray[Any]) -> bool:
    """Equal up to CLOSE; what was -inf or NaN still is."""
    return np.shape(now) == np.shape(then) and bool(np.allclose(now, then, rtol=CLOSE, atol=CLOSE, equal_nan=True))
