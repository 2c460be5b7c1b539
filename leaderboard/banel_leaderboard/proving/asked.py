"""What a ledger alone says about the questions: their digest, and where each distinct success was first asked.

Successes that were withheld from the agent count as well: a ledger holds the true answers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from banel_envs.meter.ledger import Ledger
from banel_envs.problem import Tokens


@dataclass(frozen=True)
class Asked:
    """The questions of a run in short."""

    digest: str
    """SHA-256 over the sequences that were asked, in order. It does not depend on how they were divided into questions, so a
    copy of a run with other questions, but with the same sequences, has the same digest."""
    found: NDArray[np.int32] = field(
        compare=False
    )  # [D] the NRE at which each distinct success was first asked, ascending

    @classmethod
    def of(cls, ledger: Ledger) -> Asked:
        """Read a ledger once; the time is linear in it."""
        digest = hashlib.sha256()
        hits: list[Tokens] = []
        places: list[NDArray[np.int64]] = []
        start = 0
        for ask in ledger.asks:
            tokens = ledger.tokens(ask)
            digest.update(tokens.astype("<i8").tobytes())
            rows = np.flatnonzero(ask.rewards == 1)
            if len(rows):
                hits.append(tokens[rows])
                places.append(start + rows + 1)
            start += ask.n
        return cls(digest.hexdigest(), _first(hits, places))


def _first(hits: list[Tokens], places: list[NDArray[np.int64]]) -> NDArray[np.int32]:
    """The place of each distinct row at its first occurrence, ascending."""
    if not hits:
        return np.empty(0, np.int32)
    rows = np.concatenate(hits).astype(np.uint64)
    # A 64-bit hash of each row is sorted in a tenth of the time that the rows take. It need not be safe, since it is checked.
    odd = np.random.default_rng(0).integers(1 << 63, size=rows.shape[1], dtype=np.uint64) | np.uint64(1)
    _, first, which = np.unique(rows @ odd, return_index=True, return_inverse=True)
    if not np.array_equal(rows[first[which]], rows):
        _, first = np.unique(rows, axis=0, return_index=True)
    found: NDArray[np.int32] = np.concatenate(places)[np.sort(first)].astype(np.int32)
    return found
