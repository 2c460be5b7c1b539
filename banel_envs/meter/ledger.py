r"""Ledger: what was asked and what was answered, written ahead and hash-chained, one JSON line an event.

    {"ledger": 1, "task": ..., "seed": ..., "sha": H0}              the header binds the run
    {"ask": 0, "n": 64, "tokens": "base64", "sha": H1}              written before anything is evaluated
    {"answer": 0, "rows": [0, 64], "rewards": "base64", "sha": H2}  written before the answer is given, maybe in parts

Tokens are packed in ceil(log2 V) bits each, rewards in one bit. An answer has "values" too where the task has a
threshold, and "error", the name of an exception, where the reward raised on its one row and that counts as a failure
(`Task.on_error`). Under the feedback `typed`, and only there, an answer has "types", four bits for each row: why it failed,
0 for a success. Each line ends in SHA-256(digest of the line before + the line's own bytes up to there), so that any
changed, missing, repeated or moved line shows. Lines cut from the end show against the head kept in the run's record.
A last line without its newline was torn by a crash and is repaired.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import (
    BadValue,
    FileRefused,
    JudgesDiffer,
    LedgerCorrupt,
    LedgerLocked,
    LedgerMismatch,
    LedgerWriteError,
    OpenQuestion,
)
from banel_envs.files import safe_files, strict_json
from banel_envs.files.visible import shown, visible
from banel_envs.meter import ledger_format
from banel_envs.meter.ledger_format import Ask, Events
from banel_envs.meter.ledger_store import FileStore, MemoryStore
from banel_envs.problem import Problem, Tokens

SYNC_EVERY = 100  # lines between two fsyncs: a killed process loses nothing, a power cut at most these


class Ledger:
    """A ledger: `open` a file to write or resume, `in_memory` without one, `read` to verify a finished one."""

    def __init__(self, store: FileStore | MemoryStore | None, events: Events, path: Path | None) -> None:
        self.path = path
        self.sha256: str | None = None  # of the whole file, where it was read and verified as a finished one
        self.repaired = 0  # bytes of a torn last line that were dropped on opening
        self._store = store
        self._events = events
        self._dirty = False  # an exception struck between file and memory: the file is right

    @classmethod
    def in_memory(cls, header: Mapping[str, Any]) -> Ledger:
        """A chained ledger without a file."""
        ledger = cls(MemoryStore(), Events(header=dict(header)), None)
        ledger._append(_first_line(header))
        return ledger

    @classmethod
    def read(cls, path: str | Path, *, below: Path | None = None, most: int = safe_files.LEDGER) -> Ledger:
        """Verify every line of a finished ledger and return it, closed.

        Args:
            path: the file; no link, pipe or device.
            below: a folder that the path is below: no folder between the two may be a link.
            most: bytes that it may have.

        Raises:
            LedgerCorrupt: missing, no regular file, too large, a line is not what was written, or the last one is torn.
        """
        path = Path(path)
        try:
            content = safe_files.read(path, most, below=below)
        except FileRefused as error:
            raise LedgerCorrupt(str(error)) from error
        events = ledger_format.parse(content, path)
        if events.size != len(content) or not content.endswith(b"\n"):
            raise LedgerCorrupt(f"{path}: the last line is torn; resume the run to repair it")
        ledger = cls(None, events, path)
        ledger.sha256 = hashlib.sha256(content).hexdigest()
        return ledger

    @classmethod
    def open(cls, path: str | Path, header: Mapping[str, Any]) -> Ledger:
        """Create a ledger, or open one of the same run to replay and continue it.

        One of another run that holds no question is begun anew.

        Raises:
            LedgerMismatch: the file belongs to another run; names the first difference.
            LedgerLocked: someone has it open for writing.
            LedgerCorrupt: a whole line is not what was written.
            LedgerWriteError: the file cannot be created or written.
            BadValue: the header cannot stand in a ledger's first line.
        """
        path = Path(path)
        store = FileStore(path)
        try:
            content = store.read()
            events = ledger_format.parse(content, path)
            if _is_begun_anew(path, events, header):
                content, events = b"", Events()
            ledger = cls(store, events, path)
            ledger._repair(content)
            if not events.lines:
                events.header = dict(header)
                ledger._append(_first_line(header))
        except BaseException:
            store.close()
            raise
        return ledger

    @property
    def header(self) -> dict[str, Any]:
        """What the first line binds."""
        return self._events.header

    @property
    def head(self) -> str:
        """SHA-256 of the last line, in hex."""
        return self._current().head

    @property
    def lines(self) -> int:
        """Lines so far, the first included."""
        return self._current().lines

    @property
    def asks(self) -> list[Ask]:
        """Every question so far."""
        return self._current().asks

    @property
    def count(self) -> int:
        """Sequences asked."""
        return sum(ask.n for ask in self.asks)

    def tokens(self, ask: Ask) -> Tokens:
        """The sequences [n, T] of a question."""
        return ledger_format.unpack_tokens(ask.packed, ask.n, self.header["horizon"], self.header["vocabulary"])

    def pack(self, tokens: Tokens) -> str:
        """Sequences as a question holds them."""
        return ledger_format.pack_tokens(tokens, self.header["vocabulary"])

    def ask(self, tokens: Tokens) -> Ask:
        """Record a question [n, T], before it is evaluated.

        Raises:
            OpenQuestion: the question before has rows without an answer; nothing is written.
            LedgerWriteError: the line could not be stored; nothing was asked.
        """
        if self.asks and self.asks[-1].open:
            raise OpenQuestion(f"question {len(self.asks) - 1} of the ledger is still open; answer it before the next")
        ask = Ask(len(tokens), self.pack(tokens), np.full(len(tokens), -1, np.int8))
        with self._change() as events:
            self._append(ledger_format.ask_body(len(events.asks), ask))
            events.asks.append(ask)
        return ask

    def answer(
        self,
        start: int,
        rewards: NDArray[np.int8],
        values: NDArray[np.float64] | None = None,
        error: str | None = None,
        types: NDArray[np.int8] | None = None,
    ) -> None:
        """Record answers to rows start, start + 1, ... of the last question, before they are given.

        Raises:
            ValueError: a row is answered already or does not exist, an error is not one row's, or the types are missing, too
                many or not those of these rewards; nothing is written.
            LedgerWriteError: the line could not be stored; the question stays open.
        """
        self.asks[-1].expect(start, start + len(rewards))
        ledger_format.check_error(rewards, values, error)
        ledger_format.check_types(rewards, types, error, self.header.get("feedback") == ledger_format.TYPED)
        with self._change() as events:
            self._append(ledger_format.answer_body(len(events.asks) - 1, start, rewards, values, error, types))
            events.asks[-1].take(start, rewards, values, error, types)

    def sync(self) -> None:
        """Wait until every line is on the disk, also those that an earlier process wrote."""
        self._writable().sync()

    def close(self) -> None:
        """Release the file, synced if lines were added; what is in memory stays readable."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise LedgerLocked(f"the ledger {self.path} cannot be copied or pickled; read its file with Ledger.read")

    @contextlib.contextmanager
    def _change(self) -> Iterator[Events]:
        """File and memory change together, or memory is read again from the file before its next use."""
        events = self._current()
        self._dirty = True
        yield events
        self._dirty = False

    def _current(self) -> Events:
        """What the ledger says, read again if an exception struck between file and memory."""
        if self._dirty:
            self._reload()
        return self._events

    def _reload(self) -> None:
        if self._store is not None:
            content = self._store.read()
            self._events = ledger_format.parse(content, self.path or "ledger")
            self._repair(content)
        self._dirty = False

    def _repair(self, content: bytes) -> None:
        """Drop a torn last line, or give a whole one the newline it lost."""
        store = self._writable()
        events = self._events
        self.repaired += len(content) - events.size
        store.truncate(events.size)
        if events.size and content[events.size - 1 : events.size] != b"\n":
            store.append(b"\n", events.size)
            events.size += 1

    def _append(self, body: str) -> None:
        events = self._events
        head, line = ledger_format.seal(events.head, body)
        store = self._writable()
        store.append(line, events.size)
        events.head, events.size = head, events.size + len(line)
        events.lines += 1
        if events.lines % SYNC_EVERY == 0:
            store.sync()

    def _writable(self) -> FileStore | MemoryStore:
        if self._store is None:
            raise LedgerWriteError(f"the ledger {self.path} is closed; open it again with Ledger.open")
        return self._store


