"""A transformer one position at a time: the keys and values of every prefix are kept, so a step computes new rows only.

It uses PyTorch's operations. It serves GPUs and float64, and every network that the compiled kernel (compiled_steps.py)
does not compute. It is written for one CPU core and thousands of rows. The matrix products write straight into the
buffers. Attention is computed by products and sums of whole arrays, because one small matrix product for every row and
head costs twice as much. The rows of a step are computed BLOCK at a time. The first block of layers depends on one
token and one position only, so a step computes it for at most V + 1 rows, however many prefixes there are.

Most of the time is spent reading and writing memory (gathering keys and values, GELU, adding biases), and not in the
matrix products. Below about a hundred rows most of it is PyTorch's own cost of calling an operation. The compiled
kernel avoids both. Steps compute no gradient.
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

BLOCK = 256  # rows computed together on a CPU: the numbers that they need then fit in its second-level cache
NARROW = 32_768  # up to so many numbers, torch's own GELU is faster than oneDNN's


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
    """One block's weights, looked up once for a walk, and the queries, keys and values that it computed, row by row.

    Rows are only ever appended, so an older state stays valid.
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
        """Make room for m more rows, and give the number of the first; `left` steps of as many rows are still to come."""
        at, self.used = self.used, self.used + m
        if self.used > self.capacity:
            larger = self.rows.new_empty(max(2 * at, at + m * min(left, 8)), self.rows.shape[1])
            larger[:at] = self.rows[:at]
            self._keep(larger)
        return at

    def project(self, x: Tensor, at: int) -> Tensor:
        """Write the queries, keys and values of x [m, d] into the rows from `at` on, and give the queries [m, d]."""
        rows = slice(at, at + x.shape[0])
        torch.addmm(self.qkv_bias, self.norm1(x), self.qkv, out=self.rows[rows])
        queries: Tensor = self.queries[rows]
        return queries

    def finish(self, x: Tensor, query: Tensor, written: Tensor) -> Tensor:
        """Block.forward at one position, in place: x [m, d] to [m, d]. `project` has been called before.

        Args:
            x: the block's input [m, d].
            query: the queries [m, d] of this position.
            written: the rows [t, m] that hold the keys and values of all t positions of each prefix, this one included.
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

    PyTorch gives a contiguous tensor to oneDNN, which takes 6 microseconds to begin. For few rows PyTorch's own kernel is
    faster, and PyTorch uses it for a tensor that is transposed.
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
        """Enter the tokens `last` [m], which stand before `position`.

        Returns:
            The inputs [m, d], the first block's queries [m, d], and the rows [m] that it wrote them to.
        """
        block = self.layers[0]
        x, taken = self.inputs(last, position)  # [V + 1 or m, d]
        at = block.reserve(x.shape[0], self.horizon - position)
        query = block.project(x, at)
        if taken is not None:
            return x.index_select(0, taken), query.index_select(0, taken), taken + at
        return x, query, torch.arange(at, at + x.shape[0], device=last.device)

    def through(self, x: Tensor, query: Tensor, first: Tensor, rest: Tensor, at: int) -> Tensor:
        """The features [m, d] at one position.

        Args:
            x: the inputs [m, d] that `enter` gave.
            query: the first block's queries [m, d] that `enter` gave.
            first: the rows [t, m] of all positions in the first block.
            rest: the rows [t, m] of all positions in every later block.
            at: the first row that every later block writes to.
        """
        x = self.layers[0].finish(x, query, first)
        for layer in self.layers[1:]:
            x = layer.finish(x, layer.project(x, at), rest)
        return self.norm(x)


@dataclass(frozen=True)
class Cache:
    """The state of m prefixes: which rows of each block hold the queries, keys and values of their positions."""

    walk: Walk
    first: Tensor  # [t, m], in the first block
    rest: Tensor  # [t, m], in every other

    @classmethod
    def empty(cls, network: Any, m: int) -> Cache:
        """The state of the empty prefix, m times."""
        none = torch.empty(0, m, dtype=torch.long, device=network.token.weight.device)
        return cls(Walk(network), none, none)

    def select(self, rows: Tensor) -> Cache:
        """The state of the prefixes `rows` [k] (repeats allowed)."""
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
    at = 0  # the same in every later block, because each of them holds one row for every prefix
    for layer in walk.layers[1:]:
        at = layer.reserve(m, walk.horizon - position)
    rest = torch.cat((cache.rest, torch.arange(at, at + m, device=last.device)[None]))
    grown = Cache(walk, first, rest)
    if m <= BLOCK or last.device.type != "cpu":
        return walk.through(x, query, first, rest, at), grown
    parts = [walk.through(x[i:j], query[i:j], first[:, i:j], rest[:, i:j], at + i) for i, j in _blocks(m)]
    return torch.cat(parts), grown


def _blocks(m: int) -> list[tuple[int, int]]:
    """Rows 0..m-1 in equal parts of at most BLOCK.

    The parts are equal so that none is very small: PyTorch sums small products in another order, to other last bits.
    """
    parts = -(-m // BLOCK)
    return list(itertools.pairwise(m * part // parts for part in range(parts + 1)))
