"""A grammar given as an automaton: the same masks as a function of the prefix, in a single and in a vector environment."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from banel_envs import TASKS, GenerationVectorEnv, Oracle, Task
from banel_envs.automaton import Automaton
from banel_envs.errors import BadValue


def table(*rows):
    return np.array(rows)


def test_states_and_masks_by_hand():
    """Over a and b: no b after a b, and after an a anything."""
    grammar = Automaton(table([1, 1], [1, 0]).astype(np.int8), table([0, 1], [0, 1]))
    prefixes = np.array([[0, 1], [1, 0], [1, 1]])
    assert grammar.states(prefixes).tolist() == [1, 0, 1]
    assert grammar(prefixes).tolist() == [[1, 0], [1, 1], [1, 0]]
    assert grammar(np.empty((2, 0), np.int64)).tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("mask", "following", "message"),
    [
        (table([1, 1]), table([0, 1], [0, 1]), r"shapes \[1, 2\] and \[2, 2\]"),
        (table([1, 1], [1, 0]), table([0, 2], [0, 1]), r"0\.\.2; they must be among 0\.\.1"),
        (table([1, 1], [1, 0]), table([0, -1], [0, 1]), r"-1\.\.1"),
    ],
)
def test_a_wrong_table_is_refused(mask, following, message):
    with pytest.raises(BadValue, match=message):
        Automaton(mask, following)


@pytest.mark.parametrize("mode", ["SameStep", "NextStep", "Disabled"])
@pytest.mark.parametrize("id", ["banel/AdditionAttack-v0", "banel/Ehrlich-v0"])
def test_a_vector_env_that_follows_states_shows_the_masks_of_one_that_asks_for_every_prefix(id, mode):
    task = TASKS[id]
    assert isinstance(task.problem.allowed, Automaton)
    plain = dataclasses.replace(task.problem, allowed=lambda prefix: task.problem.allowed(prefix))
    envs = []
    for problem in (task.problem, plain):
        own = Task(problem, task.reward)
        envs.append(GenerationVectorEnv(problem, Oracle(own, budget=5_000), 16, autoreset_mode=mode))
    rng = np.random.default_rng(0)
    (_, followed), (_, asked) = (env.reset(seed=0) for env in envs)
    for _ in range(60):
        assert np.array_equal(followed["action_mask"], asked["action_mask"])
        actions = rng.integers(task.problem.V, size=16)
        (*_, first, second, followed), (*_, asked) = (env.step(actions) for env in envs)
        ended = first | second
        if mode == "SameStep" and ended.any():
            assert np.array_equal(followed["final_info"]["action_mask"], asked["final_info"]["action_mask"])
        if mode == "Disabled" and ended.any():
            for env in envs:
                env.reset(options={"reset_mask": ended})
        assert np.array_equal(*(env.action_masks() for env in envs))
        if mode == "Disabled":
            followed, asked = ({"action_mask": env.action_masks().astype(np.int8)} for env in envs)
