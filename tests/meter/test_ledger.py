"""The ledger: every damage is found or repaired, every failure to write is typed and leaves a valid file."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_envs import Ledger, Oracle, Problem, Task
from banel_envs.errors import LedgerCorrupt, LedgerLocked, LedgerMismatch, LedgerWriteError
from banel_envs.meter import ledger_format
from banel_envs.policies import Uniform
from tests.shared.fuzz_meter import END, T, legal, truth

PROBLEM = Problem("test/Ledger-v0", ("a", "b", "c", "$"), T, 400, partial(Uniform, 4, T, END), end=END)
HEADER = {"task": "x", "vocabulary": 4, "horizon": T}


def oracle_on(path, reward=truth):
    return Oracle(Task(PROBLEM, reward, digest="0" * 64), ledger=path)


def ask_all(oracle, calls=12):
    rng = random.Random(3)
    for _ in range(calls):
        oracle(legal(rng.randint(1, 9), rng))
    return oracle


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished ledger: its bytes, and the head and counts that its run's record keeps."""
    path = tmp_path_factory.mktemp("ledger") / "l.jsonl"
    ask_all(oracle_on(path), 16).close()
    ledger = Ledger.read(path)
    assert path.stat().st_size >= 3_000
    return path.read_bytes(), (ledger.head, ledger.lines, ledger.count)


def found(content, record, path):
    """Whether a checker that holds the record sees that the ledger is not the one of the run."""
    path.write_bytes(content)
    try:
        ledger = Ledger.read(path)
    except LedgerCorrupt:
        return True
    return (ledger.head, ledger.lines, ledger.count) != record


def test_a_sound_ledger_is_found_sound(finished, tmp_path):
    content, record = finished
    assert not found(content, record, tmp_path / "l")


@pytest.mark.parametrize("share", [0.02, pytest.param(1, marks=pytest.mark.slow)])
def test_every_flipped_bit_is_found(finished, tmp_path, share):
    content, record = finished
    for bit in range(8 * len(content)):
        if share < 1 and random.Random(bit).random() > share and bit < 8 * (len(content) - 10):
            continue
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        assert found(bytes(damaged), record, tmp_path / "l"), f"bit {bit} of {8 * len(content)}"


def test_every_deleted_doubled_or_swapped_line_is_found(finished, tmp_path):
    content, record = finished
    lines = content.splitlines(keepends=True)
    for k, line in enumerate(lines):
        assert found(b"".join(lines[:k] + lines[k + 1 :]), record, tmp_path / "l"), f"line {k} deleted"
        assert found(b"".join([*lines[:k], line, *lines[k:]]), record, tmp_path / "l"), f"line {k} doubled"
        for j in range(k):
            swapped = lines.copy()
            swapped[j], swapped[k] = lines[k], lines[j]
            assert found(b"".join(swapped), record, tmp_path / "l"), f"lines {j} and {k} swapped"


@pytest.mark.parametrize("stride", [41, pytest.param(1, marks=pytest.mark.slow)])
def test_every_truncation_is_found_and_the_run_goes_on_to_the_same_bytes(finished, tmp_path, stride):
    content, record = finished
    ends = {i + 1 for i, byte in enumerate(content) if byte == 10}
    path = tmp_path / "l"
    for size in range(len(content)):
        if size % stride and not {size - 1, size, size + 1} & ends:
            continue
        assert found(content[:size], record, path), f"cut to {size} bytes"
        oracle = ask_all(oracle_on(path), 16)
        # Repaired: what follows the last whole line, unless only its newline is missing.
        assert oracle.ledger.repaired == (0 if size + 1 in ends else size - max(ends & set(range(size + 1)), default=0))
        oracle.close()
        assert path.read_bytes() == content


def reseal(content, change):
    """The ledger with its k-th body changed and every later line sealed anew: what a forger would submit."""
    head, out = "", b""
    for k, line in enumerate(content.splitlines()):
        body = change(k, line[: -len(b',"sha":"' + b"0" * 64 + b'"}')].decode())
        head, sealed = ledger_format.seal(head, body)
        out += sealed
    return out


