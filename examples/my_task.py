"""The task of the guide “Your own task”: five digits from 0 to 3 whose sum is at least 12."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from banel_envs import Problem, Task
from banel_envs.policies import Uniform

VOCABULARY, HORIZON, LEAST = 4, 5, 12


def reward(tokens: NDArray[np.int64]) -> NDArray[np.int8]:
    """1 for each sequence [n, T] whose sum is at least 12, else 0: [n]."""
    return (tokens.sum(axis=1) >= LEAST).astype(np.int8)


def successes() -> NDArray[np.int64]:
    """The whole success set [N, T]; with it success rates are exact."""
    every = np.indices((VOCABULARY,) * HORIZON).reshape(HORIZON, -1).T
    return np.ascontiguousarray(every[reward(every) == 1], np.int64)


def build() -> Task:
    """The task: what an agent may know, and what it may not."""
    problem = Problem(
        "me/Sum-v0",
        vocabulary=tuple("0123"),
        horizon=HORIZON,
        budget=200,
        base=lambda: Uniform(VOCABULARY, HORIZON, None),
    )
    return Task(problem, reward, successes=successes, witness=lambda: successes()[0])