def divergence(ledger: Ledger, number: int, tokens: Tokens, problem: Problem) -> str:
    """What the ledger holds as this question and what was asked instead, up to the first row that differs."""
    held = ledger.tokens(ledger.asks[number])
    where = "they agree as far as both go"
    for row, (old, new) in enumerate(zip(held, tokens, strict=False)):
        if not np.array_equal(old, new):
            where = f"its row {row} is {problem.decode(old[None])[0]!r}, asked {problem.decode(new[None])[0]!r}"
            break
    return (
        f"question {number} is not the one in the ledger {ledger.path or ''}: it holds {len(held)} sequences, "
        f"{len(tokens)} were asked; {where}. Replay needs the same package, agent, seed, processor kind, threads and kernel"
    )


def _first_line(header: Mapping[str, Any]) -> str:
    """The header as it is written; BadValue for one that could not be read again."""
    try:
        body = ledger_format.header_body(header)
        ledger_format.check_header_size(body)
        strict_json.loads(body + "}")
    except (ValueError, TypeError, RecursionError) as error:
        raise BadValue(f"a ledger cannot bind this: {error}; nothing was evaluated") from error
    return body


def _is_begun_anew(path: Path, events: Events, header: Mapping[str, Any]) -> bool:
    """Whether a ledger of another run can make room for this one; LedgerMismatch if it is another's and holds a question.

    Where nothing was asked nothing can be lost, so a run that failed before its first question does not bar its folder.
    """
    try:
        if events.lines:
            _check_header(path, events.header, header)
    except LedgerMismatch:
        if events.asks:
            raise
        return True
    return False


