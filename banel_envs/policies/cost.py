"""How many tokens the policies of this process sampled, scored and were trained on: the cost in computation, beside NRE."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Cost:
    """Counters of the whole process. Like time.process_time(), they are read twice, and the difference counts."""

    sampled: int = 0  # tokens drawn
    scored: int = 0  # tokens whose log-probability was computed
    trained: int = 0  # tokens in a loss, counted again in each epoch
    in_torch: int = (
        0  # tokens or prefixes whose network PyTorch computed, and not the kernel: their bits are the processor's
    )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing inside the `with` block. The harness uses it while it measures a policy."""
        before = (self.sampled, self.scored, self.trained, self.in_torch)
        try:
            yield
        finally:
            self.sampled, self.scored, self.trained, self.in_torch = before


COST = Cost()
