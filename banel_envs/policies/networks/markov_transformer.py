"""A Markov chain plus a transformer. At the start it is exactly the chain, and all of it can be trained from there.

The head is one linear layer over two inputs: the transformer's features and the one-hot vector of the last token. The
weights of the first start at zero and those of the second at the chain's log matrix, so the first logits are the
chain's. Since the head gives the sum, the softmax, a temperature and an actor that uses `head(features)` need not know of
the two parts. A transition of probability 0 gets a log-probability of FLOOR, and its row is normalised again. So no
infinity reaches a gradient, and about 1e-11 of the probability is in the wrong place. The begin token is index V.
The network serves tasks that are defined by a chain (Stanton et al. 2024, the Ehrlich functions).
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
from banel_envs.policies.networks.unwritten import unwritten
from banel_envs.policies.steps.torch_steps import Cache
from banel_envs.policies.torch_policy import TorchPolicy

FLOOR = -25.0  # the log-probability that a transition of probability 0 is given


class ChainedTransformer(TeacherForced):
    """Next-token logits over V tokens; the sizes are its transformer's."""

    kind = "chained"
    Config = TransformerConfig
    chain: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.body = Transformer(config)
        self.body.head = nn.Identity()  # type: ignore[assignment]  # so that the transformer's steps give features
        self.head = nn.Linear(config.width + config.vocabulary + 1, config.vocabulary)
        self.register_buffer("chain", torch.zeros(config.vocabulary + 1, config.vocabulary))

    def initialise(self, rng: np.random.Generator) -> None:
        """Draw new weights for the transformer from rng, and set the head to the chain: the policy is the chain again."""
        self.body.initialise(rng)
        with torch.no_grad():
            # With zero weights on its features the transformer changes nothing until it is trained.
            for weight in self.head.parameters():
                weight.zero_()
            self.head.weight[:, self.config.width :] = self.chain.T

    def features(self, written: Tensor) -> Tensor:
        """The input of the head: written [n, t] to [n, t + 1, width + V + 1]; the one-hot vector of the last token is last."""
        return self.beside(self.body.features(written), begin(written, self.config.vocabulary))

    def parts(self) -> Parts:
        """The parts for the compiled kernel. The head's weights on the one-hot vector are a row of logits for each token."""
        d = self.config.width
        return Parts(self.body, self.head.weight[:, :d], self.head.bias, self.head.weight[:, d:].T)

    def step(self, last: Tensor, position: int, cache: Cache | None) -> tuple[Tensor, Cache]:
        """Logits [m, V] of the token at `position`, from the token before it `last` [m] and the cached past."""
        features, grown = self.body.step(last, position, cache)
        return self.head(self.beside(features, last)), grown

    def beside(self, features: Tensor, last: Tensor) -> Tensor:
        """The input of the head: the transformer's features [..., width], and the one-hot vectors of the last tokens [...]."""
        return torch.cat((features, F.one_hot(last, self.config.vocabulary + 1).to(features.dtype)), dim=-1)

    select = staticmethod(Transformer.select)
    rows = staticmethod(Transformer.rows)


def log_chain(initial: NDArray[Any], transition: NDArray[Any]) -> NDArray[np.float64]:
    """The log matrix [V + 1, V] of a chain; row V is the initial distribution [V].

    Zeros become FLOOR, and then every row is normalised again.
    """
    rows = np.concatenate((transition, initial[None])).astype(np.float64)
    rows = np.maximum(rows / rows.sum(axis=1, keepdims=True), np.exp(FLOOR))
    logs: NDArray[np.float64] = np.log(rows / rows.sum(axis=1, keepdims=True))
    return logs


def chained_policy(
    initial: NDArray[Any], transition: NDArray[Any], length: int, rng: np.random.Generator, **sizes: int
) -> TorchPolicy:
    """The chain as a policy that can be trained, over sequences of `length` tokens.

    Args:
        initial: distribution of the first token [V].
        transition: row i is the distribution of the token after token i [V, V].
        length: T; every sequence has so many tokens.
        rng: draws the transformer's weights, which change nothing before they are trained.
        sizes: width, layers and heads of a TransformerConfig.
    """
    with unwritten():
        network = ChainedTransformer(TransformerConfig(len(initial), length, **sizes))
    network.to_empty(device="cpu")
    network.chain.copy_(torch.from_numpy(log_chain(initial, transition)))
    network.initialise(rng)
    return TorchPolicy(network.eval(), end=None)