def _check_header(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    wanted = json.loads(json.dumps(dict(wanted)))
    for key in [*wanted, *found]:
        if found.get(key) != wanted.get(key):
            if key == "version":  # says which package began the run; what decides is the number of the bits
                continue
            if key == "bits":
                raise LedgerMismatch(_bits_differ(path, found.get("bits", 1), wanted.get("bits", 1)))
            if key == "judges":
                raise _judges_differ(path, found.get(key), wanted.get(key))
            if key == "digest" and found.get("task") == wanted.get("task"):
                raise LedgerMismatch(_version_differs(path, wanted.get("task"), found.get(key), wanted.get(key)))
            raise LedgerMismatch(
                f"{path} belongs to another run: its {visible(key)} is {shown(found.get(key))}, "
                f"this run's is {shown(wanted.get(key))}; "
                f"choose another folder"
            )


def _bits_differ(path: Path, found: Any, wanted: Any) -> str:
    return (
        f"{path} was begun by a package whose random numbers, sampling or training give other bits (number {shown(found)}) "
        f"than those installed here (number {shown(wanted)}): the same seed would ask other questions; "
        f"install the version that began it, or choose another folder"
    )


def _version_differs(path: Path, task: Any, found: Any, wanted: Any) -> str:
    return (
        f"{path} belongs to another version of the task {shown(task)}: its digest is {shown(found)}, this run's is "
        f"{shown(wanted)}. A Task that states no digest has one of its source file, its problem and its base policy: restore "
        f"those to go on with the run, state the former digest if what was changed decides nothing, or choose another folder. "
        f"Where nothing was changed, the base policy is another one each time that it is made: seed it, or state a digest"
    )


def _judges_differ(path: Path, found: Any, wanted: Any) -> JudgesDiffer:
    """What judged the ledger's answers and what would judge here, in words."""
    then, here = (
        ", ".join(f"{name} {version}" for name, version in judges.items()) if isinstance(judges, dict) else "none named"
        for judges in (found, wanted)
    )
    return JudgesDiffer(
        f"{path}: its answers were judged by other versions of libraries ({then}) than are installed here ({here}); "
        f"install those to go on with it, or choose another folder"
    )
