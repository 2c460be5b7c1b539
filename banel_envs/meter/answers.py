"""Call a task's reward and check what it answers, one piece at a time. The oracle and the harness both do it in this way.

The reward is called on at most `Task.rows_at_once` sequences. They are counted from the first sequence of the question, so
that a resumed question is divided at the same places. Each piece is handed on before the reward is called again. So
whoever records the pieces loses, when killed, only the sequences of the call that was going on.

If the reward raises and `Task.on_error` is "failure", the sequences that it has not answered are asked one by one. A
sequence on which the reward raises again is a failure, with the name of the error.
"""

from __future__ import annotations

from collections.abc import Collection, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BadReward, BanelError
from banel_envs.meter.ledger_format import ERROR
from banel_envs.problem import Tokens
from banel_envs.task import Task

Rows = NDArray[np.int64]
OUT_OF_MEMORY = "OutOfMemoryError"  # the name that PyTorch and CuPy give their own error, which is no MemoryError


@dataclass(frozen=True)
class Answer:
    """The answer to some sequences of a question, given by their rows in it."""

    rows: Rows  # [k], rising
    values: NDArray[np.float64]  # [k]: rewards, 0 or 1 where the task has no threshold; 0 where the reward raised
    success: NDArray[np.bool_]  # [k]
    error: str | None = None  # the class of the exception that the reward raised on this one row
    types: NDArray[np.int8] | None = None  # [k]: why each failed, 0 for a success; None where that is not asked for


