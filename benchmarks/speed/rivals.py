"""What a user would write by hand instead: a loop with a static KV cache, and a compiled training step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from banel_envs.policies.networks.transformer import Transformer


class StaticCache:
    """Sampling with keys and values written into buffers of fixed size, all rows of a batch at once.

    It computes every row of the batch and shares no prefixes. It samples with `torch.multinomial`.
    """

    def __init__(self, network: Transformer, rows: int) -> None:
        self.network, self.rows = network, rows
        config = network.config
        self.shape = rows, config.heads, config.horizon, config.width // config.heads
        self.keys = [torch.empty(self.shape) for _ in network.blocks]
        self.values = [torch.empty(self.shape) for _ in network.blocks]

    def sample(self) -> Tensor:
        """One batch of sequences [rows, T]."""
        network, (rows, heads, horizon, size) = self.network, self.shape
        written = torch.empty((rows, horizon), dtype=torch.long)
        last = torch.full((rows,), network.config.vocabulary)
        for position in range(horizon):
            x = network.token.weight[last] + network.position.weight[position]
            for block, keys, values in zip(network.blocks, self.keys, self.values, strict=True):
                query, key, value = block.qkv(block.norm1(x)).view(rows, 3, heads, size).unbind(1)
                keys[:, :, position], values[:, :, position] = key, value
                scores = (query[:, :, None] @ keys[:, :, : position + 1].transpose(2, 3)) / math.sqrt(size)
                mixed = (scores.softmax(3) @ values[:, :, : position + 1]).reshape(rows, heads * size)
                x = x + block.mix(mixed)
                x = x + block.down(F.gelu(block.up(block.norm2(x))))
            probabilities = network.head(network.norm(x)).softmax(1)
            last = written[:, position] = torch.multinomial(probabilities, 1)[:, 0]
        return written


def compiled_step(network: Any, optimiser: torch.optim.Optimizer) -> Any:
    """A training step whose forward and backward pass `torch.compile` made; None where it does not run."""

    def loss(tokens: Tensor) -> Tensor:
        logits = network(tokens)
        return F.cross_entropy(logits.flatten(0, 1), tokens.flatten()) * tokens.shape[1]

    compiled = torch.compile(loss)

    def step(tokens: Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        compiled(tokens).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()

    return step
