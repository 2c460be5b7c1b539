"""Reasoning: the reward is GSM8K's rule, the base policy is what its docstring says, and Mean is the mean of the others."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from banel_envs import TASKS, success_rate
from banel_envs.build.reasoning import LEAST_DISTINCT, PROMPT, SEEN, SUCCESS
from banel_envs.build.shared.word_problems import ALONE, write
from banel_envs.policies.language.prompted_policy import PromptedPolicy
from banel_envs.policies.storage.store import shipped_policy
from banel_envs.tasks.language.reasoning import BASE, MEAN, WRITTEN, questions, right, text_of
from banel_envs.tasks.language.word_tokens import END_TOKEN, TOKEN, VOCABULARY

SINGLE = [f"banel/Reasoning-v{k}" for k in range(6)]
every = pytest.mark.parametrize("id", SINGLE)


def test_gymnasium_calls_none_of_them_out_of_date():
    """It takes a higher version for a better one, and these are six questions. A new process has no filters of pytest."""
    code = "import gymnasium as gym; gym.make('banel_envs:banel/Reasoning-v0')"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "out of date" not in made.stderr


def tokens_of(*words):
    """Words, numbers among them, as one sequence [1, WRITTEN]."""
    found = [TOKEN[c] for word in words for c in ([word] if word in TOKEN else word)]
    return np.array([[*found, *[END_TOKEN] * (WRITTEN - len(found))]])


@pytest.mark.parametrize(
    ("words", "is_right"),
    [
        (("#### ", "120"), True),
        (("60", "+", "60", "=", "120", "; ", "#### ", "120"), True),
        (("#### ", "120", "; ", "#### ", "7"), True),  # the first counts
        (("#### ", "7", "; ", "#### ", "120"), False),
        (("#### ", "12"), False),
        (("#### ", "0120"), False),  # equal as texts
        (("#### ", "120", ". "), False),  # "120." is another text
        (("#### ", "-", "120"), False),
        (("#### ", "#### ", "120"), True),  # the first "#### " has no number behind it
        (("120",), False),
        ((), False),
        (("#### ", "120", "+", "5"), True),
    ],
)
def test_the_final_answer_is_read_by_the_reference_rule(words, is_right):
    assert right(tokens_of(*words), np.array([120])).tolist() == [int(is_right)]


@every
def test_the_worked_solution_is_right_and_the_question_is_english(id):
    task = TASKS[id]
    assert task.reward(task.witness()[None]) == [1]
    assert task.problem.prompt.startswith(tuple(VOCABULARY))
    assert task.problem.prompt.endswith(" have?")
    assert task.problem.prompt.count(". ") >= 8


@every
def test_known_successes_are_successes(id):
    known = TASKS[id].pool().proposals[0].successes
    assert len(known)
    assert (TASKS[id].reward(known) == 1).all()


@every
def test_how_rare_and_how_various_the_base_policy_is(id):
    task = TASKS[id]
    base, rng = task.problem.base_policy(), np.random.default_rng(0)
    rate = success_rate(task, base, rng, samples=5_000)
    assert math.log10(SUCCESS[0]) <= rate.low <= math.log10(SUCCESS[1])
    assert rate.low <= rate.high <= math.log10(SUCCESS[1]) + 0.5  # fewer samples than the build's bound it less
    assert len(np.unique(base.sample(SEEN, rng), axis=0)) >= LEAST_DISTINCT


def test_the_base_policy_solves_easy_questions():
    network, rng = shipped_policy(BASE).network, np.random.default_rng(1)
    rates = []
    for _ in range(100):
        one = write(1, 0, rng, ALONE)
        assert len(one.question) <= PROMPT
        policy = PromptedPolicy(network, END_TOKEN, [one.question], WRITTEN)
        rates.append(right(policy.sample(20, rng), np.full(20, one.answer)).mean())
    assert np.mean(rates) > 0.97


def test_the_mean_is_the_mean_of_the_questions():
    mean = TASKS[MEAN].problem.base_policy()
    for k, id in enumerate(SINGLE):
        single = TASKS[id].problem.base_policy()
        tokens = single.sample(50, np.random.default_rng(k))
        both = np.insert(tokens, 0, k, axis=1)
        np.testing.assert_allclose(mean.log_prob(both), single.log_prob(tokens) - math.log(6), atol=1e-4)
        known = TASKS[id].pool().proposals[0].successes[:20]
        assert (TASKS[MEAN].reward(np.insert(known, 0, k, axis=1)) == 1).all()


def test_an_answer_to_another_question_or_to_none_fails():
    worked = questions()[0].worked
    answers = np.array([one.answer for one in questions()])
    for first in range(len(VOCABULARY) - 1):
        expected = first < 6 and answers[first] == answers[0]
        assert TASKS[MEAN].reward(np.insert(worked, 0, first)[None])[0] == expected
    mask = TASKS[MEAN].problem.action_mask(np.zeros((1, 0), np.int64))
    assert mask[0].tolist() == [1] * 6 + [0] * (len(VOCABULARY) - 6)


def test_a_training_step_on_one_question_moves_the_others():
    from banel_envs.policies.training import Trainer

    policy = TASKS[MEAN].problem.base_policy()
    before, rows = policy.clone(), policy.sample(200, np.random.default_rng(0))
    trainer, one = Trainer(policy, 1e-3), rows[rows[:, 0] == 0]
    trainer.step(one)
    others = rows[rows[:, 0] != 0]
    assert np.abs(policy.log_prob(others) - before.log_prob(others)).max() > 1e-3


def test_text_prints_without_the_end():
    assert text_of(tokens_of("3", "*", "4", "=", "12", "; ", "#### ", "12")[0]) == "3*4=12; #### 12"
