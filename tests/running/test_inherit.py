"""--inherit: old answers are taken over, the rest is asked, nothing is ranked."""

import numpy as np
import pytest

from banel_envs import Oracle, Problem, Task
from banel_envs.errors import LedgerCorrupt, LedgerMismatch
from banel_envs.policies import Uniform
from banel_leaderboard.running.inherit import inheriting, old_ledger

OLD = np.array([[0, 1, 2], [3, 3, 3], [0, 0, 0]])
NEW = np.array([[1, 1, 1], [3, 3, 3], [3, 3, 2], [0, 0, 0]])  # rows 1 and 3 are in OLD


def build(asked, *, threshold=None, parts=False, id="test/Inherit-v0"):
    """A task that notes every row its reward is asked for."""
    problem = Problem(id, tuple("abcd"), 3, 100, base=lambda: Uniform(4, 3, None))

    def reward(tokens):
        asked.extend(map(tuple, tokens.tolist()))
        values = tokens.sum(axis=1) / 9 if threshold else (tokens.sum(axis=1) >= 8).astype(np.int8)
        return iter([(i, i + 1, values[i : i + 1]) for i in range(len(values))]) if parts else values

    return Task(problem, reward, threshold=threshold, digest="d")


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("threshold", [None, 0.8])
def test_only_what_the_old_run_cannot_answer_is_asked(tmp_path, threshold, parts):
    first = Oracle(build([], threshold=threshold), ledger=tmp_path / "ledger.jsonl")
    first(OLD)
    first.close()
    asked = []
    task = build(asked, threshold=threshold, parts=parts)
    oracle = Oracle(inheriting(task, old_ledger(tmp_path, task)))
    np.testing.assert_array_equal(oracle(NEW), [0, 1, 1, 0])
    assert asked == [(1, 1, 1), (3, 3, 2)] and oracle.count == 4
    if threshold:
        np.testing.assert_allclose(oracle.ledger.asks[0].values, NEW.sum(axis=1) / 9)
    oracle(OLD)
    assert len(asked) == 2


def test_an_unanswered_question_of_the_old_run_is_asked(tmp_path):
    def broken(tokens):
        raise RuntimeError("the machine is down")

    first = Oracle(Task(build([]).problem, broken, digest="d"), ledger=tmp_path / "ledger.jsonl")
    with pytest.raises(RuntimeError):
        first(OLD)
    first.close()
    asked = []
    task = build(asked)
    Oracle(inheriting(task, old_ledger(tmp_path, task)))(OLD)
    assert len(asked) == 3


def test_a_ledger_of_another_task_or_none_is_refused(tmp_path):
    Oracle(build([]), ledger=tmp_path / "ledger.jsonl")(OLD)
    with pytest.raises(LedgerMismatch, match="test/Other-v0"):
        old_ledger(tmp_path, build([], id="test/Other-v0"))
    with pytest.raises(LedgerCorrupt, match="cannot be read"):
        old_ledger(tmp_path / "nowhere", build([]))
