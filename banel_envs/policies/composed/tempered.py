"""Tempered: a policy at another temperature."""

from __future__ import annotations

from typing import Any

from banel_envs.errors import BadValue
from banel_envs.kernel import portable
from banel_envs.policies.autoregressive import Autoregressive, Floats, Ints


class Tempered(Autoregressive):
    """A policy at a temperature: each next-token probability is raised to 1 / temperature, and then all are normalised."""

    kind = "tempered"

    def __init__(self, policy: Autoregressive, temperature: float) -> None:
        if not temperature > 0:
            raise BadValue(f"temperature is {temperature!r}; it must be a number above 0")
        self.policy, self.temperature = policy, temperature
        self.vocabulary, self.horizon, self.end = policy.vocabulary, policy.horizon, policy.end

    def start(self) -> Any:
        """The inner policy's state."""
        return self.policy.start()

    def step(self, last: Ints, position: int, state: Any) -> tuple[Floats, Any]:
        """The inner policy's step at the temperature."""
        log_probs, state = self.policy.step(last, position, state)
        log_probs = log_probs / self.temperature
        log_probs -= log_probs.max(axis=1, keepdims=True)  # so that exp cannot overflow
        return log_probs - portable.log(portable.total(portable.exp(log_probs)))[:, None], state

    def select(self, state: Any, rows: Ints) -> Any:
        """The inner policy's state of these prefixes."""
        return self.policy.select(state, rows)
