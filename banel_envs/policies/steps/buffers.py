"""Buffers that are used again: when a walk has ended, the next walk takes its memory.

Memory that is new from the operating system has to be mapped page by page, and that would cost a fifth of a step's time.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

Singles = NDArray[np.float32]
KEPT = 2**25  # the most float32 numbers (128 MB) that one thread keeps for later walks
PIECES = 8  # the most buffers that they may stand in


class Spare(threading.local):
    """The buffers that a thread keeps from walks that have ended."""

    def __init__(self) -> None:
        self.pieces: list[Singles] = []  # one-dimensional, the smallest first

    def take(self, rows: int, width: int) -> Singles:
        """A buffer [at least `rows`, width]: the largest that is kept, or a new one if that is too small."""
        if self.pieces and self.pieces[-1].size >= rows * width:
            piece = self.pieces.pop()
            return piece[: piece.size // width * width].reshape(-1, width)
        return np.empty((rows, width), np.float32)

    def give(self, piece: Singles) -> None:
        """Keep a buffer for later walks; of all that are kept the smallest go until PIECES and KEPT hold."""
        if piece.size:
            whole = piece if piece.base is None else piece.base
            self.pieces = sorted((*self.pieces, whole.reshape(-1)), key=len)[-PIECES:]
            while sum(map(len, self.pieces)) > KEPT:
                self.pieces.pop(0)


SPARE = Spare()
