"""Ways round the meter: a question that changes while it is asked, a reward that asks, a class that counts otherwise."""

from __future__ import annotations

import random
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_agents import make_agent
from banel_envs import GenerationEnv, GenerationVectorEnv, Ledger, Oracle, Problem, Task
from banel_envs.errors import BadTokens, BadValue, BanelError, OpenQuestion, OracleBusy, OracleMoved, OracleSubclassed
from banel_envs.meter.oracle import check_meter
from banel_envs.policies import Uniform
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.running.harness import measure
from banel_leaderboard.running.isolation_agent import RemoteOracle
from banel_leaderboard.running.resolve import ResolvedRun
from tests.shared.fuzz_meter import END, T, legal, truth

PROBLEM = Problem("test/Gaps-v0", ("a", "b", "c", "$"), T, 10_000, partial(Uniform, 4, T, END), end=END)


def rows(n, seed=0):
    return legal(n, random.Random(seed))


class Own:
    """A batch by NumPy's protocol: its own memory, whatever NumPy asks for, changed whenever it was handed out."""

    def __init__(self, array):
        self.array, self.given = array, 0

    def __array__(self, dtype=None, copy=None):
        self.given += 1
        if self.given > 1:
            self.array[:] = END
        return self.array


class Interface:
    """A batch by __array_interface__."""

    def __init__(self, array):
        self.array = array

    @property
    def __array_interface__(self):
        return self.array.__array_interface__


class Sub(np.ndarray):
    """An array that says of itself what it likes."""

    def copy(self, order="C"):
        return self

    def astype(self, *_, **__):
        return self

    def __array__(self, dtype=None, copy=None):
        return self


def tensor(array):
    return pytest.importorskip("torch").from_numpy(array)


FORMS = {
    "array": lambda a: a,
    "view": lambda a: a[:],
    "subclass": lambda a: a.view(Sub),
    "__array__": Own,
    "__array_interface__": Interface,
    "memoryview": memoryview,
    "tensor": tensor,
    "read-only view": lambda a: np.lib.stride_tricks.as_strided(a, writeable=False),
}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 6),
    seed=st.integers(0, 99),
    layout=st.sampled_from(["C", "F", "reversed", "transposed"]),
    dtype=st.sampled_from([np.int64, np.int32, np.uint8, ">i8", np.uint64]),
)
def test_checked_tokens_share_no_memory_with_what_was_given(form, n, seed, layout, dtype):
    tokens = rows(n, seed).astype(np.int64 if form == "tensor" else dtype)
    memory = {
        "C": tokens,
        "F": np.asfortranarray(tokens),
        "reversed": tokens[::-1].copy()[::-1],
        "transposed": tokens.T.copy().T,
    }[layout]
    if form == "tensor" and layout == "reversed":
        memory = tokens  # torch knows no negative strides
    if form == "memoryview" and dtype == ">i8":
        memory = memory.astype(np.int64)
    expected = memory.copy()
    clean = PROBLEM.check_tokens(FORMS[form](memory))
    assert type(clean) is np.ndarray and clean.dtype == np.int64 and clean.flags.c_contiguous
    memory[:] = 1
    assert np.array_equal(clean, expected) and not np.shares_memory(clean, memory)


@pytest.mark.parametrize("form", ["array", "view", "subclass", "__array__", "__array_interface__"])
@pytest.mark.parametrize("moment", ["_open", "_ask", "_evaluate"])
@pytest.mark.parametrize("to", [END, 77])
def test_what_is_changed_after_the_check_is_neither_asked_nor_recorded(form, moment, to, monkeypatch):
    asked, tokens = [], rows(5)
    oracle = Oracle(Task(PROBLEM, lambda t: asked.append(t.copy()) or truth(t)))
    kept, given, then = tokens.copy(), FORMS[form](tokens), getattr(Oracle, moment)

    def meddle(self, *arguments):
        tokens[:] = to
        return then(self, *arguments)

    monkeypatch.setattr(Oracle, moment, meddle)
    answer = oracle(given)
    assert np.array_equal(asked[0], kept) and answer.tolist() == truth(kept).tolist()
    assert np.array_equal(oracle.ledger.tokens(oracle.ledger.asks[0]), kept) and oracle.count == 5


