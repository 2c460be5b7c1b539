"""A gated recurrent network over token sequences: one state a prefix, so a step costs the same at any position.

Long sequences (images, molecules) are sampled and scored several times faster than with a transformer, whose cache
grows with the prefix and is copied at every branch. Each input is the token before plus a learned position, so that
the network knows where in an image it writes. The begin token is index V: it enters first and is never emitted.
Source: Cho et al. 2014 (torch.nn.GRU).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class GRUConfig:
    """Sizes of a GRU."""

    vocabulary: int  # V: tokens that can be emitted, the end token included
    horizon: int  # T: the longest sequence, in tokens
    width: int = 128  # d: features a token, and units of each layer
    layers: int = 1


class GRU(nn.Module):
    """Next-token logits over V tokens; see GRUConfig for the sizes."""

    kind = "gru"
    Config = GRUConfig

    def __init__(self, config: GRUConfig) -> None:
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocabulary + 1, config.width)
        self.position = nn.Embedding(config.horizon, config.width)
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

    def forward(self, tokens: Tensor) -> Tensor:
        """Teacher forcing: tokens [n, t] to logits [n, t, V], position i predicting token i from tokens before it."""
        logits: Tensor = self.head(self.features(tokens[:, :-1]))
        return logits

    def features(self, written: Tensor) -> Tensor:
        """What the head reads: written [n, t] to [n, t + 1, width], position i seeing the begin token and i tokens."""
        begin = written.new_full((len(written), 1), self.config.vocabulary)
        x = self.token(torch.cat((begin, written), dim=1)) + self.position.weight[: written.shape[1] + 1]
        features: Tensor = self.cell(x)[0]
        return features

    def step(self, last: Tensor, position: int, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits [m, V] of the token at `position`, from the token before it `last` [m] and the state [layers, m, d]."""
        x = (self.token(last) + self.position.weight[position]).unsqueeze(1)  # [m, 1, d]
        features, grown = self.cell(x, state)
        return self.head(features[:, 0]), grown

    @staticmethod
    def select(state: Tensor, rows: Tensor) -> Tensor:
        """The state of the prefixes `rows` [k] (repeats allowed)."""
        return state.index_select(1, rows)

    @staticmethod
    def rows(state: Tensor) -> int:
        """How many prefixes a state holds."""
        return state.shape[1]
