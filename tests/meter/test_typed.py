"""The feedback `typed`: each failure comes with its type, and nothing else changes."""

from __future__ import annotations

import base64
import dataclasses
from functools import partial

import numpy as np
import pytest

from banel_envs import Ledger, Oracle, Problem, Task
from banel_envs.environments.env import GenerationEnv
from banel_envs.environments.vector import GenerationVectorEnv
from banel_envs.errors import BadReward, BadValue, ContractBroken, LedgerCorrupt
from banel_envs.meter import ledger_format
from banel_envs.policies import Uniform
from banel_envs.problem import FailureType
from banel_envs.testing import check_task

TYPES = (FailureType("odd", 0, "Its sum is odd."), FailureType("even", 1, "Its sum is even and not 4."))


def problem(types=TYPES):
    return Problem("test/Typed-v0", tuple("0123"), 3, 200, partial(Uniform, 4, 3, None), failure_types=types)


def reward(tokens):
    return (tokens.sum(axis=1) == 4).astype(np.int8)


def why(tokens):
    total = tokens.sum(axis=1)
    return np.where(total == 4, 0, np.where(total % 2, 1, 2))


def task(**changes):
    fields = {"reward": reward, "failure_type": why, "witness": lambda: np.array([1, 1, 2]), "digest": "0" * 64}
    return Task(problem(), **(fields | changes))


ASKED = np.array([[0, 0, 1], [1, 1, 2], [3, 3, 2], [3, 3, 3]])  # odd, a success, even, odd


def test_types_come_with_the_rewards_and_successes_are_withheld():
    oracle = Oracle(task(), feedback="typed")
    rewards, types = oracle.typed(ASKED)
    np.testing.assert_array_equal(rewards, [0, np.nan, 0, 0])
    assert types.tolist() == [1, 0, 2, 1] and types.dtype == np.int8
    np.testing.assert_array_equal(oracle(ASKED), rewards)  # one who knows no types is told what `failures` tells
    assert oracle.count == 8
    rewards, types = oracle.typed(np.empty((0, 3), np.int64))
    assert len(rewards) == len(types) == 0


def test_the_types_are_told_under_their_feedback_only():
    for feedback in ("full", "failures"):
        oracle = Oracle(task(), feedback=feedback)
        with pytest.raises(BadValue, match=f"this oracle's is '{feedback}'"):
            oracle.typed(ASKED)
        assert oracle.count == 0
    for silent in (task(failure_type=None), task().blind()):
        with pytest.raises(BadValue, match="does not say why"):
            Oracle(silent, feedback="typed")


def test_other_feedbacks_write_no_types():
    """Byte for byte what they wrote before there were types: a golden head, and the same with a task that tells none."""
    heads = set()
    for made in (task(), task(failure_type=None)):
        ledger = Ledger.in_memory({"task": "x", "vocabulary": 4, "horizon": 3})
        ask = ledger.ask(ASKED)
        ledger.answer(0, made.reward(ASKED))
        oracle = Oracle(made, feedback="failures")
        oracle(ASKED)
        assert ask.types is None and oracle.ledger.asks[0].types is None
        heads.add((ledger.head, oracle.ledger.head))
    assert len(heads) == 1
    assert heads.pop()[0] == "552c855e75d591727f85893b98ee79e74e1664ac36aab192e70a149815076a39"


def test_the_line_of_an_answer_by_hand(tmp_path):
    """Types 1, 0, 2, 1 in four bits each are the bytes 0x10 0x21."""
    path = tmp_path / "ledger.jsonl"
    oracle = Oracle(task(), feedback="typed", ledger=path)
    oracle.typed(ASKED)
    oracle.close()
    line = path.read_bytes().splitlines()[2]
    assert b'"rewards":"QA==","types":"%b","sha"' % base64.b64encode(bytes([0x10, 0x21])) in line
    assert Ledger.read(path).asks[0].types.tolist() == [1, 0, 2, 1]


def test_a_resumed_run_is_told_the_same_types(tmp_path):
    path = tmp_path / "ledger.jsonl"
    first = Oracle(task(), feedback="typed", ledger=path)
    told = first.typed(ASKED)
    first.close()

    def never(tokens):
        raise AssertionError("the ledger answers")

    again = Oracle(task(reward=never, failure_type=never), feedback="typed", ledger=path)
    np.testing.assert_array_equal(again.typed(ASKED), told)


def test_an_answer_in_parts_is_typed_part_by_part():
    def parts(tokens):
        yield 2, 4, reward(tokens[2:4])
        yield 0, 2, reward(tokens[:2])

    oracle = Oracle(task(reward=parts), feedback="typed")
    assert oracle.typed(ASKED)[1].tolist() == [1, 0, 2, 1]


