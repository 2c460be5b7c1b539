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

from banel_agents.limits import Rule, rules
from banel_envs.errors import BadValue, BanelError, MissingExtra, UnknownName
from banel_envs.names import did_you_mean, shown, unknown

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
        BadValue: the config has no such field, the value is of another type or outside the field's limits, or the module
            of your own raised.
        MissingExtra: a package it needs is not installed.
    """
    agent = _find(name)
    made: Agent = agent(_configure(name, agent.Config, settings)) if settings else agent()
    return made


def _find(name: str) -> Any:
    where = AGENTS.get(name, name)
    if ":" not in where:
        raise unknown("agent", name, AGENTS, ", or your own as module:Class")
    module, _, attribute = where.partition(":")
    if not all(part.isidentifier() for part in module.split(".")):
        raise _no_module(name, module)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise _not_found(name, module, error.name or module) from error
    except Exception as error:  # whatever the user's own module does
        if name in AGENTS or isinstance(error, BanelError):
            raise
        what = f"agent {name!r}: importing {module!r} raised {type(error).__name__}: {error}"
        raise BadValue(f"{what}; mend the module, then run the same command again") from error
    if not hasattr(found, attribute):
        classes = [word for word, thing in vars(found).items() if isinstance(thing, type) and hasattr(thing, "learn")]
        near = did_you_mean(attribute, classes)
        its = f"{near}Its" if near else "its"
        has = f"the module {module} has no {attribute!r}; {its} agents are {', '.join(classes) or 'none'}"
        raise UnknownName(f"agent {name!r}: {has}; write module:Class")
    return getattr(found, attribute)


def _not_found(name: str, module: str, missing: str) -> MissingExtra | UnknownName:
    """What to do about a module that is not there: the agent's own, or one that it imports."""
    if name in AGENTS:
        return MissingExtra(f"the agent {name!r} needs {missing}: pip install 'banel-envs[agents]'")
    if module == missing or module.startswith(f"{missing}."):
        return _no_module(name, missing)
    return MissingExtra(
        f"agent {name!r}: its module {module} needs {missing!r}, which is not installed; install it first"
    )


def _no_module(name: str, missing: str) -> UnknownName:
    return UnknownName(
        f"agent {name!r}: there is no module {missing!r} in the working folder, and none is installed; "
        f"write module:Class, the module's name without folder or .py, and run it in the folder that holds the module"
    )


def _configure(name: str, config: type[Any], settings: Mapping[str, Any]) -> Any:
    if not dataclasses.is_dataclass(config):
        raise BadValue(f"{name}: its Config is no dataclass, so nothing can be set; make it a frozen dataclass")
    names = [f.name for f in dataclasses.fields(config)]
    default, known = config(), rules(config)
    values = {}
    for key, value in settings.items():
        if key not in names:
            near = did_you_mean(key, names)
            its = f"{near}Its" if near else "its"
            raise BadValue(f"{name} has no setting {shown(key)}; {its} settings are {', '.join(names) or 'none'}")
        rule = known[key] if key in known else Rule(type(getattr(default, key)))
        values[key] = rule.check(name, key, value)
    return dataclasses.replace(default, **values)
