"""The features of prefixes as a PyTorch tensor whose gradient the compiled kernel computes.

For losses that are not a likelihood, such as PPO's: PyTorch computes the head and the loss, the kernel all below the head.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from banel_envs.policies.steps.compiled_training import CompiledTraining, Trie
from banel_envs.policies.steps.kernel_supports import trains


class PrefixFeatures:
    """The inputs of a network's head after prefixes: from the kernel where it trains the network, else from PyTorch."""

    def __init__(self, network: Any) -> None:
        self.network = network
        self._training = CompiledTraining(network, None, 1.0) if trains(network) else None

    def __call__(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Features [n, width] after the first `lengths` [n] of tokens [n, T], each at most T - 1; later tokens are not read."""
        if self._training is None:
            width = int(lengths.max()) + 1
            everywhere: Tensor = self.network.features(tokens[:, : width - 1].long())  # [n, t, width]
            return everywhere[torch.arange(len(everywhere), device=everywhere.device), lengths]
        written = tokens.numpy().astype(np.int64)
        ends = lengths.numpy()
        written[np.arange(written.shape[1]) >= ends[:, None]] = 0  # so that equal prefixes are neighbours when sorted
        trie = Trie(written, self._training.config.vocabulary, lengths=ends)
        below = [weight for name, weight in self.network.named_parameters() if not name.startswith("head.")]
        features: Tensor = _Kernel.apply(self._training, trie, *below)  # type: ignore[no-untyped-call]
        read: Tensor = self.network.beside(features, torch.from_numpy(trie.last))
        return read[torch.from_numpy(trie.reached)]


class _Kernel(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, training: CompiledTraining, trie: Trie, *below: Tensor) -> Tensor:
        ctx.training, ctx.trie, ctx.below = training, trie, below
        return torch.from_numpy(training.features(trie))

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        ctx.training.gradient[:] = 0
        ctx.training.backward(ctx.trie, slopes[0].numpy())
        return None, None, *(torch.from_numpy(ctx.training.gradient_of(weight).copy()) for weight in ctx.below)
