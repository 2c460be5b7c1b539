"""The one registry of policy kinds: what a kind is called in a stored policy, its class, and the form that it is stored in.

A new kind is one line in KINDS. A policy made of other policies needs a Form of its own (forms.py); every other class has
`spec()`, `arrays()` and `from_spec`, and a network is what `TorchPolicy` makes of it.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from banel_envs.errors import MissingExtra
from banel_envs.policies.storage import forms


@dataclass(frozen=True)
class Kind:
    """One kind of policy."""

    where: str
    """Its class as "module:Class", imported when one is read; a network's own class where `form` is NETWORK."""
    form: forms.Form


KINDS: dict[str, Kind] = {
    "transformer": Kind("banel_envs.policies.networks.transformer:Transformer", forms.NETWORK),
    "gru": Kind("banel_envs.policies.networks.gru:GRU", forms.NETWORK),
    "chained": Kind("banel_envs.policies.networks.markov_transformer:ChainedTransformer", forms.NETWORK),
    "uniform": Kind("banel_envs.policies.composed:Uniform", forms.BARE),
    "repeating": Kind("banel_envs.policies.composed:Repeating", forms.LEAF),
    "mixture": Kind("banel_envs.policies.composed:Mixture", forms.MIXTURE),
    "excluding": Kind("banel_envs.policies.composed:Excluding", forms.EXCLUDING),
    "tempered": Kind("banel_envs.policies.composed:Tempered", forms.TEMPERED),
    "filtered": Kind("banel_envs.policies.filtered:Filtered", forms.FILTERED),
}


def class_of(kind: str) -> Any:
    """The class of a kind; MissingExtra where it needs a package that is not installed."""
    module, name = KINDS[kind].where.split(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"a {kind} policy needs {error.name}: pip install 'banel-envs[torch]'") from error
