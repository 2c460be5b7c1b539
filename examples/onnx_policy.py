"""A policy in plain NumPy that goes out as an ONNX model, so that its final rates can be recomputed by anybody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from banel_agents.base import ask
from banel_agents.limits import BatchSize, Range, Weight, check_settings
from banel_envs import Oracle, Problem
from banel_envs.policies import Autoregressive

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Table(Autoregressive):
    """Every position has a distribution of its own: `log_probs` [T, V]."""

    kind = "onnx"  # it is stored as what onnx() returns

    def __init__(self, log_probs: Floats, end: int | None) -> None:
        self.log_probs, self.end = log_probs, end
        self.horizon, self.vocabulary = log_probs.shape

    def start(self) -> int:
        """How many prefixes there are; nothing else of them matters."""
        return 1

    def step(self, last: Ints, position: int, state: int) -> tuple[Floats, int]:
        """The position's distribution for each prefix: [m, V]."""
        return np.tile(self.log_probs[position], (state, 1)), state

    def select(self, state: int, rows: Ints) -> int:
        """As many prefixes as rows."""
        return len(rows)

    def onnx(self) -> bytes:
        """Tokens [n, T] to log-probabilities [n, T, V]: here the table, whatever the tokens are."""
        T, V = self.log_probs.shape
        table = numpy_helper.from_array(self.log_probs.astype(np.float32), "table")
        zero = numpy_helper.from_array(np.zeros(1, np.float32), "zero")
        last_axis = numpy_helper.from_array(np.array([2]), "last_axis")
        nodes = [
            helper.make_node("Cast", ["tokens"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["numbers", "zero"], ["zeros"]),  # [n, T]
            helper.make_node("Unsqueeze", ["zeros", "last_axis"], ["column"]),  # [n, T, 1]
            helper.make_node("Add", ["column", "table"], ["log_probs"]),  # [n, T, V]
        ]
        tokens = helper.make_tensor_value_info("tokens", TensorProto.INT64, ["n", T])
        log_probs = helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, ["n", T, V])
        graph = helper.make_graph(nodes, "table", [tokens], [log_probs], [table, zero, last_axis])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        content: bytes = model.SerializeToString()
        return content


@dataclass(frozen=True)
class TableConfig:
    """The settings of TableAgent."""

    batch: BatchSize = 250  # sequences a round
    smoothing: Annotated[float, Range(0, 1, above=True)] = 0.002  # added to every frequency
    avoid: Weight = 0.2  # how far what failed is avoided
    follow: Weight = 0.1  # how far what succeeded is followed, a sequence

    def __post_init__(self) -> None:
        check_settings(self)


class TableAgent:
    """Starts at the base policy's frequencies, avoids tokens that failed and follows those that succeeded."""

    name = "table"
    Config = TableConfig

    def __init__(self, config: TableConfig | None = None) -> None:
        self.config = config or TableConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Any]:
        """One policy a round."""
        good = _counts(problem.base_policy().sample(2_000, rng), problem.V) / 2_000
        bad = np.full(good.shape, 0.5)
        while True:
            p = (good + self.config.smoothing) / (1 + self.config.avoid * bad / bad.sum(axis=1, keepdims=True))
            policy = Table(np.log(p / p.sum(axis=1, keepdims=True)), problem.end)
            yield policy
            if not oracle.left:
                return
            answers = ask(oracle, policy.sample(self.config.batch, rng))
            bad += _counts(answers.failures, problem.V) / self.config.batch
            good += self.config.follow * _counts(answers.successes, problem.V)


def _counts(tokens: Ints, V: int) -> Floats:
    """How often each token stands at each position: [n, T] to [T, V]."""
    return np.stack([np.bincount(column, minlength=V) for column in tokens.T]).astype(np.float64)
