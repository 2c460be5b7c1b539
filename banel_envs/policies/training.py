"""Weighted maximum likelihood, step by step: in the compiled kernel where it knows the network, else in PyTorch.

PyTorch is the reference: both take the same step within float32's accuracy. The bits of the kernel's steps are the same
on every processor, and PyTorch's are not, so a run's record names what trained (`Cost.in_torch`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BadValue
from banel_envs.policies.autoregressive import Ints
from banel_envs.policies.cost import COST
from banel_envs.policies.gradient_step import Adam, descend
from banel_envs.policies.language.prompted_policy import PromptedPolicy
from banel_envs.policies.protocol import Trainable
from banel_envs.policies.steps.compiled_training import CompiledTraining
from banel_envs.policies.steps.kernel_supports import trains
from banel_envs.policies.torch_policy import TorchPolicy

KERNEL_VOCABULARY = 4_096
"""The largest V that the kernel trains, as it holds the logits of all prefixes of a batch; PyTorch trains in micro-batches."""


class Trainer:
    """Adam (without weight decay, the norm of the gradient clipped to 1) on the likelihood of a policy's sequences.

    Args:
        policy: is trained in place.
        lr: Adam's learning rate, which is constant.
    """

    def __init__(self, policy: Trainable, lr: float) -> None:
        if not lr > 0:
            raise BadValue(f"the learning rate is {lr!r}; it must be a number above 0")
        self.policy, self.lr = policy, lr
        self._compiled: CompiledTraining | None = None
        if (
            isinstance(policy, TorchPolicy | PromptedPolicy)
            and trains(policy.network)
            and policy.vocabulary <= KERNEL_VOCABULARY
        ):
            self._compiled = CompiledTraining(policy.network, policy.end, policy.temperature)
            self._to_network = policy.to_network
        else:
            self._optimiser = Adam(policy.parameters(), lr)

    def step(self, tokens: Ints, weights: NDArray[np.floating] | None = None) -> float:
        """One step down mean(weight x negative log-likelihood) of sequences [n, T]; the loss before it, in nats.

        Args:
            tokens: the sequences [n, T], n at least 1.
            weights: their weights [n], 1 by default; a negative weight makes its sequence less likely. With weights [n, T]
                each token has its own: the step goes down the mean of sum_t weights[:, t] x -log p(token t).
        """
        if len(tokens) == 0:
            raise BadValue("a step was asked without a sequence; give at least one")
        if self._compiled is None:
            loss = self.policy.loss(tokens, weights)
            descend(self._optimiser, loss)
            return float(loss.detach())
        whole, given = self._to_network(tokens, weights)
        trie = self._compiled.trie(whole, given)
        COST.trained += trie.positions - len(tokens) * (whole.shape[1] - tokens.shape[1])  # prompts are not trained
        value = self._compiled.likelihood(trie)
        self._compiled.descend(self.lr)
        return value
