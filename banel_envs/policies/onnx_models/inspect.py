"""What is refused of an ONNX model that a stranger wrote. It is all decided before onnxruntime sees the model.

A model is data, but its operators may call code, read files or loop for ever, and a shape of 2^40 numbers fits in ten
bytes. So: weights only as raw bytes in the model itself, everything else in at most 2 MB; one opset, of ONNX's own domain;
operators of a list, none of which has a graph inside, draws random numbers, or has an output whose size depends on its
values; one input, int64 [n, T], and one output [n, T, V]. Then n is fixed to ROWS, and the shape of every value must follow
from that: no value, and not all of them together, may take more than MOST_VALUES numbers. The model runs with these shapes.
Source: https://github.com/onnx/onnx/blob/main/docs/IR.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from banel_envs.errors import MissingExtra
from banel_envs.files.visible import shown, visible
from banel_envs.policies.onnx_models.operators import OPERATORS

ROWS = 64  # sequences that a model is given at once, always so many
MOST_MODEL = 10_000_000  # bytes
MOST_STRUCTURE = 2**21  # bytes of a model beside its weights; the shipped transformers take 20,000
MOST_NODES = 20_000
MOST_VALUES = 2**26  # numbers in all values together, while one batch of ROWS sequences is computed
OPSETS = range(13, 24)  # versions of ONNX's operators
MOST_IR = 13
OPERATORS_ARE = "banel_envs/policies/onnx_models/operators.py"


def checked_model(content: bytes, vocabulary: int, horizon: int) -> bytes:
    """The model with n fixed to ROWS and every shape written down, ready for onnxruntime.

    Args:
        content: a serialised ModelProto.
        vocabulary: V of its output [n, T, V].
        horizon: T of its input [n, T].

    Raises:
        ValueError: it is no model, or has something that no policy needs; says what.
        MissingExtra: the package onnx is not installed.
    """
    if len(content) > MOST_MODEL:
        raise ValueError(f"the model has {len(content):,} bytes; at most {MOST_MODEL:,} are read")
    _check_structure_size(content)
    onnx = onnx_package()
    from google.protobuf.message import DecodeError

    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise ValueError(f"it is no ONNX model: {visible(str(error))}") from error
    _check_head(model)
    for tensor in model.graph.initializer:
        _check_tensor(onnx, tensor)
    for node in model.graph.node:
        _check_node(onnx, node)
    _fix_shapes(onnx, model.graph, vocabulary, horizon)
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # the package raises several classes, some of which are RuntimeError itself
        raise ValueError(f"its shapes cannot be inferred: {visible(str(error))}") from error
    _check_sizes(onnx, inferred.graph, (ROWS, horizon, vocabulary))
    fixed: bytes = inferred.SerializeToString(deterministic=True)
    return fixed


def onnx_package() -> Any:
    """The package onnx; MissingExtra if it is not installed."""
    try:
        import onnx
        import onnx.shape_inference

        return onnx
    except ModuleNotFoundError as error:
        raise MissingExtra(f"an ONNX policy needs {error.name}: pip install 'banel-envs[onnx]'") from error


# The wire format of protobuf, as far as needed to know how much of a file is weights before anything is parsed


_GRAPH, _INITIALIZER, _RAW = 7, 5, 9  # field numbers in ModelProto, GraphProto and TensorProto


def _check_structure_size(content: bytes) -> None:
    """ValueError if more than MOST_STRUCTURE bytes are no weights: parsed, each of them may take a hundred times its size."""
    view = memoryview(content)
    weights = 0
    for field, graph in _fields(view):
        if field == _GRAPH:
            for inner, tensor in _fields(graph):
                if inner == _INITIALIZER:
                    weights += max((len(raw) for f, raw in _fields(tensor) if f == _RAW), default=0)
    if len(content) - weights > MOST_STRUCTURE:
        raise ValueError(
            f"{len(content) - weights:,} bytes of the model are no raw weights of initializers; at most "
            f"{MOST_STRUCTURE:,} are read: store arrays with onnx.numpy_helper.from_array"
        )


def _fields(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The length-delimited fields of a message: number and content; ValueError if it is no message."""
    at = 0
    while at < len(view):
        key, at = _varint(view, at)
        kind = key & 7
        if kind == 2:
            size, at = _varint(view, at)
            if size > len(view) - at:
                raise ValueError(f"it is no ONNX model: a field claims {size:,} bytes of {len(view) - at:,}")
            yield key >> 3, view[at : at + size]
            at += size
        elif kind == 0:
            _, at = _varint(view, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"it is no ONNX model: a field has the wire type {kind}")


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            break
        byte = view[at]
        value, at = value | (byte & 127) << shift, at + 1
        if byte < 128:
            return value, at
    raise ValueError("it is no ONNX model: it is cut, or a number in it has too many digits")


# The parsed model


