"""TorchPolicy: an autoregressive network as a Policy, with what learning needs (a loss, copies, new weights).

The network computes in float32, or in float64 after `.double()`. Log-probabilities are normalised and summed in float64.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from banel_envs.errors import BadValue
from banel_envs.policies.autoregressive import NUMBERS, Autoregressive, Floats, Ints, Watch
from banel_envs.policies.cost import COST
from banel_envs.policies.gradient_step import in_micro_batches
from banel_envs.policies.networks.copied import copied
from banel_envs.policies.networks.unwritten import unwritten
from banel_envs.policies.steps import compiled_gru, compiled_steps
from banel_envs.policies.storage import checks

FEW = 64  # up to so many sequences are scored faster by one pass over all positions than step by step


class Sizes(Protocol):
    """The sizes that the config of every network has."""

    @property
    def vocabulary(self) -> int:
        """V: tokens that can be emitted."""

    @property
    def horizon(self) -> int:
        """T: tokens in the longest sequence."""

    @property
    def width(self) -> int:
        """Features that the head reads."""


class Network(Protocol):
    """A torch module that gives next-token logits; token index V is the begin token."""

    kind: str
    head: nn.Linear

    @property
    def config(self) -> Sizes:
        """The sizes of the network, a frozen dataclass."""

    def initialise(self, rng: np.random.Generator) -> None:
        """Draw new weights from rng."""

    def __call__(self, tokens: Tensor) -> Tensor:
        """Teacher forcing: tokens [n, t] to logits [n, t, V]."""

    def features(self, written: Tensor) -> Tensor:
        """The input of the head: written [n, t] to [n, t + 1, width]. Each position depends only on the tokens before it."""

    def step(self, last: Tensor, position: int, state: Any) -> tuple[Tensor, Any]:
        """Logits [m, V] of the token at `position`, from the token before it [m] and the state (None at position 0)."""

    def select(self, state: Any, rows: Tensor) -> Any:
        """The state of the prefixes `rows` [k], repeats allowed."""

    def rows(self, state: Any) -> int:
        """How many prefixes a state holds."""


class Fitted(Autoregressive):
    """What policies that PyTorch trains share: scores of few sequences in one pass, a loss in parts where logits are large."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """The device that holds the weights."""

    @abstractmethod
    def _log_probs(self, batch: Tensor) -> Tensor:
        """Next-token log-probabilities [n, t, V], in float64, at every position of sequences [n, t], from one pass."""

    @abstractmethod
    def _differentiable(self, batch: Tensor, live: Tensor) -> Tensor:
        """The log-probability of each token of a batch [n, t], 0 where it is not live [n, t]."""

    def _rows(self, width: int) -> int:
        """How many rows of so many tokens are computed at once when a gradient is wanted."""
        return max(1, NUMBERS // max(1, width * self.vocabulary))

    def _written(self, tokens: Ints) -> tuple[Tensor, Tensor]:
        """The sequences [n, t], cut where the longest ends, and their live positions [n, t].

        A position is live up to the first end token, which is live too. The end tokens after it are padding.
        """
        batch = torch.from_numpy(np.ascontiguousarray(tokens)).to(self.device)
        live = torch.ones_like(batch, dtype=torch.bool)
        if self.end is None:
            return batch, live
        live[:, 1:] = batch[:, :-1] != self.end
        width = int(live.sum(dim=1).max())
        return batch[:, :width], live[:, :width]

    def _score_sorted(self, tokens: Ints, watch: Watch | None = None) -> Floats:
        """Score few sequences at all positions at once, unless the kernel computes: this costs less than T small steps."""
        state = self.start()
        if state is not None or len(tokens) > FEW or tokens.size * self.vocabulary > NUMBERS:
            return self._score_from(state, tokens, watch)
        batch, live = self._written(tokens)
        COST.scored += int(live.sum())
        COST.in_torch += int(live.sum())
        with torch.inference_mode():
            own = self._log_probs(batch).gather(2, batch[..., None])[..., 0]
            return torch.where(live, own, 0.0).sum(dim=1).cpu().numpy()

    def loss(self, tokens: Ints, weights: NDArray[np.floating] | None = None) -> Tensor:
        """The mean over the batch of weight x negative log-likelihood: a differentiable scalar, in nats per sequence.

        The weights are those of the sequences [n], or of every token [n, T].
        """
        nll = -self.differentiable_token_log_probs(tokens)  # [n, t]
        given = None if weights is None else torch.as_tensor(weights, dtype=nll.dtype, device=nll.device)
        if given is not None and given.ndim == 2:
            return (nll * given[:, : nll.shape[1]]).sum(dim=1).mean()
        return nll.sum(dim=1).mean() if given is None else (nll.sum(dim=1) * given).mean()

    def differentiable_log_prob(self, tokens: Ints) -> Tensor:
        """log_prob [n] as a differentiable tensor, in the network's precision."""
        return self.differentiable_token_log_probs(tokens).sum(dim=1)

    def differentiable_token_log_probs(self, tokens: Ints) -> Tensor:
        """The log-probability of each token [n, t] up to where the longest sequence ends, 0 behind a sequence's own end."""
        batch, live = self._written(tokens)
        COST.trained += int(live.sum())
        COST.in_torch += int(live.sum())
        return in_micro_batches(self._differentiable, batch, live, self._rows(batch.shape[1]))


