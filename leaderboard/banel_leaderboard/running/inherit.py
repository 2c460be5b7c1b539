"""inherit: start a new run on the answers of an old one, so that no paid answer is ever stranded.

Replay is exact only for the same package, processor kind and threads. Elsewhere an agent asks other questions; those that
the old ledger can answer are answered from it and cost nothing, the rest go to the reward. Every sequence still counts
one in NRE; the new ledger names the old one's head, and the run is kept off the board.
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
        LedgerCorrupt: missing or damaged.
        LedgerMismatch: of another task.
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
    """The task, its reward asked only for sequences that the old ledger does not answer."""
    known = dict(_answers(ledger, real=task.threshold is not None))

    def reward(tokens: Tokens) -> Any:
        answers = np.array([known.get(row.tobytes(), np.nan) for row in tokens])  # [n]
        rows = np.flatnonzero(np.isnan(answers))
        if len(rows) == 0:
            return answers
        result: Any = task.reward(tokens[rows])
        if hasattr(result, "__next__"):
            return _in_parts(answers, rows, result)
        answers[rows] = result
        return answers

    return dataclasses.replace(task, reward=reward)


def _in_parts(answers: NDArray[np.float64], rows: NDArray[np.int64], parts: Iterator[Part]) -> Iterator[Part]:
    """The old answers first, then the new ones as they arrive, a row at a time."""
    for row in np.flatnonzero(~np.isnan(answers)):
        yield int(row), int(row) + 1, answers[row : row + 1]
    for start, stop, part in parts:
        for row, answer in zip(rows[start:stop], part, strict=True):
            yield int(row), int(row) + 1, [answer]


def _answers(ledger: Ledger, *, real: bool) -> Iterator[tuple[bytes, float]]:
    """Every answered sequence with its reward, of real value where the task has a threshold; errors left out."""
    for ask in ledger.asks:
        answers = ask.values if real else np.where(ask.rewards < 0, np.nan, ask.rewards)
        if answers is None:
            continue
        for k, (row, answer) in enumerate(zip(ledger.tokens(ask), answers, strict=True)):
            if not np.isnan(answer) and k not in ask.errors:  # what raised then is asked again
                yield row.tobytes(), float(answer)
