"""The meter: what is charged is what is evaluated, over every route, and nothing is evaluated twice or for free."""

from __future__ import annotations

import os
import pickle
import random
import signal
import sys
import time
from functools import partial

import numpy as np
import pytest

from banel_envs import BudgetExhausted, Ledger, Oracle, Problem, Task
from banel_envs.errors import (
    BadReward,
    BadTokens,
    BadValue,
    LedgerMismatch,
    NothingAsked,
    OpenQuestion,
    OracleClosed,
    OracleMoved,
    ReplayDiverged,
)
from banel_envs.meter import empty_questions
from banel_envs.policies import Uniform
from tests.shared.fuzz_meter import BAD, END, T, fuzz, legal, truth
from tests.shared.fuzz_processes import fuzz_processes, hammer, in_child

PROBLEM = Problem("test/Meter-v0", ("a", "b", "c", "$"), T, 20, partial(Uniform, 4, T, END), end=END)


class Counting:
    """A reward that keeps every row it was asked."""

    def __init__(self, answer=truth):
        self.answer, self.rows = answer, []

    def __call__(self, tokens):
        self.rows += [tuple(row) for row in tokens.tolist()]
        return self.answer(tokens)


def rows(n, seed=0):
    return legal(n, random.Random(seed))


def make(answer=truth, **kwargs):
    reward = Counting(answer)
    return Oracle(Task(PROBLEM, reward, threshold=kwargs.pop("threshold", None)), **kwargs), reward


def assert_sound(tally):
    assert {name: tally[name] for name in BAD} == dict.fromkeys(BAD, 0)
    assert tally["evaluated"] == tally["charged"] > 0


def test_a_loop_of_empty_questions_ends(monkeypatch):
    """They cost nothing, so without an end the run of an agent whose batch size is 0 would never end."""
    monkeypatch.setattr(empty_questions, "MOST_EMPTY", 5)
    oracle, reward = make()
    none = np.empty((0, T), np.int64)
    for _ in range(3):  # only those in a row are counted
        assert all(oracle(none).shape == (0,) for _ in range(5))
        oracle(rows(2))
    for _ in range(5):
        oracle(none)
    for number in (6, 7):
        with pytest.raises(NothingAsked, match=f"{number} questions in a row had no sequence in them, at NRE 6 of 20"):
            oracle(none)
    oracle(rows(1))
    assert oracle(none).shape == (0,) and oracle.count == len(reward.rows) == 7


def test_fuzz_in_process():
    tally = fuzz(1_000, seed=1)
    assert_sound(tally)
    refusals = ("BudgetExhausted", "OpenQuestion", "OracleMoved", "ReplayDiverged", "OracleClosed", "LedgerLocked")
    for refusal in (*refusals, "OracleBusy"):
        assert tally[f"raised {refusal}"] > 0, "the fuzzer has lost this route"


@pytest.mark.slow
def test_fuzz_in_process_in_full():
    assert_sound(fuzz(100_000))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("patterns", [4, pytest.param(200, marks=pytest.mark.slow)])
def test_fuzz_processes(patterns):
    tally = fuzz_processes(patterns, seed=patterns)
    assert (tally["differences"], tally["not refused"]) == (0, 0)


