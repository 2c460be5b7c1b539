"""Policies as safetensors files: weights as arrays, structure as JSON in the file's metadata. No pickle."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from banel_envs.assets import asset
from banel_envs.errors import AssetError, BadValue, MissingExtra
from banel_envs.policies.autoregressive import Autoregressive
from banel_envs.policies.combine import Excluding, Mixture, Repeating, Tempered, Uniform
from banel_envs.policies.filtered import Filtered
from banel_envs.policies.protocol import Policy

Arrays = dict[str, NDArray[Any]]

LEAVES: dict[str, str] = {
    "transformer": "banel_envs.policies.network:TorchPolicy",
    "gru": "banel_envs.policies.network:TorchPolicy",
    "chained": "banel_envs.policies.network:TorchPolicy",
    "uniform": f"{Uniform.__module__}:Uniform",
    "repeating": f"{Repeating.__module__}:Repeating",
}
"""kind -> class with spec(), arrays() and from_spec(); imported when one is read."""

COMPOSED = (Mixture.kind, Excluding.kind, Tempered.kind)


def save_policy(path: str | Path, policy: Policy) -> None:
    """Write a policy as one safetensors file; BadValue if it is of a kind that has no stored form."""
    arrays: Arrays = {}
    spec = _pack(policy, "", arrays)
    save_file(arrays or {"none": np.zeros(0)}, path, metadata={"policy": json.dumps(spec)})
    Path(path).chmod(0o644)  # safetensors writes files that only their owner can read


def digest(policy: Policy) -> str:
    """SHA-256 of all that save_policy would write, not of its file; BadValue if there is no such thing."""
    arrays: Arrays = {}
    spec = _pack(policy, "", arrays)
    shapes = {name: [array.dtype.str, array.shape] for name, array in arrays.items()}
    found = hashlib.sha256(json.dumps([spec, shapes]).encode())
    for array in arrays.values():
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def load_policy_file(path: str | Path) -> Policy:
    """Read what save_policy wrote.

    Raises:
        AssetError: missing, not safetensors, or not a policy.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            spec = json.loads((file.metadata() or {})["policy"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return _unpack(spec, "", arrays)
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise AssetError(f"{path} is not a stored policy: {error}") from error


def shipped_policy(name: str) -> Policy:
    """A fresh copy of a shipped policy, by its file's name; raises what `asset` and `load_policy_file` raise."""
    return load_policy_file(asset(name))


def _pack(policy: Any, prefix: str, arrays: Arrays) -> dict[str, Any]:
    kind = getattr(policy, "kind", None)
    if isinstance(policy, Mixture):
        return {"kind": kind, "members": [_pack(m, f"{prefix}{k}.", arrays) for k, m in enumerate(policy.members)]}
    if isinstance(policy, Tempered):
        inner = _pack(policy.policy, f"{prefix}policy.", arrays)
        return {"kind": kind, "policy": inner, "temperature": policy.temperature}
    if isinstance(policy, Excluding):
        arrays[f"{prefix}excluded"] = policy.excluded
        return {"kind": kind, "policy": _pack(policy.policy, f"{prefix}policy.", arrays)}
    if isinstance(policy, Filtered):
        models = [_pack(m, f"{prefix}{k}.", arrays) for k, m in enumerate(policy.failure_models)]
        numbers = {"log_taus": policy.log_taus, "proposed": policy.proposed, "accepted": policy.accepted}
        return {"kind": kind, "policy": _pack(policy.policy, f"{prefix}policy.", arrays), "models": models, **numbers}
    if kind not in LEAVES:
        raise BadValue(f"a {type(policy).__name__} cannot be stored; the kinds are {', '.join((*LEAVES, *COMPOSED))}")
    arrays.update({prefix + name: np.ascontiguousarray(a) for name, a in policy.arrays().items()})
    return {"kind": kind, **policy.spec()}


def _unpack(spec: Mapping[str, Any], prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Policy:
    kind = spec["kind"]
    if kind == "mixture":
        return Mixture([_unpack(m, f"{prefix}{k}.", arrays) for k, m in enumerate(spec["members"])])
    if kind == "tempered":
        return Tempered(cast(Autoregressive, _unpack(spec["policy"], f"{prefix}policy.", arrays)), spec["temperature"])
    if kind == "excluding":
        return Excluding(_unpack(spec["policy"], f"{prefix}policy.", arrays), arrays[f"{prefix}excluded"])
    if kind == "filtered":
        models = [_unpack(m, f"{prefix}{k}.", arrays) for k, m in enumerate(spec["models"])]
        inner = _unpack(spec["policy"], f"{prefix}policy.", arrays)
        return Filtered(inner, models, spec["log_taus"], spec["proposed"], spec["accepted"])
    module, name = LEAVES[kind].split(":")
    try:
        leaf = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"a {kind} policy needs {error.name}: pip install 'banel-envs[torch]'") from error
    own = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
    policy: Policy = leaf.from_spec(spec, own)
    return policy
