"""A decoder-only transformer over short token sequences: one pass over all positions for learning, steps for sampling.

The architecture is GPT-2's (pre-norm blocks, learned positions, GELU, a final norm and an untied head), small enough for
one CPU core. The begin token is index V: it is the first input, and it is never written.

One change was tried and not kept: short sequences were put one after the other under a mask, which needs fewer products in
attention. From 8 tokens on a training step is then 8 to 23% faster, and below that it is slower. But builds would no
longer give the shipped assets to the last bit.
Source: Radford et al. 2019; the layout follows minGPT.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from banel_envs.policies.networks.embedding import Embedded
from banel_envs.policies.steps import torch_steps


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a Transformer."""

    vocabulary: int  # V: tokens that can be emitted, the end token included
    horizon: int  # T: the longest sequence, in tokens
    width: int = 32  # d: features a token
    layers: int = 2  # blocks
    heads: int = 4  # attention heads; divides width


class Block(nn.Module):
    """Pre-norm self-attention and a four times wider GELU layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """All positions at once: x [n, t, d] to [n, t, d]."""
        n, t, d = x.shape
        qkv = self.qkv(self.norm1(x)).view(n, t, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [n, h, t, d/h]
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.mix(attended.transpose(1, 2).reshape(x.shape))
        result: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return result


class Parts(NamedTuple):
    """The parts of a network that is a transformer with a linear head, for the compiled kernel."""

    body: Transformer
    head: Tensor  # [V, d]
    bias: Tensor  # [V]
    after: Tensor | None = None  # what the last token adds to the logits [V + 1, V]


class Transformer(Embedded):
    """Next-token logits over V tokens; see TransformerConfig for the sizes."""

    kind = "transformer"
    Config = TransformerConfig

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config.vocabulary, config.horizon, config.width)
        self.config = config
        self.blocks: Any = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocabulary)

    def initialise(self, rng: np.random.Generator) -> None:
        """Draw new weights from rng, with GPT-2's scale of the residual outputs.

        Weights have the standard deviation 1 / sqrt(fan_in) and embeddings 0.1. The outputs of the 2 x layers residual
        branches are divided by sqrt(2 layers), so that their sum does not grow with the number of layers.
        """
        residual = 1 / math.sqrt(2 * self.config.layers)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if weight.dim() == 1:
                    weight.fill_(1.0 if name.endswith("weight") else 0.0)
                    continue
                std = 0.1 if name.startswith(("token", "position")) else 1 / math.sqrt(weight.shape[1])
                std *= residual if ".mix." in name or ".down." in name else 1.0
                weight.copy_(torch.from_numpy(rng.normal(0.0, std, tuple(weight.shape))))

    def features(self, written: Tensor) -> Tensor:
        """The input of the head: written [n, t] to [n, t + 1, width]. Position i depends on the begin token and i tokens."""
        x = self.embed(written)
        for block in self.blocks:
            x = block(x)
        normed: Tensor = self.norm(x)
        return normed

    def parts(self) -> Parts:
        """The parts for the compiled kernel."""
        return Parts(self, self.head.weight, self.head.bias)

    def step(self, last: Tensor, position: int, cache: torch_steps.Cache | None) -> tuple[Tensor, torch_steps.Cache]:
        """Logits [m, V] of the token at `position`, from the token before it `last` [m] and the cached past."""
        features, grown = torch_steps.step(
            last, position, torch_steps.Cache.empty(self, last.shape[0]) if cache is None else cache
        )
        return self.head(features), grown

    @staticmethod
    def select(cache: torch_steps.Cache, rows: Tensor) -> torch_steps.Cache:
        """The cache of the prefixes `rows` [k] (repeats allowed)."""
        return cache.select(rows)

    @staticmethod
    def rows(cache: torch_steps.Cache) -> int:
        """How many prefixes a cache holds."""
        return cache.prefixes
