"""Forms: one class for each way in which a policy is stored. A form writes and reads the structure and the arrays.

A file may come from a stranger. So a form checks the names and values of a structure before it makes anything of them, and
it raises ValueError for what no policy of this form has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BadValue
from banel_envs.files.visible import shown
from banel_envs.policies.autoregressive import Autoregressive, rows_at_once
from banel_envs.policies.protocol import Policy
from banel_envs.policies.storage import checks

Sizes: TypeAlias = tuple[int, int, "int | EllipsisType | None"]
"""Vocabulary V, horizon T and end token; the end token is ... if a policy does not know it."""


class Writer(Protocol):
    """Takes what a form writes."""

    def part(self, policy: Any, prefix: str) -> dict[str, Any]:
        """The structure of a policy that is inside the one being written."""

    def array(self, name: str, array: NDArray[Any]) -> None:
        """Keep an array under its full name."""


class Reader(Protocol):
    """Gives a form what was written."""

    parts: int
    finite: bool

    def part(self, spec: Any, prefix: str) -> Any:
        """The policy of this structure."""

    def take(self, prefix: str, exactly: bool = False) -> dict[str, NDArray[Any]]:
        """The arrays whose names begin with the prefix, by the rest of their names; with `exactly` the one of that name."""

    def sizes(self, policy: Any) -> Sizes:
        """The sizes of a policy that was read."""


class Form(Protocol):
    """One way in which a policy is stored."""

    def pack(self, policy: Any, prefix: str, writer: Writer) -> dict[str, Any]:
        """The policy's structure without its kind. The arrays go to the writer."""

    def read(self, made: Any, spec: Mapping[str, Any], prefix: str, reader: Reader) -> Any:
        """The inverse of `pack`: a policy of the class `made`."""

    def member(self, policy: Any) -> Any:
        """The policy inside this one that has the same sizes; None if the policy knows its sizes itself."""


class _Leaf:
    """A policy that stores itself: spec(), arrays(), from_spec(spec, arrays)."""

    def pack(self, policy: Any, prefix: str, writer: Writer) -> dict[str, Any]:
        for name, array in policy.arrays().items():
            self._check(policy, name, array)
            writer.array(prefix + name, np.ascontiguousarray(array))
        return dict(policy.spec())

    def read(self, made: Any, spec: Mapping[str, Any], prefix: str, reader: Reader) -> Any:
        return made.from_spec(spec, reader.take(prefix))

    def member(self, policy: Any) -> Any:
        return None

    def _check(self, policy: Any, name: str, array: NDArray[Any]) -> None:
        """Raise nothing: any precision can be stored."""


class _Bare(_Leaf):
    """A policy that consists of its structure and has no arrays."""

    def read(self, made: Any, spec: Mapping[str, Any], prefix: str, reader: Reader) -> Any:
        return made.from_spec(spec, {})


class _Onnx(_Leaf):
    """A policy of any class that gives its own ONNX model. What is read is an OnnxPolicy."""

    def pack(self, policy: Any, prefix: str, writer: Writer) -> dict[str, Any]:
        from banel_envs.policies.onnx_models.policy import arrays_of, spec_of

        for name, array in arrays_of(policy).items():
            writer.array(prefix + name, array)
        return spec_of(policy)


class _Network(_Leaf):
    """A network. The TorchPolicy around it stores it, and its weights are float32."""

    def read(self, made: Any, spec: Mapping[str, Any], prefix: str, reader: Reader) -> Any:
        from banel_envs.policies.torch_policy import TorchPolicy

        return TorchPolicy.from_spec(made, spec, reader.take(prefix), finite=reader.finite)

    def _check(self, policy: Any, name: str, array: NDArray[Any]) -> None:
        if array.dtype != np.float32:
            what = f"a {policy.kind} whose {name} is {array.dtype} cannot be stored"
            raise BadValue(f"{what}; weights are float32: policy.network.float()")


class _Mixture:
    def pack(self, policy: Any, prefix: str, writer: Writer) -> dict[str, Any]:
        return {"members": [writer.part(m, f"{prefix}{k}.") for k, m in enumerate(policy.members)]}

    def read(self, made: Any, spec: Mapping[str, Any], prefix: str, reader: Reader) -> Any:
        checks.keys("a mixture", spec, ("kind", "members"))
        return made(_alike(_several(spec["members"], prefix, reader), reader))

    def member(self, policy: Any) -> Any:
        return policy.members[0]


class _Tempered:
    def pack(self, policy: Any, prefix: str, writer: Writer) -> dict[str, Any]:
        return {"policy": writer.part(policy.policy, f"{prefix}policy."), "temperature": policy.temperature}

    def read(self, made: Any, spec: Mapping[str, Any], prefix: str, reader: Reader) -> Any:
        checks.keys("a tempered policy", spec, ("kind", "policy", "temperature"))
        inner = reader.part(spec["policy"], f"{prefix}policy.")
        if not isinstance(inner, Autoregressive):
            raise ValueError(f"a {type(inner).__name__} has no temperature")
        return made(inner, checks.temperature(spec["temperature"]))

    def member(self, policy: Any) -> Any:
        return policy.policy


