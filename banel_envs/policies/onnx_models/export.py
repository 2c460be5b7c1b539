"""export_onnx: a policy of this package as an ONNX model, tokens [n, T] to log-probabilities [n, T, V] in one call.

The graph is written node by node, so that it does not change with the version of an exporter. Networks, uniform policies,
and tempered, masked and mixed ones can be exported; for the other kinds no single distribution per position is cheap to
write, and their own stored form (`save_policy`) is the one to hand in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BadValue
from banel_envs.policies.onnx_models.inspect import checked_model, onnx_package
from banel_envs.policies.storage.kinds import KINDS
from banel_envs.policies.storage.store import sizes

OPSET, IR = 17, 8
NOTHING = -1e6  # a log-probability of zero, so that no infinity is subtracted from another


def export_onnx(policy: Any, path: str | Path | None = None) -> bytes:
    """The ONNX model of a policy, also written to a file if a path is given.

    Raises:
        BadValue: the policy's kind has no ONNX form here.
        MissingExtra: the package onnx is not installed.
    """
    onnx = onnx_package()
    if getattr(policy, "kind", None) not in KINDS:
        raise BadValue(f"a {type(policy).__name__} cannot be exported as ONNX; give your own policy a method onnx()")
    graph = Graph(*sizes(policy)[:2])
    result = graph.policy(policy)
    make = onnx.helper
    n = "n"
    made = make.make_graph(
        [*graph.nodes, make.make_node("Identity", [result], ["log_probs"])],
        "policy",
        [make.make_tensor_value_info("tokens", onnx.TensorProto.INT64, [n, graph.T])],
        [make.make_tensor_value_info("log_probs", onnx.TensorProto.FLOAT, [n, graph.T, graph.V])],
        initializer=[onnx.numpy_helper.from_array(array, name) for name, array in graph.constants.items()],
    )
    model = make.make_model(made, opset_imports=[make.make_opsetid("", OPSET)], ir_version=IR)
    content: bytes = model.SerializeToString(deterministic=True)
    checked_model(content, graph.V, graph.T)
    if path is not None:
        Path(path).write_bytes(content)
    return content


class Graph:
    """Nodes and constants of a model for V tokens and the horizon T."""

    def __init__(self, vocabulary: int, horizon: int) -> None:
        self.V, self.T = vocabulary, horizon
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def op(self, kind: str, *inputs: str | NDArray[Any], outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; the name of its output, or a list of names if there are several. Arrays become constants."""
        names = [self._constant(value) if isinstance(value, np.ndarray) else value for value in inputs]
        made = [f"v{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(onnx_package().helper.make_node(kind, names, made, **attributes))
        return made[0] if outputs == 1 else made

    def policy(self, policy: Any) -> str:
        """The log-probabilities [n, T, V] of a policy."""
        write: Mapping[str, Callable[[Any], str]] = {
            "uniform": self._uniform,
            "tempered": self._tempered,
            "mixture": self._mixture,
            "masked": self._masked,
            "gru": self._network,
            "transformer": self._network,
            "chained": self._network,
        }
        kind = str(getattr(policy, "kind", None))
        if kind not in write:
            raise BadValue(
                f"a {type(policy).__name__} cannot be exported as ONNX; the kinds are {', '.join(write)}: "
                f"hand in what save_policy writes, or distil it into a network"
            )
        return write[kind](policy)

    def _constant(self, array: NDArray[Any]) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        return name

    def _uniform(self, policy: Any) -> str:
        zero = self.op("Mul", self.op("Cast", "tokens", to=onnx_package().TensorProto.FLOAT), np.float32(0).reshape(1))
        level = np.full(self.V, -math.log(self.V), np.float32)
        return str(self.op("Add", self.op("Unsqueeze", zero, np.array([2])), level))

    def _tempered(self, policy: Any) -> str:
        inner = self.op("Max", self.policy(policy.policy), np.float32(NOTHING).reshape(1))
        return str(self.op("LogSoftmax", self.op("Div", inner, np.float32(policy.temperature).reshape(1)), axis=-1))

    def _mixture(self, policy: Any) -> str:
        """Members weigh what they give the tokens so far: log-sum-exp of past + next, less that of past."""
        written = self.op("Unsqueeze", "tokens", np.array([2]))
        joint, past = [], []
        for member in policy.members:
            log_probs = self.op("Max", self.policy(member), np.float32(NOTHING).reshape(1))
            own = self.op("GatherElements", log_probs, written, axis=2)  # [n, T, 1]
            before = self.op("CumSum", own, np.array(1), exclusive=1)
            past.append(self.op("Unsqueeze", before, np.array([0])))
            joint.append(self.op("Unsqueeze", self.op("Add", log_probs, before), np.array([0])))
        both = [self.op("Concat", *parts, axis=0) for parts in (joint, past)]
        total, before = (self.op("ReduceLogSumExp", part, axes=[0], keepdims=0) for part in both)
        return str(self.op("Sub", total, before))

    def _masked(self, policy: Any) -> str:
        """The states of the automaton, one position after the other, then the inner policy where they allow a token."""
        following = np.ascontiguousarray(policy.following, np.int64)
        allowed = following >= 0
        allowed[~allowed.any(axis=1)] = True  # at a dead end the inner policy writes what it likes
        table = np.maximum(following, 0).ravel()
        columns = self.op("Split", "tokens", np.ones(self.T, np.int64), outputs=self.T, axis=1)
        columns = [columns] if self.T == 1 else columns
        state = self.op("Mul", columns[0], np.array([0]))
        states = [state]
        for column in columns[:-1]:
            state = self.op("Gather", table, self.op("Add", self.op("Mul", state, np.array([self.V])), column))
            states.append(state)
        mask = self.op("Gather", allowed, self.op("Concat", *states, axis=1))  # [n, T, V]
        inner = self.op("Where", mask, self.policy(policy.policy), np.float32(NOTHING).reshape(1))
        return str(self.op("LogSoftmax", inner, axis=-1))

    def _network(self, policy: Any) -> str:
        network = policy.network
        if policy.kind == "gru":
            features, begun = self._gru(network)
            logits = self._linear(features, network.head)
        else:
            parts = network.parts()
            features, begun = self._transformer(parts.body)
            logits = self.op("Add", self.op("MatMul", features, _array(parts.head).T.copy()), _array(parts.bias))
            if parts.after is not None:
                logits = self.op("Add", logits, self.op("Gather", _array(parts.after), begun))
        logits = self.op("Div", logits, np.float32(policy.temperature).reshape(1))
        return str(self.op("LogSoftmax", logits, axis=-1))

    def _embedded(self, network: Any) -> tuple[str, str]:
        """The inputs [n, T, d] of a network, and the tokens [n, T] that they are made of: begin token, all but the last."""
        first = self.op("Slice", "tokens", np.array([0]), np.array([1]), np.array([1]))
        begun = self.op("Add", self.op("Mul", first, np.array([0])), np.array([self.V]))
        if self.T > 1:
            written = self.op("Slice", "tokens", np.array([0]), np.array([self.T - 1]), np.array([1]))
            begun = self.op("Concat", begun, written, axis=1)
        x = self.op("Gather", _array(network.token.weight), begun)
        return self.op("Add", x, _array(network.position.weight)[: self.T].copy()), begun

    def _gru(self, network: Any) -> tuple[str, str]:
        x, begun = self._embedded(network)
        x = self.op("Transpose", x, perm=[1, 0, 2])
        for weights in network.cell.all_weights:
            # PyTorch orders the gates reset, update, new; ONNX update, reset, new.
            w_in, w_state, b_in, b_state = (_swapped(_array(w)) for w in weights)
            hidden = w_state.shape[1]
            bias = np.concatenate((b_in, b_state))[None]
            y = self.op("GRU", x, w_in[None], w_state[None], bias, hidden_size=hidden, linear_before_reset=1)
            x = self.op("Squeeze", y, np.array([1]))
        return self.op("Transpose", x, perm=[1, 0, 2]), begun

    def _transformer(self, network: Any) -> tuple[str, str]:
        x, begun = self._embedded(network)
        width, heads = network.config.width, network.config.heads
        later = np.triu(np.full((self.T, self.T), -np.inf, np.float32), 1)
        for block in network.blocks:
            qkv = self._linear(self._norm(x, block.norm1), block.qkv)
            qkv = self.op("Reshape", qkv, np.array([0, self.T, 3, heads, width // heads]))
            parts = self.op(
                "Split", self.op("Transpose", qkv, perm=[2, 0, 3, 1, 4]), np.ones(3, np.int64), outputs=3, axis=0
            )
            q, k, v = (self.op("Squeeze", part, np.array([0])) for part in parts)  # each [n, h, T, d/h]
            scores = self.op("MatMul", q, self.op("Transpose", k, perm=[0, 1, 3, 2]))
            scores = self.op("Mul", scores, np.float32(1 / math.sqrt(width // heads)).reshape(1))
            weights = self.op("Softmax", self.op("Add", scores, later), axis=-1)
            mixed = self.op("Transpose", self.op("MatMul", weights, v), perm=[0, 2, 1, 3])
            x = self.op("Add", x, self._linear(self.op("Reshape", mixed, np.array([0, self.T, width])), block.mix))
            up = self._gelu(self._linear(self._norm(x, block.norm2), block.up))
            x = self.op("Add", x, self._linear(up, block.down))
        return self._norm(x, network.norm), begun

    def _linear(self, x: str, layer: Any) -> str:
        return str(self.op("Add", self.op("MatMul", x, _array(layer.weight).T.copy()), _array(layer.bias)))

    def _norm(self, x: str, layer: Any) -> str:
        weights = _array(layer.weight), _array(layer.bias)
        return str(self.op("LayerNormalization", x, *weights, axis=-1, epsilon=float(layer.eps)))

    def _gelu(self, x: str) -> str:
        erf = self.op("Erf", self.op("Mul", x, np.float32(1 / math.sqrt(2)).reshape(1)))
        half = self.op("Mul", x, np.float32(0.5).reshape(1))
        return str(self.op("Mul", half, self.op("Add", erf, np.float32(1).reshape(1))))


def _array(weight: Any) -> NDArray[np.float32]:
    found: NDArray[np.float32] = weight.detach().cpu().numpy().astype(np.float32)
    return found


def _swapped(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """A GRU's weights [3 d, ..] with the gates in ONNX's order."""
    reset, update, new = np.split(weight, 3)
    return np.concatenate((update, reset, new))
