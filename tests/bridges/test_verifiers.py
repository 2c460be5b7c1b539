"""A task as a taskset of verifiers; what needs the package is skipped without it. Whole rollouts are among the examples."""

from __future__ import annotations

import asyncio
import copy
import importlib.util
import itertools
import sys

import pytest

from banel_envs.bridges import Desk
from banel_envs.bridges.texts import row_of
from banel_envs.bridges.verifiers import metered_taskset
from banel_envs.errors import BadValue, BudgetExhausted, MissingExtra
from tests.bridges.desk.test_desk import Flaky, sums, task_of

needed = pytest.mark.skipif(importlib.util.find_spec("verifiers") is None, reason="verifiers is not installed")


def first(desk, **settings):
    """The first task of the taskset."""
    import verifiers.v1 as vf

    return next(iter(metered_taskset(desk.problem, desk, **settings)(vf.TasksetConfig())))


def trace_of(task, reply):
    """A finished trace whose last reply this is."""
    import verifiers.v1 as vf

    agent = vf.AgentInfo(config=vf.AgentConfig())
    return vf.Trace(task=vf.TraceTask(type="T", data=task.data), agent=agent, root_reply=reply)


def scored(task, trace):
    asyncio.run(task.score(trace))
    return trace.reward, trace.metrics


def test_without_the_package_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "verifiers", None)
    monkeypatch.setitem(sys.modules, "verifiers.v1", None)
    with Desk.open(task_of(sums)) as desk, pytest.raises(MissingExtra, match=r"banel-envs\[verifiers\]"):
        metered_taskset(desk.problem, desk)


@needed
def test_a_taskset_is_a_question_as_often_as_it_is_said():
    import verifiers.v1 as vf

    with Desk.open(task_of(sums)) as desk:
        taskset = metered_taskset(desk.problem, desk, size=3)
        tasks = list(taskset(vf.TasksetConfig()))
        assert [task.data.idx for task in tasks] == [0, 1, 2] and len({task.key for task in tasks}) == 3
        assert all("Write 3 of these words" in task.data.prompt for task in tasks)
        assert type(tasks[0]) is taskset.task_type()
        endless = metered_taskset(desk.problem, desk, size=None, question="Which?")(vf.TasksetConfig())
        assert not endless.bounded and [t.data.prompt for t in itertools.islice(endless, 2)] == ["Which?"] * 2
        for settings, said in (({"size": 0}, "size is 0"), ({"name": ""}, "1 to 80"), ({"name": "x" * 81}, "1 to 80")):
            with pytest.raises(BadValue, match=said):
                metered_taskset(desk.problem, desk, **settings)


@needed
def test_a_trace_is_charged_once_however_often_it_is_scored():
    with Desk.open(task_of(sums, budget=2)) as desk:
        task = first(desk)
        trace = trace_of(task, "333\n")
        for _ in range(2):
            assert scored(task, trace) == (1.0, {"unwritten": 0.0, "withheld": 0.0})
        assert desk.count == 1
        assert scored(copy.deepcopy(task), trace_of(task, "333"))[0] == 1.0  # another rollout, another evaluation
        assert desk.count == 2
        assert scored(task, trace_of(task, "seven")) == (0.0, {"unwritten": 1.0, "withheld": 0.0})
        assert scored(task, trace)[0] == 1.0  # also after the budget is spent
        late = trace_of(task, "000")
        with pytest.raises(Exception, match="BudgetExhausted") as caught:
            scored(task, late)
        assert isinstance(caught.value.__cause__, BudgetExhausted)
        assert late.rewards == {"success": None}  # verifiers' word for: scoring did not run
        with pytest.raises(BudgetExhausted):  # so no model is called for a rollout that cannot be scored
            asyncio.run(task.setup(late, None))
        assert desk.count == 2


@needed
def test_withheld_successes_are_a_metric_and_a_reader_may_be_given():
    with Desk.open(task_of(sums), feedback="failures") as desk:
        task = first(desk, read=lambda reply: row_of(desk.problem, reply.rpartition(" ")[2]))
        assert scored(task, trace_of(task, "the answer is 333")) == (0.0, {"unwritten": 0.0, "withheld": 1.0})
        assert scored(task, trace_of(task, "the answer is 000")) == (0.0, {"unwritten": 0.0, "withheld": 0.0})
        asyncio.run(task.setup(trace_of(task, ""), None))


@needed
def test_a_score_that_failed_is_tried_again_for_nothing():
    flaky = Flaky()
    with Desk.open(task_of(flaky)) as desk:
        task = first(desk)
        trace = trace_of(task, "333")
        with pytest.raises(Exception, match="RuntimeError"):
            scored(task, trace)
        flaky.broken = False
        assert scored(task, trace)[0] == 1.0 and desk.count == 1
