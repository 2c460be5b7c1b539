"""The desk: whoever asks and however often, each batch is charged once, and nothing that was paid for is lost."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
import threading
from concurrent.futures import CancelledError

import numpy as np
import pytest

from banel_envs import Oracle, Problem, Task
from banel_envs.bridges import Desk
from banel_envs.errors import (
    BadTokens,
    BadValue,
    BudgetExhausted,
    DeskClosed,
    DeskTimeout,
    KeyReused,
    LedgerCorrupt,
    OpenQuestion,
    OracleBusy,
    OracleMoved,
)
from banel_envs.meter import empty_questions
from banel_envs.meter.ledger import Ledger
from banel_envs.policies import Uniform
from banel_envs.problem import FailureType

TYPES = (FailureType("low", 0, "the sum is below 6"), FailureType("odd", 1, "the sum is odd"))


def task_of(reward, budget=100, **options):
    problem = Problem("me/Sum-v0", tuple("0123"), 3, budget, lambda: Uniform(4, 3, None), failure_types=TYPES)
    return Task(problem, reward, **options)


def sums(tokens):
    return (tokens.sum(axis=1) >= 6).astype(np.int8)


def batch(*rows):
    return np.array([[int(letter) for letter in row] for row in rows])


class Gate:
    """A reward that waits for permission, and says when it has begun."""

    def __init__(self):
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, tokens):
        self.begun.set()
        assert self.go.wait(20)
        return sums(tokens)


class Flaky:
    """A reward that raises until it is mended."""

    def __init__(self):
        self.broken, self.calls = True, 0

    def __call__(self, tokens):
        self.calls += 1
        if self.broken:
            raise RuntimeError("no power")
        return sums(tokens)


def test_a_retry_is_free_and_charged_once():
    with Desk.open(task_of(sums)) as desk:
        assert desk.ask(batch("333", "012"), "a").tolist() == [1, 0]
        assert desk.ask(batch("333", "012"), "a").tolist() == [1, 0]
        assert (desk.count, desk.left, desk.budget) == (2, 98, 100)
        assert desk.ask(batch("333", "012"), "b").tolist() == [1, 0]
        assert desk.count == 4  # another key is another batch


@pytest.mark.parametrize("other", [("012", "333"), ("333",), ("333", "012", "012"), ("333", "013")])
def test_another_batch_under_a_used_key_is_refused(other):
    with Desk.open(task_of(sums)) as desk:
        desk.ask(batch("333", "012"), "a")
        with pytest.raises(KeyReused, match="'a' was used for another batch"):
            desk.ask(batch(*other), "a")
        assert desk.count == 2
        assert desk.ask(batch("333", "012"), "a").tolist() == [1, 0]


def test_nobody_can_change_what_the_next_one_is_told():
    with Desk.open(task_of(sums)) as desk:
        asked = batch("333")
        desk.ask(asked, "a")[0] = 7
        asked[:] = 0  # nor does a later change of the batch reach the desk
        assert desk.ask(batch("333"), "a").tolist() == [1]
        with pytest.raises(ValueError, match="read-only"):
            desk.reply(batch("333"), "a").rewards[0] = 7


def test_withheld_successes_arrive_as_nan_again_and_again():
    with Desk.open(task_of(sums), feedback="failures") as desk:
        for _ in range(2):
            np.testing.assert_array_equal(desk.ask(batch("333", "012"), "a"), [np.nan, 0])
        assert desk.feedback == "failures" and desk.reply(batch("333", "012"), "a").types is None


def test_types_are_told_under_their_feedback():
    def why(tokens):
        return np.where(sums(tokens) == 1, 0, 1)

    with Desk.open(task_of(sums, failure_type=why), feedback="typed") as desk:
        for _ in range(2):
            reply = desk.reply(batch("333", "012"), "a")
            np.testing.assert_array_equal(reply.rewards, [np.nan, 0])
            assert reply.types.tolist() == [0, 1]


def test_the_budget_ends_and_what_was_paid_for_stays():
    with Desk.open(task_of(sums, budget=3)) as desk:
        desk.ask(batch("333", "012"), "a")
        with pytest.raises(BudgetExhausted) as refused:
            desk.ask(batch("000", "111"), "b")
        assert (refused.value.asked, refused.value.left, refused.value.budget) == (2, 1, 3)
        assert desk.ask(batch("111"), "b").tolist() == [0]  # the refused batch did not use up its key
        assert desk.left == 0
        assert desk.ask(batch("333", "012"), "a").tolist() == [1, 0]


def test_clients_may_come_with_empty_batches_for_ever(monkeypatch):
    """What an oracle takes for an agent's endless loop are many clients that have nothing to ask just now."""
    monkeypatch.setattr(empty_questions, "MOST_EMPTY", 2)
    for feedback in ("full", "failures"):
        with Desk.open(task_of(sums), feedback=feedback) as desk:
            assert all(len(desk.ask(np.empty((0, 3), int), f"{k}")) == 0 for k in range(9))