def test_a_thread_that_changes_the_question_changes_nothing_that_was_accepted():
    """Four rows flip between two legal batches and an illegal one, as fast as they can."""
    witnessed = []

    def reward(tokens):
        witnessed.append(tokens.copy())
        return truth(tokens)

    oracle, tokens, stop = Oracle(Task(PROBLEM, reward), budget=1_000_000), rows(4, 1), threading.Event()
    forms = [rows(4, 1), rows(4, 2), np.array([[END, 0, 0]] * 4)]

    def flip():
        while not stop.is_set():
            for form in forms:
                tokens[:] = form

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread = threading.Thread(target=flip)
    thread.start()
    answers, refused = [], 0
    try:
        # How often the threads meet depends on the machine: a busy one needs more turns, so the count ends the loop.
        deadline = time.monotonic() + 60
        while min(len(answers), refused) < 500 and time.monotonic() < deadline and oracle.left >= 4:
            try:
                answers.append(oracle(tokens))
            except BadTokens:
                refused += 1
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert len(answers) > 50 and refused > 50, "the threads never met"
    assert oracle.count == 4 * len(answers) == oracle.ledger.count
    for ask, answer, seen in zip(oracle.ledger.asks, answers, witnessed, strict=True):
        recorded = PROBLEM.check_tokens(oracle.ledger.tokens(ask))  # legal
        assert np.array_equal(recorded, seen) and answer.tolist() == truth(recorded).tolist()


class Asking:
    """A reward that uses its own oracle in some way before it answers."""

    def __init__(self, way):
        self.way, self.oracle, self.met = way, None, []

    def __call__(self, tokens):
        if self.way is None:
            return truth(tokens)
        return self.way(self, tokens)


def directly(self, tokens):
    self.oracle(tokens[:1])
    return truth(tokens)


def same_question(self, tokens):
    self.oracle(tokens)
    return truth(tokens)


def by_an_env(self, tokens):
    env = GenerationEnv(PROBLEM, self.oracle)
    env.reset()
    env.step(np.int64(END))
    return truth(tokens)


def by_a_vector_env(self, tokens):
    env = GenerationVectorEnv(PROBLEM, self.oracle, 2)
    env.reset()
    env.step(np.array([END, END]))
    return truth(tokens)


def by_the_ledger(self, tokens):
    self.oracle.ledger.ask(tokens)
    return truth(tokens)


def by_closing(self, tokens):
    self.oracle.close()
    return truth(tokens)


def in_parts(self, tokens):
    yield 0, 1, truth(tokens[:1])
    self.oracle(tokens[1:])
    yield 1, len(tokens), truth(tokens[1:])


def when_its_parts_are_closed(self, tokens):
    try:
        yield 0, 1, truth(tokens[:1])
        raise ValueError("on purpose")
    finally:
        self.oracle(tokens[:1])


def by_another_oracle(self, tokens):
    other = Oracle(Task(PROBLEM, lambda t: self.oracle(t)))
    return other(tokens)


def when_its_answer_is_read(self, tokens):
    class Answer:
        def __array__(_, dtype=None, copy=None):  # noqa: N805 (self is the reward)
            self.oracle(tokens)
            return truth(tokens)

    return Answer()


def from_a_thread(self, tokens):
    raised = []

    def call():
        try:
            self.oracle(tokens)
        except BanelError as error:
            raised.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    raise raised[0]


WAYS = {
    way: OracleBusy
    for way in (
        directly,
        same_question,
        by_an_env,
        by_a_vector_env,
        by_the_ledger,
        by_closing,
        in_parts,
        when_its_parts_are_closed,
        by_another_oracle,
        when_its_answer_is_read,
    )
} | {from_a_thread: OracleMoved}


def asking(way, path, **options):
    reward = Asking(way)
    reward.oracle = Oracle(Task(PROBLEM, reward, **options), budget=12, ledger=path)
    return reward.oracle, reward


@pytest.mark.parametrize("on_error", ["fail", "failure"])
@pytest.mark.parametrize("rows_at_once", [None, 2])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_reward_that_uses_its_own_oracle_is_refused_and_the_question_goes_on(way, rows_at_once, on_error, tmp_path):
    oracle, reward = asking(None, tmp_path / "l.jsonl", rows_at_once=rows_at_once, on_error=on_error)
    oracle(rows(3, 1))
    reward.way = way
    with pytest.raises(WAYS[way]):
        oracle(rows(4, 2))
    assert (oracle.count, oracle.open, oracle.ledger.count, oracle.errors) == (7, 4, 7, 0)
    with pytest.raises(OpenQuestion):
        oracle(rows(4, 3))
    reward.way = None
    assert oracle(rows(4, 2)).tolist() == truth(rows(4, 2)).tolist()
    assert oracle(rows(5, 4)).tolist() == truth(rows(5, 4)).tolist()
    assert (oracle.count, oracle.open, oracle.left) == (12, 0, 0)
    oracle.close()
    ledger = Ledger.read(tmp_path / "l.jsonl")
    assert [ask.n for ask in ledger.asks] == [3, 4, 5] and not any(ask.open for ask in ledger.asks)


