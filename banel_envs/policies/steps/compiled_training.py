"""Training in the compiled kernel: float32 on a CPU, one thread.

A step goes over the trie of the batch's distinct prefixes, so that what sequences share is computed once; one call does
the forward and the backward pass, the clipping and Adam's update. It computes what PyTorch's autograd computes, within
float32's accuracy (tests/kernel), and its bits are the same on every processor and from every compiler.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from banel_envs import kernel
from banel_envs.errors import BadTokens, BadValue
from banel_envs.policies.autoregressive import Ints
from banel_envs.policies.networks.gru import GRU
from banel_envs.policies.networks.transformer import Parts
from banel_envs.policies.steps.buffers import SPARE, Singles
from banel_envs.policies.steps.held import N, P, lanes_for
from banel_envs.policies.steps.token_weights import laid_on_edges, written

D = ctypes.c_double


class Parameter(ctypes.Structure):
    """`parameter` in kernel.c."""

    _fields_ = (("at", P), ("gradient", P))


class Layer(ctypes.Structure):
    """`layer` in kernel.c."""

    _fields_ = (("weight", Parameter), ("bias", Parameter))


class Block(ctypes.Structure):
    """`trained_block` in kernel.c."""

    _fields_ = tuple((name, Layer) for name in ("norm1", "qkv", "mix", "norm2", "up", "down"))


class Net(ctypes.Structure):
    """`trained` in kernel.c."""

    _fields_ = (
        *((name, N) for name in ("width", "heads", "layers", "vocabulary", "after")),
        *((name, Parameter) for name in ("token", "position")),
        ("blocks", P),
        *((name, Layer) for name in ("norm", "head")),
    )


class TrainedCell(ctypes.Structure):
    """`trained_cell` in kernel.c."""

    _fields_ = (("entering", Layer), ("state", Layer))


class RecurrentNet(ctypes.Structure):
    """`trained_recurrent` in kernel.c."""

    _fields_ = (
        *((name, N) for name in ("width", "layers", "vocabulary")),
        *((name, Parameter) for name in ("token", "position")),
        ("cells", P),
        ("head", Layer),
    )


class TrieStruct(ctypes.Structure):
    """`trie` in trie.h."""

    _fields_ = (
        *((name, N) for name in ("nodes", "edges", "positions")),
        *((name, P) for name in ("last", "depth", "parent", "first", "newest", "token", "next", "weight", "work")),
    )


@cache
def _functions(width: int, kind: str) -> tuple[Any, Any, Any, Any, Any]:
    """The functions for networks of this width; `kind` is "gru_" or nothing."""
    library = cast(ctypes.CDLL, kernel.library())
    lanes = lanes_for(width)
    names = (*(kind + name for name in ("likelihood", "features", "backward", "train_bytes")), "descend")
    found = tuple(getattr(library, f"banel_{name}_{lanes}") for name in names)
    likelihood, features, backward, size, descend = found
    likelihood.argtypes, likelihood.restype = (P, P, N, D, P), D
    features.argtypes, features.restype = (P, P, N, P, P), None
    backward.argtypes, backward.restype = (P, P, N, P, P), None
    size.argtypes, size.restype = (P, P, N), N
    descend.argtypes, descend.restype = (P, P, N, P, P, P, P, D, D), D
    return likelihood, features, backward, size, descend


class Trie:
    """The distinct prefixes of sequences: `nodes` of them in preorder, each with its last token and its depth."""

    def __init__(
        self,
        tokens: Ints,
        vocabulary: int,
        end: int | None = None,
        *,
        weights: NDArray[np.float64] | None = None,
        lengths: Ints | None = None,
    ) -> None:
        """Build the trie of sequences [n, T] with weights [n], or of their first lengths [n] tokens, below T each.

        With lengths `reached` [n] is the node of each prefix.

        Raises:
            BadTokens: a number is no token, or a token follows the end token.
            BadValue: there is not one weight, or one length from 0 to T - 1, for each sequence.
        """
        n, T = tokens.shape
        if tokens.dtype.kind not in "iu":
            raise BadTokens(f"tokens are {tokens.dtype}; they must be integers")
        for what, given in (("weights", weights), ("lengths", lengths)):
            if given is not None and given.shape != (n,):
                raise BadValue(f"the {what} have the shape {list(given.shape)}; {n} sequences take [{n}]")
        if lengths is not None and n and not 0 <= lengths.min() <= lengths.max() < T:
            raise BadValue(f"lengths are {lengths.min()} to {lengths.max()}; they must be 0 to {T - 1}")
        build = cast(ctypes.CDLL, kernel.library()).banel_trie
        build.argtypes, build.restype = (P, P, P, N, N, N, N, P, P), N
        arrays = np.empty((7, max(1, n * T)), np.int64)
        weight, work = np.empty(max(1, n * T)), np.empty(2 * n + T, np.int64)
        self.struct = TrieStruct()
        for name, array in zip(("last", "depth", "parent", "first", "newest", "token", "next"), arrays, strict=True):
            setattr(self.struct, name, array.ctypes.data)
        self.struct.weight, self.struct.work = weight.ctypes.data, work.ctypes.data
        self._held = arrays, weight, work  # the struct holds their addresses
        self.address = ctypes.addressof(self.struct)
        self.reached = np.empty(n, np.int64)
        tokens = np.ascontiguousarray(tokens, np.int64)
        weights = None if weights is None else np.ascontiguousarray(weights, np.float64)
        lengths = None if lengths is None else np.ascontiguousarray(lengths, np.int64)
        wrong = build(
            tokens.ctypes.data,
            *(None if given is None else given.ctypes.data for given in (weights, lengths)),
            *(n, T, vocabulary, -1 if end is None else end, self.address),
            None if lengths is None else self.reached.ctypes.data,
        )
        if wrong >= 0:
            raise BadTokens(
                f"sequence {wrong} is {tokens[wrong].tolist()}; tokens are 0..{vocabulary - 1}, "
                f"and only end tokens ({end}) follow an end token"
            )
        self.horizon = T
        self.nodes, self.positions = self.struct.nodes, self.struct.positions
        self.last: Ints = arrays[0, : self.nodes]  # the last token of each node; V for the root's begin token

    def weigh(self, weights: NDArray[np.float64]) -> None:
        """Set the weight of each edge; the edges are numbered along the sequences in lexicographic order."""
        if len(weights) != self.struct.edges:
            raise BadValue(f"{len(weights)} weights for the {self.struct.edges} edges of a trie")
        self._held[1][: len(weights)] = weights


class CompiledTraining:
    """The gradient of a network's parameters, and Adam's state.

    Args:
        network: one that `kernel_supports.trains`; it is trained in place.
        end: the end token, or None.
        temperature: divides the logits.
    """

    def __init__(self, network: Any, end: int | None, temperature: float) -> None:
        self.config = network.config
        self._end, self._temperature = end, temperature
        self.tensors = list(network.parameters())
        sizes = [tensor.numel() for tensor in self.tensors]
        self.gradient: Singles = np.zeros(sum(sizes), np.float32)
        self._mean, self._square = np.zeros_like(self.gradient), np.zeros_like(self.gradient)
        starts = np.cumsum([0, *sizes[:-1]])
        self._places = {id(t): int(i) for t, i in zip(self.tensors, starts, strict=True)}
        self._sizes = np.array(sizes, np.int64)
        self._pointers = self._addresses()
        self._powers = np.ones(2)
        recurrent = isinstance(network, GRU)
        self._likelihood, self._features, self._backward, self._bytes, self._descend = _functions(
            self.config.width, "gru_" if recurrent else ""
        )
        self._net = self._recurrent(network) if recurrent else self._transformer(network)
        self._address = ctypes.addressof(self._net)
        self._scratch: Singles = np.empty((1, 0), np.float32)
        # whose features were computed last; the scratch holds what their gradient needs
        self.newest: Trie | None = None

    def _transformer(self, network: Any) -> Net:
        parts: Parts = network.parts()
        body, config = parts.body, self.config
        self._inner: Any = (Block * config.layers)(
            *(Block(*(self._layer(getattr(block, name)) for name, *_ in Block._fields_)) for block in body.blocks)
        )
        after = 0 if parts.after is None else config.vocabulary + 1
        net = Net(config.width, config.heads, config.layers, config.vocabulary, after)
        net.token, net.position = (self._parameter(part.weight) for part in (body.token, body.position))
        net.blocks = ctypes.addressof(self._inner)
        net.norm, net.head = self._layer(body.norm), self._layer(network.head)
        return net

    def _recurrent(self, network: Any) -> RecurrentNet:
        config = self.config
        cells = []
        for weights in network.cell.all_weights:
            into, state, into_bias, state_bias = [self._parameter(weight) for weight in weights]
            cells.append(TrainedCell(Layer(into, into_bias), Layer(state, state_bias)))
        self._inner = (TrainedCell * config.layers)(*cells)
        net = RecurrentNet(config.width, config.layers, config.vocabulary)
        net.token, net.position = (self._parameter(part.weight) for part in (network.token, network.position))
        net.cells = ctypes.addressof(self._inner)
        net.head = self._layer(network.head)
        return net

    def _parameter(self, tensor: Tensor) -> Parameter:
        return Parameter(tensor.data_ptr(), self.gradient[self._places[id(tensor)] :].ctypes.data)

    def gradient_of(self, tensor: Tensor) -> Singles:
        """The part of `gradient` that belongs to one of the network's parameters, in its shape."""
        begin = self._places[id(tensor)]
        part: Singles = self.gradient[begin : begin + tensor.numel()].reshape(tuple(tensor.shape))
        return part

    def _layer(self, module: Any) -> Layer:
        return Layer(self._parameter(module.weight), self._parameter(module.bias))

    def _addresses(self) -> NDArray[np.uint64]:
        return np.array([tensor.data_ptr() for tensor in self.tensors], np.uint64)

    def _check_weights(self) -> None:
        if not np.array_equal(self._addresses(), self._pointers):  # the kernel would write where they were
            raise BadValue("the network's weights were moved or replaced since its training began; begin another")

    def _room(self, trie: Trie) -> int:
        """The address of scratch for a trie; where there is enough already, it is the same memory."""
        if trie.horizon > self.config.horizon:  # the kernel would read beyond the positions
            raise BadTokens(f"sequences have {trie.horizon} tokens; the network takes at most {self.config.horizon}")
        self._check_weights()
        needed = -(-self._bytes(self._address, trie.address, self.config.horizon) // 4)
        if self._scratch.size < needed:
            SPARE.give(self._scratch)
            self._scratch = SPARE.take(1, needed)
        return self._scratch.ctypes.data

    def __del__(self) -> None:
        """Keep the scratch for what is trained next."""
        if hasattr(self, "_scratch"):
            SPARE.give(self._scratch)

    def trie(self, tokens: Ints, weights: NDArray[np.floating] | None = None) -> Trie:
        """The trie of the sequences [n, T], each of weight 1 / n or weights [n] / n; with weights [n, T], each token."""
        shares = np.full(len(tokens), 1.0) if weights is None else np.asarray(weights, np.float64)
        if shares.ndim != 2:
            return Trie(tokens, self.config.vocabulary, self._end, weights=shares / len(tokens))
        if shares.shape != tokens.shape:
            raise BadValue(f"the weights have the shape {list(shares.shape)}; the tokens have {list(tokens.shape)}")
        rows, sums = laid_on_edges(tokens, shares / len(tokens), self._end)
        trie = Trie(rows, self.config.vocabulary, self._end, weights=np.zeros(len(rows)))
        trie.weigh(sums)
        trie.positions = int(written(tokens, self._end).sum())  # as if equal sequences stood in it one by one
        return trie

    def likelihood(self, trie: Trie) -> float:
        """The loss of a trie, the sum of weight x negative log-likelihood in nats; its gradient is added to `gradient`."""
        self.newest = None
        loss: float = self._likelihood(
            self._address, trie.address, self.config.horizon, self._temperature, self._room(trie)
        )
        return loss

    def features(self, trie: Trie) -> Singles:
        """The features [nodes, width] that the head reads, for every node."""
        features = np.empty((trie.nodes, self.config.width), np.float32)
        self.newest = trie
        self._features(self._address, trie.address, self.config.horizon, self._room(trie), features.ctypes.data)
        return features

    def backward(self, trie: Trie, slopes: Singles) -> None:
        """From a loss's derivative by the features [nodes, width] of a trie to `gradient`, which grows."""
        if self.newest is not trie:  # the scratch holds what another trie needs
            self.features(trie)
        slopes = np.ascontiguousarray(slopes, np.float32)
        self._backward(self._address, trie.address, self.config.horizon, self._room(trie), slopes.ctypes.data)

    def descend(self, lr: float) -> float:
        """One step of Adam down `gradient`, whose norm is first clipped to 1 and which becomes 0; the norm before."""
        self._check_weights()
        norm: float = self._descend(
            *(self._pointers.ctypes.data, self._sizes.ctypes.data, len(self._sizes), self.gradient.ctypes.data),
            *(self._mean.ctypes.data, self._square.ctypes.data, self._powers.ctypes.data, lr, 1.0),
        )
        return norm
