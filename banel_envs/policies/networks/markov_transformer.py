"""A Markov chain plus a transformer: exactly the chain at the start, and every part of it trainable from there.

The head is one linear layer over the transformer's features and the one-hot of the token before. Its first part
starts at zero and its second at the chain's log matrix, so the first logits are the chain's; softmax, temperature
and an actor that takes `head(features)` all see the sum. A transition of probability 0 enters as FLOOR nats below
certainty and the row is renormalised: no infinity reaches a gradient, and about 1e-11 of the mass is misplaced.
The begin token is index V. Used where a task is defined by a chain (Stanton et al. 2024, the Ehrlich functions).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from banel_envs.policies.networks.embedding import TeacherForced, begin
from banel_envs.policies.networks.transformer import Parts, Transformer, TransformerConfig
from banel_envs.policies.steps.torch_steps import Cache
from banel_envs.policies.torch_policy import TorchPolicy

FLOOR = -25.0  # log-probability given to a transition that has none


class ChainedTransformer(TeacherForced):
    """Next-token logits over V tokens; the sizes are its transformer's."""

    kind = "chained"
    Config = TransformerConfig
    chain: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.body = Transformer(config)
        self.body.head = nn.Identity()  # type: ignore[assignment]  # its steps then give features
        self.head = nn.Linear(config.width + config.vocabulary + 1, config.vocabulary)
        self.register_buffer("chain", torch.zeros(config.vocabulary + 1, config.vocabulary))

    def initialise(self, rng: np.random.Generator) -> None:
        """New weights from rng for the transformer, and the chain again: the policy of new weights is the chain."""
        self.body.initialise(rng)
        with torch.no_grad():
            for weight in self.head.parameters():
                weight.zero_()
            self.head.weight[:, self.config.width :] = self.chain.T

    def features(self, written: Tensor) -> Tensor:
        """What the head reads: written [n, t] to [n, t + 1, width + V + 1], the one-hot of the token before last."""
        return self._beside(self.body.features(written), begin(written, self.config.vocabulary))

    def parts(self) -> Parts:
        """For the compiled kernel: the one-hot's part of the head is a row of logits for each token before."""
        d = self.config.width
        return Parts(self.body, self.head.weight[:, :d], self.head.bias, self.head.weight[:, d:].T)

    def step(self, last: Tensor, position: int, cache: Cache | None) -> tuple[Tensor, Cache]:
        """Logits [m, V] of the token at `position`, from the token before it `last` [m] and the cached past."""
        features, grown = self.body.step(last, position, cache)
        return self.head(self._beside(features, last)), grown

    def _beside(self, features: Tensor, last: Tensor) -> Tensor:
        return torch.cat((features, F.one_hot(last, self.config.vocabulary + 1).to(features.dtype)), dim=-1)

    select = staticmethod(Transformer.select)
    rows = staticmethod(Transformer.rows)


def log_chain(initial: NDArray[Any], transition: NDArray[Any]) -> NDArray[np.float64]:
    """The log matrix [V + 1, V] of a chain, zeros at FLOOR and renormalised; row V is the initial distribution [V]."""
    rows = np.concatenate((transition, initial[None])).astype(np.float64)
    rows = np.maximum(rows / rows.sum(axis=1, keepdims=True), np.exp(FLOOR))
    logs: NDArray[np.float64] = np.log(rows / rows.sum(axis=1, keepdims=True))
    return logs


def chained_policy(
    initial: NDArray[Any], transition: NDArray[Any], length: int, rng: np.random.Generator, **sizes: int
) -> TorchPolicy:
    """The chain as a policy over sequences of `length` tokens that can be trained.

    Args:
        initial: distribution of the first token [V].
        transition: row i is the distribution of the token after token i [V, V].
        length: T; every sequence has as many tokens.
        rng: draws the transformer's weights, which say nothing before they are trained.
        sizes: width, layers, heads of a TransformerConfig.
    """
    with torch.device("meta"):  # torch's own initialisation would draw from the process's generator
        network = ChainedTransformer(TransformerConfig(len(initial), length, **sizes))
    network.to_empty(device="cpu")
    network.chain.copy_(torch.from_numpy(log_chain(initial, transition)))
    network.initialise(rng)
    return TorchPolicy(network.eval(), end=None)
