"""How a reward is asked: at most so many rows at once, and what it means that it raises on some of them."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_envs import FileReward, Ledger, Oracle, Problem, Task
from banel_envs.errors import BadReward, BadValue, LedgerCorrupt, LedgerWriteError, OpenQuestion
from banel_envs.measure.success import success_rate
from banel_envs.meter import ledger_format
from banel_envs.meter.answers import succeeded
from banel_envs.policies import Uniform
from banel_leaderboard.command.cli import main
from banel_leaderboard.proving.load import load_runs
from banel_leaderboard.proving.rates import Disproved
from banel_leaderboard.proving.recompute import check_answers
from banel_leaderboard.proving.replay import prove
from banel_leaderboard.ranking.boards import make_boards
from banel_leaderboard.ranking.marks import marks
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.running.harness import execute
from banel_leaderboard.running.inherit import inheriting, old_ledger
from banel_leaderboard.running.lookup import Known
from tests.shared import harness_tasks
from tests.shared.fuzz_meter import END, T, legal, truth

PROBLEM = Problem("test/Answers-v0", ("a", "b", "c", "$"), T, 400, partial(Uniform, 4, T, END), end=END)
POISON = 7  # the sum of tokens that the fragile reward raises on


class Torn(Exception):
    """What the fragile reward raises."""


class Asked:
    """A reward that notes each call; it raises on some rows and answers whole or in parts."""

    def __init__(self, *, parts=0, raises=None, real=False):
        self.parts, self.raises, self.real = parts, raises, real
        self.calls = []

    def __call__(self, tokens):
        self.calls.append(tokens.tolist())
        return self._in_parts(tokens) if self.parts else self._answer(tokens)

    def _answer(self, tokens):
        if self.raises is not None and (tokens.sum(axis=1) == POISON).any():
            raise self.raises
        return truth(tokens) * 0.75 if self.real else truth(tokens)

    def _in_parts(self, tokens):
        for start in range(0, len(tokens), self.parts):
            stop = min(start + self.parts, len(tokens))
            yield start, stop, self._answer(tokens[start:stop])

    @property
    def rows(self):
        return [tuple(row) for call in self.calls for row in call]


def rows(n, seed=0):
    return legal(n, random.Random(seed))


def expected(tokens):
    """What counts as a success where the poisoned rows fail."""
    return (truth(tokens) == 1) & (tokens.sum(axis=1) != POISON)


def make(reward, path=None, **options):
    return Oracle(Task(PROBLEM, reward, threshold=0.5 if reward.real else None, **options), ledger=path)


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True, np.float64(2)])
def test_bad_rows_at_once(value):
    with pytest.raises(BadValue, match=r"test/Answers-v0: rows_at_once is .*; it must be a whole number, at least 1"):
        Task(PROBLEM, truth, rows_at_once=value)


@pytest.mark.parametrize("value", ["", "Failure", None, True])
def test_bad_on_error(value):
    with pytest.raises(BadValue, match=r"test/Answers-v0: on_error is .*; it is fail or failure"):
        Task(PROBLEM, truth, on_error=value)


@settings(max_examples=80, deadline=None)
@given(
    n=st.integers(1, 12),
    seed=st.integers(0, 99),
    most=st.one_of(st.none(), st.integers(1, 13)),
    parts=st.integers(0, 4),
    real=st.booleans(),
)
def test_every_row_is_asked_once_in_calls_of_so_many_rows_at_most(n, seed, most, parts, real):
    tokens, reward = rows(n, seed), Asked(parts=parts, real=real)
    oracle = make(reward, rows_at_once=most)
    assert oracle(tokens).tolist() == truth(tokens).tolist()
    assert reward.rows == [tuple(row) for row in tokens.tolist()]
    assert [len(call) for call in reward.calls] == [min(most or n, n - at) for at in range(0, n, most or n)]
    assert oracle.errors == 0
    if real:
        assert np.array_equal(oracle.ledger.asks[0].values, truth(tokens) * 0.75)


@pytest.mark.parametrize("parts", [0, 2])
def test_without_the_new_options_the_ledger_is_the_same_to_the_byte(parts, tmp_path):
    heads = set()
    for name, options in {"old": {}, "new": {"rows_at_once": None, "on_error": "failure"}}.items():
        oracle = make(Asked(parts=parts), tmp_path / name, **options)
        for seed in range(4):
            oracle(rows(5, seed))
        oracle.close()
        heads.add((tmp_path / name).read_bytes())
    assert len(heads) == 1 and b"error" not in heads.pop()


@pytest.mark.parametrize("most", [1, 3, None])
def test_what_was_answered_before_the_reward_failed_is_not_asked_again(most, tmp_path):
    tokens, reward = rows(10, 3), Asked()
    whole = make(Asked(), tmp_path / "whole", rows_at_once=most)
    whole(tokens)
    whole.close()
    calls = []

    def fail_once(batch):
        calls.append(len(batch))
        if len(calls) == 3:
            raise ConnectionError("the lab is closed")
        return reward(batch)

    oracle = Oracle(Task(PROBLEM, fail_once, rows_at_once=most), ledger=tmp_path / "l")
    if most is None:
        calls += [0, 0]
    with pytest.raises(ConnectionError):
        oracle(tokens)
    assert len(reward.rows) == 2 * (most or 0)
    oracle.close()
    oracle = Oracle(Task(PROBLEM, fail_once, rows_at_once=most), ledger=tmp_path / "l")
    assert oracle(tokens).tolist() == truth(tokens).tolist()
    assert reward.rows == [tuple(row) for row in tokens.tolist()], "each row once"
    oracle.close()
    assert (tmp_path / "l").read_bytes() == (tmp_path / "whole").read_bytes()


@settings(max_examples=120, deadline=None)
@given(
    n=st.integers(1, 12),
    seed=st.integers(0, 99),
    most=st.one_of(st.none(), st.integers(1, 13)),
    parts=st.integers(0, 4),
    real=st.booleans(),
)
def test_a_row_that_raises_alone_is_a_failure_and_no_other_is(n, seed, most, parts, real):
    tokens, reward = rows(n, seed), Asked(parts=parts, raises=Torn(), real=real)
    poisoned = np.flatnonzero(tokens.sum(axis=1) == POISON)
    oracle = make(reward, rows_at_once=most, on_error="failure")
    assert oracle(tokens).tolist() == expected(tokens).tolist()
    ask = oracle.ledger.asks[0]
    assert ask.errors == {int(row): "Torn" for row in poisoned} and oracle.errors == len(poisoned)
    assert (oracle.count, oracle.open) == (n, 0)
    assert max(map(len, reward.calls)) <= (most or n)
    if real and len(poisoned) < n:
        assert np.flatnonzero(np.isnan(ask.values)).tolist() == poisoned.tolist()
    assert succeeded(Task(PROBLEM, reward, threshold=0.5 if real else None, on_error="failure"), tokens).tolist() == (
        expected(tokens).tolist()
    )


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 9),
    seed=st.integers(0, 99),
    most=st.one_of(st.none(), st.integers(1, 5)),
    lines=st.integers(0, 12),
    real=st.booleans(),
)
def test_cut_anywhere_and_resumed_the_ledger_is_the_same_to_the_byte(n, seed, most, lines, real, tmp_path_factory):
    path, tokens = tmp_path_factory.mktemp("cut") / "l", rows(n, seed)
    options = {"rows_at_once": most, "on_error": "failure"}
    oracle = make(Asked(raises=Torn(), real=real), path, **options)
    oracle(tokens)
    errors = oracle.errors
    oracle.close()
    content = path.read_bytes()
    whole = content.splitlines(keepends=True)
    path.write_bytes(b"".join(whole[: min(2 + lines, len(whole))]))
    reward = Asked(raises=Torn(), real=real)
    oracle = make(reward, path, **options)
    assert oracle(tokens).tolist() == expected(tokens).tolist()
    assert (oracle.errors, oracle.count) == (errors, n)
    oracle.close()
    assert path.read_bytes() == content
    again = make(Asked(), path)  # answered from the ledger alone, whatever the options
    assert again(tokens).tolist() == expected(tokens).tolist() and again.errors == errors
    again.close()


class OutOfMemoryError(RuntimeError):
    """As torch's is."""


