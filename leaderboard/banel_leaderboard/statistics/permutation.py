"""Are two samples of runs alike? One permutation test over several tasks: a pure function of arrays and a Generator.

Within each stratum (a task under one regime) the runs of both samples are ranked together, equal scores sharing their mean
rank, and the ranks are divided by the number of runs. The statistic is the sum over the strata of the mean rank of the
first sample less that of the second. If the runs of a stratum are exchangeable, every way to divide them into samples of
these sizes is equally likely; so the share of the divisions with a statistic at least as large is a p-value, whatever the
scores are. It is exact where there are few divisions. Otherwise RESAMPLES of them are drawn, and the observed one is
counted among them, which keeps false alarms at or below their level (Phipson and Smyth 2010, "Permutation p-values should
never be zero").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BadValue

RESAMPLES = 9_999
MOST_EXACT = 20_000  # divisions that are all looked at
ROUNDING = 1e-9  # statistics that differ by less are equal
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """The outcome of the test."""

    statistic: float  # the mean over strata of the difference of the mean ranks, between -1 and 1; above 0: the first is better
    p: float  # one-sided: the probability of a statistic at least as large, if the two samples are alike
    least: float  # the smallest p that these sizes can give, without ties
    strata: int


def stratified_permutation(
    first: Sequence[Floats], second: Sequence[Floats], rng: np.random.Generator, resamples: int = RESAMPLES
) -> Comparison:
    """Whether the first sample is better than the second by more than chance.

    Args:
        first: the scores [n_k] of the first sample in each stratum k, the larger the better; -inf is a score like any other.
        second: the scores [m_k] of the second sample in each stratum.
        rng: draws the divisions, where they are too many to look at all.
        resamples: how many are drawn.

    Raises:
        BadValue: there is no stratum, the two have different strata, or a stratum lacks one of the samples.
    """
    if len(first) != len(second) or not len(first):
        raise BadValue(f"there are {len(first)} and {len(second)} strata; both samples need the same ones, at least 1")
    for k, (a, b) in enumerate(zip(first, second, strict=True)):
        if not (len(a) and len(b)):
            raise BadValue(f"stratum {k} has {len(a)} and {len(b)} runs; both samples need at least 1")
    ranks = [_ranks(np.concatenate(pair)) for pair in zip(first, second, strict=True)]
    sizes = [len(a) for a in first]
    observed = sum(_difference(r[:n].sum(), r, n) for r, n in zip(ranks, sizes, strict=True))
    divisions = math.prod(math.comb(len(r), n) for r, n in zip(ranks, sizes, strict=True))
    if divisions <= MOST_EXACT:
        found = _every(ranks, sizes)
        p = float((found >= observed - ROUNDING).mean())
        least = 1 / divisions
    else:
        found = _drawn(ranks, sizes, rng, resamples)
        p = (1 + int((found >= observed - ROUNDING).sum())) / (1 + resamples)
        least = 1 / (1 + resamples)
    return Comparison(observed / len(ranks), p, least, len(ranks))


def _ranks(scores: Floats) -> Floats:
    """Mid-ranks [n] from just above 0 to 1; NaN is refused."""
    if np.isnan(scores).any():
        raise BadValue("a score is NaN; give every run a number, or -inf")
    below = (scores[:, None] > scores[None, :]).sum(axis=1)
    equal = (scores[:, None] == scores[None, :]).sum(axis=1)
    found: Floats = (below + (equal + 1) / 2) / len(scores)
    return found


def _difference(total: float, ranks: Floats, n: int) -> float:
    """The mean rank of n runs whose ranks sum to `total`, less that of the others."""
    return float(total / n - (ranks.sum() - total) / (len(ranks) - n))


def _every(ranks: Sequence[Floats], sizes: Sequence[int]) -> Floats:
    """The statistic of every division."""
    single = [
        [_difference(float(r[list(rows)].sum()), r, n) for rows in combinations(range(len(r)), n)]
        for r, n in zip(ranks, sizes, strict=True)
    ]
    return np.array([sum(parts) for parts in product(*single)])


def _drawn(ranks: Sequence[Floats], sizes: Sequence[int], rng: np.random.Generator, resamples: int) -> Floats:
    """The statistic of `resamples` divisions drawn at random."""
    total = np.zeros(resamples)
    for r, n in zip(ranks, sizes, strict=True):
        shuffled = rng.permuted(np.broadcast_to(r, (resamples, len(r))), axis=1)
        sums = shuffled[:, :n].sum(axis=1)
        total += sums / n - (r.sum() - sums) / (len(r) - n)
    return total
