"""Spec: what identifies a run, and where its task and its agent are found."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from banel_agents import make_agent
from banel_agents.base import Agent
from banel_envs import TASKS, Task
<<<<<<< HEAD
from banel_envs.errors import BadValue, BanelError
from banel_envs.file_oracle import answered_by_files
=======
from banel_envs.errors import BadValue
from banel_envs.file_oracle import FileReward
>>>>>>> upstream
from banel_envs.oracle import Feedback
from banel_envs.problem import check_budget


@dataclass(frozen=True)
class Spec:
    """What identifies a run."""

    task: str  # an id, or module:function of your own
    agent: str  # a name, or module:Class of your own
    seed: int = 0
    feedback: Feedback = "failures"
    twin: bool = False  # the oracle-free twin: told "failure" for everything
    budget: int | None = None  # NRE; the task's own by default, anything else is off the board
    settings: Mapping[str, Any] = field(default_factory=dict)  # overrides of the agent's config
    device: str = "cpu"
    oracle: str | None = None  # file:DIR asks by files in DIR instead of the task's own reward
    inherit: str | None = None  # an old run of the task, whose answers are taken over
    oracle: str | None = None  # file:DIR, a folder through which the answers come instead of from the task's reward
    wait: float | None = None  # seconds to wait there for an answer; None waits for ever

    def check(self) -> None:
        """BadValue unless every field can be run."""
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise BadValue(f"seed is {self.seed!r}; it must be a whole number, at least 0")
        if self.feedback not in ("full", "failures"):
            raise BadValue(f"feedback is {self.feedback!r}; it is full or failures")
        if self.budget is not None:
            check_budget(self.budget)
<<<<<<< HEAD
        _check_device(self.device)
        if self.twin and self.inherit is not None:
            raise BadValue(f"inherit is {self.inherit!r}; an oracle-free twin is told no answer: leave one of them out")
        if self.wait is not None and self.oracle is None:
            raise BadValue(f"wait is {self.wait!r}; only answers from files are waited for: give oracle file:DIR too")

    def load(self) -> tuple[Task, Agent]:
        """The task, answered from files where `oracle` says so, and a new agent; BanelError if there is none."""
        self.check()
        task = load_task(self.task)
        if self.oracle is not None:
            kind, _, folder = self.oracle.partition(":")
            if kind != "file" or not folder:
                raise BadValue(f"oracle is {self.oracle!r}; write file:DIR, the folder of questions and answers")
            task = answered_by_files(task, folder, timeout=self.wait)
        return task, load_agent(self.agent, self.settings)
=======
        if self.oracle is not None and not re.fullmatch(r"file:.+", self.oracle):
            raise BadValue(f"oracle is {self.oracle!r}; it is file:DIR, the folder for questions and answers")
>>>>>>> upstream

    def folder(self, out: Path, task: Task, agent: Agent) -> Path:
        """Where the run lives under `out`."""
        if not re.fullmatch(r"\w[\w.-]*/\w[\w.]*-v\d+", task.problem.id):
            raise BadValue(f"the task's id is {task.problem.id!r}; write namespace/Name-v<k>, such as me/Sum-v0")
        if not re.fullmatch(r"\w[\w.-]*", agent.name, re.ASCII):
            raise BadValue(f"the agent's name is {agent.name!r}; use letters, digits, '_', '.', '-'")
        regime = "twin" if self.twin else self.feedback
        return out / task.problem.id / agent.name / regime / f"seed-{self.seed}"


def task_of(spec: Spec) -> Task:
    """The task of a run; with `oracle` its reward asks by files, and is never evaluated off the meter."""
    task = load_task(spec.task)
    if spec.oracle is None:
        return task
    reward = FileReward(spec.oracle.removeprefix("file:"), task.problem, timeout=0)
    return replace(task, reward=reward, successes=lambda: None, free_evaluation=False)


def load_task(name: str) -> Task:
    """A registered task by id, or the Task that "module:function" returns; BanelError if there is none."""
    if ":" not in name:
        return TASKS[name]
    module, _, function = name.partition(":")
    way_out = "give an id, or module:function that returns a Task, its module in the working folder"
    try:
        task = getattr(importlib.import_module(module), function)()
    except BanelError:
        raise
    except Exception as error:
        raise BadValue(f"task {name!r}: {type(error).__name__}: {error}; {way_out}") from error
    if not isinstance(task, Task):
        raise BadValue(f"task {name!r} returned a {type(task).__name__}; {way_out}")
    return task


def load_agent(name: str, settings: Mapping[str, Any] | None = None) -> Agent:
    """A shipped agent by name, or your own as "module:Class", `settings` over its config; BanelError if there is none."""
    try:
        agent = make_agent(name, settings)
    except BanelError:
        raise
    except Exception as error:
        what = f"agent {name!r}: {type(error).__name__}: {error}"
        raise BadValue(f"{what}; give module:Class of a class that can be made without arguments") from error
    missing = [part for part in ("name", "Config", "config", "learn") if not hasattr(agent, part)]
    if missing:
        raise BadValue(f"agent {name!r} has no {', '.join(missing)}; banel_agents.base.Agent says what an agent has")
    return agent


def check_seconds(name: str, seconds: float | None) -> None:
    """BadValue unless it is a finite number of seconds above 0, or None."""
    if seconds is not None and not (seconds > 0 and math.isfinite(seconds)):
        raise BadValue(f"{name} is {seconds}; it must be a number of seconds above 0")


def _check_device(device: str) -> None:
    if device == "cpu":
        return
    import torch

    if not re.fullmatch(r"cuda(:\d+)?", device):
        raise BadValue(f"device is {device!r}; it is cpu, cuda or cuda:<k>")
    if int(device.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise BadValue(f"device is {device!r}; this machine has {torch.cuda.device_count()} of that kind: use cpu")
