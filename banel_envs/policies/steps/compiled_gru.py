"""A gated recurrent network's steps in the compiled kernel: float32 on a CPU, one thread.

It computes what networks/gru.py computes, within float32's accuracy. A state holds the numbers of its own prefixes only: a
recurrent network needs nothing of the tokens before. The log-probabilities of a prefix depend on that prefix alone, to
the last bit, and not on what else is computed in the same call.
"""

from __future__ import annotations

import ctypes
import threading
from functools import cache
from typing import Any, NamedTuple, NoReturn, cast

import numpy as np

from banel_envs import kernel
from banel_envs.errors import BadValue
from banel_envs.policies.autoregressive import Floats, Ints
from banel_envs.policies.steps.buffers import Singles
from banel_envs.policies.steps.held import Held, Matrix, N, P, lanes_for
from banel_envs.policies.steps.kernel_supports import takes_gru
from banel_envs.policies.steps.step_inputs import checked, distinct, unknown_token


class Cell(ctypes.Structure):
    """`cell` in kernel.c."""

    _fields_ = (("entering", Matrix), ("state", Matrix))


class Net(ctypes.Structure):
    """`recurrent` in kernel.c."""

    _fields_ = (
        *((name, N) for name in ("width", "layers", "vocabulary")),
        *((name, P) for name in ("token", "position", "cells")),
        ("head", Matrix),
        ("scratch", P),
    )


def start(network: Any) -> State | None:
    """The state of the empty prefix; None where the kernel does not compute this network's steps."""
    if not takes_gru(network):
        return None
    weights = Weights(network)
    return State(weights, np.zeros((weights.layers, 1, weights.width), np.float32), np.zeros(1, np.int64), 0)


@cache
def _functions(width: int) -> tuple[int, Any, Any]:
    library, lanes = cast(ctypes.CDLL, kernel.library()), lanes_for(width)
    step, scratch = getattr(library, f"banel_gru_step_{lanes}"), library.banel_gru_scratch
    step.argtypes, step.restype = (P, P, N, N, P, P, N, P, P, N, P, ctypes.c_double, P), N
    scratch.argtypes, scratch.restype = (P,), N
    return lanes, step, scratch


class Weights:
    """A network's weights, packed for the kernel when a walk begins."""

    def __init__(self, network: Any) -> None:
        config = network.config
        self.vocabulary, self.horizon, self.width, self.layers = (
            *(config.vocabulary, config.horizon, config.width),
            config.layers,
        )
        lanes, self._function, scratch = _functions(self.width)
        self._lock = threading.Lock()  # ctypes releases Python's lock in a call, and the scratch is shared
        self._held = Held(lanes)
        self._cells = (Cell * self.layers)(
            *(
                Cell(self._held.matrix(into, into_bias), self._held.matrix(state, state_bias))
                for into, state, into_bias, state_bias in network.cell.all_weights
            )
        )
        self._net = Net(self.width, self.layers, self.vocabulary)
        self._net.token, self._net.position = (self._held.at(part.weight) for part in (network.token, network.position))
        self._net.cells = ctypes.addressof(self._cells)
        self._net.head = self._held.matrix(network.head.weight, network.head.bias)
        self._address = ctypes.addressof(self._net)
        self._scratch = np.empty(scratch(self._address), np.uint8)
        self._net.scratch = self._scratch.ctypes.data

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or stored: a copy would hold addresses of another process or object."""
        raise BadValue("the state of a walk is neither copied nor stored; begin another with policy.start()")

    def step(
        self, last: Ints, position: int, before: Singles, parents: Ints, temperature: float
    ) -> tuple[Floats, Singles]:
        """Append the tokens `last` [m] to the prefixes whose states are the rows `parents` [m] of before [layers, k, d].

        Returns:
            The log-probabilities [m, V] of the token that follows, and the states [layers, m, d] of the new prefixes.
        """
        m = len(last)
        inputs, taken = distinct(last, self.vocabulary)
        log_probs = np.empty((m, self.vocabulary))
        after = np.empty((self.layers, m, self.width), np.float32)
        with self._lock:
            wrong = self._function(
                *(
                    self._address,
                    last.ctypes.data,
                    position,
                    m,
                    parents.ctypes.data,
                    before.ctypes.data,
                    before.shape[1],
                ),
                *(after.ctypes.data, inputs.ctypes.data, len(inputs), taken.ctypes.data),
                *(temperature, log_probs.ctypes.data),
            )
        if wrong >= 0:
            raise unknown_token(last[wrong], position, self.vocabulary)
        return log_probs, after


class State(NamedTuple):
    """The state of m prefixes."""

    weights: Weights
    numbers: Singles  # [layers, k, d]
    rows: Ints  # [m]: which of the k each prefix has
    written: int  # how many tokens each prefix has, the begin token included

    def step(self, last: Ints, position: int, temperature: float) -> tuple[Floats, State]:
        """Log-probabilities [m, V] of the token at `position`, from the token before it `last` [m]; the grown state."""
        last = checked(last, len(self.rows), position, self.written, self.weights.horizon)
        log_probs, after = self.weights.step(last, position, self.numbers, self.rows, temperature)
        return log_probs, State(self.weights, after, np.arange(len(last)), position + 1)

    def select(self, rows: Ints) -> State:
        """The state of the prefixes `rows` [k], repeats allowed."""
        return State(self.weights, self.numbers, np.ascontiguousarray(self.rows[rows]), self.written)
