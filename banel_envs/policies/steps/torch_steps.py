"""A transformer one position at a time: the keys and values of every prefix are kept, so a step computes new rows only.

In PyTorch's operations, for GPUs, float64, and where the compiled kernel (compiled_steps.py) is not or does not take a network.
Written for one CPU core and rows by the thousand: products write straight into the store, attention is whole-array
products and sums (a small matrix product for every row and head costs twice as much), and the rows of a step are
taken BLOCK at a time. The first block of layers sees a token and a position and nothing else, so it is computed for
at most V + 1 rows a step, whatever the number of prefixes. What bounds it: passes over memory (gathered keys and
values, GELU, biases) take longer than the products, and below a hundred rows torch's dispatch does; the
kernel does away with both. Steps take no gradient.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 256  # rows computed together on a CPU: what they touch stays in its second-level cache
NARROW = 32_768  # numbers up to which torch's own GELU is faster than oneDNN's


class Norm(NamedTuple):
    """A layer norm."""

    weight: Tensor  # [d]
    bias: Tensor  # [d]
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """X [m, d], normed."""
        normed: Tensor = torch.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        return normed


class Layer:
    """One block's weights, looked up once a walk, and what it projected: queries, keys and values, row by row.

    Rows are only ever appended, so an older state stays good.
    """

    def __init__(self, block: Any) -> None:
        features = block.mix.weight.shape[0] // block.heads
        self.scale = block.mix.weight.new_full((features,), 1 / math.sqrt(features))  # sums the features of a head
        self.norm1, self.norm2 = (Norm(norm.weight, norm.bias, norm.eps) for norm in (block.norm1, block.norm2))
        parts = (block.qkv, block.mix, block.up, block.down)
        self.qkv, self.mix, self.up, self.down = (part.weight.t().contiguous() for part in parts)  # [in, out] for addmm
        self.qkv_bias, self.mix_bias, self.up_bias, self.down_bias = (part.bias for part in parts)
        self.used = 0
        self._keep(self.qkv.new_empty(0, self.qkv.shape[1]))

    def _keep(self, rows: Tensor) -> None:
        self.rows, self.capacity = rows, rows.shape[0]  # [capacity, 3 d]
        self.queries, self.keys, self.values = rows.chunk(3, dim=1)

    def reserve(self, m: int, left: int) -> int:
        """Make room for m more rows: the first of them. `left` steps of as many rows are still to come."""
        at, self.used = self.used, self.used + m
        if self.used > self.capacity:
            larger = self.rows.new_empty(max(2 * at, at + m * min(left, 8)), self.rows.shape[1])
            larger[:at] = self.rows[:at]
            self._keep(larger)
        return at

    def project(self, x: Tensor, at: int) -> Tensor:
        """Write the projections of x [m, d] into rows at, at + 1, ...; the queries among them [m, d]."""
        rows = slice(at, at + x.shape[0])
        torch.addmm(self.qkv_bias, self.norm1(x), self.qkv, out=self.rows[rows])
        queries: Tensor = self.queries[rows]
        return queries

    def finish(self, x: Tensor, query: Tensor, written: Tensor) -> Tensor:
        """Block.forward at one position, its projections given: x [m, d] to [m, d], in place.

        written [t, m] names the rows of all t positions of each prefix, this one included.
        """
        attended = self._attended(query, written)
        x.addmm_(attended, self.mix).add_(self.mix_bias)
        wide = _gelu(torch.addmm(self.up_bias, self.norm2(x), self.up))
        return x.addmm_(wide, self.down).add_(self.down_bias)

    def _attended(self, query: Tensor, written: Tensor) -> Tensor:
        t, m = written.shape
        rows = written.reshape(-1)
        values: Tensor = self.values.index_select(0, rows)  # [t m, d]
        if t == 1:
            return values
        keys = self.keys.index_select(0, rows)
        keys.view(t, m, -1).mul_(query)
        scores: Tensor = torch.mv(keys.view(-1, self.scale.shape[0]), self.scale)  # [t m h]
        weights = torch.softmax(scores.view(t, -1), dim=0)  # [t, m h]
        values.view(t, weights.shape[1], -1).mul_(weights[:, :, None])
        return values.view(t, m, -1).sum(0)


def _gelu(x: Tensor) -> Tensor:
    """F.gelu of x [m, 4 d].

    A contiguous tensor goes to oneDNN, which takes 6 microseconds to begin; torch's own kernel is the faster one for
    few rows, and takes a transposed one.
    """
    if x.numel() > NARROW:
        return F.gelu(x)
    return F.gelu(x.view(2, -1).t()).t().view(x.shape)


class Walk:
    """What all steps from one empty prefix share."""

    def __init__(self, network: Any) -> None:
        self.layers = [Layer(block) for block in network.blocks]
        self.inputs: Callable[[Tensor, int], tuple[Tensor, Tensor | None]] = network.inputs
        self.horizon: int = network.config.horizon
        self.norm = Norm(network.norm.weight, network.norm.bias, network.norm.eps)

    def enter(self, last: Tensor, position: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs [m, d] and the first block's queries [m, d], from the token before `position` [m]; their rows in it [m]."""
        block = self.layers[0]
        x, taken = self.inputs(last, position)  # [V + 1 or m, d]
        at = block.reserve(x.shape[0], self.horizon - position)
        query = block.project(x, at)
        if taken is not None:
            return x.index_select(0, taken), query.index_select(0, taken), taken + at
        return x, query, torch.arange(at, at + x.shape[0], device=last.device)

    def through(self, x: Tensor, query: Tensor, first: Tensor, rest: Tensor, at: int) -> Tensor:
        """Features [m, d] from what `enter` gave, the rows [t, m] of a Cache, and where every later block writes."""
        x = self.layers[0].finish(x, query, first)
        for layer in self.layers[1:]:
            x = layer.finish(x, layer.project(x, at), rest)
        return self.norm(x)


