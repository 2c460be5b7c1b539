"""Policies as safetensors files: weights as arrays, structure as JSON in the file's metadata. No pickle.

A file may come from a stranger. It is read whole, up to a size, and what it claims is checked from the outside in: the
container (container.py), the structure, then each policy's sizes and arrays (checks.py), before anything is made of them.
"""

from __future__ import annotations

import bisect
import hashlib
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from banel_envs.assets import asset
from banel_envs.errors import AssetError, BadJson, BadTokens, BadValue, FileRefused, MissingExtra
from banel_envs.files import safe_files
from banel_envs.policies.autoregressive import CHUNK, Autoregressive
from banel_envs.policies.composed import Excluding, Mixture, Repeating, Tempered, Uniform
from banel_envs.policies.filtered import Filtered
from banel_envs.policies.protocol import Policy
from banel_envs.policies.storage import checks
from banel_envs.policies.storage.container import Arrays, split
from banel_envs.visible import shown

if TYPE_CHECKING:
    from banel_envs.problem import Problem

LEAVES: dict[str, str] = {
    "transformer": "banel_envs.policies.torch_policy:TorchPolicy",
    "gru": "banel_envs.policies.torch_policy:TorchPolicy",
    "chained": "banel_envs.policies.torch_policy:TorchPolicy",
    "uniform": f"{Uniform.__module__}:Uniform",
    "repeating": f"{Repeating.__module__}:Repeating",
}
"""kind -> class with spec(), arrays() and from_spec(); imported when one is read."""

NETWORKS = ("transformer", "gru", "chained")
COMPOSED = (Mixture.kind, Excluding.kind, Tempered.kind, Filtered.kind)
NO_ARRAYS = "none"  # the one array of a policy without any: a file of safetensors has at least one


def save_policy(path: str | Path, policy: Policy) -> None:
    """Write a policy as one safetensors file; BadValue if it is of a kind, or a precision, that has no stored form."""
    arrays: Arrays = {}
    spec = _pack(policy, "", arrays)
    save_file(arrays or {NO_ARRAYS: np.zeros(0)}, path, metadata={"policy": json.dumps(spec)})
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


