"""A gated recurrent network over token sequences. Each prefix has one state, so a step costs the same at any position.

Long sequences (images, molecules) are sampled and scored several times faster than with a transformer, whose attention
grows with the prefix. Each input is the embedding of the last token plus a learned embedding of the position, so that the
network knows where in an image it writes. A step computes at most V + 1 different inputs, however many prefixes there
are. The begin token is index V: it is the first input, and it is never written.
Source: Cho et al. 2014 (torch.nn.GRU).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from banel_envs.policies.networks.embedding import Embedded


@dataclass(frozen=True)
class GRUConfig:
    """Sizes of a GRU."""

    vocabulary: int  # V: tokens that can be emitted, the end token included
    horizon: int  # T: the longest sequence, in tokens
    width: int = 128  # d: features a token, and units of each layer
    layers: int = 1


class GRU(Embedded):
    """Next-token logits over V tokens; see GRUConfig for the sizes."""

    kind = "gru"
    Config = GRUConfig

    def __init__(self, config: GRUConfig) -> None:
        super().__init__(config.vocabulary, config.horizon, config.width)
        self.config = config
        self.cell = nn.GRU(config.width, config.width, config.layers, batch_first=True)
        self.head = nn.Linear(config.width, config.vocabulary)

    def initialise(self, rng: np.random.Generator) -> None:
        """Draw new weights from rng: N(0, 1/fan_in), embeddings N(0, 0.1), biases 0."""
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if weight.dim() == 1:
                    weight.zero_()
                    continue
                std = 0.1 if name.startswith(("token", "position")) else 1 / math.sqrt(weight.shape[1])
                weight.copy_(torch.from_numpy(rng.normal(0.0, std, tuple(weight.shape))))

    def features(self, written: Tensor) -> Tensor:
        """The input of the head: written [n, t] to [n, t + 1, width]. Position i depends on the begin token and i tokens."""
        features: Tensor = self.cell(self.embed(written))[0]
        return features

    def step(self, last: Tensor, position: int, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits [m, V] of the token at `position`, from the token before it `last` [m] and the state [layers, m, d]."""
        x, taken = self.inputs(last, position)
        if state is None:
            state = x.new_zeros(self.config.layers, last.shape[0], self.config.width)
        grown = []
        for layer, (w_in, w_state, b_in, b_state) in enumerate(self.cell.all_weights):
            entering = torch.addmm(b_in, x, w_in.t())  # [m, 3 d]
            if taken is not None and layer == 0:
                entering = entering.index_select(0, taken)
            x = _cell(entering, state[layer], torch.addmm(b_state, state[layer], w_state.t()))
            grown.append(x)
        return self.head(x), torch.stack(grown)

    @staticmethod
    def select(state: Tensor, rows: Tensor) -> Tensor:
        """The state of the prefixes `rows` [k] (repeats allowed)."""
        return state.index_select(1, rows)

    @staticmethod
    def rows(state: Tensor) -> int:
        """How many prefixes a state holds."""
        return state.shape[1]


def _cell(entering: Tensor, state: Tensor, kept: Tensor) -> Tensor:
    """The next state [m, d] of one layer.

    Args:
        entering: the projection [m, 3 d] of the input: reset gate, update gate, new state, in torch.nn.GRU's order.
        state: the state [m, d] before the step.
        kept: the projection [m, 3 d] of that state, in the same order.
    """
    d = state.shape[1]
    reset, update = torch.sigmoid(entering[:, : 2 * d] + kept[:, : 2 * d]).chunk(2, dim=1)
    new = torch.tanh(torch.addcmul(entering[:, 2 * d :], reset, kept[:, 2 * d :]))
    return torch.lerp(new, state, update)
