"""What the attacks on addition transformers share: the tokens of a query `a+b=`, and the table of wrong answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