@pytest.mark.parametrize("way", [w for w in WAYS if w not in (in_parts, when_its_parts_are_closed)])
def test_a_reward_that_shrugs_the_refusal_off_answers_as_if_it_had_not_asked(way, tmp_path):
    def shrug(self, tokens):
        try:
            return np.asarray(way(self, tokens))
        except BanelError as error:
            self.met.append(type(error))
            return truth(tokens)

    plain, _ = asking(None, tmp_path / "plain.jsonl")
    oracle, reward = asking(shrug, tmp_path / "l.jsonl")
    for each in (plain, oracle):
        assert each(rows(4, 2)).tolist() == truth(rows(4, 2)).tolist()
        each.close()
    assert reward.met == [WAYS[way]]
    assert (tmp_path / "l.jsonl").read_bytes() == (tmp_path / "plain.jsonl").read_bytes()


def test_another_oracle_may_be_asked():
    other = Oracle(Task(PROBLEM, truth))
    oracle = Oracle(Task(PROBLEM, lambda t: other(t)))
    assert oracle(rows(4)).tolist() == truth(rows(4)).tolist()
    assert (oracle.count, other.count) == (4, 4)


def test_no_second_question_is_written_while_one_is_open():
    ledger = Ledger.in_memory({"vocabulary": 4, "horizon": T})
    ledger.ask(rows(2))
    head = ledger.head
    with pytest.raises(OpenQuestion, match="question 0 of the ledger is still open"):
        ledger.ask(rows(1))
    assert (ledger.head, len(ledger.asks)) == (head, 1)


class Mixin:
    __slots__ = ()


@pytest.mark.parametrize("name", ["count", "left", "budget", "__call__", "open", "_meter", "anything"])
def test_the_meter_has_no_subclass(name):
    with pytest.raises(OracleSubclassed, match="Generous inherits from Oracle"):
        type("Generous", (Oracle,), {name: property(lambda self: 10**9)})
    with pytest.raises(OracleSubclassed):
        type("Generous", (Mixin, Oracle), {"__slots__": (), name: 0})


class Quiet:
    """A mixin that keeps Oracle from hearing of its subclasses."""

    __slots__ = ()

    def __init_subclass__(cls, **_):
        pass


def disguised():
    kind = type("Generous", (Quiet, Oracle), {"__slots__": (), "left": property(lambda self: 10**9)})
    return kind(Task(PROBLEM, truth))


class Duck:
    """Everything an oracle has, but no meter."""

    def __init__(self):
        self.problem, self.budget, self.feedback = PROBLEM, 10, "full"
        self.count = self.open = self.errors = 0
        self.left = 10**9

    def __call__(self, tokens):
        return truth(np.asarray(tokens)).astype(np.float32)


@pytest.mark.parametrize("make", [disguised, Duck])
def test_envs_and_harness_take_nothing_but_an_oracle(make, tmp_path):
    oracle = make()
    resolved = ResolvedRun(Spec(task="x", agent="base"), Task(PROBLEM, truth), make_agent("base"), tmp_path)
    doors = [
        lambda: GenerationEnv(PROBLEM, oracle),
        lambda: GenerationVectorEnv(PROBLEM, oracle, 2),
        lambda: check_meter(oracle),
        lambda: measure(resolved, oracle, 0),
    ]
    for door in doors:
        with pytest.raises(BadValue, match=f"the oracle is a {type(oracle).__name__}; it must be a banel_envs.Oracle"):
            door()
    assert not any(tmp_path.iterdir())


def test_the_stand_in_of_an_isolated_agent_is_taken_by_envs_alone():
    remote = RemoteOracle(PROBLEM, 10, "full", None)
    assert GenerationEnv(PROBLEM, remote).left == GenerationVectorEnv(PROBLEM, remote, 2).left == 10
    with pytest.raises(BadValue, match="the oracle is a RemoteOracle"):
        check_meter(remote)
