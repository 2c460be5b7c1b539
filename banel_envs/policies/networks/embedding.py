"""What the networks share: the begin token, the embedding of what is written, logits at all positions at once."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TeacherForced(nn.Module, ABC):
    """A network whose logits are its head over its features."""

    head: nn.Linear

    @abstractmethod
    def features(self, written: Tensor) -> Tensor:
        """What the head reads: written [n, t] to [n, t + 1, width], position i seeing the begin token and i tokens."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Teacher forcing: tokens [n, t] to logits [n, t, V], position i predicting token i from tokens before it."""
        logits: Tensor = self.head(self.features(tokens[:, :-1]))
        return logits


class Embedded(TeacherForced):
    """One that enters each token as its own embedding plus its position's."""

    def __init__(self, vocabulary: int, horizon: int, width: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary + 1, width)
        self.position = nn.Embedding(horizon, width)

    def embed(self, written: Tensor) -> Tensor:
        """The begin token and written [n, t] as inputs [n, t + 1, width]."""
        begun = begin(written, self.token.num_embeddings - 1)
        x: Tensor = self.token(begun) + self.position.weight[: begun.shape[1]]
        return x

    def inputs(self, last: Tensor, position: int) -> tuple[Tensor, Tensor | None]:
        """What enters at `position` after the tokens `last` [m]: rows [r, width], and which of them each prefix takes [m].

        Where there are more prefixes than tokens an input for each token will do; None: one for each prefix.
        """
        place = self.position.weight[position]
        if last.shape[0] > self.token.num_embeddings:
            return self.token.weight + place, last
        return F.embedding(last, self.token.weight) + place, None


def begin(written: Tensor, token: int) -> Tensor:
    """Written [n, t] with the begin token before it: [n, t + 1]."""
    return torch.cat((written.new_full((len(written), 1), token), written), dim=1)
