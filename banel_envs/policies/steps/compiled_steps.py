"""A transformer's steps in the compiled kernel: float32 on a CPU, one thread.

It computes what torch_steps.py computes, within float32's accuracy (tests/kernel/test_kernel.py). One step is one call. Norms,
biases, GELU and attention are computed on numbers that the matrix products have left in the processor's cache, and keys
and values are read in place. Every prefix has one row in each buffer. A row stores the number of its parent's row: the
parent is the same prefix without its last token. The log-probabilities of a prefix depend on that prefix alone, to the
last bit, and not on what else is computed in the same call.
"""

from __future__ import annotations

import ctypes
import threading
from functools import cache
from typing import Any, NamedTuple, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from banel_envs import kernel
from banel_envs.errors import BadValue
from banel_envs.policies.autoregressive import Floats, Ints
from banel_envs.policies.networks.transformer import Parts
from banel_envs.policies.steps.buffers import SPARE
from banel_envs.policies.steps.held import Held, Matrix, N, P, lanes_for, numbers
from banel_envs.policies.steps.kernel_supports import takes
from banel_envs.policies.steps.step_inputs import checked, distinct, unknown_token

AHEAD = 8  # when the buffers grow, room is made for at most so many steps of the same size


class Scale(ctypes.Structure):
    """`scale` in kernel.c."""

    _fields_ = (("weight", P), ("bias", P))


class Block(ctypes.Structure):
    """`block` in kernel.c."""

    _fields_ = (
        *((name, Scale) for name in ("norm1", "norm2")),
        *((name, Matrix) for name in ("query", "pair", "mix", "up", "down")),
        ("pairs", P),
    )


class Net(ctypes.Structure):
    """`network` in kernel.c."""

    _fields_ = (
        *((name, N) for name in ("width", "heads", "layers", "vocabulary")),
        *((name, P) for name in ("token", "position", "blocks")),
        ("norm", Scale),
        ("head", Matrix),
        *((name, P) for name in ("after", "parents", "entered", "scratch")),
    )


def start(network: Any) -> State | None:
    """The state of the empty prefix; None where the kernel does not compute this network's steps."""
    return State(Walk(network), np.full(1, -1), 0) if takes(network) else None


@cache
def _functions(width: int) -> tuple[int, Any, Any]:
    """For a network of this width: how many numbers a vector register holds, the step, and the size of its scratch.

    A panel of columns fills two registers, so registers are taken whose double divides the width.
    """
    library, lanes = cast(ctypes.CDLL, kernel.library()), lanes_for(width)
    step, scratch = getattr(library, f"banel_step_{lanes}"), library.banel_scratch
    step.argtypes, step.restype = (P, P, N, N, N, P, N, N, P, ctypes.c_double, P), N
    scratch.argtypes, scratch.restype = (P, N), N
    return lanes, step, scratch


