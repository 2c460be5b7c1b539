"""What the attacks on addition transformers share: the tokens of a query `a+b=`, and the table of wrong answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.assets import combined_digest
from banel_envs.automaton import Automaton
from banel_envs.policies.storage.store import shipped_policy
from banel_envs.problem import Problem, Tokens
from banel_envs.task import Task

VOCABULARY = tuple("0123456789+=")
PLUS, END = 10, 11


def digits(values: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """The last `length` digits of numbers [n], most significant first: [n, length].

    >>> digits(np.array([407, 1407]), 4).tolist()
    [[0, 4, 0, 7], [1, 4, 0, 7]]
    """
    return values[:, None] // 10 ** np.arange(length - 1, -1, -1) % 10


def write_wrong(path: Path, wrong: NDArray[np.int64], answers: NDArray[np.int64]) -> None:
    """Write the numbers [N] of the queries that are answered wrongly, in ascending order, and those answers [N]."""
    # The numbers are stored as gaps, which compress well.
    gaps = np.diff(wrong, prepend=0).astype(np.int32)
    small = np.int16 if answers.max(initial=0) <= np.iinfo(np.int16).max else np.int32
    np.savez_compressed(path, gaps=gaps, answers=answers.astype(small))


def read_wrong(path: Path) -> NDArray[np.int64]:
    """The numbers [N] that `write_wrong` wrote."""
    with np.load(path) as table:
        return np.cumsum(table["gaps"], dtype=np.int64)


def attack(
    id: str,
    horizon: int,
    grammar: Automaton,
    reward: Callable[[Tokens], NDArray[Any]],
    successes: Callable[[], Tokens],
    table: str,
    base: str,
) -> Task:
    """The task of finding a query that a transformer answers wrongly.

    Args:
        id: the task's id.
        horizon: T, the tokens of the longest query with its end token.
        grammar: what a query is.
        reward: 1 for a query that is answered wrongly.
        successes: all of them.
        table: the asset that holds them.
        base: the asset of the base policy.
    """
    problem = Problem(
        id=id,
        vocabulary=VOCABULARY,
        horizon=horizon,
        budget=7_500,
        base=partial(shipped_policy, base),
        end=END,
        allowed=grammar,
    )
    return Task(
        problem,
        reward,
        successes=successes,
        witness=lambda: successes()[0],
        digest=combined_digest(table, base),
        family="paper",
    )
