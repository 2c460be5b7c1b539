"""Agents across tasks: interquartile means, intervals of ranks and groups of agents that cannot be told apart.

After Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice". Every task has the same
weight, however many runs an agent has on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BadValue
from banel_leaderboard.statistics.medians import RESAMPLES, Floats, quantile


def mean(values: Floats, weights: Floats) -> Floats:
    """The weighted mean of n values, for each set of weights [..., n] -> [...]."""
    return np.asarray((values * weights).sum(axis=-1) / weights.sum(axis=-1), np.float64)


def interquartile_mean(values: Floats, weights: Floats) -> Floats:
    """The mean of the middle half of n values, for each set of weights [..., n] -> [...].

    A value that lies across the edge of the middle half counts with the part of its weight that lies inside.
    """
    order = np.argsort(values, kind="stable")
    ends = np.cumsum(weights[..., order], axis=-1) / weights.sum(axis=-1, keepdims=True)  # from 0 to 1
    inside = np.diff(np.clip(ends, 0.25, 0.75), axis=-1, prepend=0.25)
    return np.asarray((values[order] * inside).sum(axis=-1) / 0.5, np.float64)


def even_weights(sizes: Sequence[int]) -> Floats:
    """The weight of each run, the tasks one behind the other [sum of sizes]: the runs of a task weigh 1 together."""
    if not sizes or min(sizes) < 1:
        raise BadValue(f"tasks of {list(sizes)} runs; give at least 1 task, and each at least 1 run")
    return np.concatenate([np.full(n, 1 / n) for n in sizes])


def stratified(sizes: Sequence[int], rng: np.random.Generator, resamples: int = RESAMPLES) -> Floats:
    """The weights of each run in each resample [resamples, sum of sizes]: the runs of a task are drawn from that task."""
    return np.concatenate([rng.multinomial(n, np.full(n, 1 / n), size=resamples) / n for n in sizes], axis=-1)


def ranks(scores: Floats) -> NDArray[np.int64]:
    """The rank of each agent in each resample [agents, R] -> [agents, R]; the largest score is 1, equal ones share."""
    better = scores[None, :, :] > scores[:, None, :]  # [agent, other, R]
    return np.asarray(1 + better.sum(axis=1), np.int64)


def rank_intervals(scores: Floats) -> list[tuple[int, int]]:
    """The 95% interval of each agent's rank, from the scores in the resamples [agents, R]."""
    drawn = np.sort(ranks(scores), axis=-1)
    last = drawn.shape[-1] - 1
    low, high = (int(np.floor(0.025 * last)), int(np.ceil(0.975 * last)))
    return [(int(row[low]), int(row[high])) for row in drawn]


def tie_groups(values: Floats, scores: Floats) -> list[int]:
    """The group of each agent, 1 for the best.

    The best agent leads the first group. In it are all agents that the leader is not surely above: the 95% interval of the
    difference in the resamples reaches 0. The best of the rest leads the next group.

    Args:
        values: the agents' scores [agents].
        scores: their scores in the resamples [agents, R].
    """
    groups = [0] * len(values)
    rest = [int(i) for i in np.argsort(-values, kind="stable")]
    number = 0
    while rest:
        number += 1
        leader = rest[0]
        tied = [i for i in rest if i == leader or quantile(scores[leader] - scores[i], 0.025) <= 0]
        for i in tied:
            groups[i] = number
        rest = [i for i in rest if i not in tied]
    return groups