class Deeper(OutOfMemoryError):
    pass


def odd_name():
    return type("Größe mit Leerzeichen" * 9, (Exception,), {})()


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        SystemExit(3),
        MemoryError(),
        OutOfMemoryError(),
        Deeper(),
        BadReward("no"),
        LedgerWriteError("no"),
        OpenQuestion("no"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("parts", [0, 1])
def test_what_says_nothing_of_the_row_is_never_swallowed(error, parts):
    tokens = np.array([[0, 0, 0], [2, 2, 3], [1, 1, 1]])
    assert (tokens.sum(axis=1) == POISON).tolist() == [False, True, False]
    oracle = make(Asked(parts=parts, raises=error), on_error="failure")
    with pytest.raises(type(error)):
        oracle(tokens)
    assert (oracle.count, oracle.open, oracle.errors) == (3, 3, 0)


@pytest.mark.parametrize("bad", [lambda t: "no", lambda t: np.full(len(t), np.nan), lambda t: [10**400] * len(t)])
def test_a_malformed_answer_is_no_failure(bad):
    oracle = Oracle(Task(PROBLEM, bad, threshold=0.5, on_error="failure"))
    with pytest.raises(BadReward):
        oracle(rows(2))
    assert (oracle.open, oracle.errors) == (2, 0)


def test_the_name_of_an_error_is_always_one_that_a_ledger_holds(tmp_path):
    oracle = make(Asked(raises=odd_name()), tmp_path / "l", on_error="failure")
    oracle(np.array([[2, 2, 3]]))
    oracle.close()
    assert Ledger.read(tmp_path / "l").asks[0].errors == {0: "Exception"}


def test_a_stuck_run_goes_on_once_errors_are_failures(tmp_path):
    tokens = np.array([[0, 0, 0], [2, 2, 3]])
    for _ in range(2):
        oracle = make(Asked(raises=Torn()), tmp_path / "l")
        with pytest.raises(Torn):
            oracle(tokens)
        oracle.close()
    oracle = make(Asked(raises=Torn()), tmp_path / "l", on_error="failure")
    assert oracle(tokens).tolist() == [1, 0] and oracle.errors == 1


FORGED = {
    "two rows": '"rows":[0,2],"rewards":"AA==","error":"Torn"',
    "a success": '"rows":[0,1],"rewards":"gA==","error":"Torn"',
    "with a value": '"rows":[0,1],"rewards":"AA==","values":"AAAAAAAAAAA=","error":"Torn"',
    "no name": '"rows":[0,1],"rewards":"AA==","error":"no name"',
    "empty": '"rows":[0,1],"rewards":"AA==","error":""',
    "long": '"rows":[0,1],"rewards":"AA==","error":"' + "a" * 81 + '"',
    "markup": '"rows":[0,1],"rewards":"AA==","error":"<b>"',
    "number": '"rows":[0,1],"rewards":"AA==","error":1',
    "null": '"rows":[0,1],"rewards":"AA==","error":null',
}


@pytest.mark.parametrize("kind", FORGED)
def test_forged_errors_are_refused(kind, tmp_path):
    oracle = make(Asked(), tmp_path / "l")
    oracle(rows(2))
    oracle.close()
    first, ask, _ = (tmp_path / "l").read_bytes().splitlines(keepends=True)
    _, line = ledger_format.seal(ask[-67:-3].decode(), '{"answer":0,' + FORGED[kind])
    (tmp_path / "l").write_bytes(first + ask + line)
    with pytest.raises(LedgerCorrupt, match="line 3 is not a ledger event"):
        Ledger.read(tmp_path / "l")
    _, sound = ledger_format.seal(ask[-67:-3].decode(), '{"answer":0,"rows":[0,1],"rewards":"AA==","error":"Torn"')
    (tmp_path / "l").write_bytes(first + ask + sound)
    assert Ledger.read(tmp_path / "l").asks[0].errors == {0: "Torn"}


def test_an_error_is_asked_again_by_a_run_that_inherits(tmp_path):
    tokens = np.array([[0, 0, 0], [2, 2, 3], [1, 1, 3]])
    old = make(Asked(raises=Torn()), tmp_path / "ledger.jsonl", on_error="failure")
    assert old(tokens).tolist() == [1, 0, 1]
    old.close()
    reward = Asked()
    task = Task(PROBLEM, reward)
    assert Oracle(inheriting(task, old_ledger(tmp_path, task)))(tokens).tolist() == truth(tokens).tolist()
    assert reward.rows == [(2, 2, 3)]


def test_off_the_meter_a_row_that_raises_fails_too():
    task = Task(PROBLEM, Asked(raises=Torn()), on_error="failure", rows_at_once=7)
    rate = success_rate(task, PROBLEM.base_policy(), np.random.default_rng(0), 500)
    assert rate.log10 is not None and max(map(len, task.reward.calls)) <= 7
    with pytest.raises(Torn):
        success_rate(Task(PROBLEM, Asked(raises=Torn())), PROBLEM.base_policy(), np.random.default_rng(0), 500)


def test_files_are_asked_for_so_many_rows_at_once(tmp_path):
    """Each question file has at most so many rows, and the next one is written when it is answered."""
    lab = tmp_path / "lab"
    files = FileReward(lab, PROBLEM, poll=0.01, timeout=0, binary=True)
    oracle = Oracle(Task(PROBLEM, files, rows_at_once=2), ledger=tmp_path / "l")
    tokens = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 0], [0, 1, 1]])
    for round in range(1, 4):
        with pytest.raises(Exception, match="rewards are awaited"):
            oracle(tokens)
        found = sorted(lab.glob("question-*.json"), key=lambda path: path.stat().st_mtime_ns)
        assert len(found) == round
        last = found[-1]
        (lab / last.name.replace("question", "answer")).write_text('{"0": 1, "1": 0}' if round < 3 else '{"0": 1}')
        oracle.close()
        files = FileReward(lab, PROBLEM, poll=0.01, timeout=0.5, binary=True)
        oracle = Oracle(Task(PROBLEM, files, rows_at_once=2), ledger=tmp_path / "l")
        if round < 3:
            files.timeout = 0.1
    assert oracle(tokens).tolist() == [1, 0, 1, 0, 1]