def load_policy_file(
    path: str | Path,
    *,
    problem: Problem | None = None,
    below: Path | None = None,
    links: bool = False,
    finite: bool = True,
) -> Policy:
    """Read what save_policy wrote.

    Args:
        path: the file, of at most safe_files.POLICY bytes.
        problem: whose sequences it must write: one of another size could take any memory when it is asked.
        below: a folder that the path is below: no folder between the two may be a link.
        links: whether the file itself may be a link.
        finite: refuse weights that are NaN or infinite.

    Raises:
        AssetError: missing, no regular file, not safetensors, or not a policy; nothing larger than the file was made of it.
    """
    try:
        spec, arrays = split(safe_files.read(path, safe_files.POLICY, below=below, links=links))
        policy = _Reader(arrays, finite).policy(spec)
        if problem is not None and sizes(policy)[:2] != (problem.V, problem.T):
            V, T, _ = sizes(policy)
            raise ValueError(
                f"it writes {T} of {V} tokens; the sequences of {problem.id} are {problem.T} of {problem.V}"
            )
        return policy
    except FileRefused as error:
        raise AssetError(str(error)) from error
    except (BadJson, BadValue, BadTokens, LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise AssetError(f"{path} is not a stored policy: {error}") from error


def shipped_policy(name: str) -> Policy:
    """A fresh copy of a shipped policy, by its file's name; raises what `asset` and `load_policy_file` raise."""
    return load_policy_file(asset(name), links=True)  # an installer may link what it installs


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
    own = {name: np.ascontiguousarray(array) for name, array in policy.arrays().items()}
    if odd := [f"{name} is {a.dtype}" for name, a in own.items() if a.dtype != np.float32 and kind in NETWORKS]:
        raise BadValue(f"a {kind} whose {odd[0]} cannot be stored; weights are float32: policy.network.float()")
    arrays.update({prefix + name: array for name, array in own.items()})
    return {"kind": kind, **policy.spec()}


@dataclass
class _Reader:
    """Makes policies of a structure, taking each array once."""

    arrays: Arrays
    finite: bool
    parts: int = 0  # policies made so far
    names: list[str] = field(default_factory=list)  # of the arrays not yet taken, in order

    def policy(self, spec: Any) -> Policy:
        """The whole; ValueError if an array is left over."""
        self.names = sorted(self.arrays)
        made: Policy = self._part(spec, "")
        left = [name for name in self.names if name != NO_ARRAYS or len(self.arrays) > 1 or self.arrays[name].size]
        if left:
            raise ValueError(f"{len(left)} arrays belong to no part of it, the first is {shown(left[0])}")
        return made

    def _part(self, spec: Any, prefix: str) -> Any:
        self.parts += 1
        if self.parts > checks.MOST_PARTS:
            raise ValueError(f"it is made of more than {checks.MOST_PARTS:,} policies")
        kind = spec.get("kind") if isinstance(spec, dict) else None
        if not isinstance(kind, str) or kind not in (*LEAVES, *COMPOSED):
            known = ", ".join((*LEAVES, *COMPOSED))
            raise ValueError(f"a policy of the kind {shown(kind)} is not known; the kinds are {known}")
        return {
            Mixture.kind: self._mixture,
            Tempered.kind: self._tempered,
            Excluding.kind: self._excluding,
            Filtered.kind: self._filtered,
        }.get(kind, self._leaf)(spec, prefix)

    def _mixture(self, spec: Mapping[str, Any], prefix: str) -> Mixture:
        checks.keys("a mixture", spec, ("kind", "members"))
        return Mixture(_alike(self._several(spec["members"], prefix)))

    def _tempered(self, spec: Mapping[str, Any], prefix: str) -> Tempered:
        checks.keys("a tempered policy", spec, ("kind", "policy", "temperature"))
        inner = self._part(spec["policy"], f"{prefix}policy.")
        if not isinstance(inner, Autoregressive):
            raise ValueError(f"a {type(inner).__name__} has no temperature")
        return Tempered(inner, checks.temperature(spec["temperature"]))

    def _excluding(self, spec: Mapping[str, Any], prefix: str) -> Excluding:
        checks.keys("an excluding policy", spec, ("kind", "policy"))
        before = self.parts
        inner = self._part(spec["policy"], f"{prefix}policy.")
        excluded = self._take(f"{prefix}excluded", exactly=True)[""]
        vocabulary, horizon, _ = sizes(inner)
        checks.sequences("excluded", excluded, 2, vocabulary, horizon)
        checks.work(len(excluded), self.parts - before, horizon, vocabulary, CHUNK)
        return Excluding(inner, excluded)

    def _filtered(self, spec: Mapping[str, Any], prefix: str) -> Filtered:
        checks.keys("a filtered policy", spec, ("kind", "policy", "models", "log_taus", "proposed", "accepted"))
        models = self._several(spec["models"], prefix)
        inner, *models = _alike([self._part(spec["policy"], f"{prefix}policy."), *models])
        taus = spec["log_taus"]
        if not isinstance(taus, list) or len(taus) != len(models):
            raise ValueError(f"log_taus is {shown(taus)}; it has a number for each of {len(models)} models")
        proposed = checks.whole("proposed", spec["proposed"], 1, 10**15)
        accepted = checks.whole("accepted", spec["accepted"], 1, proposed)
        return Filtered(inner, models, [checks.number("log_tau", tau) for tau in taus], proposed, accepted)

    def _several(self, specs: Any, prefix: str) -> list[Policy]:
        if not isinstance(specs, list):
            raise ValueError(f"a list of policies is {shown(specs)}")
        return [self._part(spec, f"{prefix}{k}.") for k, spec in enumerate(specs)]

    def _leaf(self, spec: Mapping[str, Any], prefix: str) -> Policy:
        kind = spec["kind"]
        module, name = LEAVES[kind].split(":")
        try:
            make = getattr(importlib.import_module(module), name).from_spec
        except ModuleNotFoundError as error:
            raise MissingExtra(f"a {kind} policy needs {error.name}: pip install 'banel-envs[torch]'") from error
        if kind in NETWORKS:
            make = partial(make, finite=self.finite)
        own = {} if kind == Uniform.kind else self._take(prefix)
        made: Policy = make(spec, own)
        return made

    def _take(self, prefix: str, exactly: bool = False) -> dict[str, NDArray[Any]]:
        """The arrays whose names begin so, by the rest of their names; with `exactly` the one of this name."""
        first = bisect.bisect_left(self.names, prefix)
        last = first
        while last < len(self.names) and self.names[last].startswith(prefix) and not (exactly and last > first):
            last += 1
        taken, self.names[first:last] = self.names[first:last], []
        if exactly and taken != [prefix]:
            raise ValueError(f"the array {shown(prefix)} is missing")
        return {name.removeprefix(prefix): self.arrays[name] for name in taken}


def sizes(policy: Any) -> tuple[int, int, int | EllipsisType | None]:
    """Vocabulary V, horizon T and end token of a policy that was read; ... where it does not know its end token."""
    if isinstance(policy, Mixture):
        return sizes(policy.members[0])
    if isinstance(policy, Excluding | Filtered):
        return sizes(policy.policy)
    if isinstance(policy, Repeating):
        return policy.vocabulary, len(policy.tokens), ...
    return policy.vocabulary, policy.horizon, policy.end


def _alike(policies: list[Policy]) -> list[Policy]:
    """ValueError unless all write the same space of sequences."""
    found = [sizes(policy) for policy in policies]
    if len({(V, T) for V, T, _ in found}) > 1 or len({end for *_, end in found} - {...}) > 1:
        odd = next(size for size in found if size != found[0])
        raise ValueError(f"its parts differ in vocabulary, horizon or end token: {found[0]} and {odd}")
    return policies
