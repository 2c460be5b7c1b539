"""What the networks share: the begin token, the embedding of the tokens, and the logits of all positions at once."""

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
        """The input of the head: written [n, t] to [n, t + 1, width]. Position i depends on the begin token and i tokens."""

    def beside(self, features: Tensor, last: Tensor) -> Tensor:
        """The input of the head, from the body's features [n, width] and the last tokens [n]; most heads read no more."""
        return features

    def forward(self, tokens: Tensor) -> Tensor:
        """Teacher forcing: tokens [n, t] to logits [n, t, V]. Position i predicts token i from the tokens before it."""
        logits: Tensor = self.head(self.features(tokens[:, :-1]))
        return logits


class Embedded(TeacherForced):
    """A network whose inputs are the embedding of a token plus the embedding of its position."""

    def __init__(self, vocabulary: int, horizon: int, width: int) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary + 1, width), nn.Embedding(horizon, width)

    def embed(self, written: Tensor) -> Tensor:
        """The begin token and written [n, t] as inputs [n, t + 1, width]."""
        begun = begin(written, self.token.num_embeddings - 1)
        x: Tensor = self.token(begun) + self.position.weight[: begun.shape[1]]
        return x

    def inputs(self, last: Tensor, position: int) -> tuple[Tensor, Tensor | None]:
        """The inputs [r, width] at `position` after the tokens `last` [m], and which of them each prefix takes [m].

        If there are more prefixes than tokens, there is one input for each token. Otherwise there is one for each prefix,
        in order, and the second value is None.
        """
        place = self.position.weight[position]
        if last.shape[0] > self.token.num_embeddings:
            return self.token.weight + place, last
        return F.embedding(last, self.token.weight) + place, None


def begin(written: Tensor, token: int) -> Tensor:
    """Written [n, t] with the begin token before it: [n, t + 1]."""
    return torch.cat((written.new_full((len(written), 1), token), written), dim=1)
