"""Beta posteriors of arms in groups, and Thompson sampling from them: what the bandits share.

An arm's posterior is on its success rate among the new sequences that it gave. For every question a rate is drawn from each
group's posterior, which is on all that its arms were told, and then from those of the arms in the best group. Source:
Thompson 1933. All bits are the same on every processor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from banel_agents.search.arms import Arm
from banel_agents.shared.gradient import Floats
from banel_envs.kernel.portable import total


@dataclass
class Standing:
    """An arm and what it was told."""

    arm: Arm
    successes: float = 0.0
    failures: float = 0.0
    dry: bool = False

    @property
    def open(self) -> bool:
        """Whether it can be chosen."""
        return self.arm.ready and not self.dry

    @property
    def mean(self) -> float:
        """The posterior mean of its success rate, from a Beta(1, 1) prior."""
        return (1 + self.successes) / (2 + self.successes + self.failures)


@dataclass
class Table:
    """All arms, in groups."""

    groups: list[list[Standing]] = field(default_factory=list)

    @property
    def standings(self) -> list[Standing]:
        """Every arm, one group after the other."""
        return [s for group in self.groups for s in group]

    def choose(self, n: int, rng: np.random.Generator) -> list[int]:
        """How many of n questions each arm gets: for each question first a group, by all that its arms were told, then an arm."""
        open_ = [[s for s in group if s.open] for group in self.groups]
        told = [(sum(s.successes for s in group), sum(s.failures for s in group)) if group else None for group in open_]
        counts: list[int] = []
        for group, k in zip(self.groups, thompson(told, n, rng), strict=True):
            counts += thompson([(s.successes, s.failures) if s.open else None for s in group], k, rng)
        return counts

    def forget(self, share: float) -> None:
        """Let every arm forget a share of what it was told."""
        for s in self.standings:
            s.successes *= 1 - share
            s.failures *= 1 - share


def thompson(told: list[tuple[float, float] | None], n: int, rng: np.random.Generator) -> list[int]:
    """How often, in n independent draws from Beta posteriors, each entry has the highest rate; None cannot be chosen."""
    counts = [0] * len(told)
    choosable = [k for k, entry in enumerate(told) if entry is not None]
    if not choosable or n == 0:
        return counts
    draws = np.stack([betas(1 + entry[0], 1 + entry[1], n, rng) for entry in told if entry is not None])
    for k in np.argmax(draws, axis=0):
        counts[choosable[k]] += 1
    return counts


def betas(a: float, b: float, n: int, rng: np.random.Generator) -> Floats:
    """N draws [n], nearly of Beta(a, b), for a and b of at least 1. Their bits are the same on every processor.

    Beta is G_a / (G_a + G_b) of two Gamma numbers, and each of these is k (1 - 1 / 9k + z / 3 sqrt(k))^3 with a normal z
    (Wilson and Hilferty 1931). z is the sum of twelve uniform numbers, less 6. NumPy's own Beta takes the processor's log.
    """
    one, other = (_gammas(k, rng.random((n, 12))) for k in (a, b))
    return one / (one + other)


def _gammas(k: float, uniform: Floats) -> Floats:
    z = total(uniform) - 6
    root = np.maximum(1 - 1 / (9 * k) + z / (3 * math.sqrt(k)), 1e-3)  # a Gamma number is above 0
    made: Floats = k * root * root * root
    return made
