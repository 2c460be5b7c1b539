"""ONNX models that no policy needs: each stands in a submission as a final policy, its hash in the record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from banel_envs import TASKS
from banel_envs.policies.onnx_models.inspect import ROWS
from benchmarks.forged_submissions.handed_in import TASK

PROBLEM = TASKS[TASK].problem
T, V = PROBLEM.T, PROBLEM.V
node = helper.make_node
FINE = [
    node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
    node("Mul", ["f", "zero"], ["z"]),
    node("Unsqueeze", ["z", "two"], ["u"]),
    node("Add", ["u", "table"], ["y"]),
]
CONSTANTS = {
    "zero": np.zeros(1, np.float32),
    "two": np.array([2]),
    "table": np.full((T, V), -np.log(V), np.float32),
}
Change = Callable[[Any], Any]


def model(
    nodes: list[Any], constants: dict[str, Any] | None = None, change: Change = lambda made: None, opset: int = 17
) -> bytes:
    """A model of these nodes from x to y; `change` may spoil it."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["n", T])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", T, V])],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in (CONSTANTS | (constants or {})).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    change(made)
    content: bytes = made.SerializeToString()
    return content


def spoilt(change: Change) -> bytes:
    """The honest model, spoilt."""
    return model(FINE, change=change)


def last(*nodes: Any, **constants: Any) -> bytes:
    """The honest model with another last node."""
    return model([*FINE[:-1], *nodes], constants)


def _external(made: Any) -> None:
    tensor = made.graph.initializer[2]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def _body(kind: str) -> bytes:
    body = helper.make_graph([node("Identity", ["a"], ["b"])], "b", [], [])
    return last(node(kind, ["u"], ["y"], body=body))


def _dims(*dims: int) -> bytes:
    def change(made: Any) -> None:
        made.graph.initializer[2].dims[:] = dims

    return spoilt(change)


def _without_weights(*dims: int) -> bytes:
    def change(made: Any) -> None:
        made.graph.initializer[2].ClearField("raw_data")
        made.graph.initializer[2].dims[:] = dims

    return spoilt(change)


MODELS: dict[str, bytes] = {
    "a pickle": b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.",
    "a zip": b"PK\x03\x04" + bytes(60),
    "empty": b"",
    "cut": model(FINE)[:-9],
    "external data": spoilt(_external),
    "external data beside its own": spoilt(
        lambda m: m.graph.initializer[2].external_data.add(key="location", value="w")
    ),
    "a tensor of 2^40 numbers": _dims(2**20, 2**20),
    "a tensor of 2^40 numbers without any": _without_weights(2**20, 2**20),
    "a tensor of a negative size": _dims(-T, -V),
    "a tensor of more numbers than bytes": _dims(T, V + 1),
    "a function": spoilt(lambda m: m.functions.add(name="f", domain="mine")),
    "training information": spoilt(lambda m: m.training_info.add()),
    "a custom operator": last(node("Evil", ["u"], ["y"], domain="evil")),
    "an operator of com.microsoft": last(node("FusedMatMul", ["u", "table"], ["y"], domain="com.microsoft")),
    "an operator of ai.onnx.ml": last(node("Scaler", ["u"], ["y"], domain="ai.onnx.ml")),
    "a loop": _body("Loop"),
    "a branch": _body("If"),
    "a scan": _body("Scan"),
    "a graph inside Exp": _body("Exp"),
    "random numbers": model([node("RandomNormal", [], ["y"], shape=[ROWS, T, V])]),
    "random numbers like another value": last(node("RandomNormalLike", ["u"], ["y"])),
    "a sequence": last(node("SequenceConstruct", ["u"], ["s"]), node("ConcatFromSequence", ["s"], ["y"], axis=0)),
    "texts": last(node("StringNormalizer", ["u"], ["y"])),
    "NonZero": model([*FINE, node("NonZero", ["x"], ["w"])]),
    "a value of 2^36 numbers": model([*FINE, node("Expand", ["zero", "size"], ["w"])], {"size": np.array([2**18] * 2)}),
    "a value of 2^60 numbers": model(
        [*FINE, node("ConstantOfShape", ["size"], ["w"])], {"size": np.array([2**30] * 2)}
    ),
    "a size that the tokens decide": model([*FINE, node("ReduceMax", ["x"], ["m"]), node("Range", ["m"] * 3, ["w"])]),
    "a reshape by the tokens": model([*FINE, node("Reshape", ["u", "x"], ["w"])]),
    "another vocabulary": model(FINE, {"table": np.zeros((T, V + 1), np.float32)}),
    "another horizon": model(FINE, {"table": np.zeros((T + 1, V), np.float32)}),
    "an old opset": model(FINE, opset=9),
    "a second opset": spoilt(lambda m: m.opset_import.append(helper.make_opsetid("com.microsoft", 1))),
    "an ir_version of the future": spoilt(lambda m: setattr(m, "ir_version", 99)),
    "no node": model([]),
    "two outputs": spoilt(lambda m: m.graph.output.append(m.graph.output[0])),
    "two inputs": spoilt(lambda m: m.graph.input.append(helper.make_tensor_value_info("k", TensorProto.FLOAT, [1]))),
    "3 MB of text": spoilt(lambda m: setattr(m, "doc_string", "x" * 3_000_000)),
    "a value that is used before it is made": model(FINE[::-1]),
    "a value that nothing gives": last(node("Exp", ["nothing"], ["y"])),
    "an index beyond its table": model([node("Gather", ["table", "far"], ["g"]), *FINE], {"far": np.array([10**9])}),
    "it looks ahead": model(
        [node("OneHot", ["x", "depth", "values"], ["o"], axis=-1), node("LogSoftmax", ["o"], ["y"], axis=-1)],
        {"depth": np.array(V), "values": np.array([0, 20], np.float32)},
    ),
    "its probabilities sum to 2": model(FINE, {"table": np.full((T, V), np.log(2 / V), np.float32)}),
    "its probabilities are NaN": model(FINE, {"table": np.full((T, V), np.nan, np.float32)}),
    "its probabilities are infinite": model(FINE, {"table": np.full((T, V), np.inf, np.float32)}),
    "its probabilities are 0": model(FINE, {"table": np.full((T, V), -np.inf, np.float32)}),
    "another policy": model(FINE),
}
