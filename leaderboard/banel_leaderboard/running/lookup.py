"""Which task or agent a name in a file stands for.

A name that is read from a file is looked up in the registries and nowhere else. So a folder can never decide which code
is imported. Whoever has tasks or agents of their own names their code on the command line (`--task module:function`,
`--agent module:Class`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from banel_agents import AGENTS
from banel_agents.base import Agent
from banel_envs import TASKS, Task
from banel_envs.data import DataMissing
from banel_envs.errors import BadValue, BanelError, MissingExtra, ModelMissing
from banel_envs.tasks import SHIPPED
from banel_leaderboard.records.spec import load_agent, load_task


class CannotTell(BanelError):
    """What a file says can be neither proved nor disproved on this machine; the message names what is missing."""


@dataclass(frozen=True)
class Known:
    """The tasks and agents that a name in a file may stand for: the registered ones and those of `own_code`."""

    tasks: Mapping[str, Task] = field(default_factory=dict)
    """The user's own tasks, by id."""
    agents: Mapping[str, str] = field(default_factory=dict)
    """The user's own agents: name to "module:Class"."""

    def task(self, id: str) -> Task:
        """The task with this id.

        Raises:
            CannotTell: it is neither registered nor named on the command line, or a model or data of it are missing here.
        """
        if id in self.tasks:
            return self.tasks[id]
        if id in TASKS:
            try:
                return TASKS[id]
            except (MissingExtra, ModelMissing, DataMissing) as error:  # a task that is brought
                raise CannotTell(f"the task {id} cannot be built here: {error}") from error
        raise CannotTell(f"the task {id!r} is not registered here; name its code with --task module:function")

    def ships(self, agent: str) -> bool:
        """Whether the agent of this name is the one that ships with the package."""
        return agent in AGENTS and agent not in self.agents

    def agent(self, name: str, settings: Mapping[str, Any] | None = None) -> Agent:
        """The agent of this name, with these settings.

        Raises:
            CannotTell: it neither ships with the package nor was named on the command line.
            BadValue: the settings are not the agent's.
        """
        # load_agent would import "module:Class", so a name from a file must not come to it unseen.
        if name not in self.agents and name not in AGENTS:
            raise CannotTell(f"the agent {name!r} does not ship here; name its code with --agent module:Class")
        return load_agent(self.agents.get(name, name), settings)


def own_code(tasks: Iterable[str] = (), agents: Iterable[str] = ()) -> Known:
    """Import the code that the command line names: "module:function" returns a Task, "module:Class" is an agent.

    Raises:
        BadValue: the function or class does not exist, is not a task or an agent, or takes the name of one that ships.
        UnknownName: there is no such module.
    """
    tasks, agents = [name for name in tasks if ":" in name], [name for name in agents if ":" in name]
    allow_own_modules([*tasks, *agents])
    made = {(task := load_task(where)).problem.id: task for where in tasks}
    named = {load_agent(where).name: where for where in agents}
    # A shipped name that stands for other code would make the board show that code as the shipped task or agent.
    for noun, taken in (("task", made.keys() & set(SHIPPED)), ("agent", named.keys() & set(AGENTS))):
        if taken:
            raise BadValue(f"{noun} {min(taken)!r} ships with the package; give yours another name")
    return Known(made, named)


def allow_own_modules(names: Iterable[str]) -> None:
    """Let modules in the working folder be imported, if one of the names is "module:something".

    The folder is put at the end of sys.path, so that no file in it can replace a module that is installed.
    """
    here = str(Path.cwd())
    if any(":" in name for name in names) and here not in sys.path:
        sys.path.append(here)
