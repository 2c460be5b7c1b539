"""States of a sequence, for novelty that looks at parts of it: a position and the last `context` tokens, one-hot."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from banel_agents.shared.gradient import Floats
from banel_envs import Problem
from banel_envs.problem import Tokens


class States:
    """The states that sequences of a problem pass through, up to and with their first end token."""

    def __init__(self, problem: Problem, context: int) -> None:
        self.problem, self.context = problem, context
        self.size = problem.T * (problem.V + 1)  # numbers in a state

    def written(self, tokens: Tokens) -> NDArray[np.bool_]:
        """Which positions of the sequences [n, T] are states: [n, T]."""
        mask: NDArray[np.bool_] = np.arange(self.problem.T) < self.problem.lengths(tokens)[:, None]
        return mask

    def windows(self, tokens: Tokens) -> NDArray[np.int64]:
        """The states [k, T] of all sequences as tokens, V at every place that a state does not see."""
        T, blank = self.problem.T, self.problem.V
        age = np.subtract.outer(np.arange(T), np.arange(T))  # [T, T], row t: how far back each position lies
        window = (age >= 0) & (age < self.context)
        seen: NDArray[np.int64] = np.where(window, tokens[:, None, :], blank)[self.written(tokens)]
        return seen

    def one_hot(self, windows: NDArray[np.int64]) -> Tensor:
        """States [k, T] as numbers [k, T * (V + 1)]."""
        return F.one_hot(torch.from_numpy(windows), self.problem.V + 1).flatten(1).float()

    def mean(self, values: NDArray[np.floating], tokens: Tokens) -> Floats:
        """The mean over each sequence's states [n] of a value a state [k]."""
        written = self.written(tokens)
        table = np.zeros(written.shape)  # [n, T]
        table[written] = values
        mean: Floats = table.sum(axis=1) / written.sum(axis=1)
        return mean