def answers(
    task: Task, tokens: Tokens, rows: Rows | None = None, failed: Collection[int] = (), *, typed: bool = False
) -> Generator[Answer, None, None]:
    """The answers to the given rows of tokens [n, T] as they become known, each row once.

    Args:
        task: the task whose reward is called.
        tokens: the whole question.
        rows: the rows that have no answer yet, rising; all of them by default.
        failed: rows that count as failures because the reward raised, before the run was killed. The open rows of the
            same call are asked one by one, as they would have been without the kill.
        typed: whether the types of the failures are asked for too; the task must have a failure_type. A failure that is an
            error of the reward has none.

    Raises:
        BadReward: the reward did not answer one reward for each row, or the types are not those of these answers.
        Exception: any error of the reward that does not count as a failure.
    """
    rows = np.arange(len(tokens)) if rows is None else rows
    size = task.rows_at_once or max(len(tokens), 1)
    # Rows are divided by their number in the question, not among those that are left, so that calls are those of the first try.
    alone = {row // size for row in failed}
    if len(rows) == 0:
        return
    # Most questions are one call, so that they need not be divided.
    one = rows[0] // size == rows[-1] // size
    for block in [rows] if one else np.split(rows, np.flatnonzero(np.diff(rows // size)) + 1):
        if block[0] // size in alone:
            yield from _one_by_one(task, tokens, block, typed)
        else:
            yield from _together(task, tokens, block, typed)


def succeeded(task: Task, tokens: Tokens) -> NDArray[np.bool_]:
    """Which rows of tokens [n, T] are successes: bool [n]. The reward is called as an Oracle calls it, but off the meter.

    Raises:
        BadReward, Exception: see `answers`.
    """
    success = np.zeros(len(tokens), bool)
    for answer in answers(task, tokens):
        success[answer.rows] = answer.success
    return success


def _together(task: Task, tokens: Tokens, rows: Rows, typed: bool) -> Generator[Answer, None, None]:
    """Call the reward once for all rows. If it raises and that counts as a failure, ask the rest one by one."""
    left = np.ones(len(rows), bool)
    pieces = _pieces(task, tokens[rows])
    while True:
        try:
            piece = next(pieces, None)
        except Exception as error:
            if not _forgiven(task, error):
                raise
            # With several sequences it is not known which of them the reward raised on.
            if len(rows) > 1:
                yield from _one_by_one(task, tokens, rows[left], typed)
            elif left[0]:
                yield Answer(rows, np.zeros(1), np.zeros(1, bool), _name(error))
            return
        if piece is None:
            return
        start, stop, values = piece
        left[start:stop] = False
        part, success = rows[start:stop], values >= (1 if task.threshold is None else task.threshold)
        yield Answer(part, values, success, types=_types(task, tokens[part], success) if typed else None)


def _one_by_one(task: Task, tokens: Tokens, rows: Rows, typed: bool) -> Generator[Answer, None, None]:
    for k in range(len(rows)):
        yield from _together(task, tokens, rows[k : k + 1], typed)


def _types(task: Task, tokens: Tokens, success: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Why each of these sequences [n, T] failed [n], 0 where it succeeded; BadReward for anything else."""
    if task.failure_type is None:
        raise BadReward(f"{task.problem.id} has no failure_type, and the types of its failures are asked for")
    codes, most = np.asarray(task.failure_type(tokens.copy())), len(task.problem.failure_types)
    if codes.dtype.kind not in "iu" or codes.shape != success.shape:
        raise BadReward(
            f"failure_type answered {codes.dtype} {list(codes.shape)} to {len(success)} sequences; give a whole number for each"
        )
    wrong = np.flatnonzero((codes < 0) | (codes > most) | ((codes == 0) != success))
    if len(wrong):
        what = "success" if success[wrong[0]] else "failure"
        raise BadReward(
            f"failure_type answered {codes[wrong[0]]} to a {what}; a failure has a type of 1..{most}, a success has 0"
        )
    return codes.astype(np.int8)


def _forgiven(task: Task, error: Exception) -> bool:
    """Whether an error of the reward counts as a failure. Errors that say nothing about the sequence never do."""
    if task.on_error != "failure" or isinstance(error, BanelError | MemoryError):
        return False
    return all(cls.__name__ != OUT_OF_MEMORY for cls in type(error).__mro__)


def _name(error: Exception) -> str:
    """The class of an exception, as a ledger may hold it. Its text is left out, since it may differ from run to run."""
    name = type(error).__name__
    return name if ERROR.fullmatch(name) else "Exception"


def _pieces(task: Task, tokens: Tokens) -> Generator[tuple[int, int, NDArray[np.float64]], None, None]:
    """Call the reward once on tokens [n, T]. Gives (first row, row after the last, their rewards), every row once."""
    n = len(tokens)
    result: Any = task.reward(tokens)
    if not hasattr(result, "__next__"):
        yield 0, n, _check_rewards(result, n, task.threshold)
        return
    # A row that is answered twice would be in the ledger twice, with answers that may differ.
    done = np.zeros(n, bool)
    for part in result:
        start, stop, rewards = _check_part(part, n)
        if done[start:stop].any():
            raise BadReward(f"the reward answered some of rows {start}..{stop - 1} a second time")
        values = _check_rewards(rewards, stop - start, task.threshold)
        done[start:stop] = True
        yield start, stop, values
    if not done.all():
        raise BadReward(f"the reward left {n - done.sum()} of {n} sequences unanswered; they stay open")


def _check_part(part: Any, n: int) -> tuple[int, int, Any]:
    """A part of an answer to n rows; BadReward if it is not (first row, row after the last, their rewards)."""
    if not isinstance(part, tuple) or len(part) != 3:
        raise BadReward(f"the reward answered {part!r} as a part; a part is (first row, row after the last, rewards)")
    start, stop, rewards = part
    whole = all(isinstance(row, int | np.integer) and not isinstance(row, bool) for row in (start, stop))
    if not whole or not 0 <= start < stop <= n:
        raise BadReward(f"the reward answered rows {start!r}..{stop!r} of {n}; a part is one row or more of 0..{n}")
    return int(start), int(stop), rewards


def _check_rewards(rewards: Any, n: int, threshold: float | None) -> NDArray[np.float64]:
    """The rewards of n rows as a new float64 array [n]; BadReward if a row has no reward, or one that decides nothing."""
    try:
        values = np.asarray(rewards)
        # Texts and dates also convert to float64. Objects are let through, because they may be numbers such as Decimal.
        if values.dtype.kind not in "biufO":
            raise TypeError(f"{values.dtype} is not a number")
        values = values.astype(np.float64)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise BadReward(f"the reward answered a {type(rewards).__name__}, not {n} numbers: {error}") from error
    if values.shape != (n,):
        raise BadReward(f"the reward answered shape {list(values.shape)} to {n} sequences")
    undecided = np.isnan(values) if threshold is not None else (values != 0) & (values != 1)  # NaN is neither
    if np.logical_or.reduce(undecided):
        if np.isnan(values).any():
            raise BadReward("the reward answered NaN; it must decide every sequence")
        raise BadReward(f"the reward answered {values[undecided][0]}; give 0 or 1, or give the Task a threshold")
    return values
