"""banel-agents: algorithms that post-train a generative model under a metered oracle, one file each.

>>> from banel_agents import AGENTS, make_agent
>>> make_agent("tempered", {"temperature": 3.0}).config
TemperedConfig(temperature=3.0, batch=500)
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from banel_envs.errors import BadValue, MissingExtra, UnknownName

if TYPE_CHECKING:
    from banel_agents.base import Agent

AGENTS: dict[str, str] = {
    "base": "banel_agents.controls:Base",
    "without_replacement": "banel_agents.controls:WithoutReplacement",
    "tempered": "banel_agents.controls:TemperedBase",
    "memorise": "banel_agents.controls:Memorise",
    "tempered_sft": "banel_agents.tempered_sft:TemperedSFT",
    "banel": "banel_agents.banel:BaNEL",
    "count": "banel_agents.count:Count",
    "rnd": "banel_agents.rnd:RND",
    "reinforce": "banel_agents.reinforce:Reinforce",
    "ppo": "banel_agents.ppo:PPO",
}
"""The shipped agents, one registry line each: name -> "module:Class"; imported when one is made."""


def make_agent(name: str, settings: Mapping[str, Any] | None = None) -> Agent:
    """An agent by its name here, or of your own as "module:Class"; `settings` override its config's defaults.

    Raises:
        UnknownName: no such agent, module or class.
        BadValue: the config has no such field, or the value is of another type.
        MissingExtra: a package it needs is not installed.
    """
    where = AGENTS.get(name, name)
    if ":" not in where:
        raise UnknownName(f"no agent {name!r}; the agents are {', '.join(AGENTS)}, or your own as module:Class")
    module, _, attribute = where.partition(":")
    try:
        agent = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if name in AGENTS:
            raise MissingExtra(f"the agent {name!r} needs {error.name}: pip install 'banel-envs[agents]'") from error
        raise UnknownName(
            f"agent {name!r}: {error}; give module:Class with the module in the working folder"
        ) from error
    except AttributeError as error:
        raise UnknownName(f"agent {name!r}: {error}") from error
    if not settings:
        made: Agent = agent()
        return made
    made = agent(_configure(name, agent.Config, settings))
    return made


def _configure(name: str, config: type[Any], settings: Mapping[str, Any]) -> Any:
    fields = {f.name: f for f in dataclasses.fields(config)}
    default = config()
    values = {}
    for key, value in settings.items():
        if key not in fields:
            raise BadValue(f"{name} has no setting {key!r}; its settings are {', '.join(fields) or 'none'}")
        wanted = type(getattr(default, key))
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not wanted:
            raise BadValue(f"{name}: {key} is {value!r}; it must be of type {wanted.__name__}")
        values[key] = value
    return dataclasses.replace(default, **values)
