"""Policies as ONNX models: ours give the same numbers, and what no policy needs is refused before anything runs it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper

from banel_envs.errors import AssetError, BadPolicy, BadValue
from banel_envs.policies import Mixture, Tempered, load_policy_file, save_policy
from banel_envs.policies.networks.gru import GRU, GRUConfig
from banel_envs.policies.networks.markov_transformer import chained_policy
from banel_envs.policies.onnx_models.export import export_onnx
from banel_envs.policies.onnx_models.inspect import ROWS, checked_model
from banel_envs.policies.onnx_models.policy import OnnxPolicy
from banel_envs.policies.torch_policy import TorchPolicy
from tests.shared.policies import ENDS, KINDS, T, V, space

EXPORTED = ("uniform", "torch", "torch in float64", "torch at a temperature", "tempered", "mixture", "masked")
CLOSE = 1e-4  # nats: sums over T tokens in float32


def gru(end: int | None) -> TorchPolicy:
    network = GRU(GRUConfig(V, T, width=8, layers=2))
    network.initialise(np.random.default_rng(1))
    return TorchPolicy(network.eval(), end)


def chained(end: int | None) -> TorchPolicy:
    rng = np.random.default_rng(2)
    initial, transition = rng.dirichlet(np.ones(V)), rng.dirichlet(np.ones(V), size=V)
    network = chained_policy(initial, transition, T, rng, width=8, layers=1, heads=2).network
    with torch.no_grad():  # its transformer adds nothing before it is trained
        network.head.weight[:, :8] = torch.from_numpy(rng.normal(size=(V, 8)).astype(np.float32))
    return TorchPolicy(network, end)


MAKERS: dict[str, Callable[[Any], Any]] = {name: KINDS[name] for name in EXPORTED} | {
    "gru": gru,
    "mixture of a gru and a tempered network": lambda end: Mixture([gru(end), Tempered(KINDS["torch"](end), 3.0)]),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", MAKERS)
def test_an_exported_policy_is_the_same_policy(name: str, end: int | None, tmp_path: Path) -> None:
    """On the whole space; it is stored, read again to the bit, and causal."""
    policy, tokens = MAKERS[name](end), space(end)
    model = OnnxPolicy(export_onnx(policy, tmp_path / "policy.onnx"), V, T, end)
    assert (tmp_path / "policy.onnx").read_bytes() == model.onnx()
    model.check_causal()
    ours, theirs = policy.log_prob(tokens), model.log_prob(tokens)
    real = ours > -100
    assert np.abs(ours - theirs)[real].max() < CLOSE and np.exp(theirs[~real]).sum() < 1e-6
    save_policy(tmp_path / "p.safetensors", model)
    again = load_policy_file(tmp_path / "p.safetensors")
    assert isinstance(again, OnnxPolicy) and np.array_equal(again.log_prob(tokens), theirs)


@pytest.mark.parametrize("end", ENDS)
def test_a_chained_transformer_too(end: int | None) -> None:
    policy, tokens = chained(end), space(end)
    model = OnnxPolicy(export_onnx(policy), V, T, end)
    assert np.abs(policy.log_prob(tokens) - model.log_prob(tokens)).max() < CLOSE


def test_samples_follow_the_model() -> None:
    """20,000 samples against the probabilities of all sequences: chi-squared with V^T - 1 degrees of freedom, beyond 5 sigma."""
    model, tokens = OnnxPolicy(export_onnx(KINDS["torch"](None)), V, T, None), space(None)
    drawn = model.sample(20_000, np.random.default_rng(0))
    weights = V ** np.arange(T)[::-1]
    counts = np.bincount(drawn @ weights, minlength=V**T)[tokens @ weights]
    expected = 20_000 * np.exp(model.log_prob(tokens))
    statistic, degrees = ((counts - expected) ** 2 / expected).sum(), V**T - 1
    assert abs(statistic - degrees) < 5 * np.sqrt(2 * degrees)


def test_a_batch_does_not_change_the_bits() -> None:
    model, tokens = OnnxPolicy(export_onnx(gru(None)), V, T, None), space(None)
    alone = np.concatenate([model.forward(tokens[k : k + 1]) for k in range(5)])
    assert np.array_equal(model.forward(tokens)[:5], alone)


@pytest.mark.parametrize("name", ["excluding", "repeating", "guided"])
def test_other_kinds_say_what_to_do(name: str) -> None:
    with pytest.raises(BadValue, match=r"cannot be exported as ONNX; the kinds are uniform"):
        export_onnx(KINDS[name](None))


# Models that are refused


def model(
    nodes: list[Any],
    constants: dict[str, Any] | None = None,
    *,
    opset: int = 17,
    change: Callable[[Any], Any] = lambda m: m,
    shape: tuple[Any, ...] = ("n", T),
    output: tuple[Any, ...] = ("n", T, V),
) -> bytes:
    """A model of these nodes, whose output is called y."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.INT64, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in (constants or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    change(made)
    content: bytes = made.SerializeToString()
    return content


