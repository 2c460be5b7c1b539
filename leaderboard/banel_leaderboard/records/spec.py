"""Spec: what a run is asked to be, and how the names in it become a task and an agent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from banel_agents import AGENTS, make_agent
from banel_agents.base import Agent
from banel_envs import TASKS, Task
from banel_envs.errors import BadValue, BanelError
from banel_envs.meter.oracle import Feedback
from banel_envs.names import shown
from banel_envs.problem import check_budget
from banel_leaderboard.records.own_task import own_task


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a run is asked to be. It holds names; resolve.py looks up the task and the agent that they stand for."""

    task: str  # an id, or module:function of your own
    agent: str  # a name, or module:Class of your own
    seed: int = 0
    feedback: Feedback = "failures"
    twin: bool = False  # whether it is the oracle-free twin, which is told "failure" for everything
    budget: int | None = None  # NRE; None is the task's own budget, and a run with another one is off the board
    settings: Mapping[str, Any] = field(default_factory=dict)  # values for some of the agent's settings
    device: str = "cpu"
    oracle: str | None = None  # file:DIR asks by files in DIR instead of the task's own reward
    inherit: str | None = None  # an old run of the task, whose answers are taken over
    wait: float = 0.0  # seconds to wait for an answer in DIR, before AnswersPending

    def check(self) -> None:
        """Check every field; BadValue for the first one that no run can have."""
        # bool is a subclass of int, so `seed=True` would pass for the seed 1.
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise BadValue(f"seed is {self.seed!r}; it must be a whole number, at least 0")
        if self.feedback not in get_args(Feedback):
            raise BadValue(f"feedback is {self.feedback!r}; it is {', '.join(get_args(Feedback))}")
        if self.twin and self.feedback == "typed":
            raise BadValue(
                "feedback is 'typed', and a twin is told nothing, no types either; a twin's is failures or full"
            )
        if self.budget is not None:
            check_budget(self.budget)
        _check_device(self.device)
        if self.oracle is not None and not re.fullmatch(r"file:.+", self.oracle):
            raise BadValue(f"oracle is {self.oracle!r}; it is file:DIR, the folder for questions and answers")
        if self.wait and self.oracle is None:
            raise BadValue(f"wait is {self.wait!r}; only answers in files are waited for: give oracle file:DIR too")
        if self.twin and self.inherit is not None:
            raise BadValue(f"inherit is {self.inherit!r}; a twin is told no answer: leave one of them out")


def _check_device(device: str) -> None:
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise BadValue(f"device is {device!r}; it is cpu or cuda")
    if device == "cpu":
        return
    import torch  # here, because it takes seconds

    if int(device.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise BadValue(f"device is {device!r}, and torch finds {torch.cuda.device_count()} CUDA devices; use cpu")


def load_task(name: str) -> Task:
    """The registered task of this id, or the Task that "module:function" returns.

    Only names that a person gave come here, on the command line or from Python. Names in files go through lookup.py.
    """
    return own_task(name) if ":" in name else TASKS[name]


def load_agent(name: str, settings: Mapping[str, Any] | None = None) -> Agent:
    """A shipped agent by name, or your own as "module:Class", with these settings. BanelError if there is no such agent."""
    try:
        agent = make_agent(name, settings)
    except BanelError:
        raise
    except Exception as error:  # the user's own module may raise anything
        what = f"agent {name!r}: {type(error).__name__}: {error}"
        raise BadValue(f"{what}; give module:Class of a class that can be made without arguments") from error
    # What an agent lacks is found here, by name, and not in the middle of a run by an AttributeError.
    missing = [part for part in ("name", "Config", "config", "learn") if not hasattr(agent, part)]
    if missing:
        raise BadValue(f"agent {name!r} has no {', '.join(missing)}; banel_agents.base.Agent says what an agent has")
    _check_name(name, agent)
    return agent


def _check_name(name: str, agent: Agent) -> None:
    """BadValue if an agent of one's own has the name of one that ships: the board would take it for that, and refuse its runs."""
    where = f"{type(agent).__module__}:{type(agent).__qualname__}"
    if ":" in name and isinstance(agent.name, str) and agent.name in AGENTS and AGENTS[agent.name].where != where:
        raise BadValue(
            f"agent {name!r}: its name is {shown(agent.name)}, and an agent of that name ships with the package; give yours "
            f"another name"
        )