FORGERIES = {
    "huge question": (1, '{"ask":0,"n":1000000000000,"tokens":""'),
    "no rows": (1, '{"ask":0,"n":0,"tokens":""'),
    "fraction": (1, '{"ask":0,"n":1.0,"tokens":"AAA="'),
    "short tokens": (1, '{"ask":0,"n":9,"tokens":"AA=="'),
    "not base64": (1, '{"ask":0,"n":1,"tokens":"????"'),
    "extra key": (1, '{"ask":0,"n":1,"tokens":"AA==","by":"me"'),
    "twice a key": (1, '{"ask":0,"n":9,"n":1,"tokens":"AA=="'),
    "spaces": (1, '{"ask": 0,"n":1,"tokens":"AA=="'),
    "wrong number": (1, '{"ask":7,"n":1,"tokens":"AA=="'),
    "answer first": (1, '{"answer":-1,"rows":[0,1],"rewards":"AA=="'),
    "huge answer": (2, '{"answer":0,"rows":[0,1000000000000],"rewards":"AA=="'),
    "short answer": (2, '{"answer":0,"rows":[0,2],"rewards":""'),
    "too many values": (2, '{"answer":0,"rows":[0,1],"rewards":"AA==","values":"AAAAAAAAAAAAAAAAAAAAAA=="'),
    "schema": (0, '{"ledger":2,"vocabulary":4,"horizon":3'),
    "no sizes": (0, '{"ledger":1'),
    "text sizes": (0, '{"ledger":1,"vocabulary":"4","horizon":"3"'),
    "deep": (0, '{"ledger":' + "[" * 100_000),
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_forged_lines_with_good_hashes_are_refused(finished, tmp_path, kind):
    number, forged = FORGERIES[kind]
    before = b"".join(finished[0].splitlines(keepends=True)[: number + 1])  # so that no later line gives it away
    content = reseal(before, lambda k, body: forged if k == number else body)
    (tmp_path / "l").write_bytes(content)
    with pytest.raises(LedgerCorrupt, match=f"line {number + 1} is not a ledger event"):
        Ledger.read(tmp_path / "l")


def test_resealing_without_a_change_is_the_same(finished):
    assert reseal(finished[0], lambda k, body: body) == finished[0]


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 70_000), st.integers(1, 9), st.integers(0, 30), st.integers(0, 2**32))
def test_packing_is_undone_by_unpacking(vocabulary, horizon, n, seed):
    tokens = np.random.default_rng(seed).integers(vocabulary, size=(n, horizon))
    tokens[: n // 2] = vocabulary - 1  # the token that takes every bit
    packed = ledger_format.pack_tokens(tokens, vocabulary)
    assert len(packed) <= (n * horizon * int(np.ceil(np.log2(vocabulary))) / 8 + 3) * 4 / 3
    assert np.array_equal(ledger_format.unpack_tokens(packed, n, horizon, vocabulary), tokens)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 20), st.booleans(), st.booleans()), max_size=12), st.integers(0, 2**32))
