"""What the bridges need of a desk, and keys for callers that have none."""

from __future__ import annotations

import secrets
import threading
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from banel_envs.problem import Tokens


class Asker(Protocol):
    """A Desk, or a DeskClient in another process."""

    @property
    def budget(self) -> int:
        """Sequences that may be asked in all."""

    @property
    def left(self) -> int:
        """Sequences that may still be asked."""

    def ask(self, tokens: object, key: str) -> NDArray[np.float32]:
        """Rewards of sequences [n, T]: float32 [n], NaN where they are withheld."""


class OneByOne:
    """Asks single sequences for a caller that knows no keys. Each call is charged, repeats too, as at the oracle.

    Only a call that follows an error for the same sequence is taken for its retry, and is free if the first was charged.

    Args:
        desk: where to ask.
        name: begins every key. A program that is started again and gives the name of its former run repeats that run's keys:
            as long as it asks the same sequences in the same order, it is answered for nothing. By default a new one.
    """

    def __init__(self, desk: Asker, name: str | None = None) -> None:
        self._desk, self._name = desk, name or secrets.token_hex(8)
        self._asked = 0
        self._unanswered: dict[bytes, list[str]] = {}
        self._lock = threading.Lock()

    def __call__(self, row: Tokens) -> float:
        """The reward of a sequence [T]; NaN where it is withheld. Raises what `Desk.ask` does."""
        content = row.tobytes()
        with self._lock:
            if self._unanswered.get(content):
                key = self._unanswered[content].pop()
            else:
                key = f"{self._name} {self._asked}"
                self._asked += 1
        try:
            return float(self._desk.ask(row[None], key)[0])
        except BaseException:
            with self._lock:
                self._unanswered.setdefault(content, []).append(key)
            raise
