"""A task as an environment of one text an episode."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from banel_envs import Problem, Task
from banel_envs.bridges import Desk
from banel_envs.bridges.text_env import TextEnv
from banel_envs.errors import BadValue, BudgetExhausted
from banel_envs.policies import Uniform
from tests.bridges.desk.test_desk import Flaky, sums, task_of


def test_an_episode_is_one_step():
    with Desk.open(task_of(sums, budget=3)) as desk:
        env = TextEnv(desk.problem, desk)
        question, info = env.reset(seed=0)
        assert "Write 3 of these words" in question and info == {}
        assert question in env.observation_space and "333" in env.action_space
        assert env.step("333") == (question, 1.0, True, False, {})
        with pytest.raises(BadValue, match="reset"):
            env.step("333")
        env.reset()
        assert env.step("33") == (question, 0.0, True, False, {"unwritten": True})
        assert desk.count == 1  # what is no sequence costs nothing
        for text, reward in (("333", 1.0), ("012", 0.0)):
            env.reset()
            assert env.step(text)[1] == reward
        assert desk.count == 3  # a repeat is an evaluation
        env.reset()
        with pytest.raises(BudgetExhausted):
            env.step("000")


def test_withheld_successes_are_named():
    with Desk.open(task_of(sums), feedback="failures") as desk:
        env = TextEnv(desk.problem, desk, question="Which?")
        assert env.reset() == ("Which?", {})
        assert env.step("333")[1:] == (0.0, True, False, {"withheld": True})
        env.reset()
        assert env.step("000")[1:] == (0.0, True, False, {})


def test_bad_input_and_errors_leave_the_episode_open():
    flaky = Flaky()
    with Desk.open(task_of(flaky)) as desk:
        env = TextEnv(desk.problem, desk, question="")
        with pytest.raises(BadValue, match="reset"):
            env.step("333")
        assert env.reset()[0] in env.observation_space
        with pytest.raises(BadValue, match="as a text"):
            env.step(3)
        with pytest.raises(RuntimeError):
            env.step("333")
        flaky.broken = False
        assert env.step("333")[1] == 1.0 and desk.count == 1


def test_a_task_over_a_language_model_takes_any_text():
    """Its vocabulary is a number, so an encoder reads what is written."""
    plain = Problem("me/Ids-v0", 128, 3, 10, lambda: Uniform(128, 3, 0), end=0, prompt="Which?")
    task = Task(
        replace(plain, encoder=lambda text: list(text.encode())), lambda tokens: np.int8(tokens[:, 0] == ord("7"))
    )
    with Desk.open(task) as desk:
        env = TextEnv(desk.problem, desk)
        assert env.reset()[0] == "Which?" and "7" in env.action_space
        assert env.step("7")[1] == 1.0
        env.reset()
        assert env.step("7777")[4] == {"unwritten": True} and desk.count == 1
        with pytest.raises(BadValue, match="give the Problem an encoder"):
            TextEnv(plain, desk, question="Which?")


@pytest.mark.filterwarnings("ignore::UserWarning:gymnasium")
def test_gymnasium_finds_no_fault():
    with Desk.open(task_of(sums)) as desk:
        check_env(TextEnv(desk.problem, desk), skip_render_check=True)
