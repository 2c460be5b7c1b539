"""A copy of a network in a tenth of the time that copy.deepcopy takes."""

from __future__ import annotations

import copy
from dataclasses import is_dataclass
from typing import Any

from torch import nn


def copied(network: Any) -> Any:
    """An independent copy of a network, without its gradients.

    copy.deepcopy takes 10 ms for a small network, ten times as long as a step of training, because it looks at every
    attribute of every layer. Here only the tensors are copied, where all layers are of known classes and hold nothing else.
    """
    if type(network).__module__ not in KNOWN or any(_is_special(module) for module in network.modules()):
        return copy.deepcopy(network)
    return _twin(network)


KNOWN = tuple(f"banel_envs.policies.networks.{name}" for name in ("transformer", "gru", "markov_transformer"))
OWN = ("_parameters", "_buffers", "_modules")  # the attributes of a torch module that hold what it is made of


def _is_special(module: nn.Module) -> bool:
    """Whether a layer may hold something that a copy of its tensors would miss or share, such as a hook or a bound method."""
    known = type(module).__module__ in KNOWN or type(module) in (
        *(nn.Linear, nn.LayerNorm, nn.Embedding, nn.ModuleList, nn.Identity),
    )
    return not known or not all(_is_plain(value) for name, value in vars(module).items() if name not in OWN)


def _is_plain(value: Any) -> bool:
    """Whether an attribute can be shared by two networks, or is an empty container."""
    if isinstance(value, dict | set | list):
        return not value
    return value is None or is_dataclass(value) or isinstance(value, bool | int | float | str | tuple)


def _twin(module: nn.Module) -> nn.Module:
    twin = object.__new__(type(module))
    for name, value in vars(module).items():
        vars(twin)[name] = type(value)() if isinstance(value, dict | set | list) else value
    vars(twin)["_parameters"] = {
        name: None if p is None else nn.Parameter(p.detach().clone(), p.requires_grad)
        for name, p in module._parameters.items()
    }
    vars(twin)["_buffers"] = {name: None if b is None else b.clone() for name, b in module._buffers.items()}
    vars(twin)["_modules"] = {name: None if m is None else _twin(m) for name, m in module._modules.items()}
    return twin