class Walk:
    """What all steps from one empty prefix share: the packed weights, and the rows of all prefixes.

    Rows are only ever appended, so an older State stays valid.
    """

    def __init__(self, network: Any) -> None:
        parts: Parts = network.parts()
        config = parts.body.config
        self._lock = threading.Lock()  # ctypes releases Python's lock in a call, and threads may share this walk
        self.vocabulary, self.horizon, self.width = config.vocabulary, config.horizon, config.width
        lanes, self._function, scratch = _functions(self.width)
        self._held = Held(lanes)
        self._blocks = (Block * config.layers)(*(self._block(block) for block in parts.body.blocks))
        self._net = Net(self.width, config.heads, config.layers, self.vocabulary)
        self._net.token, self._net.position = (
            self._held.at(part.weight) for part in (parts.body.token, parts.body.position)
        )
        self._net.blocks = ctypes.addressof(self._blocks)
        self._net.norm = self._scale(parts.body.norm)
        self._net.head = self._held.matrix(parts.head, parts.bias)
        if parts.after is not None:
            after = np.zeros((self.vocabulary + 1, self._net.head.out), np.float32)
            after[:, : self.vocabulary] = numbers(parts.after)
            self._net.after = self._held.hold(after)
        self._address = ctypes.addressof(self._net)
        self._scratch = np.empty(scratch(self._address, self.horizon), np.uint8)
        self._net.scratch = self._scratch.ctypes.data
        self.used = self.used_first = 0  # rows in use in every later block, and in the first block
        self._pairs = [np.empty((0, 2 * self.width), np.float32) for _ in range(config.layers)]
        self._parents = self._entered = np.empty(0, np.int64)

    def _scale(self, norm: Any) -> Scale:
        return Scale(self._held.at(norm.weight), self._held.at(norm.bias))

    def _block(self, block: Any) -> Block:
        d = self.width
        weight, bias = block.qkv.weight, block.qkv.bias
        return Block(
            *(self._scale(norm) for norm in (block.norm1, block.norm2)),
            *(self._held.matrix(weight[rows], bias[rows]) for rows in (slice(d), slice(d, None))),
            *(self._held.matrix(part.weight, part.bias) for part in (block.mix, block.up, block.down)),
        )

    def _reserve(self, m: int, r: int, left: int) -> None:
        """Make room for m more rows (r in the first block), and for some of the `left` steps that are still to come.

        The counts of used rows change only after this has succeeded. So if memory runs out, the same step can be tried
        again.
        """
        if (needed := self.used + m) > len(self._parents):
            size = max(2 * self.used, needed + m * min(left, AHEAD))
            for layer in range(1, len(self._pairs)):
                self._regrow(layer, self.used, size)
            parents, entered = (_grown(a, self.used, size) for a in (self._parents, self._entered))
            self._parents, self._entered = parents, entered
            self._net.parents, self._net.entered = parents.ctypes.data, entered.ctypes.data
        if (needed := self.used_first + r) > len(self._pairs[0]):
            self._regrow(0, self.used_first, max(2 * self.used_first, needed + r * min(left, AHEAD)))

    def _regrow(self, layer: int, used: int, size: int) -> None:
        old = self._pairs[layer]
        if len(old) < size:
            larger = SPARE.take(size, 2 * self.width)
            larger[:used] = old[:used]
            self._pairs[layer] = larger
            self._blocks[layer].pairs = larger.ctypes.data
            SPARE.give(old)

    def __del__(self) -> None:
        """Keep the memory for the next walk."""
        for pairs in getattr(self, "_pairs", ()):
            SPARE.give(pairs)

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or stored: a copy would read memory that the next walk has taken over."""
        raise BadValue("the state of a walk is neither copied nor stored; start another with policy.start()")

    def step(self, last: Ints, position: int, parents: Ints, temperature: float) -> tuple[Floats, Ints]:
        """Append the tokens `last` [m] to the prefixes in rows `parents` [m].

        Returns:
            The log-probabilities [m, V] of the token that follows, and the rows [m] of the new prefixes.
        """
        m = len(last)
        inputs, taken = distinct(last, self.vocabulary)
        log_probs = np.empty((m, self.vocabulary))
        with self._lock:
            self._reserve(m, len(inputs), self.horizon - 1 - position)
            offset, first = self.used, self.used_first
            self._parents[offset : offset + m] = parents
            np.add(taken, first, out=self._entered[offset : offset + m])
            wrong = self._function(
                *(self._address, last.ctypes.data, position, m, offset, inputs.ctypes.data, len(inputs), first),
                *(taken.ctypes.data, temperature, log_probs.ctypes.data),
            )
            if wrong < 0:
                self.used, self.used_first = offset + m, first + len(inputs)
        if wrong >= 0:
            raise unknown_token(last[wrong], position, self.vocabulary)
        return log_probs, np.arange(offset, offset + m)


class State(NamedTuple):
    """The state of m prefixes of a walk."""

    walk: Walk
    rows: Ints  # [m]
    written: int  # how many tokens each prefix has, the begin token included

    def step(self, last: Ints, position: int, temperature: float) -> tuple[Floats, State]:
        """Log-probabilities [m, V] of the token at `position`, from the token before it `last` [m]; the grown state."""
        last = checked(last, len(self.rows), position, self.written, self.walk.horizon)
        log_probs, rows = self.walk.step(last, position, self.rows, temperature)
        return log_probs, State(self.walk, rows, position + 1)

    def select(self, rows: Ints) -> State:
        """The state of the prefixes `rows` [k], repeats allowed."""
        return State(self.walk, self.rows[rows], self.written)


def _grown(array: NDArray[Any], used: int, size: int) -> NDArray[Any]:
    """A longer copy of the first `used` rows."""
    larger = np.empty((size, *array.shape[1:]), array.dtype)
    larger[:used] = array[:used]
    return larger
