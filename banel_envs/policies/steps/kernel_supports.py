"""Which networks the compiled kernel computes: exactly those that the package makes, in float32 on a CPU.

The kernel reads the weights by their addresses and knows two architectures, the transformer and the GRU. Anything else is
left to PyTorch: a subclass, a layer of another kind, a hook, or a weight whose shape is not the config's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from banel_envs import kernel
from banel_envs.policies.networks.gru import GRU
from banel_envs.policies.networks.transformer import Block, Parts, Transformer

LAYERS = (Transformer, Block, nn.Linear, nn.LayerNorm, nn.Embedding, nn.ModuleList, nn.Identity)
EPSILON = 1e-5  # of a layer norm; the kernel has this constant compiled in
MOST_LAYERS, MOST_TOKENS = 64, 3_000  # of a network that is trained; the kernel's scratch is laid out for these
EIGHT = 8  # the kernel sums so many numbers at once, so the features of one head must be a multiple of it


def takes(network: Any) -> bool:
    """Whether the kernel is in use and computes this network's steps."""
    return kernel.kind() == kernel.COMPILED and _is_plain(network) and _fits(network.parts())


def takes_gru(network: Any) -> bool:
    """Whether the kernel is in use and computes this network's steps: it is a GRU of this package, without changes."""
    if kernel.kind() != kernel.COMPILED or type(network) is not GRU:
        return False
    layers = (network, network.token, network.position, network.cell, network.head)
    kinds = [GRU, nn.Embedding, nn.Embedding, nn.GRU, nn.Linear]
    if [type(layer) for layer in layers] != kinds or any(map(_is_changed, layers)):
        return False
    config, cell = network.config, network.cell
    V, d = config.vocabulary, config.width
    if d % EIGHT or cell.bidirectional or not cell.bias or cell.dropout or cell.proj_size:
        return False
    expected: list[tuple[Any, tuple[int, ...]]] = [
        (network.token.weight, (V + 1, d)),
        (network.position.weight, (config.horizon, d)),
    ]
    expected += [(network.head.weight, (V, d)), (network.head.bias, (V,))]
    for weights in cell.all_weights:
        expected += list(zip(weights, ((3 * d, d), (3 * d, d), (3 * d,), (3 * d,)), strict=True))
    return len(cell.all_weights) == config.layers and _all_fit(expected)


def trains(network: Any) -> bool:
    """Whether the kernel is in use and trains this network: every weight is to be trained, and it is not too large."""
    if not (takes(network) or takes_gru(network)) or not all(map(_is_trained, network.parameters())):
        return False
    if any(module._backward_hooks or module._backward_pre_hooks for module in network.modules()):
        return False
    config = network.config
    return bool(config.layers <= MOST_LAYERS and config.horizon <= MOST_TOKENS)


def _is_trained(weight: Tensor) -> bool:
    """Whether a weight is to be trained, by its plain gradient, and lies in memory row by row: the kernel writes there."""
    hooked = weight._backward_hooks or getattr(weight, "_post_accumulate_grad_hooks", None)
    return weight.requires_grad and weight.is_contiguous() and not hooked


def _is_plain(network: Any) -> bool:
    """Whether a network computes just what its `parts` say.

    A subclass, a layer of another kind, a hook or a method of its own could make it compute something else.
    """
    if "parts" not in vars(type(network)):
        return False
    return all(
        (type(module) in LAYERS or module is network)
        and not _is_changed(module)
        and getattr(module, "eps", EPSILON) == EPSILON
        for module in network.modules()
    )


def _is_changed(module: nn.Module) -> bool:
    """Whether a layer has a hook, or a method of its own in place of its class's."""
    own = any(callable(getattr(type(module), name, None)) for name in vars(module))
    return own or bool(module._forward_hooks or module._forward_pre_hooks)


def _fits(parts: Parts) -> bool:
    """Whether every weight is there, is float32 on a CPU, and has the shape that the config says."""
    body, config = parts.body, parts.body.config
    V, d = config.vocabulary, config.width
    if d % (EIGHT * config.heads) or [block.heads for block in body.blocks] != [config.heads] * config.layers:
        return False
    expected = [
        (body.token.weight, (V + 1, d)),
        (body.position.weight, (config.horizon, d)),
        *((weight, (d,)) for weight in (body.norm.weight, body.norm.bias)),
        *((parts.head, (V, d)), (parts.bias, (V,))),
    ]
    if parts.after is not None:
        expected.append((parts.after, (V + 1, V)))
    for block in body.blocks:
        expected += [(weight, (d,)) for norm in (block.norm1, block.norm2) for weight in (norm.weight, norm.bias)]
        for part, (out, entering) in zip(
            (block.qkv, block.mix, block.up, block.down), ((3 * d, d), (d, d), (4 * d, d), (d, 4 * d)), strict=True
        ):
            expected += [(part.weight, (out, entering)), (part.bias, (out,))]
    return _all_fit(expected)


def _all_fit(expected: Iterable[tuple[Any, tuple[int, ...]]]) -> bool:
    """Whether every weight is there, is float32 on a CPU, and has its shape."""
    return all(
        weight is not None
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and tuple(weight.shape) == shape
        for weight, shape in expected
    )