def test_bad_input_is_charged_nothing():
    with Desk.open(task_of(sums)) as desk:
        for tokens in ([[9, 0, 0]], [[0, 0]], [[0.5, 0, 0]], "text"):
            with pytest.raises(BadTokens):
                desk.ask(tokens, "a")
        for key in ("", "x" * 201, None, 3, "half a pair \ud800"):
            with pytest.raises(BadValue, match="1 to 200 characters"):
                desk.ask(batch("333"), key)
        assert desk.ask(np.empty((0, 3), int), "a").shape == (0,)  # an empty batch asks nothing, and uses no key
        assert desk.count == 0
        assert desk.ask(batch("333"), "a").tolist() == [1]
    with pytest.raises(BadValue, match=r"banel_envs\.Oracle itself"):
        Desk(sums)
    with pytest.raises(BadValue, match="budget"):
        Desk.open(task_of(sums), budget=0)


def test_many_threads_that_repeat_themselves_are_charged_once_each():
    calls = []

    def reward(tokens):
        calls.append(len(tokens))
        return sums(tokens)

    rng = np.random.default_rng(0)
    batches = {f"key {k}": rng.integers(0, 4, (1 + k % 4, 3)) for k in range(40)}
    with Desk.open(task_of(reward)) as desk:
        wrong = []

        def client(seed):
            for key in map(str, np.random.default_rng(seed).permutation(list(batches))):
                wrong.extend([key] * (not np.array_equal(desk.ask(batches[key], key), sums(batches[key]))))

        threads = [threading.Thread(target=client, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert desk.count == sum(calls) == sum(map(len, batches.values())) == 100


def test_a_second_asker_waits_for_the_first_ones_answer():
    gate = Gate()
    with Desk.open(task_of(gate)) as desk:
        first = desk.submit(batch("333"), "a")
        assert gate.begun.wait(20)
        second = desk.submit(batch("333"), "a")
        assert not second.done()
        gate.go.set()
        assert first.result(20).rewards.tolist() == second.result(20).rewards.tolist() == [1]
        assert desk.count == 1


def test_a_timeout_withdraws_what_waits_and_keeps_what_is_asked():
    gate = Gate()
    with Desk.open(task_of(gate)) as desk:
        running = desk.submit(batch("333"), "a")
        assert gate.begun.wait(20)
        with pytest.raises(DeskTimeout, match="withdrawn and not charged"):
            desk.ask(batch("000"), "b", timeout=0.05)
        with pytest.raises(
            DeskTimeout, match="'a' was withdrawn"
        ):  # this request waits; the first one is being answered
            desk.ask(batch("333"), "a", timeout=0.05)
        gate.go.set()
        assert running.result(20).rewards.tolist() == [1]
        assert desk.count == 1
        gate.begun.clear()
        gate.go.clear()
        with pytest.raises(DeskTimeout, match="'c' is being answered and stays under its key"):
            desk.ask(batch("111"), "c", timeout=1.0)
        gate.go.set()
        assert desk.ask(batch("111"), "c").tolist() == [0]
        assert desk.count == 2


def test_where_the_reward_raises_the_same_key_goes_on():
    flaky = Flaky()
    with Desk.open(task_of(flaky)) as desk:
        with pytest.raises(RuntimeError, match="no power"):
            desk.ask(batch("333"), "a")
        assert desk.count == 1
        with pytest.raises(KeyReused):
            desk.ask(batch("000"), "a")
        with pytest.raises(OpenQuestion, match=r"'a' is charged and was not answered .RuntimeError: no power"):
            desk.ask(batch("000"), "b")
        assert desk.count == 1
        flaky.broken = False
        assert desk.ask(batch("000"), "b").tolist() == [0]  # the open one was asked first
        assert flaky.calls == 4 and desk.count == 2
        assert desk.ask(batch("333"), "a").tolist() == [1]
        assert flaky.calls == 4


def test_closing_answers_what_is_asked_and_refuses_what_waits():
    gate = Gate()
    desk = Desk.open(task_of(gate))
    running = desk.submit(batch("333"), "a")
    assert gate.begun.wait(20)
    waiting = desk.submit(batch("000"), "b")
    closer = threading.Thread(target=desk.close)
    closer.start()
    with pytest.raises(DeskClosed, match="was closed"):
        while True:  # until the other thread has come to close it
            desk.submit(batch("111"), "c").cancel()
    gate.go.set()
    closer.join(20)
    assert running.result(0).rewards.tolist() == [1]
    with pytest.raises(DeskClosed, match="nothing was charged"):
        waiting.result(0)
    assert desk.count == 1
    desk.close()  # again is fine


def test_asyncio():
    gate = Gate()
    with Desk.open(task_of(gate)) as desk:

        async def main():
            first = asyncio.create_task(desk.ask_async(batch("333", "012"), "a"))
            await asyncio.to_thread(gate.begun.wait, 20)
            withdrawn = asyncio.create_task(desk.ask_async(batch("111"), "b"))
            again = asyncio.create_task(desk.ask_async(batch("333", "012"), "a"))
            await asyncio.sleep(0.05)
            withdrawn.cancel()
            with pytest.raises(asyncio.CancelledError):
                await withdrawn
            gate.go.set()
            assert (await first).tolist() == (await again).tolist() == [1, 0]
            many = await asyncio.gather(*(desk.ask_async(batch("222"), f"key {k % 3}") for k in range(9)))
            assert [answer.tolist() for answer in many] == [[1]] * 9
            with pytest.raises(KeyReused):
                await desk.ask_async(batch("000"), "a")

        asyncio.run(main())
        assert desk.count == 2 + 3


def test_a_cancelled_future_is_not_charged():
    gate = Gate()
    with Desk.open(task_of(gate)) as desk:
        running, waiting = desk.submit(batch("333"), "a"), None
        assert gate.begun.wait(20)
        waiting = desk.submit(batch("000"), "b")
        assert waiting.cancel() and not running.cancel()
        gate.go.set()
        running.result(20)
        assert desk.ask(batch("111"), "c").tolist() == [0]
        with pytest.raises(CancelledError):
            waiting.result(0)
        assert desk.count == 2


def test_the_owner_serves_others_and_asks_itself():
    """An agent's `learn` holds an oracle; a trainer in another thread asks at a desk that the agent serves."""
    oracle = Oracle(task_of(sums))
    desk = Desk(oracle)
    told = []

    def trainer():
        told.extend(desk.ask(batch("333"), f"step {k}").item() for k in range(3))

    thread = threading.Thread(target=trainer)
    thread.start()
    desk.serve(until=lambda: not thread.is_alive())
    assert told == [1, 1, 1] and oracle.count == 3
    assert desk.ask(batch("333"), "step 0").tolist() == [1] and oracle.count == 3
    assert oracle(batch("000")).tolist() == [0] and desk.count == 4  # the desk leaves the oracle to its owner


def test_only_the_owner_serves_and_no_copy_does():
    with Desk.open(task_of(sums)) as desk:
        with pytest.raises(OracleMoved, match="served by the thread"):
            desk.serve()
        with pytest.raises(OracleMoved, match="copied or pickled"):
            copy.copy(desk)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_is_told_to_use_the_socket():
    with Desk.open(task_of(sums)) as desk:
        child = os.fork()
        if child == 0:
            try:
                desk.ask(batch("333"), "a")
            except OracleMoved:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert desk.count == 0


def test_a_desk_whose_owner_has_ended_says_so():
    made = []

    def own():
        made.append(Desk(Oracle(task_of(sums))))

    thread = threading.Thread(target=own)
    thread.start()
    thread.join()
    with pytest.raises(DeskClosed, match="has ended"):
        made[0].ask(batch("333"), "a")
    assert made[0].count == 0


def test_a_reward_that_ends_the_thread_ends_the_desk():
    def reward(tokens):
        raise SystemExit(3)

    desk = Desk.open(task_of(reward))
    with pytest.raises(DeskClosed, match="ended with SystemExit"):
        desk.ask(batch("333"), "a")
    with pytest.raises(DeskClosed):
        desk.ask(batch("000"), "b")
    assert desk.count == 1
    desk.close()


def test_an_interrupt_between_the_answer_and_its_return_loses_nothing(monkeypatch):
    """The answer is in the ledger by then, and the same key is given it from there."""
    oracle = Oracle(task_of(sums), feedback="failures")
    desk = Desk(oracle)
    keyed = desk._keyed
    told = keyed._told

    def interrupted(tokens):
        told(tokens)
        monkeypatch.setattr(keyed, "_told", told)
        raise RuntimeError("struck after the answer")

    monkeypatch.setattr(keyed, "_told", interrupted)
    with pytest.raises(RuntimeError):
        desk.ask(batch("333", "000"), "a")
    np.testing.assert_array_equal(desk.ask(batch("333", "000"), "a"), [np.nan, 0])
    assert oracle.count == 2


def test_a_reward_cannot_ask_at_its_own_desk():
    said = []

    def reward(tokens):
        with pytest.raises(OracleBusy) as error:
            desk.ask(batch("000"), "inner")
        said.append(str(error.value))
        return sums(tokens)

    desk = Desk(Oracle(task_of(reward)))
    assert desk.ask(batch("333"), "a").tolist() == [1]
    assert "asking it" in said[0] and desk.count == 1


def test_keys_outlive_the_desk(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Desk.open(task_of(sums), ledger=path) as desk:
        desk.ask(batch("333", "012"), "a")
        desk.ask(batch("000"), "b")
    calls = []

    def reward(tokens):
        calls.append(len(tokens))
        return sums(tokens)

    with Desk.open(task_of(reward), ledger=path) as desk:
        assert desk.count == 3
        assert desk.ask(batch("000"), "b").tolist() == [0]  # in another order than before
        assert desk.ask(batch("333", "012"), "a").tolist() == [1, 0]
        with pytest.raises(KeyReused):
            desk.ask(batch("111"), "a")
        assert (desk.count, calls) == (3, [])
        assert desk.ask(batch("111"), "c").tolist() == [0]
    assert Ledger.read(path).count == 4


def test_an_open_question_outlives_the_desk(tmp_path):
    path, flaky = tmp_path / "ledger.jsonl", Flaky()
    with Desk.open(task_of(flaky), ledger=path) as desk, pytest.raises(RuntimeError):
        desk.ask(batch("333"), "a")
    with Desk.open(task_of(flaky), ledger=path) as desk:  # still broken: the desk opens all the same
        with pytest.raises(RuntimeError):
            desk.ask(batch("333"), "a")
        with pytest.raises(KeyReused):
            desk.ask(batch("000"), "a")
    flaky.broken = False
    with Desk.open(task_of(flaky), ledger=path) as desk:
        assert desk.count == 1
        assert desk.ask(batch("333"), "a").tolist() == [1]
    assert Ledger.read(path).count == 1


def test_a_key_that_was_written_before_a_kill_charged_nothing(tmp_path):
    """The key is on disk before the ledger's line. After a kill in between, the key names no batch."""
    path = tmp_path / "ledger.jsonl"
    with Desk.open(task_of(sums), ledger=path) as desk:
        desk.ask(batch("333"), "a")
    keys = tmp_path / "ledger.jsonl.keys"
    with keys.open("a") as file:
        file.write('{"question": 1, "key": "lost", "sha256": "00"}\n{"question": 1, "key": "to')  # the second was torn
    with Desk.open(task_of(sums), ledger=path) as desk:
        assert desk.ask(batch("000"), "lost").tolist() == [0]
        assert desk.ask(batch("111"), "next").tolist() == [0]
        assert desk.count == 3
    with Desk.open(task_of(sums), ledger=path) as desk:
        for rows, key in (("333", "a"), ("000", "lost"), ("111", "next")):
            desk.ask(batch(rows), key)
        assert desk.count == 3


def test_a_changed_file_of_keys_gives_nobody_anothers_answer(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Desk.open(task_of(sums), ledger=path) as desk:
        desk.ask(batch("333"), "a")
    keys = tmp_path / "ledger.jsonl.keys"
    keys.write_text(keys.read_text().replace('sha256": "', 'sha256": "0'))
    with Desk.open(task_of(sums), ledger=path) as desk:
        assert desk.ask(batch("000"), "a").tolist() == [0]
        assert desk.count == 2
    keys.write_text("no JSON\n")
    with pytest.raises(LedgerCorrupt, match="line 1"):
        Desk.open(task_of(sums), ledger=path)
    keys.unlink()  # the refused desk has let the ledger go
    with Desk.open(task_of(sums), ledger=path) as desk:
        assert desk.count == 2


def test_keys_are_kept_from_the_first_question_on(tmp_path):
    oracle = Oracle(task_of(sums))
    oracle(batch("333"))
    with pytest.raises(BadValue, match="asked 1 sequences already"):
        Desk(oracle, keys=tmp_path / "keys")


def test_a_full_disk_charges_nothing(tmp_path, monkeypatch):
    oracle = Oracle(task_of(sums))
    desk = Desk(oracle, keys=tmp_path / "missing" / "keys")
    with pytest.raises(OSError, match="nothing was asked"):
        desk.ask(batch("333"), "a")
    assert oracle.count == 0
    (tmp_path / "missing").mkdir()
    assert desk.ask(batch("333"), "a").tolist() == [1]


def patient(desk, seed, told):
    """Eight batches of two, each repeated under its key until it is answered."""
    own = np.random.default_rng(seed)
    for step in range(8):
        tokens, key = own.integers(0, 4, (2, 3)), f"{seed} {step}"
        while key not in told:
            with contextlib.suppress(RuntimeError, OpenQuestion):
                told[key] = (tokens, desk.ask(tokens, key))


def test_threads_meet_a_flaky_reward_and_nothing_is_lost_or_paid_twice(tmp_path):
    rng, path, told = np.random.default_rng(1), tmp_path / "ledger.jsonl", {}

    def reward(tokens):
        if rng.random() < 0.4:
            raise RuntimeError("no power")
        return sums(tokens)

    with Desk.open(task_of(reward, budget=80), ledger=path) as desk:
        threads = [threading.Thread(target=patient, args=(desk, seed, told)) for seed in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert desk.left == 0
    assert len(told) == 40 and all(np.array_equal(rewards, sums(tokens)) for tokens, rewards in told.values())
    assert Ledger.read(path).count == 80