def _check_head(model: Any) -> None:
    if not 1 <= model.ir_version <= MOST_IR:
        raise ValueError(f"ir_version is {model.ir_version}; it is from 1 to {MOST_IR}")
    sets = [(opset.domain, opset.version) for opset in model.opset_import]
    if len(sets) != 1 or sets[0][0] not in ("", "ai.onnx") or sets[0][1] not in OPSETS:
        raise ValueError(
            f"opset_import is {shown(sets)}; it is one version, {OPSETS[0]} to {OPSETS[-1]}, of ONNX's own operators"
        )
    graph = model.graph
    odd = {
        "functions": model.functions,
        "training_info": model.training_info,
        "sparse_initializer": graph.sparse_initializer,
        "quantization_annotation": graph.quantization_annotation,
    }
    for name, found in odd.items():
        if len(found):
            raise ValueError(f"it has {len(found)} {name}; a policy has none")
    if len(graph.input) != 1 or len(graph.output) != 1:
        raise ValueError(f"it has {len(graph.input)} inputs and {len(graph.output)} outputs; a policy has one of each")
    if not 1 <= len(graph.node) <= MOST_NODES:
        raise ValueError(f"it has {len(graph.node):,} nodes; there are 1 to {MOST_NODES:,}")


def _check_tensor(onnx: Any, tensor: Any) -> None:
    """ValueError unless the tensor's numbers are in the model, as many as its shape says."""
    name = shown(tensor.name)
    if len(tensor.external_data) or tensor.data_location != onnx.TensorProto.DEFAULT:
        raise ValueError(f"the tensor {name} has external data; weights stand in the model itself")
    numbers = math.prod(tensor.dims)
    if len(tensor.dims) > 8 or min(tensor.dims, default=0) < 0 or numbers > MOST_MODEL:
        raise ValueError(f"the tensor {name} claims the shape {shown(list(tensor.dims))}")
    kinds = onnx.TensorProto
    sizes = {kinds.FLOAT: 4, kinds.DOUBLE: 8, kinds.INT32: 4, kinds.INT64: 8, kinds.BOOL: 1, kinds.FLOAT16: 2}
    if tensor.data_type not in sizes:
        raise ValueError(f"the tensor {name} has the type {tensor.data_type}; weights are floats, integers or bools")
    if tensor.raw_data and len(tensor.raw_data) != numbers * sizes[tensor.data_type]:
        raise ValueError(f"the tensor {name} claims {numbers:,} numbers in {len(tensor.raw_data):,} bytes")


def _check_node(onnx: Any, node: Any) -> None:
    if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
        what = node.op_type if not node.domain else f"{node.domain}.{node.op_type}"
        raise ValueError(f"the operator {shown(what)} is not allowed in a policy; see {OPERATORS_ARE}")
    kinds = onnx.AttributeProto
    plain = {kinds.FLOAT, kinds.INT, kinds.STRING, kinds.TENSOR, kinds.FLOATS, kinds.INTS, kinds.STRINGS}
    for attribute in node.attribute:
        if attribute.type not in plain or attribute.ref_attr_name:
            raise ValueError(f"the attribute {shown(attribute.name)} of {node.op_type} is no number, text or tensor")
        if attribute.type == kinds.TENSOR:
            _check_tensor(onnx, attribute.t)


def _fix_shapes(onnx: Any, graph: Any, vocabulary: int, horizon: int) -> None:
    """Write [ROWS, T] and [ROWS, T, V] into the input and the output, and forget what else the model says of shapes."""
    types = onnx.TensorProto
    said = graph.input[0].type.tensor_type.elem_type
    if said != types.INT64:
        raise ValueError(f"its input has the type {said}; tokens are int64 [n, {horizon}]")
    given = graph.output[0].type.tensor_type.elem_type
    if given not in (types.FLOAT, types.DOUBLE):
        raise ValueError(f"its output has the type {given}; log-probabilities are float or double [n, T, V]")
    if graph.input[0].name in {tensor.name for tensor in graph.initializer}:
        raise ValueError(f"its input {shown(graph.input[0].name)} is an initializer too")
    make = onnx.helper.make_tensor_value_info
    graph.input[0].CopyFrom(make(graph.input[0].name, said, [ROWS, horizon]))
    graph.output[0].CopyFrom(make(graph.output[0].name, given, [ROWS, horizon, vocabulary]))
    del graph.value_info[:]


def _check_sizes(onnx: Any, graph: Any, output: tuple[int, int, int]) -> None:
    """ValueError unless the shape of every value is known, and all of them are small enough."""
    shapes: dict[str, int] = {}
    for value in [*graph.value_info, *graph.output]:
        dims = value.type.tensor_type.shape.dim
        known = value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape")
        if known and all(d.HasField("dim_value") and d.dim_value >= 0 for d in dims):
            shapes[value.name] = math.prod(d.dim_value for d in dims)
    for node in graph.node:
        for name in node.output:
            if name and name not in shapes:
                raise ValueError(
                    f"the shape of {shown(name)}, which {node.op_type} gives, does not follow from n = {output[0]}; write "
                    f"the horizon into the model as a number"
                )
    if (total := sum(shapes.values())) > MOST_VALUES:
        raise ValueError(
            f"its values have {total:,} numbers for {output[0]} sequences; at most {MOST_VALUES:,} are computed"
        )
