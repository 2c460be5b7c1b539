"""A task as an environment of OpenEnv; what needs the package is skipped without it. A real server is among the examples."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from banel_envs.bridges import Desk
from banel_envs.bridges import openenv as bridge
from banel_envs.errors import BadValue, BudgetExhausted, KeyReused, MissingExtra
from tests.bridges.desk.test_desk import Flaky, sums, task_of

needed = pytest.mark.skipif(importlib.util.find_spec("openenv") is None, reason="openenv is not installed")


def answer(text, key=None):
    return bridge._classes().Answer(text=text, key=key)


def test_without_the_package_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openenv", None)
    monkeypatch.setitem(sys.modules, "openenv.core", None)
    monkeypatch.setitem(sys.modules, "openenv.core.env_server", None)
    bridge._classes.cache_clear()
    with Desk.open(task_of(sums)) as desk:
        for make in (bridge.text_environment, bridge.text_app):
            with pytest.raises(MissingExtra, match=r"banel-envs\[openenv\]"):
                make(desk.problem, desk)


@needed
def test_an_episode_is_one_step():
    with Desk.open(task_of(sums, budget=3)) as desk:
        env = bridge.text_environment(desk.problem, desk)()
        seen = env.reset(episode_id="first")
        assert "Write 3 of these words" in seen.question
        assert (seen.reward, seen.done, seen.left) == (None, False, 3)
        assert env.get_metadata().name == desk.problem.id
        seen = env.step(answer("333"))
        assert (seen.reward, seen.done, seen.left, seen.withheld, seen.unwritten) == (1.0, True, 2, False, False)
        state = env.state
        assert (state.episode_id, state.step_count, state.budget, state.left) == ("first", 1, 3, 2)
        with pytest.raises(BadValue, match="reset"):
            env.step(answer("333"))
        env.reset()
        assert env.state.step_count == 0 and env.state.episode_id is None
        seen = env.step(answer("33"))
        assert (seen.reward, seen.unwritten, seen.left) == (0.0, True, 2)  # what is no sequence costs nothing
        for text, reward in (("333", 1.0), ("012", 0.0)):  # without a key a repeat is an evaluation
            env.reset()
            assert env.step(answer(text)).reward == reward
        env.reset()
        with pytest.raises(BudgetExhausted):
            env.step(answer("000"))
        assert desk.count == 3


@needed
def test_a_key_is_charged_once_in_any_session():
    with Desk.open(task_of(sums, budget=1)) as desk:
        made = bridge.text_environment(desk.problem, desk)
        first, second = made(), made()  # a server that is asked by POST steps without a reset
        assert first.step(answer("333", "k")).reward == 1.0
        assert first.step(answer("333", "k")).reward == 1.0  # its answer was lost on the way, and the budget is spent
        assert second.step(answer("333", "k")).reward == 1.0
        assert desk.count == 1
        with pytest.raises(KeyReused):
            first.step(answer("000", "k"))
        with pytest.raises(BadValue, match="reset"):
            first.step(answer("333", "another"))
        other = bridge.text_environment(desk.problem, desk, name="another run")()
        with pytest.raises(BudgetExhausted):
            other.step(answer("333", "k"))


@needed
def test_withheld_successes_have_no_reward_and_errors_leave_the_episode_open():
    with Desk.open(task_of(sums), feedback="failures") as desk:
        env = bridge.text_environment(desk.problem, desk, question="Which?")()
        assert env.reset().question == "Which?"
        seen = env.step(answer("333"))
        assert (seen.reward, seen.withheld, seen.done) == (None, True, True)
        env.reset()
        seen = env.step(answer("000"))
        assert (seen.reward, seen.withheld) == (0.0, False)
    flaky = Flaky()
    with Desk.open(task_of(flaky)) as desk:
        env = bridge.text_environment(desk.problem, desk)()
        for _ in range(2):
            with pytest.raises(RuntimeError):
                env.step(answer("333"))
        flaky.broken = False
        assert env.step(answer("333")).reward == 1.0 and desk.count == 1


@needed
def test_the_server_has_its_routes_and_sessions():
    with Desk.open(task_of(sums)) as desk:
        app = bridge.text_app(desk.problem, desk)
        schema = app.openapi()["paths"]
        assert {"/reset", "/step", "/state"} <= set(schema)
