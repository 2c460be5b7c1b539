"""Tasks of one's own, named as "module:function": each function is called once in a process, however many runs it makes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from banel_envs import TASKS, Task
from banel_envs.errors import BadValue, BanelError
from banel_envs.names import shown
from banel_envs.own_digest import sources
from banel_envs.task import with_digest


@dataclass(frozen=True)
class Built:
    """A task that was built, and all that it was built from, as far as can be seen."""

    task: Task
    stated: bool  # whether the task states its digest itself
    function: Callable[[], Any]
    variables: Mapping[str, Any]  # of the function's module; a person may set one in a notebook
    place: tuple[str, Mapping[str, str]]  # the working folder and the environment
    files: Mapping[Path, bytes]  # that the task's digest covers, with what they held

    def stands(self, function: Callable[[], Any], variables: Mapping[str, Any]) -> bool:
        """Whether the function would be called on the same again; BadValue where a file shows that nobody can tell."""
        if function is not self.function:  # imported again
            return False
        changed = next((path for path, held in self.files.items() if _content(path) != held), None)
        if changed is not None and not self.stated:
            raise BadValue(
                f"{changed} was changed after this process imported it, so what runs here is not what stands there, and "
                f"{self.task.problem.id} states no digest; begin again in a new process, or give the Task a digest"
            )
        same = variables.keys() == self.variables.keys() and all(
            variables[name] is value for name, value in self.variables.items()
        )
        return changed is None and same and self.place == _place()


_BUILT: dict[str, Built] = {}


def own_task(name: str) -> Task:
    """The Task that "module:function" returns, with a digest.

    Raises:
        BadValue: there is no such function, it raised, it returned something else, its id is that of another task, or its
            file was changed after this process imported it.
        BanelError: as the function raises it.
    """
    module, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
        variables = vars(sys.modules[module])
        built = _BUILT.get(name)
        if built is None or not built.stands(function, variables):
            with _one_thread():
                task = function()
            built = _BUILT[name] = _built(name, module, function, task)
    except BanelError:
        raise
    except (Exception, SystemExit) as error:  # the user's own module may raise anything
        raise BadValue(
            f"task {name!r}: {type(error).__name__}: {error}; give an id, or module:function that returns a Task"
        ) from error
    return built.task


def _built(name: str, module: str, function: Callable[[], Any], task: object) -> Built:
    if not isinstance(task, Task):
        raise BadValue(f"task {name!r} returned a {type(task).__name__}; it must return a banel_envs.Task")
    id = task.problem.id
    # Under a registered id the board would take it for the registered task, and refuse the run.
    if id in TASKS and not TASKS.builds(id, function):
        raise BadValue(
            f"task {name!r}: its id is {shown(id)}, which is another, registered task's; give yours another id"
        )
    whole = with_digest(task, function, module)
    files = {path: _content(path) for path in sources(function, task.reward, module)}
    return Built(whole, bool(task.digest), function, dict(vars(sys.modules[module])), _place(), files)


def _place() -> tuple[str, Mapping[str, str]]:
    # The command sets BANEL_LOG for a while (sinks.py), and no task is another one for that.
    return str(Path.cwd()), {name: value for name, value in os.environ.items() if name != "BANEL_LOG"}


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@contextmanager
def _one_thread() -> Iterator[None]:
    """Build as the process of a run does: with more threads PyTorch sums in another order, and trained weights are others."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
