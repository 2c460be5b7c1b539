"""Memory that ended walks leave to the next: new pages from the system cost a fifth of a step."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

Singles = NDArray[np.float32]
KEPT = 2**25  # numbers (128 MB) that a thread's ended walks may leave
PIECES = 8  # and in how many pieces


class Spare(threading.local):
    """What a thread's ended walks left."""

    def __init__(self) -> None:
        self.pieces: list[Singles] = []  # flat, smallest first

    def take(self, rows: int, width: int) -> Singles:
        """[at least `rows`, width], the largest there is."""
        if self.pieces and self.pieces[-1].size >= rows * width:
            piece = self.pieces.pop()
            return piece[: piece.size // width * width].reshape(-1, width)
        return np.empty((rows, width), np.float32)

    def give(self, piece: Singles) -> None:
        """Keep it, and of all the largest: a few, of no more than KEPT numbers."""
        if piece.size:
            whole = piece if piece.base is None else piece.base
            self.pieces = sorted((*self.pieces, whole.reshape(-1)), key=len)[-PIECES:]
            while sum(map(len, self.pieces)) > KEPT:
                self.pieces.pop(0)


SPARE = Spare()
