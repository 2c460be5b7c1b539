"""Tokens that policies sampled, scored and trained on in this process: the price of compute beside NRE."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Cost:
    """Process-wide tallies, read by difference like time.process_time()."""

    sampled: int = 0  # tokens drawn
    scored: int = 0  # tokens whose log-probability was asked
    trained: int = 0  # tokens in a loss, once an epoch

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside is not counted: the harness evaluates here."""
        before = (self.sampled, self.scored, self.trained)
        try:
            yield
        finally:
            self.sampled, self.scored, self.trained = before


COST = Cost()
