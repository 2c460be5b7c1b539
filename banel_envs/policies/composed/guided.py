"""Guided: a policy p that is pushed away from another one q, token by token: p'(v) is proportional to p(v)^(1 + b) / q(v)^b.

With q = p, and with b = 0, it is p. It is classifier-free guidance with a negative prompt, or autoguidance, on tokens: log p
plus b (log p - log q), normalised at each token (Ho and Salimans 2022; Karras et al. 2024). Its probabilities are exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from banel_envs.errors import BadValue
from banel_envs.kernel import portable
from banel_envs.policies.autoregressive import Autoregressive, Floats, Ints


class Guided(Autoregressive):
    """See the module.

    Args:
        policy: p.
        against: q, which writes the same sequences and gives no token a probability of 0 that p may write.
        strength: b, at least 0.
    """

    kind = "guided"

    def __init__(self, policy: Autoregressive, against: Autoregressive, strength: float) -> None:
        if not strength >= 0:
            raise BadValue(f"strength is {strength!r}; it must be a number of at least 0")
        sizes = [(p.vocabulary, p.horizon, p.end) for p in (policy, against)]
        if sizes[0] != sizes[1]:
            raise BadValue(f"the two policies differ in vocabulary, horizon or end token: {sizes[0]} and {sizes[1]}")
        self.policy, self.strength = policy, strength
        self.failure_models = (against,)  # the name under which the parts of a policy are found
        self.vocabulary, self.horizon, self.end = policy.vocabulary, policy.horizon, policy.end

    @property
    def against(self) -> Autoregressive:
        """The policy q."""
        return self.failure_models[0]

    def start(self) -> Any:
        """Both states."""
        return self.policy.start(), self.against.start()

    def step(self, last: Ints, position: int, state: Any) -> tuple[Floats, Any]:
        """(1 + b) log p - b log q, normalised: [m, V]."""
        p, ours = self.policy.step(last, position, state[0])
        q, others = self.against.step(last, position, state[1])
        # Where p is 0 so is the result, whatever q is.
        guided = np.where(np.isneginf(p), -np.inf, p + self.strength * (p - np.where(np.isneginf(p), 0.0, q)))
        guided -= guided.max(axis=1, keepdims=True)
        return guided - portable.log(portable.total(portable.exp(guided)))[:, None], (ours, others)

    def select(self, state: Any, rows: Ints) -> Any:
        """Both states of these prefixes."""
        return self.policy.select(state[0], rows), self.against.select(state[1], rows)