def test_an_error_of_the_reward_has_no_type(tmp_path):
    def raises(tokens):
        if (tokens.sum(axis=1) == 9).any():
            raise RuntimeError("nine")
        return reward(tokens)

    path = tmp_path / "ledger.jsonl"
    oracle = Oracle(task(reward=raises, on_error="failure"), feedback="typed", ledger=path)
    rewards, types = oracle.typed(ASKED)
    np.testing.assert_array_equal(rewards, [0, np.nan, 0, 0])
    assert types.tolist() == [1, 0, 2, 0] and oracle.errors == 1
    oracle.close()
    assert Ledger.read(path).asks[0].types.tolist() == [1, 0, 2, 0]


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (lambda x: why(x).astype(float), "float64"),
        (lambda x: why(x) > 0, "bool"),
        (lambda x: why(x)[:2], r"\[2\] to 4"),
        (lambda x: why(x)[:, None], r"\[4, 1\]"),
        (lambda x: -why(x), "answered -1 to a failure"),
        (lambda x: why(x) * 2, "answered 4 to a failure"),
        (lambda x: np.where(why(x), 10**18, 0), "answered 1000000000000000000"),
        (lambda x: np.where(why(x) == 2, 0, why(x)), "answered 0 to a failure"),
        (lambda x: np.full(len(x), 1), "answered 1 to a success"),
        (lambda x: None, "object"),
    ],
)
def test_a_wrong_type_of_the_task_is_refused_and_the_question_stays_open(said, what):
    oracle = Oracle(task(failure_type=said), feedback="typed")
    with pytest.raises(BadReward, match=what):
        oracle.typed(ASKED)
    assert oracle.open == 4 and oracle.ledger.asks[0].open


def rewritten(path, change):
    """The ledger with its answer line changed and every hash made right again."""
    lines = path.read_bytes().splitlines()
    head, out = "", b""
    for line in lines:
        body = line[: -ledger_format.SUFFIX]
        head, sealed = ledger_format.seal(head, (change(body) if b'{"answer"' in body else body).decode())
        out += sealed
    path.write_bytes(out)


TOLD = b'"types":"ECE="'


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace(b"," + TOLD, b""),  # missing
        lambda body: body.replace(TOLD, b'"types":[1,0,2,1]'),
        lambda body: body.replace(TOLD, b'"types":1.5'),
        lambda body: body.replace(TOLD, b'"types":"%b"' % base64.b64encode(bytes([0x11, 0x21]))),  # on a success
        lambda body: body.replace(TOLD, b'"types":"%b"' % base64.b64encode(bytes([0x00, 0x21]))),  # none on a failure
        lambda body: body.replace(TOLD, b'"types":"%b"' % base64.b64encode(bytes([0x10]))),  # too few
        lambda body: body.replace(TOLD, b'"types":"%b"' % base64.b64encode(bytes([0x10, 0x21, 0]))),  # too many
        lambda body: body + b',"error":"RuntimeError"',
        lambda body: body + b"," + TOLD,  # twice
        lambda body: body.replace(b'"rewards":"QA==",' + TOLD, TOLD + b',"rewards":"QA=="'),  # in another order
    ],
)
def test_hostile_types_in_a_ledger_are_refused(tmp_path, change):
    path = tmp_path / "ledger.jsonl"
    oracle = Oracle(task(), feedback="typed", ledger=path)
    oracle.typed(ASKED)
    oracle.close()
    rewritten(path, lambda body: body)
    assert Ledger.read(path).asks[0].types.tolist() == [1, 0, 2, 1]
    rewritten(path, change)
    with pytest.raises(LedgerCorrupt, match="line 3 is not a ledger event"):
        Ledger.read(path)


def test_types_in_the_ledger_of_another_feedback_are_refused(tmp_path):
    path = tmp_path / "ledger.jsonl"
    oracle = Oracle(task(), feedback="failures", ledger=path)
    oracle(ASKED)
    oracle.close()
    rewritten(path, lambda body: body + b"," + TOLD)
    with pytest.raises(LedgerCorrupt, match="types"):
        Ledger.read(path)
    ledger = Ledger.in_memory({"task": "x", "vocabulary": 4, "horizon": 3, "feedback": "typed"})
    ledger.ask(ASKED)
    for types in (None, np.array([1, 0, 2], np.int8), np.array([16, 0, 2, 1]), np.array([-1, 0, 2, 1])):
        with pytest.raises(ValueError, match="type"):
            ledger.answer(0, reward(ASKED), types=types)
    assert ledger.lines == 2


def test_environments_withhold_as_under_failures():
    made = task()
    env = GenerationEnv(made.problem, Oracle(made, feedback="typed"))
    env.reset(seed=0)
    for token in ASKED[1]:
        _, told, terminated, _, info = env.step(np.int64(token))
    assert terminated and told == 0.0 and info["withheld"]
    many = GenerationVectorEnv(made.problem, Oracle(made, feedback="typed"), 4, autoreset_mode="Disabled")
    many.reset(seed=0)
    for column in ASKED.T:
        _, rewards, _, _, infos = many.step(column)
    assert rewards.tolist() == [0, 0, 0, 0] and infos["withheld"].tolist() == [False, True, False, False]


def test_a_table_of_types_that_cannot_be_told_is_refused():
    many = tuple(FailureType(str(k), k, "") for k in range(16))
    for types in (many, (TYPES[0], TYPES[0]), TYPES[::-1], (FailureType("x", -1, ""),), (FailureType("x", 0.5, ""),)):
        with pytest.raises(BadValue, match="types of failure"):
            problem(types)
    with pytest.raises(BadValue, match="failure_types"):
        dataclasses.replace(task(), problem=problem(()))


def test_check_task_asks_for_types_of_each_row_alone():
    check_task(task(), samples=300)
    with pytest.raises(ContractBroken, match="to a success"):
        check_task(task(failure_type=lambda x: np.ones(len(x), np.int64)), samples=300)
    uneven = task(failure_type=lambda x: np.where(why(x), 1 + np.arange(len(x)) % 2, 0))
    with pytest.raises(ContractBroken, match="beside it"):
        check_task(uneven, samples=300)
