"""verifiers: a task of ours as a taskset of Prime Intellect's library, whose reward asks at a desk.

Written for verifiers 0.4 (github.com/PrimeIntellect-ai/verifiers), whose environments are a `Taskset` of `Task`s with methods
that score a finished `Trace`. The last reply of a trace is the answer. Its key at the desk is made of the trace's id, so a trace
that is scored again, after an error or by a replay, is charged once. A rollout that is run again is another trace with an answer
of its own, and another evaluation.

verifiers keeps the error of a rollout on its trace and goes on with the others. So the budget ends rollouts and not the program:
once nothing is left, a rollout fails before its model is called; one that finishes too late fails when it is scored. Either
has `trace.ok` False and a `TaskError` that names BudgetExhausted, and no reward.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from banel_envs.bridges.desk.asker import Asker
from banel_envs.bridges.texts import question_of, row_of
from banel_envs.errors import BadValue, BudgetExhausted, MissingExtra
from banel_envs.problem import Problem, Tokens


def metered_taskset(
    problem: Problem,
    desk: Asker,
    *,
    size: int | None = 1,
    question: str | None = None,
    read: Callable[[str], Tokens | None] | None = None,
    name: str = "verifiers",
) -> type[Any]:
    """A task as a class of verifiers' tasksets. Each of its tasks is the same question; a rollout writes one answer.

    A success is rewarded with 1.0. A withheld success has the reward 0.0 and the metric `withheld`. A reply that is no sequence
    of the problem has the reward 0.0 and the metric `unwritten`, and is not charged.

    To be found by its name, as the command line of verifiers does, the class stands in a module of yours with `__all__`. Where
    several processes import that module, give each a DeskClient.

    Args:
        problem: the public half of the task that the desk's oracle judges.
        desk: a Desk, or a DeskClient.
        size: how many tasks the taskset has; None for no end of them.
        question: what is asked; by default the problem's prompt, its words and an example of the form.
        read: a reply to a sequence [T], or None where no sequence is meant; by default by its text.
        name: begins the keys, at most 80 characters.

    Raises:
        MissingExtra: verifiers is not installed.
        BadValue: the name or the size is out of range.
    """
    try:
        import verifiers.v1 as vf
    except ImportError as error:
        raise MissingExtra("verifiers is not installed: pip install 'banel-envs[verifiers]'") from error
    _check(name, size)
    asked = question_of(problem) if question is None else question
    reader = read or (lambda reply: row_of(problem, reply.strip()))

    # The desk is no attribute of a task: verifiers copies tasks, and a desk cannot be copied.
    class MeteredTask(vf.Task[vf.TaskData]):  # type: ignore[misc]
        async def setup(self, trace: Any, runtime: Any) -> None:
            await asyncio.to_thread(_check_left, desk)

        @vf.reward  # type: ignore[untyped-decorator]
        async def success(self, trace: Any) -> float:
            row, told = reader(trace.last_reply), 0.0
            if row is not None:
                told = float((await asyncio.to_thread(desk.ask, row[None], f"{name} {trace.id}"))[0])
            trace.record_metrics({"unwritten": float(row is None), "withheld": float(np.isnan(told))})
            return 0.0 if np.isnan(told) else told

    class MeteredTaskset(vf.Taskset[MeteredTask, vf.TasksetConfig]):  # type: ignore[misc]
        INFINITE = size is None

        def load(self) -> Iterator[Any]:
            for index in itertools.islice(itertools.count(), size):
                yield MeteredTask(vf.TaskData(name=f"{problem.id}#{index}", prompt=asked), self.config.task)

    MeteredTaskset.__doc__ = f"{problem.id}, scored at a desk."
    return MeteredTaskset


def _check(name: str, size: int | None) -> None:
    """BadValue where the name or the size is out of range."""
    if not 1 <= len(name) <= 80:
        raise BadValue(f"the name is {name!r}; it has 1 to 80 characters")
    if size is not None and size < 1:
        raise BadValue(f"size is {size}; it is at least 1, or None for no end of tasks")


def _check_left(desk: Asker) -> None:
    """BudgetExhausted where nothing more can be asked."""
    if not desk.left:
        raise BudgetExhausted(1, 0, desk.budget)