class TorchPolicy(Fitted):
    """A network's softmax as a policy.

    Args:
        network: a torch.nn.Module that is a Network, such as Transformer or GRU; it gives logits over V tokens.
        end: the index of the end token, or None if every sequence has T tokens.
        temperature: divides the logits of every token; 1 is the model itself.
    """

    def __init__(self, network: Any, end: int | None, temperature: float = 1.0) -> None:
        if not temperature > 0:
            raise BadValue(f"temperature is {temperature!r}; it must be a number above 0")
        self.network = network
        self.kind: str = network.kind
        self.end = end
        self.temperature = temperature
        self.vocabulary = network.config.vocabulary
        self.horizon = network.config.horizon

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        return cast(Network, self.network).head.weight.device

    def to(self, device: str | torch.device) -> TorchPolicy:
        """Move the weights to the device, in place, and give this policy."""
        self.network.to(device)
        return self

    def double(self) -> TorchPolicy:
        """A copy that computes in float64, to compare float32 with."""
        twin = self.clone()
        twin.network.double()
        return twin

    def start(self) -> Any:
        """The state of the empty prefix: the compiled kernel's state, or None where the network itself computes."""
        return compiled_steps.start(self.network) or compiled_gru.start(self.network)

    @torch.inference_mode()
    def step(self, last: Ints, position: int, state: Any) -> tuple[Floats, Any]:
        """Next-token log-probabilities [m, V] in float64, and the grown state."""
        if isinstance(state, compiled_steps.State | compiled_gru.State):
            return state.step(last, position, self.temperature)
        COST.in_torch += len(last)
        logits, grown = self.network.step(torch.from_numpy(last).to(self.device), position, state)
        return self._normalised(logits).cpu().numpy(), grown

    def _normalised(self, logits: Tensor) -> Tensor:
        """Logits [..., V] as log-probabilities in float64."""
        # In float32 the probabilities of a long sequence would not sum to 1 closely enough to be checked.
        logits = logits.double()
        return torch.log_softmax(logits if self.temperature == 1 else logits / self.temperature, dim=-1)

    @torch.inference_mode()
    def select(self, state: Any, rows: Ints) -> Any:
        """The state of the prefixes `rows` [k]."""
        if isinstance(state, compiled_steps.State | compiled_gru.State):
            return state.select(rows)
        if state is None:
            return None
        # In many steps no two prefixes share their past. Then the state is kept as it is and not copied.
        m = self.network.rows(state)
        if len(rows) == m and (m == 1 or (rows == np.arange(m)).all()):
            return state
        return self.network.select(state, torch.from_numpy(rows).to(self.device))

    def _log_probs(self, batch: Tensor) -> Tensor:
        return self._normalised(self.network(batch))

    def to_network(
        self, tokens: Ints, weights: NDArray[np.floating] | None
    ) -> tuple[Ints, NDArray[np.floating] | None]:
        """What the network is trained on for sequences [n, T] with these weights: the same."""
        return tokens, weights

    def parameters(self) -> Iterator[Tensor]:
        """The network's weights."""
        weights: Iterator[Tensor] = self.network.parameters()
        return weights

    def train(self, mode: bool = True) -> None:
        """Put the network into the mode of training, or out of it."""
        self.network.train(mode)

    def _differentiable(self, batch: Tensor, live: Tensor) -> Tensor:
        logits = self.network(batch) / self.temperature  # [n, t, V]
        token_nll = F.cross_entropy(logits.transpose(1, 2), batch, reduction="none")
        return -(token_nll * live)

    def clone(self) -> TorchPolicy:
        """An independent copy with the same weights."""
        return TorchPolicy(copied(self.network), self.end, self.temperature)

    def with_new_weights(self, rng: np.random.Generator) -> TorchPolicy:
        """The same architecture with new weights drawn from rng."""
        twin = self.clone()
        twin.network.initialise(rng)
        return twin

    def tempered(self, temperature: float) -> TorchPolicy:
        """A copy whose temperature is multiplied by `temperature`."""
        return TorchPolicy(copied(self.network), self.end, self.temperature * temperature)

    def spec(self) -> dict[str, Any]:
        """What `from_spec` needs beside the arrays, as JSON."""
        return {"config": asdict(self.network.config), "end": self.end, "temperature": self.temperature}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The weights by name."""
        return {name: w.detach().cpu().numpy() for name, w in self.network.state_dict().items()}

    @classmethod
    def from_spec(
        cls, made: Any, spec: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], *, finite: bool = True
    ) -> TorchPolicy:
        """The inverse of spec and arrays, for a network of the class `made`.

        Raises:
            ValueError: the arrays are not this network's, or not finite where that is asked.
        """
        checks.keys("the structure", spec, ("kind", "config", "end", "temperature"))
        checks.network_config(spec["config"], [field.name for field in fields(made.Config)], arrays)
        config = made.Config(**spec["config"])
        end, temperature = checks.end(spec["end"], config.vocabulary), checks.temperature(spec["temperature"])
        with unwritten():
            network = made(config)
        checks.weights(arrays, {name: tuple(w.shape) for name, w in network.state_dict().items()}, finite)
        # assign: the meta tensors have no memory, so the arrays take their place. They are copied, as the file's are read-only.
        network.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in arrays.items()}, assign=True)
        return cls(network.eval(), end, temperature)