@dataclass(frozen=True)
class Cache:
    """The state of m prefixes: which rows of each block hold the projections of their positions."""

    walk: Walk
    first: Tensor  # [t, m], in the first block
    rest: Tensor  # [t, m], in every other

    @classmethod
    def empty(cls, network: Any, m: int) -> Cache:
        """That of the empty prefix, m times."""
        none = torch.empty(0, m, dtype=torch.long, device=network.token.weight.device)
        return cls(Walk(network), none, none)

    def select(self, rows: Tensor) -> Cache:
        """That of the prefixes `rows` [k] (repeats allowed)."""
        return Cache(self.walk, self.first.index_select(1, rows), self.rest.index_select(1, rows))

    @property
    def prefixes(self) -> int:
        """How many there are: m."""
        return self.rest.shape[1]


def step(last: Tensor, position: int, cache: Cache) -> tuple[Tensor, Cache]:
    """Normed features [m, d] at `position`, from the token before it `last` [m] and the cached past; the grown cache."""
    walk, m = cache.walk, last.shape[0]
    x, query, entered = walk.enter(last, position)
    first = torch.cat((cache.first, entered[None]))
    at = 0  # the same in every later block, as each of them holds a row for every prefix
    for layer in walk.layers[1:]:
        at = layer.reserve(m, walk.horizon - position)
    rest = torch.cat((cache.rest, torch.arange(at, at + m, device=last.device)[None]))
    grown = Cache(walk, first, rest)
    if m <= BLOCK or last.device.type != "cpu":
        return walk.through(x, query, first, rest, at), grown
    parts = [walk.through(x[i:j], query[i:j], first[:, i:j], rest[:, i:j], at + i) for i, j in _blocks(m)]
    return torch.cat(parts), grown


def _blocks(m: int) -> list[tuple[int, int]]:
    """Rows 0..m-1 in equal parts of at most BLOCK; none is so small that its products would be summed otherwise."""
    parts = -(-m // BLOCK)
    return list(itertools.pairwise(m * part // parts for part in range(parts + 1)))