def ask_slowly(folder, most, on_error):
    """In a process of its own: batches of 100 rows, each noted where a kill cannot undo it before it is slept over."""

    def reward(tokens):
        with (folder / "witness").open("ab") as file:
            file.write(tokens.astype(np.uint8).tobytes())
        if (tokens.sum(axis=1) == POISON).any():
            raise Torn
        time.sleep(0.002 * len(tokens))
        return truth(tokens)

    child = os.fork()
    if child:
        return child
    status = 1
    try:
        oracle = Oracle(Task(PROBLEM, reward, rows_at_once=most, on_error=on_error), ledger=folder / "l")
        rng = random.Random(2)
        while oracle.left:
            tokens = legal(100, rng)
            if on_error == "fail":
                tokens[tokens.sum(axis=1) == POISON] = 0
            oracle(tokens)
        status = 0
    finally:
        os._exit(status)


def ended(child):
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
@pytest.mark.parametrize(("most", "on_error"), [(1, "fail"), (4, "fail"), (5, "failure")])
def test_a_killed_process_loses_at_most_the_rows_at_once(most, on_error, tmp_path):
    (tmp_path / "whole").mkdir()
    assert ended(ask_slowly(tmp_path / "whole", most, on_error))
    rng, kills = random.Random(most), 0
    for _ in range(6):
        child = ask_slowly(tmp_path, most, on_error)
        time.sleep(rng.uniform(0.05, 0.3))
        os.kill(child, signal.SIGKILL)
        kills += not ended(child)
    assert ended(ask_slowly(tmp_path, most, on_error)) and kills >= 3
    assert (tmp_path / "l").read_bytes() == (tmp_path / "whole" / "l").read_bytes()
    evaluated, needed = (path.stat().st_size // T for path in (tmp_path / "witness", tmp_path / "whole" / "witness"))
    lost = most if on_error == "fail" else 2 * most  # a call that raised, and its rows one by one
    assert needed <= evaluated <= needed + lost * kills


def fragile():
    """A task of a person's own whose reward raises on some inputs."""

    def reward(tokens):
        if (tokens[:, 0] == 0).any():
            raise Torn("no such molecule")
        return harness_tasks.judge(tokens)

    return harness_tasks.tiny("own/Fragile-v0", reward=reward, on_error="failure", rows_at_once=4)


@pytest.fixture(scope="module")
def fragile_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("fragile")
    return out, execute(Spec(task="tests.meter.test_answers:fragile", agent="base", settings={"batch": 20}), out)


KNOWN = Known({"own/Fragile-v0": fragile()})


def test_a_run_counts_its_errors_in_record_ledger_and_replay(fragile_run):
    out, record = fragile_run
    (folder,) = (path.parent for path in out.rglob("record.json"))
    asks = Ledger.read(folder / "ledger.jsonl").asks
    assert 5 <= record.errors == sum(len(ask.errors) for ask in asks) <= 30
    assert set().union(*(ask.errors.values() for ask in asks)) == {"Torn"}
    assert prove(folder, KNOWN).record.errors == record.errors


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("lie", ["hidden", "invented", "renamed"])
def test_an_error_that_the_reward_does_not_raise_is_disproved_and_so_is_one_that_is_hidden(lie, real, tmp_path):
    """A question of which row 1 raises; what is forged is row 1 (hidden, renamed) or row 0 (invented)."""
    tokens = np.array([[1, 1, 0], [2, 2, 3], [0, 0, 0]])
    task = Task(PROBLEM, Asked(raises=Torn(), real=real), threshold=0.5 if real else None, on_error="failure")
    honest, forged = Ledger.in_memory(header := {"vocabulary": 4, "horizon": T}), Ledger.in_memory(header)
    answers = [(0.0, None), (0.0, "Torn"), (0.75 if real else 1.0, None)]
    lies = {"hidden": (1, None), "invented": (0, "Torn"), "renamed": (1, "Other")}
    record = SimpleNamespace(task=PROBLEM.id, seed=0, twin=False)
    for ledger in (honest, forged):
        ledger.ask(tokens)
        for row, (value, error) in enumerate(answers):
            if ledger is forged and row == lies[lie][0]:
                error = lies[lie][1]
            values = np.array([value]) if real and error is None else None
            ledger.answer(row, np.array([value > 0.5], np.int8), values, error)
    check_answers(record, honest, task)
    with pytest.raises(Disproved, match=f"answer at NRE {lies[lie][0] + 1} .* 1 answers are wrong"):
        check_answers(record, forged, task)


def test_command_and_board_show_the_errors(fragile_run, capsys):
    out, record = fragile_run
    options = ["--agent", "base", "--set", "batch=20", "--jobs", "1", "--out", str(out)]
    assert main(["run", "--task", "tests.meter.test_answers:fragile", *options]) == 0
    assert f", {record.errors} failures are errors of the reward" in capsys.readouterr().out
    loaded = load_runs(out, KNOWN)
    assert not loaded.refused
    rows = [row for board in make_boards(loaded.runs) for table in board.tables for row in table.rows]
    assert rows and all(f"{record.errors} failures are errors of the reward" in marks(row) for row in rows)


def test_a_record_that_hides_its_errors_is_refused(fragile_run, tmp_path):
    import shutil

    out, record = fragile_run
    shutil.copytree(out, tmp_path / "runs")
    (path,) = (tmp_path / "runs").rglob("record.json")
    path.write_text(path.read_text().replace(f'"errors": {record.errors}', '"errors": 0'))
    ((_, reason),) = ((refused.path, refused.reason) for refused in load_runs(tmp_path / "runs").refused)
    assert f"errors is 0 in the record and {record.errors} in its ledger" in reason


def test_a_record_from_before_errors_were_counted_is_the_same_as_one_without_any(fragile_run, tmp_path):
    _, record = fragile_run
    without = record.model_copy(update={"errors": 0})
    old = without.model_dump_json(indent=1).replace(' "errors": 0,\n', "")
    assert "errors" not in old
    (tmp_path / "record.json").write_text(old)
    loaded = RunRecord.load(tmp_path / "record.json")
    assert loaded == without and loaded.canonical() == without.canonical()


def test_with_its_agent_in_a_process_of_its_own_the_run_is_the_same(fragile_run, tmp_path):
    _, record = fragile_run
    apart = execute(
        Spec(task="tests.meter.test_answers:fragile", agent="base", settings={"batch": 20}), tmp_path, isolate=True
    )
    assert apart.canonical() == record.canonical() and apart.ledger.head == record.ledger.head