def test_parse_is_the_inverse_of_seal(calls, seed):
    rng, head, content, asks = np.random.default_rng(seed), "", b"", []
    head, content = ledger_format.seal(head, ledger_format.header_body(HEADER))
    for n, parts, real in calls:
        tokens = rng.integers(4, size=(n, T))
        ask = ledger_format.Ask(n, ledger_format.pack_tokens(tokens, 4), np.full(n, -1, np.int8))
        head, line = ledger_format.seal(head, ledger_format.ask_body(len(asks), ask))
        content += line
        rewards, values = rng.integers(2, size=n).astype(np.int8), rng.normal(size=n) if real else None
        for start, stop in [(n // 2, n), (0, n // 2)] if parts and n > 1 else [(0, n)]:
            some = None if values is None else values[start:stop]
            head, line = ledger_format.seal(
                head, ledger_format.answer_body(len(asks), start, rewards[start:stop], some)
            )
            content += line
        asks.append((tokens, rewards, values))
    events = ledger_format.parse(content, "x")
    assert (events.head, events.size, events.header) == (head, len(content), HEADER)
    for (tokens, rewards, values), ask in zip(asks, events.asks, strict=True):
        assert np.array_equal(ledger_format.unpack_tokens(ask.packed, ask.n, T, 4), tokens)
        assert np.array_equal(ask.rewards, rewards)
        assert ask.values is None if values is None else np.array_equal(ask.values, values)


def check_failure(oracle, path, fail):
    """A write fails while `fail` is on: typed, nothing given, the file valid; afterwards the run goes on."""
    oracle(legal(3, random.Random(0)))
    count, asked = oracle.count, []

    def reward(tokens):
        asked.append(len(tokens))
        return truth(tokens)

    tokens = legal(4, random.Random(1))
    with fail(), pytest.raises(LedgerWriteError, match="valid up to the line before"):
        oracle(tokens)
    assert oracle.count in (count, count + 4)
    assert (oracle.count, oracle.open) == (oracle.ledger.count, oracle.count - count)
    assert Ledger.read(path).count == oracle.count
    assert oracle(tokens).tolist() == truth(tokens).tolist()
    assert oracle.count == count + 4
    oracle.close()
    assert Ledger.read(path).count == count + 4


@contextmanager
def file_limit(size):
    """No file of this process may grow beyond `size` bytes: a write in between stores a part, then fails, for real."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 1, 50, 107, 108, 109, 150])
def test_no_room_left(tmp_path, room):
    path = tmp_path / "l.jsonl"
    check_failure(oracle_on(path), path, lambda: file_limit(path.stat().st_size + room))


def test_no_room_left_on_a_real_disk():
    folder = Path(tempfile.mkdtemp())
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        folder.rmdir()
        pytest.skip("no right to mount a small disk")
    try:
        path = folder / "l.jsonl"
        oracle = oracle_on(path)
        oracle(legal(1, random.Random(0)))
        (folder / "filler").write_bytes(b"x" * 8192)
        with pytest.raises(LedgerWriteError, match="No space left"):
            ask_all(oracle, 100)
        assert Ledger.read(path).count == oracle.count == oracle.ledger.count
        (folder / "filler").unlink()
        if oracle.open:
            oracle(oracle.ledger.tokens(oracle.ledger.asks[-1]))
        oracle(legal(1, random.Random(0)))
        oracle.close()
        Ledger.read(path)
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


@pytest.mark.parametrize("lost", [1, 2, 50, None])
def test_a_line_that_can_neither_be_written_nor_taken_back_is_repaired_on_opening(tmp_path, monkeypatch, lost):
    path = tmp_path / "l.jsonl"
    oracle = oracle_on(path)
    oracle(legal(3, random.Random(0)))
    size, write = path.stat().st_size, os.pwrite

    def partial_write(fd, data, offset):
        if offset > size or lost is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[:-lost], offset)

    def refuse(fd, length):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", partial_write)
        patch.setattr(os, "ftruncate", refuse)
        with pytest.raises(LedgerWriteError):
            oracle(legal(2, random.Random(1)))
    assert (path.stat().st_size > size) == (lost is not None)
    copied = tmp_path / "copy.jsonl"
    copied.write_bytes(path.read_bytes())
    for door in (oracle, oracle_on(copied)):  # the same oracle goes on; so does another run
        rng = random.Random(0)
        if door is not oracle:
            door(legal(3, rng))
        door(legal(2, random.Random(1)))
        assert door.count == 5
        door.close()
    assert path.read_bytes() == copied.read_bytes()


def test_a_disk_that_does_not_keep_what_it_took(tmp_path, monkeypatch):
    """Where fsync fails the line is in the file: the question counts as asked."""
    monkeypatch.setattr("banel_envs.meter.ledger.SYNC_EVERY", 4)

    def refuse(fd):
        raise OSError(errno.EIO, "Input/output error")

    path = tmp_path / "l.jsonl"
    oracle = oracle_on(path)
    oracle(legal(3, random.Random(0)))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(LedgerWriteError, match="Input/output error"):
            oracle(legal(2, random.Random(1)))
    assert (oracle.count, oracle.open, oracle.ledger.count) == (5, 2, 5)
    oracle(legal(2, random.Random(1)))
    assert oracle.count == 5


def test_a_folder_that_is_removed_while_running(tmp_path):
    folder = tmp_path / "run"
    oracle = oracle_on(folder / "l.jsonl")
    oracle(legal(3, random.Random(0)))
    shutil.rmtree(folder)
    with pytest.raises(LedgerWriteError, match="removed while in use"):
        oracle(legal(2, random.Random(0)))
    assert (oracle.count, oracle.open, oracle.ledger.count) == (3, 0, 3)


def test_a_writer_that_the_lock_did_not_stop_is_noticed(tmp_path):
    path = tmp_path / "l.jsonl"
    oracle = oracle_on(path)
    oracle(legal(3, random.Random(0)))
    with path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(LedgerWriteError, match="bytes, this run wrote"):
        oracle(legal(2, random.Random(0)))
    assert oracle.count == 3


def test_places_where_no_ledger_can_be(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "l.jsonl", tmp_path):
        oracle = oracle_on(path)
        with pytest.raises(LedgerWriteError, match=r"cannot be opened for writing .* nothing was evaluated"):
            oracle(legal(1, random.Random(0)))
        assert oracle.count == 0


def test_a_folder_without_the_right_to_write():
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        with pytest.raises(LedgerWriteError, match="Permission denied"):
            oracle_on(folder / "l.jsonl")(legal(1, random.Random(0)))
    finally:
        if root:
            os.seteuid(0)
        folder.rmdir()


def test_what_is_no_ledger_is_left_alone(tmp_path):
    for content in (b"hello\n", b"hello", b'{"a": 1}\n', b"\n", b"\x00" * 100):
        (tmp_path / "l").write_bytes(content)
        with pytest.raises(LedgerCorrupt):
            Ledger.open(tmp_path / "l", HEADER)
        assert (tmp_path / "l").read_bytes() == content
    with pytest.raises(LedgerCorrupt, match="cannot be read"):
        Ledger.read(tmp_path / "missing")


def test_one_writer_at_a_time(tmp_path):
    path = tmp_path / "l.jsonl"
    ledger = Ledger.open(path, HEADER)
    with pytest.raises(LedgerLocked, match="being written by another run"):
        Ledger.open(path, HEADER)
    code = f"from banel_envs import Ledger; Ledger.open({str(path)!r}, {HEADER})"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "LedgerLocked" in other.stderr
    Ledger.read(path)  # reading needs no lock
    ledger.close()
    Ledger.open(path, HEADER).close()


def test_a_row_is_answered_once():
    ledger = Ledger.in_memory(HEADER)
    ledger.ask(legal(4, random.Random(0)))
    ledger.answer(1, np.array([1, 0], np.int8))
    head = ledger.head
    for start, n in ((0, 2), (2, 1), (3, 2), (-1, 1), (0, 0)):
        with pytest.raises(ValueError, match="answered already or do not exist"):
            ledger.answer(start, np.zeros(n, np.int8))
    assert ledger.head == head
    assert ledger.asks[0].rewards.tolist() == [-1, 1, 0, -1]


def test_a_ledger_of_another_run_without_a_question_is_begun_anew(tmp_path):
    path, other = tmp_path / "l", {**HEADER, "task": "another/Task-v0"}
    Ledger.open(path, other).close()
    ledger = Ledger.open(path, HEADER)
    assert (ledger.header, ledger.lines) == (HEADER, 1)
    ledger.ask(np.zeros((1, HEADER["horizon"]), np.int64))
    ledger.close()
    assert Ledger.read(path).header["task"] == HEADER["task"]
    content = path.read_bytes()
    with pytest.raises(LedgerMismatch, match="belongs to another run: its task is"):
        Ledger.open(path, other)
    assert path.read_bytes() == content
