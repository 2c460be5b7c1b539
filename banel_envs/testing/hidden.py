"""What an agent must not reach: the reward and the success set, from the problem that it is given."""

from __future__ import annotations

import functools
import types
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from banel_envs.errors import ContractBroken
from banel_envs.task import Task


def check_hidden(task: Task) -> None:
    """Nothing that hangs on the Problem leads to the reward or the success set.

    Followed are attributes, containers, closures and arguments bound to functions; not modules, where Python hides
    nothing.
    """
    hidden: list[Any] = [task, task.reward, task.successes, task.witness]
    hidden += [owner for f in hidden[1:] if not isinstance(owner := getattr(f, "__self__", None), types.ModuleType)]
    # Compared by identity: an equal object elsewhere gives nothing away, and comparing could run code of the task.
    targets = {id(thing) for thing in hidden if thing is not None}
    seen: set[int] = set()
    queue: deque[tuple[str, Any]] = deque([("problem", task.problem)])
    while queue:
        path, thing = queue.popleft()
        if id(thing) in targets:
            raise ContractBroken(f"{task.problem.id}: {path} leads to its reward or its success set")
        for name, part in _parts(thing):
            if id(part) not in seen:
                seen.add(id(part))
                queue.append((f"{path}{name}", part))


def _parts(thing: Any) -> Iterator[tuple[str, Any]]:
    """What hangs on an object, each with how to write it."""
    if isinstance(thing, str | bytes | int | float | np.ndarray | type | types.ModuleType | None):
        return
    if isinstance(thing, dict):
        yield from ((f"[{key!r}]", value) for key, value in thing.items())
    elif isinstance(thing, list | tuple | set | frozenset):
        yield from ((f"[{k}]", value) for k, value in enumerate(thing))
    elif isinstance(thing, functools.partial):
        yield from (("(" + name + ")", getattr(thing, name)) for name in ("func", "args", "keywords"))
    else:
        yield from ((f".{name}", value) for name, value in getattr(thing, "__dict__", {}).items())
        for name in ("__self__", "__func__", "__wrapped__", "__defaults__", "__kwdefaults__"):
            yield f".{name}", getattr(thing, name, None)
        for k, cell in enumerate(getattr(thing, "__closure__", None) or ()):
            yield f".__closure__[{k}]", cell.cell_contents
