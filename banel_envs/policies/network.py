"""TorchPolicy: an autoregressive network as a Policy, with what learning needs (loss, clone, fresh weights).

Forward passes run in float32 (float64 after `.double()`); log-probabilities are normalised and summed in float64.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from banel_envs.errors import BadValue
from banel_envs.policies.autoregressive import Autoregressive, Floats, Ints
from banel_envs.policies.cost import COST
from banel_envs.policies.transformer import Cache, Transformer, TransformerConfig, select


class TorchPolicy(Autoregressive):
    """A Transformer's softmax as a policy.

    Args:
        network: gives logits over V tokens.
        end: index of the end token, or None where every sequence has T tokens.
        temperature: divides the logits of every token; 1 is the model itself.
    """

    kind = "transformer"

    def __init__(self, network: Transformer, end: int | None, temperature: float = 1.0) -> None:
        if not temperature > 0:
            raise BadValue(f"temperature is {temperature!r}; it must be a number above 0")
        self.network = network
        self.end = end
        self.temperature = temperature
        self.vocabulary = network.config.vocabulary
        self.horizon = network.config.horizon

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return self.network.head.weight.device

    def to(self, device: str | torch.device) -> TorchPolicy:
        """This policy, its weights moved to the device."""
        self.network.to(device)
        return self

    def double(self) -> TorchPolicy:
        """A copy that computes in float64: the reference of the float32 path."""
        twin = self.clone()
        twin.network.double()
        return twin

    def start(self) -> Cache | None:
        """The cache of the empty prefix."""
        return None

    @torch.inference_mode()
    def step(self, last: Ints, position: int, state: Cache | None) -> tuple[Floats, Cache]:
        """Next-token log-probabilities [m, V] in float64, and the grown cache."""
        logits, cache = self.network.step(torch.from_numpy(last).to(self.device), position, state)
        return torch.log_softmax(logits.double() / self.temperature, dim=1).cpu().numpy(), cache

    @torch.inference_mode()
    def select(self, state: Cache | None, rows: Ints) -> Cache | None:
        """The cache of the prefixes `rows` [k]."""
        if state is None:
            return None
        m = state[0][0].shape[0]
        if len(rows) == m and np.array_equal(rows, np.arange(m)):
            return state
        return select(state, torch.from_numpy(rows).to(self.device))

    def loss(self, tokens: Ints, weights: NDArray[np.floating] | None = None) -> Tensor:
        """Mean over the batch of weight x negative log-likelihood, differentiable: a scalar in nats a sequence."""
        nll = -self.differentiable_log_prob(tokens)
        if weights is None:
            return nll.mean()
        return (nll * torch.as_tensor(weights, dtype=nll.dtype, device=nll.device)).mean()

    def differentiable_log_prob(self, tokens: Ints) -> Tensor:
        """log_prob as a torch graph: [n], in the network's precision."""
        batch = torch.from_numpy(np.ascontiguousarray(tokens)).to(self.device)
        live = torch.ones_like(batch, dtype=torch.bool)  # positions up to and with the first end token
        if self.end is not None:
            live[:, 1:] = batch[:, :-1] != self.end
            width = int(live.sum(dim=1).max())
            batch, live = batch[:, :width], live[:, :width]
        COST.trained += int(live.sum())
        logits = self.network(batch) / self.temperature  # [n, t, V]
        token_nll = F.cross_entropy(logits.transpose(1, 2), batch, reduction="none")
        return -(token_nll * live).sum(dim=1)

    def clone(self) -> TorchPolicy:
        """An independent copy with the same weights."""
        return TorchPolicy(copy.deepcopy(self.network), self.end, self.temperature)

    def fresh(self, rng: np.random.Generator) -> TorchPolicy:
        """The same architecture with new weights drawn from rng."""
        twin = self.clone()
        twin.network.initialise(rng)
        return twin

    def tempered(self, temperature: float) -> TorchPolicy:
        """A copy with every token's logits divided by `temperature` on top of its own."""
        return TorchPolicy(copy.deepcopy(self.network), self.end, self.temperature * temperature)

    def spec(self) -> dict[str, Any]:
        """What `from_spec` needs beside the arrays, as JSON."""
        return {"config": asdict(self.network.config), "end": self.end, "temperature": self.temperature}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The weights by name."""
        return {name: w.detach().cpu().numpy() for name, w in self.network.state_dict().items()}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> TorchPolicy:
        """The inverse of spec and arrays."""
        with torch.device("meta"):  # torch's own initialisation would draw from the process's generator
            network = Transformer(TransformerConfig(**spec["config"]))
        network.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in arrays.items()}, assign=True)
        return cls(network.eval(), spec["end"], spec["temperature"])
