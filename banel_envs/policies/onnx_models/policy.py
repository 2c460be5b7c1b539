"""OnnxPolicy: a policy that an ONNX model computes: tokens [n, T] to log-probabilities [n, T, V].

Row i of the output at position t is the distribution of token t after the tokens before it: it must not depend on token t or
on what follows. Here a prefix is always completed by token 0, so what the model answers is a probability whatever it does
with later tokens; but a model that looks at them is refused, since it is not what its author thinks.

A policy of your own, in NumPy, JAX or anything else, is stored if it has `kind = "onnx"`, `vocabulary`, `horizon`, `end`
and a method `onnx()` that returns the model's bytes; see the guide "Submit a result".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BadPolicy, MissingExtra
from banel_envs.files.visible import visible
from banel_envs.policies.autoregressive import Autoregressive, Floats, Ints
from banel_envs.policies.onnx_models.inspect import ROWS, checked_model
from banel_envs.policies.storage import checks

SUMS = (
    1e-4  # how far a distribution's sum may be from 1 before it is normalised: that of float32 over long vocabularies
)
CLOSE = (
    1e-3  # nats by which changing later tokens may move an earlier log-probability: a GPU-less float32 sum moves less
)
CAUSAL_ROWS, CAUSAL_PLACES = 16, 16  # sequences, and positions from which on they are changed


class OnnxPolicy(Autoregressive):
    """A policy given by an ONNX model.

    Args:
        model: a serialised ModelProto, see inspect.py for what it may hold.
        vocabulary: V.
        horizon: T.
        end: the index of the end token, or None if every sequence has T tokens.

    Raises:
        ValueError: the model is refused.
        MissingExtra: onnx or onnxruntime is not installed.
    """

    kind = "onnx"

    def __init__(self, model: bytes, vocabulary: int, horizon: int, end: int | None) -> None:
        self.vocabulary, self.horizon, self.end = vocabulary, horizon, end
        self._model = bytes(model)
        self._session = _session(checked_model(self._model, vocabulary, horizon))

    def onnx(self) -> bytes:
        """The model."""
        return self._model

    def start(self) -> Ints:
        """The one empty prefix; the state of a prefix is its tokens [m, t]."""
        return np.empty((1, 0), np.int64)

    def step(self, last: Ints, position: int, state: Ints) -> tuple[Floats, Ints]:
        """The model's answer [m, V] at this position; BadPolicy if it is no log-probability."""
        prefix = state if position == 0 else np.concatenate((state, last[:, None]), axis=1)
        tokens = np.zeros((len(prefix), self.horizon), np.int64)
        tokens[:, :position] = prefix
        log_probs = self.forward(tokens, position)
        with np.errstate(over="ignore", invalid="ignore"):
            mass = np.exp(log_probs).sum(axis=1, keepdims=True)
        if not np.abs(mass - 1).max(initial=0.0) <= SUMS:
            worst = int(np.argmax(~(np.abs(mass - 1) <= SUMS)))
            raise BadPolicy(f"its probabilities after {prefix[worst].tolist()} sum to {mass[worst, 0]:.6g}, not to 1")
        return log_probs - np.log(mass), prefix

    def select(self, state: Ints, rows: Ints) -> Ints:
        """The prefixes `rows` [k]."""
        return state[rows]

    def forward(self, tokens: Ints, position: int | None = None) -> Floats:
        """The model's answers: tokens [n, T] to [n, T, V], or [n, V] at one position; BadPolicy if it cannot be run."""
        parts = []
        for low in range(0, len(tokens), ROWS):
            rows = tokens[low : low + ROWS]
            batch = np.zeros(
                (ROWS, self.horizon), np.int64
            )  # always so many, because the model's shapes are checked for it
            batch[: len(rows)] = rows
            answer = self._run(batch)[: len(rows)]
            parts.append((answer if position is None else answer[:, position]).astype(np.float64))
        shape = (self.horizon, self.vocabulary) if position is None else (self.vocabulary,)
        return np.concatenate([np.empty((0, *shape)), *parts])

    def _run(self, batch: Ints) -> NDArray[Any]:
        try:
            answer = np.asarray(self._session.run(None, {self._session.get_inputs()[0].name: batch})[0])
        except Exception as error:  # onnxruntime raises a dozen classes, none of which is documented
            raise BadPolicy(f"its ONNX model cannot be run: {visible(str(error), 200)}") from error
        if answer.shape != (ROWS, self.horizon, self.vocabulary):
            raise BadPolicy(f"its ONNX model answers {list(answer.shape)}, not {[ROWS, self.horizon, self.vocabulary]}")
        return answer

    def check_causal(self) -> None:
        """ValueError if a log-probability depends on tokens that come later; 16 sequences are changed from 16 places on."""
        rng = np.random.default_rng(0)
        tokens = rng.integers(self.vocabulary, size=(CAUSAL_ROWS, self.horizon))
        before = self.forward(tokens)
        for place in np.unique(np.linspace(0, self.horizon - 1, CAUSAL_PLACES).astype(int)):
            changed = tokens.copy()
            changed[:, place:] = rng.integers(self.vocabulary, size=(CAUSAL_ROWS, self.horizon - place))
            moved = np.abs(np.exp(self.forward(changed)[:, : place + 1]) - np.exp(before[:, : place + 1]))
            if not moved.max() <= CLOSE:
                where = int(np.argmax(~(moved <= CLOSE).all(axis=(0, 2))))
                raise ValueError(
                    f"it is not causal: changing the tokens from position {place} on moves the probabilities at {where}"
                )

    def spec(self) -> dict[str, Any]:
        """What `from_spec` needs, as JSON."""
        return spec_of(self)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The model's bytes."""
        return arrays_of(self)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> OnnxPolicy:
        """The inverse of spec and arrays; ValueError for sizes that no policy has and for models that are refused."""
        checks.keys("the structure", spec, ("kind", "vocabulary", "horizon", "end"))
        checks.keys("the set of arrays", dict(arrays), ("model",))
        vocabulary = checks.whole("vocabulary", spec["vocabulary"], 1, checks.MOST_VOCABULARY)
        horizon = checks.whole("horizon", spec["horizon"], 1, checks.MOST_HORIZON)
        model = arrays["model"]
        if model.dtype != np.uint8 or model.ndim != 1:
            raise ValueError(f"model is {model.dtype} {list(model.shape)}; it is the bytes of an ONNX model")
        made = cls(model.tobytes(), vocabulary, horizon, checks.end(spec["end"], vocabulary))
        made.check_causal()
        return made


def spec_of(policy: Any) -> dict[str, Any]:
    """The structure of any policy that has `onnx()`."""
    return {"vocabulary": int(policy.vocabulary), "horizon": int(policy.horizon), "end": policy.end}


def arrays_of(policy: Any) -> dict[str, NDArray[Any]]:
    """The arrays of any policy that has `onnx()`."""
    return {"model": np.frombuffer(policy.onnx(), np.uint8)}


def _session(model: bytes) -> Any:
    """Run on one thread of the CPU, without any optimisation beyond the standard's basic ones."""
    try:
        import onnxruntime as ort
    except ModuleNotFoundError as error:
        raise MissingExtra(f"an ONNX policy needs {error.name}: pip install 'banel-envs[onnx]'") from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.enable_cpu_mem_arena = False  # its memory would stay taken by every policy that was ever loaded
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # see _run
        raise ValueError(f"onnxruntime refuses the model: {visible(str(error), 200)}") from error