@pytest.mark.parametrize("calls", [1_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_foreign_threads_are_refused(calls):
    tally = hammer(calls)
    assert (tally["refused"], tally["not refused"], tally["differences"]) == (8 * calls, 0, 0)


def test_every_sequence_counts_and_a_batch_that_does_not_fit_is_refused_whole():
    oracle, reward = make(budget=7)
    same = np.repeat(rows(1), 4, axis=0)
    assert oracle(same).tolist() == truth(same).tolist()
    assert (oracle.count, oracle.left) == (4, 3)
    with pytest.raises(BudgetExhausted, match="4 sequences asked, 3 of 7 evaluations left"):
        oracle(same)
    assert (oracle.count, len(reward.rows)) == (4, 4)
    oracle(same[:3])
    with pytest.raises(BudgetExhausted):
        oracle(same[:1])
    assert oracle(same[:0]).shape == (0,)
    assert (oracle.count, oracle.left, len(reward.rows)) == (7, 0, 7)


def test_withholding():
    oracle, _ = make(feedback="failures", budget=64)
    tokens = rows(64)
    answer = oracle(tokens)
    assert answer.dtype == np.float32
    assert np.array_equal(np.isnan(answer), truth(tokens) == 1)
    assert (answer[truth(tokens) == 0] == 0).all()
    assert oracle.ledger.asks[0].rewards.tolist() == truth(tokens).tolist()


def test_the_reward_cannot_change_what_is_recorded():
    def vandal(tokens):
        result = truth(tokens)
        tokens[:] = 0
        return result

    oracle, _ = make(vandal)
    tokens = rows(5)
    kept = tokens.copy()
    oracle(tokens)
    assert np.array_equal(tokens, kept)
    assert np.array_equal(oracle.ledger.tokens(oracle.ledger.asks[0]), kept)


@pytest.mark.parametrize("budget", [0, -1, 2.5, "10", True, float("nan")])
def test_bad_budgets(budget):
    with pytest.raises(BadValue, match="budget is"):
        make(budget=budget)


def test_bad_options():
    with pytest.raises(BadValue, match="feedback is 'all'; it is one of full, failures"):
        make(feedback="all")
    with pytest.raises(BadValue, match="ledger is 5"):
        make(ledger=5)
    oracle, _ = make()
    oracle.close()
    with pytest.raises(OracleClosed):
        oracle(rows(1))


def test_illegal_tokens_cost_nothing():
    oracle, reward = make()
    ended = np.array([[END, 0, END]])
    for tokens, message in [(ended, "after its end token"), (rows(1) * 1.0, "float64"), (rows(1) + 9, "outside 0..3")]:
        with pytest.raises(BadTokens, match=message):
            oracle(tokens)
    assert (oracle.count, reward.rows) == (0, [])


BAD_ANSWERS = {
    "nan": lambda t: np.full(len(t), np.nan),
    "two": lambda t: np.full(len(t), 2),
    "half": lambda t: np.full(len(t), 0.5),
    "long": lambda t: [0] * (len(t) + 1),
    "column": lambda t: np.zeros((len(t), 1)),
    "none": lambda t: None,
    "text": lambda t: "no",
    "ragged": lambda t: [[0], [0, 1]],
    "complex": lambda t: np.zeros(len(t), complex),
    "part outside": lambda t: iter([(0, len(t) + 1, [0] * (len(t) + 1))]),
    "empty part": lambda t: iter([(0, 0, [])]),
    "part of floats": lambda t: iter([(0.0, 1.0, [0])]),
    "no part": lambda t: iter([0, 1]),
    "part too short": lambda t: iter([(0, len(t), [0])]),
    "rows left out": lambda t: iter([(0, len(t) - 1, [0] * (len(t) - 1))]),
    "overlapping parts": lambda t: iter([(0, 2, [0, 0]), (1, len(t), [0] * (len(t) - 1))]),
}


@pytest.mark.parametrize("kind", BAD_ANSWERS)
def test_bad_rewards_leave_the_question_open_and_are_charged_once(kind, tmp_path):
    oracle, reward = make(BAD_ANSWERS[kind], budget=9, ledger=tmp_path / "l.jsonl")
    tokens = rows(4)
    for _ in range(2):
        with pytest.raises(BadReward):
            oracle(tokens)
        assert (oracle.count, oracle.open) == (4, 4)
    with pytest.raises(OpenQuestion, match=r"question 0 .4 sequences. was interrupted"):
        oracle(tokens[::-1])
    reward.answer = truth
    assert oracle(tokens).shape == (4,)
    assert (oracle.count, oracle.open, oracle.ledger.count) == (4, 0, 4)
    oracle.close()
    Ledger.read(tmp_path / "l.jsonl")


def test_a_reward_that_raises_in_the_middle_of_its_parts_is_not_asked_again_for_what_it_answered(tmp_path):
    def in_parts(tokens):
        for k in range(len(tokens))[::-1]:
            if len(tokens) == 6 and k == 2:
                raise ConnectionError("the lab is closed")
            yield k, k + 1, truth(tokens[k : k + 1])

    tokens = rows(6)
    for resumed in (False, True):
        path = tmp_path / f"{resumed}.jsonl"
        oracle, reward = make(in_parts, ledger=path)
        with pytest.raises(ConnectionError):
            oracle(tokens)
        if resumed:
            oracle.close()
            oracle, reward = make(in_parts, ledger=path)
            assert oracle.count == 0  # the question is charged when it is asked again
        reward.rows.clear()
        assert oracle(tokens).tolist() == truth(tokens).tolist()
        assert reward.rows == [tuple(row) for row in tokens[:3].tolist()]
        assert oracle.count == oracle.ledger.count == 6
        oracle.close()
        Ledger.read(path)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_between_question_and_answer(error, tmp_path):
    def fail(tokens):
        raise error

    oracle, reward = make(fail, budget=3, ledger=tmp_path / "l.jsonl")
    tokens = rows(3)
    with pytest.raises(error):
        oracle(tokens)
    assert (oracle.count, oracle.left, oracle.open) == (3, 0, 3)
    reward.answer = truth
    assert oracle(tokens).tolist() == truth(tokens).tolist()  # although nothing is left
    with pytest.raises(BudgetExhausted):
        oracle(tokens[:1])


def test_real_rewards_keep_their_values(tmp_path):
    oracle, _ = make(lambda t: t.sum(axis=1) / 9, threshold=0.5, ledger=tmp_path / "l.jsonl")
    tokens = rows(8)
    real = tokens.sum(axis=1) / 9
    assert oracle(tokens).tolist() == (real >= 0.5).tolist()
    oracle.close()
    ask = Ledger.read(tmp_path / "l.jsonl").asks[0]
    assert np.array_equal(ask.values, real)
    assert ask.rewards.tolist() == (real >= 0.5).tolist()


def test_replay_costs_nothing_and_divergence_is_named(tmp_path):
    path = tmp_path / "l.jsonl"
    batches = [rows(n, seed=n) for n in (3, 1, 5)]
    oracle, _ = make(ledger=path)
    first = [oracle(batch) for batch in batches]
    head = oracle.ledger.head
    oracle.close()

    oracle, reward = make(ledger=path)
    with pytest.raises(ReplayDiverged, match=r"question 0 .* holds 3 sequences, 1 were asked") as diverged:
        oracle(batches[1])
    message = str(diverged.value)
    assert "To begin anew" in message and all(way in message for way in ("move that file away", "--out", "--inherit"))
    assert str(path) in message and str(pickle.loads(pickle.dumps(diverged.value))) == message
    assert all(np.array_equal(oracle(batch), old) for batch, old in zip(batches, first, strict=True))
    assert (reward.rows, oracle.count, oracle.ledger.head) == ([], 9, head)
    oracle(batches[0])
    assert len(reward.rows) == 3
    oracle.close()

    oracle, _ = make(ledger=path)
    other = batches[0].copy()
    other[1] = [0, 0, 0] if other[1].tolist() != [0, 0, 0] else [1, 1, 1]
    with pytest.raises(ReplayDiverged, match=r"its row 1 is '.*', asked"):
        oracle(other)


@pytest.mark.parametrize("change", [{"budget": 21}, {"feedback": "failures"}, {"binding": {"seed": 1}}])
def test_a_ledger_of_another_run_is_refused_and_left_alone(change, tmp_path):
    path = tmp_path / "l.jsonl"
    oracle, _ = make(ledger=path)
    oracle(rows(2))
    oracle.close()
    before = path.read_bytes()
    other, _ = make(ledger=path, **change)
    with pytest.raises(LedgerMismatch, match="belongs to another run"):
        other(rows(2))
    assert path.read_bytes() == before


def test_the_file_appears_at_the_first_question(tmp_path):
    oracle, _ = make(ledger=tmp_path / "deep" / "l.jsonl")
    assert not (tmp_path / "deep").exists()
    oracle(rows(1))
    assert (tmp_path / "deep" / "l.jsonl").exists()


def test_a_fork_is_refused_and_the_parent_goes_on():
    oracle, _ = make()
    oracle(rows(2))
    assert in_child(lambda: oracle(rows(1))) == OracleMoved.__name__
    assert in_child(lambda: oracle.ledger) == OracleMoved.__name__
    assert oracle(rows(1)).shape == (1,) and oracle.count == 3


def test_interrupts_at_any_instant(tmp_path):
    """A real signal strikes anywhere in a call; the meter and the ledger agree ever after."""
    path, struck = tmp_path / "l.jsonl", 0
    oracle, _ = make(budget=10**6, ledger=path)
    oracle(rows(1))

    def interrupt(*_):
        raise KeyboardInterrupt

    rng, before = random.Random(0), signal.signal(signal.SIGALRM, interrupt)
    try:
        for k in range(400):
            tokens = rows(rng.randint(1, 4), seed=k)
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, 3e-4))
                answer = oracle(tokens)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                struck += 1
                asks = oracle.ledger.asks
                if oracle.open and asks:
                    tokens = oracle.ledger.tokens(asks[-1])
                answer = oracle(tokens)
            assert answer.tolist() == truth(tokens).tolist()
            assert (oracle.count, oracle.open) == (oracle.ledger.count, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert struck > 40
    oracle.close()
    assert Ledger.read(path).count == oracle.count


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_killed_runs_resume_to_the_same_ledger(tmp_path):
    def work(path):
        oracle = Oracle(Task(PROBLEM, slow), budget=600, ledger=path)
        rng = random.Random(5)
        while oracle.left:
            oracle(legal(min(oracle.left, rng.randint(1, 5)), rng))
        return oracle

    def slow(tokens):
        time.sleep(2e-4)
        with log.open("a") as file:
            file.write("x" * len(tokens))
        return truth(tokens)

    log = tmp_path / "whole.log"
    head = work(tmp_path / "whole.jsonl").ledger.head
    assert log.stat().st_size == 600
    log, path, kills, rng = tmp_path / "killed.log", tmp_path / "killed.jsonl", 0, random.Random(1)
    for _ in range(15):
        child = os.fork()
        if child == 0:
            try:
                work(path)
            finally:
                os._exit(0)
        time.sleep(rng.uniform(0.002, 0.04))
        os.kill(child, signal.SIGKILL)
        kills += os.waitpid(child, 0)[1] != 0
    oracle = work(path)
    assert kills > 3
    assert (oracle.ledger.head, oracle.ledger.count) == (head, 600)
    assert log.stat().st_size <= 600 + 5 * kills  # at most the rows in flight, each time
