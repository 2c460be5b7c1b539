"""TRL's reward function and its callback, over the desk. A real GRPOTrainer run is among the tests of the examples."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from transformers import TrainerState

from banel_envs.bridges import Desk, DeskClient, DeskServer
from banel_envs.bridges.trl import MeteredReward, by_ids, stop_at_budget
from banel_envs.errors import BadValue, BudgetExhausted, MissingExtra
from tests.bridges.desk.test_desk import Flaky, sums, task_of


def at(step):
    return SimpleNamespace(global_step=step)


def test_rewards_of_texts_and_of_conversations():
    with Desk.open(task_of(sums)) as desk:
        reward = MeteredReward(desk, desk.problem)
        told = reward(
            prompts=["q"] * 4, completions=["333", " 012\n", "seven", ""], trainer_state=at(0), log_extra=print
        )
        assert told == [1.0, 0.0, 0.0, 0.0]
        assert desk.count == 2 and reward.unwritten == 2  # what is no sequence costs nothing
        said = [[{"role": "assistant", "content": "333"}], [{"role": "assistant", "content": None}]]
        assert reward(prompts=["q"] * 2, completions=said, trainer_state=at(1)) == [1.0, 0.0]
        assert reward(prompts=[], completions=[], trainer_state=at(2)) == []
        assert reward.__name__ == "trl"


def test_rewards_of_ids():
    with Desk.open(task_of(sums)) as desk:
        reward = MeteredReward(desk, desk.problem, by_ids(desk.problem))
        assert reward(["q"] * 2, ["?", "?"], completion_ids=[[3, 3, 3], [3, 3]]) == [1.0, 0.0]
        assert desk.count == 1


def test_withheld_successes_are_none():
    with Desk.open(task_of(sums), feedback="failures") as desk:
        assert MeteredReward(desk, desk.problem)(["q"] * 2, ["333", "000"]) == [None, 0.0]


def test_a_resumed_run_is_answered_for_nothing_and_a_new_batch_is_not():
    with Desk.open(task_of(sums)) as desk:
        for _ in range(2):  # the second one is the run that was started again from its checkpoint
            reward = MeteredReward(desk, desk.problem)
            for step in range(3):
                assert reward(["q"] * 2, ["333", f"00{step}"], trainer_state=at(step)) == [1.0, 0.0]
            assert reward(["q"], ["333"], trainer_state=at(2)) == [1.0]  # a second call within the step
        assert desk.count == 3 * 2 + 1
        reward(["q"], ["333"], trainer_state=at(2))  # a third call within it: the same sequences, asked again
        assert desk.count == 8
        MeteredReward(desk, desk.problem, name="another")(["q"], ["333"], trainer_state=at(2))
        assert desk.count == 9


def test_a_retry_after_an_error_has_the_same_key():
    flaky = Flaky()
    with Desk.open(task_of(flaky)) as desk:
        reward = MeteredReward(desk, desk.problem)
        with pytest.raises(RuntimeError):
            reward(["q"], ["333"], trainer_state=at(0))
        flaky.broken = False
        assert reward(["q"], ["333"], trainer_state=at(0)) == [1.0]
        assert desk.count == 1


def test_ranks_have_keys_of_their_own(monkeypatch):
    with Desk.open(task_of(sums)) as desk, DeskServer(desk) as server:
        for rank in "01":
            monkeypatch.setenv("RANK", rank)
            with DeskClient(server.address, server.secret) as client:
                MeteredReward(client, desk.problem)(["q"], ["333"], trainer_state=at(0))
        assert desk.count == 2


def test_the_budget_ends_the_training():
    with Desk.open(task_of(sums, budget=5)) as desk:
        reward = MeteredReward(desk, desk.problem)
        reward(["q"] * 3, ["333", "000", "x"], trainer_state=at(0))
        with pytest.raises(BudgetExhausted):
            reward(["q"] * 4, ["333", "000", "111", "222"], trainer_state=at(1))
        assert desk.count == 2
    for name in ("", "x" * 81):
        with pytest.raises(BadValue, match="1 to 80"):
            MeteredReward(desk, desk.problem, name=name)


def steps(desk, batches, world_size=1, checkpoint=None):
    """After which of the batches the callback ends a run that begins anew at this desk, or at a checkpoint."""
    reward = MeteredReward(desk, desk.problem)
    stop, ended = stop_at_budget(reward), []
    begun, kept = (0, {}) if checkpoint is None else checkpoint
    state = SimpleNamespace(global_step=begun, stateful_callbacks=kept)
    stop.on_train_begin(SimpleNamespace(world_size=world_size), state, SimpleNamespace())
    for step, texts in enumerate(batches, start=begun):
        reward(["q"] * len(texts), texts, trainer_state=at(step))
        control = SimpleNamespace(should_training_stop=False)
        stop.on_step_end(SimpleNamespace(world_size=world_size), at(step), control)
        ended.append(control.should_training_stop)
        if control.should_training_stop:
            break
    return ended


def test_a_run_that_begins_at_a_checkpoint_stops_where_the_whole_one_did():
    with Desk.open(task_of(sums, budget=40)) as desk:
        batches = [[f"{k // 4}{k % 4}{j}" for j in range(4)] for k in range(10)]
        assert steps(desk, batches) == [*[False] * 9, True]
        half = MeteredReward(desk, desk.problem)
        half.asked = 20  # what a checkpoint after five steps holds
        kept = TrainerState(stateful_callbacks=[stop_at_budget(half)]).stateful_callbacks
        assert steps(desk, [*batches[5:], ["333"] * 4], checkpoint=(5, kept)) == [*[False] * 4, True]
        assert desk.left == 0


def test_the_callback_stops_before_a_batch_that_does_not_fit(monkeypatch):
    two = ["333", "000"]
    with Desk.open(task_of(sums, budget=5)) as desk:
        assert steps(desk, [two, two]) == [False, True]  # one is left, which no batch fits in
        assert steps(desk, [two, two]) == [False, True]  # and so it ends when it runs again, for nothing
        assert desk.left == 1
    with Desk.open(task_of(sums, budget=5)) as desk:
        assert steps(desk, [two], world_size=2) == [True]  # another process asks as many
    with Desk.open(task_of(sums, budget=5)) as desk:
        desk.ask([[0, 0, 0]] * 2, "another client")
        assert steps(desk, [two]) == [True]
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"banel-envs\[trl\]"):
        stop_at_budget(MeteredReward(desk, desk.problem))
