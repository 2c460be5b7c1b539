"""A decoder-only transformer over short token sequences: full forward for learning, cached steps for sampling.

The shape is GPT-2's (pre-norm blocks, learned positions, GELU, a final norm and an untied head), small
enough for one CPU core. The begin token is index V: it enters as the first input and is never emitted.
Source: Radford et al. 2019; the layout follows minGPT.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Weights: TypeAlias = tuple[tuple[Tensor, Tensor], ...]
"""(weight, bias) of each part of a block, in the order of `Block.weights`."""

BLOCK = 512  # rows of a step computed together on a CPU: what they touch stays in its second-level cache


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

    def weights(self) -> Weights:
        """What a step reads, looked up once a sequence."""
        layers = (self.norm1, self.qkv, self.mix, self.norm2, self.up, self.down)
        return tuple((layer.weight, layer.bias) for layer in layers)


def _step(x: Tensor, weights: Weights, heads: int, pool: Tensor, at: int, written: Tensor) -> Tensor:
    """Block.forward at one position: x [m, d] to [m, d].

    Its keys and values go into rows at, at + 1, ... of pool [capacity, 2 d]; written [m, t] names the rows of all t
    positions of each prefix, these included.
    """
    norm1, qkv, mix, norm2, up, down = weights
    m, d = x.shape
    projected = F.linear(torch.layer_norm(x, (d,), *norm1), *qkv)  # [m, 3 d]
    pool[at : at + m] = projected[:, d:]
    past = pool.index_select(0, written.flatten()).view(*written.shape, 2, heads, d // heads)
    k, v = past.permute(2, 0, 3, 1, 4)  # each [m, h, t, d/h]
    attended = F.scaled_dot_product_attention(projected[:, :d].view(m, heads, 1, d // heads), k, v)
    x = x + F.linear(attended.view(m, d), *mix)
    return x + F.linear(F.gelu(F.linear(torch.layer_norm(x, (d,), *norm2), *up)), *down)


class Pool:
    """Keys and values of every prefix stepped so far, one tensor [capacity, 2 width] a layer; only ever appended to."""

    def __init__(self, weights: list[Weights], like: Tensor) -> None:
        self.weights = weights  # one a layer
        self.used = 0
        self.layers = [like.new_empty(0, 2 * like.shape[1]) for _ in weights]

    def grow(self, m: int, left: int) -> int:
        """Room for m more rows: the first of them. `left` steps of as many rows are still to come."""
        at, self.used = self.used, self.used + m
        if self.used > len(self.layers[0]):
            capacity = max(2 * at, at + m * min(left, 8))
            for layer, old in enumerate(self.layers):
                self.layers[layer] = old.new_empty(capacity, old.shape[1])
                self.layers[layer][:at] = old[:at]
        return at


@dataclass(frozen=True)
class Cache:
    """The state of m prefixes: where the pool holds the keys and values of their positions."""

    pool: Pool
    written: Tensor  # [m, t]


class Transformer(nn.Module):
    """Next-token logits over V tokens; see TransformerConfig for the sizes."""

    kind = "transformer"
    Config = TransformerConfig

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocabulary + 1, config.width)
        self.position = nn.Embedding(config.horizon, config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocabulary)

    def initialise(self, rng: np.random.Generator) -> None:
        """Draw new weights from rng: N(0, 1/fan_in), embeddings N(0, 0.1), residual outputs scaled by 1/sqrt(2 layers)."""
        residual = 1 / math.sqrt(2 * self.config.layers)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if weight.dim() == 1:
                    weight.fill_(1.0 if name.endswith("weight") else 0.0)
                    continue
                std = 0.1 if name.startswith(("token", "position")) else 1 / math.sqrt(weight.shape[1])
                std *= residual if ".mix." in name or ".down." in name else 1.0
                weight.copy_(torch.from_numpy(rng.normal(0.0, std, tuple(weight.shape))))

    def forward(self, tokens: Tensor) -> Tensor:
        """Teacher forcing: tokens [n, t] to logits [n, t, V], position i predicting token i from tokens before it."""
        logits: Tensor = self.head(self.features(tokens[:, :-1]))
        return logits

    def features(self, written: Tensor) -> Tensor:
        """What the head reads: written [n, t] to [n, t + 1, width], position i seeing the begin token and i tokens."""
        begin = written.new_full((len(written), 1), self.config.vocabulary)
        x = self.token(torch.cat((begin, written), dim=1)) + self.position.weight[: written.shape[1] + 1]
        for block in self.blocks:
            x = block(x)
        normed: Tensor = self.norm(x)
        return normed

    def step(self, last: Tensor, position: int, cache: Cache | None) -> tuple[Tensor, Cache]:
        """Logits [m, V] of the token at `position`, from the token before it `last` [m] and the cached past."""
        m, device = len(last), last.device
        if cache is None:
            weights = [cast(Block, block).weights() for block in self.blocks]
            cache = Cache(Pool(weights, self.token.weight), last.new_empty(m, 0))
        at = cache.pool.grow(m, self.config.horizon - position)
        written = torch.cat((cache.written, torch.arange(at, at + m, device=device)[:, None]), dim=1)
        grown = Cache(cache.pool, written)
        if m <= BLOCK or device.type != "cpu":
            return self._step_rows(last, position, grown.pool, at, written), grown
        parts = [
            self._step_rows(last[rows], position, grown.pool, at + rows.start, written[rows]) for rows in _blocks(m)
        ]
        return torch.cat(parts), grown

    def _step_rows(self, last: Tensor, position: int, pool: Pool, at: int, written: Tensor) -> Tensor:
        x = F.embedding(last, self.token.weight) + self.position.weight[position]  # [m, d]
        for weights, layer in zip(pool.weights, pool.layers, strict=True):
            x = _step(x, weights, self.config.heads, layer, at, written)
        logits: Tensor = self.head(self.norm(x))
        return logits

    @staticmethod
    def select(cache: Cache, rows: Tensor) -> Cache:
        """The cache of the prefixes `rows` [k] (repeats allowed)."""
        return Cache(cache.pool, cache.written.index_select(0, rows))

    @staticmethod
    def rows(cache: Cache) -> int:
        """How many prefixes a cache holds."""
        return len(cache.written)


def _blocks(m: int) -> list[slice]:
    """Rows 0..m-1 in equal parts of at most BLOCK; none is so small that its products would be summed otherwise."""
    parts = -(-m // BLOCK)
    edges = [m * part // parts for part in range(parts + 1)]
    return [slice(low, high) for low, high in itertools.pairwise(edges)]
