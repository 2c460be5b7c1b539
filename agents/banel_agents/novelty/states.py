"""States of a sequence, for novelty that looks at parts of it: a position and the last `context` tokens, one-hot.

Tokens of a large vocabulary are hashed into 256 buckets, whose one-hot vectors stand for theirs (feature hashing: Weinberger
et al. 2009).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from banel_agents.shared.gradient import Floats
from banel_envs import Problem
from banel_envs.problem import Tokens

LARGE = 1_024  # the largest V whose tokens have one-hot vectors of their own
BUCKETS = 256  # for the tokens of larger vocabularies
KNUTH = 2_654_435_761  # 2^32 times the golden ratio's fraction spreads neighbours over the buckets (Knuth 1973, 6.4)


class States:
    """The states that sequences of a problem pass through, up to and with their first end token."""

    def __init__(self, problem: Problem, context: int) -> None:
        self.problem, self.context = problem, context
        self.hashed = problem.V > LARGE
        self.tokens = BUCKETS if self.hashed else problem.V
        self.size = problem.T * (self.tokens + 1)  # numbers in a state

    def written(self, tokens: Tokens) -> NDArray[np.bool_]:
        """Which positions of the sequences [n, T] are states: [n, T]."""
        mask: NDArray[np.bool_] = np.arange(self.problem.T) < self.problem.lengths(tokens)[:, None]
        return mask

    def windows(self, tokens: Tokens) -> NDArray[np.int64]:
        """The states [k, T] of all sequences as tokens or their buckets, `self.tokens` where it does not see."""
        T, blank = self.problem.T, self.tokens
        age = np.subtract.outer(np.arange(T), np.arange(T))  # [T, T], row t: how far back each position lies
        window = (age >= 0) & (age < self.context)
        shown = tokens * KNUTH % 2**32 * BUCKETS // 2**32 if self.hashed else tokens
        seen: NDArray[np.int64] = np.where(window, shown[:, None, :], blank)[self.written(tokens)]
        return seen

    def one_hot(self, windows: NDArray[np.int64]) -> Tensor:
        """States [k, T] as numbers [k, size]."""
        return F.one_hot(torch.from_numpy(windows), self.tokens + 1).flatten(1).float()

    def mean(self, values: NDArray[np.floating], tokens: Tokens) -> Floats:
        """The mean over each sequence's states [n] of a value a state [k]."""
        written = self.written(tokens)
        table = np.zeros(written.shape)  # [n, T]
        table[written] = values
        mean: Floats = table.sum(axis=1) / written.sum(axis=1)
        return mean
