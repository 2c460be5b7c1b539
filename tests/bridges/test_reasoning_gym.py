"""reasoning-gym both ways; what needs the package is skipped without it."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from banel_envs import TASKS, Oracle
from banel_envs.bridges import Desk
from banel_envs.bridges.desk.asker import OneByOne
from banel_envs.bridges.reasoning_gym import reasoning_dataset, reasoning_task
from banel_envs.bridges.texts import row_of
from banel_envs.errors import BadValue, BudgetExhausted, MissingExtra, OpenQuestion
from banel_envs.testing import check_task
from tests.bridges.desk.test_desk import Flaky, batch, sums, task_of

HERE = importlib.util.find_spec("reasoning_gym") is not None
needed = pytest.mark.skipif(not HERE, reason="reasoning-gym is not installed")


def test_without_the_package_its_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    with pytest.raises(MissingExtra, match=r"banel-envs\[reasoning\]"):
        reasoning_task("chain_sum")
    with Desk.open(task_of(sums)) as desk, pytest.raises(MissingExtra, match=r"banel-envs\[reasoning\]"):
        reasoning_dataset(desk.problem, desk)


@needed
def test_an_entry_is_a_task():
    task = reasoning_task("chain_sum", 3, seed=7, vocabulary="0123456789-", horizon=6, budget=50)
    check_task(task)
    from reasoning_gym import create_dataset

    entry = create_dataset("chain_sum", seed=7, size=10)[3]
    problem = task.problem
    assert problem.id == "reasoning_gym/ChainSumSeed7Entry3-v0" and problem.prompt == entry["question"]
    assert problem.decode(task.witness()[None]) == [entry["answer"]]
    right, wrong = row_of(problem, entry["answer"]), row_of(problem, "123456")
    oracle = Oracle(task)
    assert oracle(np.stack((right, wrong))).tolist() == [1, 0] and oracle.count == 2
    assert task.judge_versions().keys() == {"reasoning-gym"}
    assert task.digest == reasoning_task("chain_sum", 3, seed=7, vocabulary="0123456789-", horizon=6).digest
    assert task.digest != reasoning_task("chain_sum", 4, seed=7, vocabulary="0123456789-", horizon=6).digest


@needed
def test_partial_credit_is_a_failure_that_the_ledger_keeps():
    task = reasoning_task("word_sorting", 0, seed=1, config={"min_words": 3, "max_words": 3}, horizon=60)
    problem, witness = task.problem, task.witness()
    answer = problem.decode(witness[None])[0]
    words = answer.split(", ")
    swapped = ", ".join((words[0], words[2], words[1]))  # the first word is in its place
    oracle = Oracle(task)
    assert oracle(np.stack((witness, row_of(problem, swapped), row_of(problem, "")))).tolist() == [1, 0, 0]
    values = oracle.ledger.asks[0].values
    assert values[0] == 1 and values[1] == pytest.approx(1 / 3) and values[2] == 0


@needed
@pytest.mark.parametrize("name", ["chain_sum", "countdown", "knights_knaves", "prime_factorization", "number_format"])
def test_tasks_of_several_datasets_know_their_success(name):
    task = reasoning_task(name, 1, seed=5, horizon=200)
    tokens = np.concatenate((task.witness()[None], task.problem.base_policy().sample(3, np.random.default_rng(0))))
    assert Oracle(task)(tokens).tolist() == [1, 0, 0, 0]


@needed
@pytest.mark.parametrize(
    ("dataset", "options", "said"),
    [
        ("chain_summ", {}, "no entry 0 of 'chain_summ'"),
        ("chain_sum", {"index": -1}, "counted from 0"),
        ("chain_sum", {"config": {"min_terms": 0}}, "min_terms"),
        ("chain_sum", {"config": {"terms": 2}}, "terms"),
        ("chain_sum", {"vocabulary": "ab"}, "are missing"),
        ("word_sorting", {"horizon": 2}, "too long"),
    ],
)
def test_bad_input(dataset, options, said):
    with pytest.raises(BadValue, match=said):
        reasoning_task(dataset, **options)


@needed
def test_a_task_is_a_dataset_and_every_score_is_charged():
    task = TASKS["banel/AdditionAttack-v0"]
    with Desk.open(task, budget=4) as desk:
        dataset = reasoning_dataset(task.problem, desk, size=3)
        entries = list(dataset)
        assert len(dataset) == len(entries) == 3
        assert entries[2]["metadata"] == {"source_dataset": task.problem.id, "source_index": 2}
        assert entries[0]["answer"] is None and isinstance(entries[0]["question"], str)
        success = task.problem.decode(task.witness()[None])[0]
        assert dataset.score_answer(success, entries[0]) == 1.0
        assert dataset.score_answer(success, entries[0]) == 1.0  # a repeat is an evaluation
        assert dataset.score_answer("1+1=", entries[1]) == 0.0
        assert desk.count == 3
        for nothing in (None, "no sequence of it", 7):
            assert dataset.score_answer(nothing, entries[1]) == 0.0
        assert desk.count == 3
        dataset.score_answer("2+2=", entries[1])
        with pytest.raises(BudgetExhausted):
            dataset.score_answer("1+1=", entries[1])
        with pytest.raises(IndexError):
            dataset[3]


@needed
def test_a_withheld_success_is_nan():
    task = TASKS["banel/AdditionAttack-v0"]
    with Desk.open(task, feedback="failures") as desk:
        dataset = reasoning_dataset(task.problem, desk, question="Which sum is it?")
        success = task.problem.decode(task.witness()[None])[0]
        assert np.isnan(dataset.score_answer(success, dataset[0]))
        assert dataset[0]["question"] == "Which sum is it?"


def test_a_retry_after_an_error_is_charged_once_and_a_repeat_twice():
    flaky = Flaky()
    with Desk.open(task_of(flaky)) as desk:
        ask = OneByOne(desk, "run")
        with pytest.raises(RuntimeError):
            ask(batch("333")[0])
        with pytest.raises(OpenQuestion):
            ask(batch("000")[0])
        assert desk.count == 1
        flaky.broken = False
        assert ask(batch("333")[0]) == 1 and desk.count == 1
        assert ask(batch("000")[0]) == 0 and desk.count == 2
        assert ask(batch("333")[0]) == 1 and desk.count == 3
        again = OneByOne(desk, "run")  # the same program, started again: the same keys in the same order
        assert [again(batch(row)[0]) for row in ("333", "000", "333")] == [1, 0, 1] and desk.count == 3
