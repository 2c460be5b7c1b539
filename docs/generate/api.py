"""The reference of the Python interface: every public name, by the name that a user imports it under."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

from generate.text import save, toctree

# Modules whose own names are public. The files behind them may move, so that pages go by these names only.
PUBLIC = {
    "banel_envs": "The meter, the tasks, the environments and the measure of success",
    "banel_envs.policies": "Policies: what a generative model must be able to do, and ready-made ones",
    "banel_envs.bridges": "The desk: one oracle for many threads and processes",
    "banel_envs.bridges.openenv": "OpenEnv: a task as an environment behind a server",
    "banel_envs.bridges.reasoning_gym": "reasoning-gym: its questions as tasks, and tasks as its datasets",
    "banel_envs.bridges.text_env": "Gymnasium: a whole text as one step",
    "banel_envs.bridges.trl": "TRL: a reward function under the meter",
    "banel_envs.bridges.verifiers": "verifiers: a task as a taskset",
    "banel_envs.errors": "Every error that the package raises on purpose",
    "banel_envs.testing": "The contracts of a task and of a policy, to check your own against",
    "banel_agents": "Agents by name",
    "banel_agents.registry": "The registry of agents",
    "banel_agents.base": "What agents share",
    "banel_agents.testing": "The contract of an agent, to check your own against",
    "banel_leaderboard": "Runs, records and boards from Python",
}


def write(folder: Path) -> None:
    """A page for each public module, and the page that lists them."""
    for module, about in PUBLIC.items():
        save(folder / "api" / f"{module}.md", page(module, about))
    about = "Everything here is public; the rest may move without notice (see [what may change](../../deprecation.md))."
    text = f"# Python reference\n\n{about}\n\n"
    save(folder / "api" / "index.md", text + toctree(PUBLIC))


def names(module: Any) -> list[str]:
    """The public names of a module."""
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if not name.startswith("__")]
    own = vars(module).items()
    return [
        name for name, thing in own if not name.startswith("_") and getattr(thing, "__module__", "") == module.__name__
    ]


def page(name: str, about: str) -> str:
    """One module: its public names, but for those that another public module describes."""
    module = importlib.import_module(name)
    parts = [f"# {name}", "", f"{about}.", "", "```{eval-rst}", f".. py:module:: {name}", ""]
    for public in names(module):
        thing = getattr(module, public)
        listed_below = any(
            other.startswith(f"{name}.") and public in names(importlib.import_module(other)) for other in PUBLIC
        )
        if not listed_below and getattr(thing, "__module__", name) not in PUBLIC.keys() - {name}:
            parts += [*directive(f"{name}.{public}", thing), ""]
    return "\n".join([*parts, "```"])


def directive(where: str, thing: Any) -> list[str]:
    """How autodoc is asked for one name."""
    if inspect.isclass(thing):
        members = [] if issubclass(thing, BaseException) else ["   :members:"]
        return [f".. autoclass:: {where}", *members, "   :show-inheritance:"]
    if inspect.isroutine(thing):
        return [f".. autofunction:: {where}"]
    return [f".. autodata:: {where}", "   :no-value:"]
