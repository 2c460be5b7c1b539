"""Desk: one thread owns the oracle, and others hand in batches under keys. A batch is charged once, however often it is asked.

The rules, whichever way a batch comes in (another thread, asyncio, another process by `DeskServer` and `DeskClient`):

- The same sequences under the same key are answered again for nothing, also while the first answer is awaited, and also
  after the oracle's budget is spent. Other sequences under a used key are `KeyReused`.
- A batch that is refused (`BadTokens`, `BudgetExhausted`, `KeyReused`) is not charged and does not use up its key.
- Where the reward raises, the batch is charged and its question stays open, as at the oracle. The same batch under the same
  key goes on with it. Another batch first makes the desk ask the open one again; if it raises again, the other batch is
  refused with `OpenQuestion` and is not charged.
- A client that gives up or dies before its batch had its turn withdraws it if it can (a timeout, a cancelled future); else
  the batch is asked, and its answer is kept under its key.
- `close` lets the batch that is being answered be answered. Those that wait are refused with `DeskClosed`, uncharged.
- With a ledger in a file, keys are kept in a file beside it (`ledger.jsonl.keys`), so all of this holds across a kill.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from banel_envs.bridges.desk.keyed import KeyedOracle, Reply
from banel_envs.bridges.desk.keys import Entry, digest
from banel_envs.errors import BadValue, DeskClosed, DeskTimeout, OracleMoved
from banel_envs.meter.oracle import Feedback, Oracle
from banel_envs.names import shown
from banel_envs.problem import Problem, Tokens
from banel_envs.task import Task

LONGEST_KEY = 200  # characters
HALF = re.compile("[\ud800-\udfff]")  # half of a surrogate pair, which no file of text can hold
_IDLE = 0.02  # seconds between two looks at whether `serve` may end
_ALIVE = 1.0  # seconds between two looks at whether the owner's thread still lives


@dataclass(eq=False)
class _Request:
    """A batch that waits for its turn."""

    tokens: Tokens
    entry: Entry
    future: Future[Reply]


class Desk:
    """Shares one oracle among threads. The thread that made the oracle makes the desk, and owns it.

    The owner asks directly, and answers the others while it is in `serve`. `Desk.open` starts a thread that owns an oracle of
    its own, which is what most programs want:

        >>> import numpy as np
        >>> from banel_envs import TASKS
        >>> from banel_envs.bridges import Desk
        >>> with Desk.open(TASKS["banel/Gaussian1D-v0"], budget=10) as desk:
        ...     first = desk.ask(np.array([[2, 4, 5], [5, 0, 0]]), key="step 0")
        ...     again = desk.ask(np.array([[2, 4, 5], [5, 0, 0]]), key="step 0")
        ...     print(first, again, desk.count)
        [1. 0.] [1. 0.] 2

    Args:
        oracle: the meter.
        keys: a file that keeps the keys of the oracle's ledger. With it the desk begins by going through the ledger, so the
            oracle must be new; it is for an oracle whose every question goes through the desk.

    Raises:
        BadValue: it is no Oracle, or keys are to be kept of an oracle that has been asked already.
        LedgerCorrupt: the file of keys is not what was written.
    """

    def __init__(self, oracle: Oracle, *, keys: str | Path | None = None) -> None:
        self._keyed = KeyedOracle(oracle, keys)
        self._oracle = oracle
        self._home = (os.getpid(), threading.current_thread())
        self._lock = threading.Lock()  # between the look at `_closed` and the queue
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._closed = False
        self._thread: threading.Thread | None = None  # the owner's, where `open` started it

    @classmethod
    def open(
        cls,
        task: Task,
        *,
        budget: int | None = None,
        feedback: Feedback = "full",
        ledger: str | Path | None = None,
        binding: Mapping[str, Any] | None = None,
    ) -> Self:
        """A desk with a thread and an oracle of its own; the arguments are those of `Oracle`. Close it, or use `with`.

        With a ledger that holds questions already, their answers are taken up first, and their keys are known again.
        """
        made: Future[Self] = Future()

        def own() -> None:
            try:
                oracle = Oracle(task, budget=budget, feedback=feedback, ledger=ledger, binding=binding)
                with contextlib.closing(oracle):
                    desk = cls(oracle, keys=None if ledger is None else f"{os.fspath(ledger)}.keys")
                    made.set_result(desk)
                    desk.serve()
            except BaseException as error:
                if not made.done():
                    made.set_exception(error)  # else it ended the desk, and its client was told

        thread = threading.Thread(target=own, name="banel desk", daemon=True)
        thread.start()
        desk = made.result()
        desk._thread = thread
        return desk

    @property
    def problem(self) -> Problem:
        """The public half of the task."""
        return self._oracle.problem

    @property
    def feedback(self) -> Feedback:
        """What is told; see Oracle."""
        return self._oracle.feedback

    @property
    def budget(self) -> int:
        """Sequences that may be asked in all."""
        return self._oracle.budget

    @property
    def count(self) -> int:
        """Sequences asked so far (NRE)."""
        return self._oracle.count

    @property
    def left(self) -> int:
        """Sequences that may still be asked, by all clients together."""
        return self._oracle.left

    def ask(self, tokens: object, key: str, *, timeout: float | None = None) -> NDArray[np.float32]:
        """Rewards of sequences [n, T]: float32 [n], 0 failed, 1 success, NaN withheld. From any thread of this process.

        Args:
            tokens: the sequences.
            key: names the batch, 1 to 200 characters. Whoever asks again, after an error too, gives the same key.
            timeout: seconds to wait; None waits for ever.

        Raises:
            KeyReused: other sequences were charged under this key; nothing is charged.
            DeskTimeout: no answer in time; says whether the batch was withdrawn or will be kept under its key.
            DeskClosed: the desk, or the thread that owns it, ended before the batch had its turn; nothing is charged.
            OpenQuestion: an earlier batch was not answered, since the reward raised, and still cannot be.
            BanelError: as for a call of the oracle (BadTokens, BudgetExhausted). What the reward raises is raised here too.
        """
        return self.reply(tokens, key, timeout=timeout).rewards.copy()

    def reply(self, tokens: object, key: str, *, timeout: float | None = None) -> Reply:
        """The same, with the types of the failures under the feedback `typed`."""
        future, begun = self.submit(tokens, key), time.monotonic()
        while not wait([future], min(_ALIVE, self._to_wait(timeout, begun))).done:
            self._check_owner(future)
            if self._to_wait(timeout, begun) <= 0:
                what = (
                    "was withdrawn and not charged" if future.cancel() else "is being answered and stays under its key"
                )
                raise DeskTimeout(
                    f"no answer within {timeout} s: the batch {key!r} {what}; ask again with the same key"
                )
        return future.result()

    async def ask_async(self, tokens: object, key: str) -> NDArray[np.float32]:
        """`ask` for asyncio. A task that is cancelled withdraws its batch, unless its turn has come."""
        future = self.submit(tokens, key)
        waiting = asyncio.wrap_future(future)
        try:
            while not (await asyncio.wait([waiting], timeout=_ALIVE))[0]:
                self._check_owner(future)
        except asyncio.CancelledError:
            waiting.cancel()
            raise
        return waiting.result().rewards.copy()

    def submit(self, tokens: object, key: str) -> Future[Reply]:
        """Hand in sequences [n, T] and go on: the reply is the future's result, and cancelling it withdraws a batch that waits.

        Raises:
            BadValue: the key is no text of 1 to 200 characters.
            BadTokens: not sequences of this problem.
            DeskClosed: the desk was closed.
        """
        pid, owner = self._home
        if os.getpid() != pid:
            raise OracleMoved(
                "a desk answers in the process that made it: ask from another one by DeskServer and DeskClient"
            )
        if not isinstance(key, str) or not 1 <= len(key) <= LONGEST_KEY or HALF.search(key):
            raise BadValue(
                f"the key is {shown(key)}; it is a text of 1 to {LONGEST_KEY} characters that names the batch"
            )
        clean = self.problem.check_tokens(tokens)
        request = _Request(clean, Entry(key, digest(clean)), Future())
        with self._lock:
            if self._closed:
                raise DeskClosed(
                    "the desk was closed, and nothing was charged; make another, with the same ledger to go on"
                )
            if threading.current_thread() is not owner:
                self._queue.put(request)
                return request.future
        self._answer(request)
        return request.future

    def serve(self, until: Callable[[], bool] | None = None) -> None:
        """Answer what is handed in. Only the owner's thread can.

        Args:
            until: asked when nothing waits; once it says True, this returns, and the desk stays open. Without it, this
                returns when the desk is closed.
        """
        pid, owner = self._home
        if (os.getpid(), threading.current_thread()) != (pid, owner):
            raise OracleMoved("a desk is served by the thread that made it, which owns the oracle")
        while not (self._closed and self._queue.empty()):
            try:
                request = self._queue.get(timeout=None if until is None else _IDLE)
            except queue.Empty:
                if until is not None and until():
                    return
                continue
            if request is not None:
                self._answer(request)

    def close(self) -> None:
        """Take nothing more. The batch that is being answered is answered; those that wait are refused, uncharged."""
        with self._lock:
            self._closed = True
            self._queue.put(None)
        owner = threading.current_thread() is self._home[1]
        if self._thread is not None and not owner:
            self._thread.join()
        elif self._thread is None and owner:
            self.serve()  # refuses what waits

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise OracleMoved("a desk cannot be copied or pickled: ask from another process by DeskServer and DeskClient")

    @staticmethod
    def _to_wait(timeout: float | None, begun: float) -> float:
        return _ALIVE if timeout is None else max(0.0, begun + timeout - time.monotonic())

    def _check_owner(self, future: Future[Reply]) -> None:
        """DeskClosed where the thread that owns the desk has ended, so that nobody will answer."""
        if not self._home[1].is_alive() and not future.done() and future.cancel():
            raise DeskClosed("the thread that owns the desk has ended; nothing was charged")

    def _answer(self, request: _Request) -> None:
        """Settle one batch: its future gets the reply or the error. What is no Exception also closes the desk."""
        if not request.future.set_running_or_notify_cancel():
            return  # withdrawn
        try:
            if self._closed:
                raise DeskClosed("the desk was closed before the batch had its turn; nothing was charged")
            request.future.set_result(self._keyed.settle(request.tokens, request.entry))
        except Exception as error:
            request.future.set_exception(error)
        except BaseException as error:
            with self._lock:
                self._closed = True
                self._queue.put(None)
            closed = DeskClosed(
                f"the desk ended with {type(error).__name__}; ask another one with the same ledger and key"
            )
            request.future.set_exception(closed)
            raise
