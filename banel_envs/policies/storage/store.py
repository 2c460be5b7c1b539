"""Save and load policies as safetensors files: the weights as arrays, the structure as JSON in the metadata. No pickle.

A file may come from a stranger. It is read whole, up to a largest size. Before anything is made of it, three things are
checked, one after the other: the container (container.py), the structure, and the sizes and arrays of each policy
(checks.py).
"""

from __future__ import annotations

import bisect
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from banel_envs.assets import asset
from banel_envs.errors import AssetError, BadJson, BadTokens, BadValue, FileRefused
from banel_envs.files import safe_files
from banel_envs.files.visible import shown
from banel_envs.policies.protocol import Policy
from banel_envs.policies.storage import checks
from banel_envs.policies.storage.container import Arrays, split
from banel_envs.policies.storage.forms import Sizes
from banel_envs.policies.storage.kinds import KINDS, class_of

if TYPE_CHECKING:
    from banel_envs.problem import Problem

NO_ARRAYS = "none"  # an empty array that stands for no array at all, because a safetensors file holds at least one


def save_policy(path: str | Path, policy: Policy) -> None:
    """Write a policy as one safetensors file; BadValue if its kind or its precision has no stored form."""
    writer = _Writer()
    spec, arrays = writer.part(policy, ""), writer.arrays
    save_file(arrays or {NO_ARRAYS: np.zeros(0)}, path, metadata={"policy": json.dumps(spec)})
    Path(path).chmod(0o644)  # safetensors writes files that only their owner can read


def as_stored(policy: Policy) -> Policy:
    """What would be read of the policy after it was stored; BadValue if it has no stored form, ValueError if it is refused."""
    writer = _Writer()
    spec = writer.part(policy, "")
    return _Reader(writer.arrays, finite=True).policy(json.loads(json.dumps(spec)))


def digest(policy: Policy) -> str:
    """SHA-256 of the policy's structure and arrays; BadValue if the policy has no stored form.

    It is not the SHA-256 of the file that `save_policy` writes.
    """
    writer = _Writer()
    spec, arrays = writer.part(policy, ""), writer.arrays
    # The shapes are hashed too: the same bytes in another shape are other weights.
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
    """Read a policy that save_policy wrote.

    Args:
        path: the file, of at most safe_files.POLICY bytes.
        problem: the policy must write sequences of this problem. A policy of another size could need any amount of memory.
        below: a folder above the file. No folder between the two may be a link.
        links: whether the file itself may be a link.
        finite: whether weights that are NaN or infinite are refused.

    Raises:
        AssetError: the file is missing, is no regular file, is not safetensors or holds no policy. Until then no object
            larger than the file was made.
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
    # What a stranger's file makes the reader raise is a fault of the file, whatever its type.
    except (BadJson, BadValue, BadTokens, LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise AssetError(f"{path} is not a stored policy: {error}") from error


def shipped_policy(name: str) -> Policy:
    """A new copy of a shipped policy, by the name of its file; raises what `asset` and `load_policy_file` raise."""
    return load_policy_file(asset(name), links=True)  # some installers install links instead of files


@dataclass
class _Writer:
    """Collects the arrays of a policy and of the policies that it is made of."""

    arrays: Arrays = field(default_factory=dict)

    def part(self, policy: Any, prefix: str) -> dict[str, Any]:
        """The structure of a policy, whose arrays are collected under names that begin with the prefix."""
        kind = getattr(policy, "kind", None)
        if kind not in KINDS:
            raise BadValue(f"a {type(policy).__name__} cannot be stored; the kinds are {', '.join(KINDS)}")
        return {"kind": kind, **KINDS[kind].form.pack(policy, prefix, self)}

    def array(self, name: str, array: NDArray[Any]) -> None:
        """Keep an array under its full name."""
        self.arrays[name] = array


@dataclass
class _Reader:
    """Makes the policies that a structure describes. Each array is taken once."""

    arrays: Arrays
    finite: bool
    parts: int = 0  # policies made so far
    names: list[str] = field(default_factory=list)  # of the arrays not yet taken, in order

    def policy(self, spec: Any) -> Policy:
        """The policy of the whole structure; ValueError if an array is left over."""
        self.names = sorted(self.arrays)
        made: Policy = self.part(spec, "")
        left = [name for name in self.names if name != NO_ARRAYS or len(self.arrays) > 1 or self.arrays[name].size]
        if left:
            raise ValueError(f"{len(left)} arrays belong to no part of it, the first is {shown(left[0])}")
        return made

    def part(self, spec: Any, prefix: str) -> Any:
        """The policy of this structure, whose arrays have names that begin with the prefix."""
        # A few bytes of structure can nest a thousand policies, so they are counted and not only their bytes.
        self.parts += 1
        if self.parts > checks.MOST_PARTS:
            raise ValueError(f"it is made of more than {checks.MOST_PARTS:,} policies")
        kind = spec.get("kind") if isinstance(spec, dict) else None
        if not isinstance(kind, str) or kind not in KINDS:
            raise ValueError(f"a policy of the kind {shown(kind)} is not known; the kinds are {', '.join(KINDS)}")
        return KINDS[kind].form.read(class_of(kind), spec, prefix, self)

    def take(self, prefix: str, exactly: bool = False) -> dict[str, NDArray[Any]]:
        """The arrays whose names begin with the prefix, by the rest of their names; with `exactly` the one of that name."""
        # The names are sorted, so the ones with the prefix are neighbours. A loop over all names would be slow with many.
        first = bisect.bisect_left(self.names, prefix)
        last = first
        while last < len(self.names) and self.names[last].startswith(prefix) and not (exactly and last > first):
            last += 1
        taken, self.names[first:last] = self.names[first:last], []
        if exactly and taken != [prefix]:
            raise ValueError(f"the array {shown(prefix)} is missing")
        return {name.removeprefix(prefix): self.arrays[name] for name in taken}

    def sizes(self, policy: Any) -> Sizes:
        """The sizes of a policy that was read, see the function `sizes`."""
        return sizes(policy)


def sizes(policy: Any) -> Sizes:
    """Vocabulary V, horizon T and end token of a policy that was read; the end token is ... if the policy does not know it."""
    # A policy around another one has no sizes of its own: they are those of the innermost policy.
    while (member := KINDS[policy.kind].form.member(policy)) is not None:
        policy = member
    return policy.vocabulary, policy.horizon, getattr(policy, "end", ...)
