"""`python -m benchmarks.tasks.failures`: the classes hold what their names say, and shares of the success are exact."""

from __future__ import annotations

import numpy as np
import pytest

from banel_envs import TASKS
from banel_envs.tasks import countdown, list_program
from banel_envs.tasks.proof import encode
from benchmarks.tasks import failures

COUNTDOWN, PROOF = TASKS["banel/Countdown-v0"], TASKS["banel/Proof-v0"]


def test_countdown_is_sorted_by_its_multiplications():
    words = [word.strip() for word in countdown.VOCABULARY]
    texts = ["25 50 + 3 * =", "25 3 * 6 * 50 + =", "25 3 + ="]
    rows = np.full((3, countdown.HORIZON), countdown.END)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text.split())] = [words.index(word) for word in text.split()]
    both = np.concatenate((rows, COUNTDOWN.successes()))
    found = {name: inside[:3].tolist() for name, inside in failures.of_countdown(both)}
    assert found["two or more multiplications"] == [False, True, False]
    assert found["exactly one multiplication"] == [True, False, False]
    assert found["the last operator is a multiplication"] == [True, False, False]


def test_a_class_of_few_samples_is_none_of_the_best():
    drawn = COUNTDOWN.problem.base_policy().sample(19, np.random.default_rng(0))
    both = np.concatenate((drawn, COUNTDOWN.successes()))
    *_, (name, best) = failures.of_countdown(both)
    assert "10 times" in name and not best.any()


def test_proofs_are_sorted_by_their_first_wrong_rule():
    # (~p|q)>(p>q): ">R" is right; "~L" does not apply before the disjunction is split.
    proof = PROOF.successes()[:1]
    wrong = encode([(">R", "~L", "ax"), ("~L", "ax")])
    rows = np.concatenate((proof, wrong))
    found = {name: inside.tolist() for name, inside in failures.of_proof("banel/Proof-v0")(rows)}
    assert found["the first rule is right"] == [True, True, False]
    assert found["the first two rules are right"] == [True, False, False]


def test_a_share_of_the_success_is_exact():
    lines = failures.lines(TASKS["banel/ListProgram-v0"], 1_000)
    problem = TASKS["banel/ListProgram-v0"].problem
    rows = TASKS["banel/ListProgram-v0"].successes()
    mass = np.exp(problem.base_policy().log_prob(rows))
    doubled = (rows == list_program.WORDS.index("*2")).any(axis=1)
    (line,) = [line for line in lines if line.endswith("the program has *2")]
    assert f"{mass[doubled].sum() / mass.sum():.1%} of the success" in line
    assert mass[doubled].sum() / mass.sum() == pytest.approx(0.999, abs=5e-4)
    assert "866 successes, the shortest of 7 tokens" in lines[0]
