"""Start a new run on the answers of an old one, so that no answer that was paid for is lost.

An old run can be resumed only with the same package, kind of processor and threads. With others the agent may ask other
sequences. The old ledger answers those that it holds, which costs nothing, and the reward answers the rest. Every
sequence still counts 1 in NRE. The new ledger names the head of the old one, and the new run is off the board.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs import Ledger, Task
from banel_envs.errors import LedgerMismatch
from banel_envs.problem import Tokens
from banel_envs.task import Part


def old_ledger(path: Path, task: Task) -> Ledger:
    """The ledger of an old run of the same task, from its folder or its file.

    Raises:
        LedgerCorrupt: the ledger is missing or damaged.
        LedgerMismatch: the ledger is that of another task.
    """
    ledger = Ledger.read(path / "ledger.jsonl" if path.is_dir() else path)
    here = {"task": task.problem.id, "digest": task.digest, "vocabulary": task.problem.V, "horizon": task.problem.T}
    for key, wanted in here.items():
        if ledger.header.get(key) != wanted:
            raise LedgerMismatch(
                f"{path} cannot be inherited: its {key} is {ledger.header.get(key)!r}, this run's is {wanted!r}"
            )
    return ledger


def inheriting(task: Task, ledger: Ledger) -> Task:
    """The task, with a reward that is called only on sequences that the old ledger does not answer."""
    known = dict(_answers(ledger, real=task.threshold is not None))

    def reward(tokens: Tokens) -> Any:
        # NaN marks a sequence without an old answer: no reward can be NaN.
        answers = np.array([known.get(row.tobytes(), np.nan) for row in tokens])  # [n]
        rows = np.flatnonzero(np.isnan(answers))
        # The old ledger answered everything, so a paid reward is not called at all.
        if len(rows) == 0:
            return answers
        result: Any = task.reward(tokens[rows])
        if hasattr(result, "__next__"):  # an iterator: the reward answers in parts
            return _in_parts(answers, rows, result)
        answers[rows] = result
        return answers

    return dataclasses.replace(task, reward=reward)


def _in_parts(answers: NDArray[np.float64], rows: NDArray[np.int64], parts: Iterator[Part]) -> Iterator[Part]:
    """Give the old answers first, and then the new ones as they arrive, one row at a time."""
    for row in np.flatnonzero(~np.isnan(answers)):
        yield int(row), int(row) + 1, answers[row : row + 1]
    # The rows of a part are counted among the new sequences. They may lie apart in the whole batch, so each goes alone.
    for start, stop, part in parts:
        for row, answer in zip(rows[start:stop], part, strict=True):
            yield int(row), int(row) + 1, [answer]


def _answers(ledger: Ledger, *, real: bool) -> Iterator[tuple[bytes, float]]:
    """Every sequence that has an answer, as bytes, with its reward. The reward is a real number if the task has a threshold."""
    for ask in ledger.asks:
        # The ledger keeps 0 or 1 for every sequence, and -1 for none yet; real values are kept beside them.
        answers = ask.values if real else np.where(ask.rewards < 0, np.nan, ask.rewards)
        if answers is None:
            continue
        for k, (row, answer) in enumerate(zip(ledger.tokens(ask), answers, strict=True)):
            # A reward that raised an error then may well give an answer now.
            if not np.isnan(answer) and k not in ask.errors:
                yield row.tobytes(), float(answer)