node = helper.make_node
TABLE = np.log(np.full((T, V), 1 / V, np.float32))
ZERO = {"zero": np.zeros(1, np.float32), "two": np.array([2]), "table": TABLE}
FINE = [
    node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
    node("Mul", ["f", "zero"], ["z"]),
    node("Unsqueeze", ["z", "two"], ["u"]),
    node("Add", ["u", "table"], ["y"]),
]


def external(made: Any) -> None:
    tensor = made.graph.initializer[2]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def half_external(made: Any) -> None:
    made.graph.initializer[2].external_data.add(key="location", value="weights.bin")


def claims(dims: list[int]) -> Callable[[Any], None]:
    def change(made: Any) -> None:
        made.graph.initializer[2].dims[:] = dims

    return change


def with_function(made: Any) -> None:
    made.functions.add(name="f", domain="mine")


def with_subgraph(kind: str) -> list[Any]:
    body = helper.make_graph([node("Identity", ["a"], ["b"])], "b", [], [])
    return [*FINE[:-1], node(kind, ["u"], ["y"], body=body)]


REFUSED: dict[str, tuple[bytes | Callable[[], bytes], str]] = {
    "nothing": (b"", "nodes|inputs|ir_version"),
    "a pickle": (b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.", "no ONNX model"),
    "text": (b"import os", "no ONNX model|ir_version"),
    "cut": (lambda: model(FINE, ZERO)[:-20], "no ONNX model"),
    "11 MB": (lambda: model(FINE, ZERO | {"w": np.zeros(2_750_001, np.float32)}), "at most 10,000,000"),
    "external data": (lambda: model(FINE, ZERO, change=external), "'table' has external data"),
    "external data beside raw data": (lambda: model(FINE, ZERO, change=half_external), "'table' has external data"),
    "2^40 numbers claimed": (lambda: model(FINE, ZERO, change=claims([2**20, 2**20])), "'table' claims the shape"),
    "a negative size": (lambda: model(FINE, ZERO, change=claims([-T, -V])), "'table' claims the shape"),
    "more numbers than bytes": (lambda: model(FINE, ZERO, change=claims([T, V + 1])), "claims .* numbers in"),
    "a function": (lambda: model(FINE, ZERO, change=with_function), "1 functions"),
    "a custom operator": (
        lambda: model([*FINE[:-1], node("Evil", ["u"], ["y"], domain="my")], ZERO),
        "'my.Evil' is not",
    ),
    "an operator of onnx.ml": (
        lambda: model([*FINE[:-1], node("Scaler", ["u"], ["y"], domain="ai.onnx.ml")], ZERO),
        "'ai.onnx.ml.Scaler' is not",
    ),
    "Loop": (lambda: model(with_subgraph("Loop"), ZERO), "'Loop' is not allowed"),
    "If": (lambda: model(with_subgraph("If"), ZERO), "'If' is not allowed"),
    "Scan": (lambda: model(with_subgraph("Scan"), ZERO), "'Scan' is not allowed"),
    "a graph inside an allowed operator": (lambda: model(with_subgraph("Exp"), ZERO), "'body' of Exp is no number"),
    "random numbers": (
        lambda: model([node("RandomNormal", [], ["y"], shape=[ROWS, T, V])], ZERO),
        "'RandomNormal' is not allowed",
    ),
    "NonZero": (lambda: model([node("NonZero", ["x"], ["y"])], ZERO), "'NonZero' is not allowed"),
    "an old opset": (lambda: model(FINE, ZERO, opset=9), "opset_import"),
    "two opsets": (
        lambda: model(FINE, ZERO, change=lambda m: m.opset_import.append(helper.make_opsetid("com.microsoft", 1))),
        "opset_import",
    ),
    "an ir_version of the future": (
        lambda: model(FINE, ZERO, change=lambda m: setattr(m, "ir_version", 99)),
        "ir_version is 99",
    ),
    "two inputs": (
        lambda: model(
            FINE,
            ZERO,
            change=lambda m: m.graph.input.append(helper.make_tensor_value_info("k", TensorProto.FLOAT, [1])),
        ),
        "2 inputs",
    ),
    "an input of floats": (
        lambda: model(
            FINE, ZERO, change=lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", TensorProto.FLOAT)
        ),
        "tokens are int64",
    ),
    "another vocabulary": (
        lambda: model(FINE, ZERO | {"table": np.zeros((T, V + 1), np.float32)}),
        "shapes cannot be inferred|does not follow",
    ),
    "a value of 2^36 numbers": (
        lambda: model([*FINE, node("Expand", ["zero", "size"], ["big"])], ZERO | {"size": np.array([2**18, 2**18])}),
        "68,7..,... numbers|numbers for|at most 67,108,864",
    ),
    "a size that depends on the tokens": (
        lambda: model([*FINE, node("ReduceMax", ["x"], ["m"]), node("Range", ["m", "m", "m"], ["r"])], ZERO),
        "does not follow from n|shapes cannot be inferred",
    ),
    "10^5 nodes": (
        lambda: model([*FINE, *(node("Identity", ["u"], [f"i{k}"]) for k in range(100_000))], ZERO),
        "are no raw weights|nodes",
    ),
    "3 MB of text": (
        lambda: model(FINE, ZERO, change=lambda m: setattr(m, "doc_string", "x" * 3_000_000)),
        "no raw weights of initializers",
    ),
    "a circle": (lambda: model([node("Add", ["y", "table"], ["y"])], ZERO), "onnxruntime refuses|inferred|follow"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_policy_needs_is_refused(name: str) -> None:
    content, said = REFUSED[name]
    made = content() if callable(content) else content
    with pytest.raises(ValueError, match=said):
        OnnxPolicy(made, V, T, None)


def test_a_million_empty_nodes_take_no_memory() -> None:
    """2 bytes each in the file, a hundred and more once they are parsed: counted before."""
    graph = b"\x0a\x00" * 2_000_000
    content = b"\x08\x08" + b"\x3a" + _varint(len(graph)) + graph
    tracemalloc.start()
    with pytest.raises(ValueError, match="are no raw weights"):
        checked_model(content, V, T)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def _varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def looks_ahead() -> bytes:
    """Gives the token that stands at the position itself nearly all of the probability."""
    return model(
        [node("OneHot", ["x", "depth", "values"], ["o"], axis=-1), node("LogSoftmax", ["o"], ["y"], axis=-1)],
        {"depth": np.array(V), "values": np.array([0, 20], np.float32)},
    )


def test_a_model_that_looks_ahead_is_refused(tmp_path: Path) -> None:
    """And it would gain nothing: a prefix is completed by token 0 whatever follows it, so its probabilities still sum to 1."""
    policy = OnnxPolicy(looks_ahead(), V, T, None)
    with pytest.raises(ValueError, match=r"not causal: changing the tokens from position 0 on moves .* at 0"):
        policy.check_causal()
    assert np.exp(policy.log_prob(space(None))).sum() == pytest.approx(1, abs=1e-6)
    save_policy(tmp_path / "p.safetensors", policy)
    with pytest.raises(AssetError, match="not causal"):
        load_policy_file(tmp_path / "p.safetensors")


@pytest.mark.parametrize("level", [0.0, 1.0, float("nan"), float("-inf")])
def test_a_model_whose_probabilities_do_not_sum_to_one_is_no_policy(level: float) -> None:
    policy = OnnxPolicy(model(FINE, ZERO | {"table": np.full((T, V), level, np.float32)}), V, T, None)
    with pytest.raises(BadPolicy, match=r"sum to|NaN"):
        policy.log_prob(space(None))
