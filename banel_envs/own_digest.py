"""The digest of a task that states none: of what can be known of it, so that two versions of a task are told apart.

It covers the files in which the task's function and its reward are written, which of their functions they are, the problem,
what the task says in numbers and words, and the base policy where that has a stored form. It does
not cover what these read elsewhere, such as other modules, data files and environment variables.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from banel_envs.errors import BadValue, BanelError
from banel_envs.policies.storage import store

if TYPE_CHECKING:
    from banel_envs.problem import Problem


def digest_of(
    problem: Problem,
    function: Callable[[], Any],
    reward: Callable[..., Any],
    files: Iterable[Path],
    plain: Mapping[str, Any] | None = None,
) -> str:
    """The SHA-256 of a task that states no digest.

    Args:
        problem: the task's.
        function: the task's function.
        reward: the task's.
        files: see `sources`.
        plain: what else the task says, by name, such as its threshold.

    Raises:
        BadValue: the base policy cannot be made or stored, which the digest would need.
        BanelError: as the base policy raises it, such as ModelMissing.
    """
    told = {
        "sources": sorted(_sha256(text) for text in _texts(files, (function, reward))),
        # Two functions of one file may make two tasks of one id.
        "functions": [_said(function), _said(reward)],
        "types": [repr(kind) for kind in problem.failure_types],
        **(plain or {}),
        **problem.facts(),
        "base": _base(problem),
    }
    return _sha256(json.dumps(told, sort_keys=True, default=str).encode())


def _said(thing: Any) -> list[Any]:
    """A function's name, and the plain values that are bound to it."""
    if not isinstance(thing, partial):
        return [getattr(thing, "__qualname__", type(thing).__qualname__)]
    bound = [*thing.args, *(value for _, value in sorted(thing.keywords.items()))]
    return [*_said(thing.func), *(v if isinstance(v, str | int | float | None) else type(v).__name__ for v in bound)]


def sources(function: Callable[[], Any], reward: Callable[..., Any], module: str | None = None) -> tuple[Path, ...]:
    """The files that the digest covers: that of the module, and those below its folder that hold the function or the reward.

    A reward of an installed library is not among them: another version of the library would be another task.

    Args:
        function: the task's function.
        reward: the task's.
        module: the name of the module that the function was found in, where another one may define it.
    """
    first = _file(module or _module(function))
    if first is None:
        return ()
    others = (_file(_module(thing)) for thing in (function, reward))
    return tuple(sorted({first, *(path for path in others if path is not None and first.parent in path.parents)}))


def _module(thing: Any) -> str | None:
    while isinstance(thing, partial):
        thing = thing.func
    name = getattr(thing, "__module__", None)
    return name if isinstance(name, str) else None


def _file(module: str | None) -> Path | None:
    path = getattr(sys.modules.get(module or ""), "__file__", None)
    return Path(path).resolve() if path is not None and Path(path).is_file() else None


def _texts(files: Iterable[Path], things: Iterable[Any]) -> list[bytes]:
    """The bytes of the files; where there are none, as in a notebook, the text of each thing as far as Python knows it."""
    if found := [path.read_bytes() for path in files]:
        return found
    return [text for thing in things if (text := _text(thing))]


def _text(thing: Any) -> bytes:
    try:
        return inspect.getsource(thing).encode()
    except (OSError, TypeError):
        return b""


def _base(problem: Problem) -> str | None:
    """The digest of the base policy; None where it has no stored form."""
    try:
        policy = problem.base_policy()
    except BanelError:
        raise
    except Exception as error:  # a person's own function may raise anything
        raise BadValue(
            f"{problem.id}: its base policy raised {type(error).__name__}: {error}; mend it, or give the Task a digest of its "
            f"own, which does not need it"
        ) from error
    try:
        return store.digest(policy)
    except BadValue:
        return None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
