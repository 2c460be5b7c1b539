"""The registry of policy kinds: the name of each kind in a stored policy, its class, and the form in which it is stored.

To add a kind, add one line to KINDS. A policy that is made of other policies also needs a Form of its own (forms.py). Every
other class needs `spec()`, `arrays()` and `from_spec`; for a network, `TorchPolicy` has them.
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
    """Its class as "module:Class", or the class of the network if `form` is NETWORK. It is imported when a policy is read."""
    form: forms.Form


KINDS: dict[str, Kind] = {
    "transformer": Kind("banel_envs.policies.networks.transformer:Transformer", forms.NETWORK),
    "gru": Kind("banel_envs.policies.networks.gru:GRU", forms.NETWORK),
    "chained": Kind("banel_envs.policies.networks.markov_transformer:ChainedTransformer", forms.NETWORK),
    "uniform": Kind("banel_envs.policies.untrained:Uniform", forms.BARE),
    "repeating": Kind("banel_envs.policies.untrained:Repeating", forms.LEAF),
    "mixture": Kind("banel_envs.policies.composed.mixture:Mixture", forms.MIXTURE),
    "excluding": Kind("banel_envs.policies.composed.excluding:Excluding", forms.EXCLUDING),
    "tempered": Kind("banel_envs.policies.composed.tempered:Tempered", forms.TEMPERED),
    "grammar": Kind("banel_envs.policies.grammar:UniformGrammar", forms.LEAF),
    "masked": Kind("banel_envs.policies.grammar:Masked", forms.MASKED),
    "guided": Kind("banel_envs.policies.composed.guided:Guided", forms.GUIDED),
    "onnx": Kind("banel_envs.policies.onnx_models.policy:OnnxPolicy", forms.ONNX),
    "filtered": Kind("banel_envs.policies.composed.filtered:Filtered", forms.FILTERED),
    "prompted": Kind("banel_envs.policies.language.prompted_policy:PromptedPolicy", forms.LEAF),
    "language": Kind("banel_envs.policies.language.hf_policy:HFPolicy", forms.LEAF),
}


def class_of(kind: str) -> Any:
    """The class of a kind; MissingExtra if it needs a package that is not installed."""
    module, name = KINDS[kind].where.split(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        extra = "llm" if kind == "language" else "torch"
        raise MissingExtra(f"a {kind} policy needs {error.name}: pip install 'banel-envs[{extra}]'") from error