class _Masked:
    def pack(self, policy: Any, prefix: str, writer: Writer) -> dict[str, Any]:
        writer.array(f"{prefix}following", policy.following)
        return {"policy": writer.part(policy.policy, f"{prefix}policy.")}

    def read(self, made: Any, spec: Mapping[str, Any], prefix: str, reader: Reader) -> Any:
        checks.keys("a masked policy", spec, ("kind", "policy"))
        inner = reader.part(spec["policy"], f"{prefix}policy.")
        table = reader.take(f"{prefix}following", exactly=True)[""]
        if not isinstance(inner, Autoregressive):
            raise ValueError(f"a {type(inner).__name__} gives no next-token distribution to mask")
        checks.automaton("following", table)
        return made(inner, table)

    def member(self, policy: Any) -> Any:
        return policy.policy


class _Guided:
    def pack(self, policy: Any, prefix: str, writer: Writer) -> dict[str, Any]:
        parts = {name: writer.part(getattr(policy, name), f"{prefix}{name}.") for name in ("policy", "against")}
        return {**parts, "strength": policy.strength}

    def read(self, made: Any, spec: Mapping[str, Any], prefix: str, reader: Reader) -> Any:
        checks.keys("a guided policy", spec, ("kind", "policy", "against", "strength"))
        parts = [reader.part(spec[name], f"{prefix}{name}.") for name in ("policy", "against")]
        for part in _alike(parts, reader):
            if not isinstance(part, Autoregressive):
                raise ValueError(f"a {type(part).__name__} gives no next-token distribution to guide by")
        return made(*parts, checks.number("strength", spec["strength"], 0, checks.MOST_STRENGTH))

    def member(self, policy: Any) -> Any:
        return policy.policy


class _Excluding:
    def pack(self, policy: Any, prefix: str, writer: Writer) -> dict[str, Any]:
        writer.array(f"{prefix}excluded", policy.excluded)
        return {"policy": writer.part(policy.policy, f"{prefix}policy.")}

    def read(self, made: Any, spec: Mapping[str, Any], prefix: str, reader: Reader) -> Any:
        checks.keys("an excluding policy", spec, ("kind", "policy"))
        # What excluding costs depends on how many policies the inner one is made of; see checks.work.
        before = reader.parts
        inner = reader.part(spec["policy"], f"{prefix}policy.")
        excluded = reader.take(f"{prefix}excluded", exactly=True)[""]
        vocabulary, horizon, _ = reader.sizes(inner)
        checks.sequences("excluded", excluded, 2, vocabulary, horizon)
        checks.work(len(excluded), reader.parts - before, horizon, vocabulary, rows_at_once(vocabulary))
        return made(inner, excluded)

    def member(self, policy: Any) -> Any:
        return policy.policy


class _Filtered:
    def pack(self, policy: Any, prefix: str, writer: Writer) -> dict[str, Any]:
        models = [writer.part(m, f"{prefix}{k}.") for k, m in enumerate(policy.failure_models)]
        numbers = {"log_taus": policy.log_taus, "proposed": policy.proposed, "accepted": policy.accepted}
        return {"policy": writer.part(policy.policy, f"{prefix}policy."), "models": models, **numbers}

    def read(self, made: Any, spec: Mapping[str, Any], prefix: str, reader: Reader) -> Any:
        checks.keys("a filtered policy", spec, ("kind", "policy", "models", "log_taus", "proposed", "accepted"))
        models = _several(spec["models"], prefix, reader)
        inner, *models = _alike([reader.part(spec["policy"], f"{prefix}policy."), *models], reader)
        taus = spec["log_taus"]
        if not isinstance(taus, list) or len(taus) != len(models):
            raise ValueError(f"log_taus is {shown(taus)}; it has a number for each of {len(models)} models")
        proposed = checks.whole("proposed", spec["proposed"], 1, 10**15)
        accepted = checks.whole("accepted", spec["accepted"], 1, proposed)
        return made(inner, models, [checks.number("log_tau", tau) for tau in taus], proposed, accepted)

    def member(self, policy: Any) -> Any:
        return policy.policy


BARE, LEAF, NETWORK, ONNX = _Bare(), _Leaf(), _Network(), _Onnx()
MIXTURE, TEMPERED, MASKED, GUIDED = _Mixture(), _Tempered(), _Masked(), _Guided()
EXCLUDING, FILTERED = _Excluding(), _Filtered()


def _several(specs: Any, prefix: str, reader: Reader) -> list[Policy]:
    if not isinstance(specs, list):
        raise ValueError(f"a list of policies is {shown(specs)}")
    return [reader.part(spec, f"{prefix}{k}.") for k, spec in enumerate(specs)]


def _alike(policies: Sequence[Policy], reader: Reader) -> list[Policy]:
    """The policies; ValueError if they do not all write the same space of sequences."""
    found = [reader.sizes(policy) for policy in policies]
    # A policy that does not know its end token (...) fits to any.
    if len({(V, T) for V, T, _ in found}) > 1 or len({end for *_, end in found} - {...}) > 1:
        odd = next(size for size in found if size != found[0])
        raise ValueError(f"its parts differ in vocabulary, horizon or end token: {found[0]} and {odd}")
    return list(policies)
