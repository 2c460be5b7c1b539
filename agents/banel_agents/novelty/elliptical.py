"""Elliptical bonus: how far a sequence's hidden state lies from all those met before, in the metric of those states.

1. h(x) is the mean of the base network's hidden states (the inputs of its head) after each of x's prefixes.
2. It is centred, projected to at most 64 numbers and scaled, so that samples of the base policy have a mean norm of 1.
3. Sigma = lambda I + the sum of h h' over all sequences told so far, in the whole run.
4. div(x) = h' Sigma^-1 h: on orthonormal states it is 1 / (lambda + n) after n visits. The bonus is its square root.
5. Sigma^-1 is kept up to date by the formula of Sherman and Morrison.

Source: RepExp (arXiv 2510.11686), whose bonus this is; there it is taken over a set of rollouts, here over the whole run.
The square root, which decays as a count bonus does, is that of linear bandits (Abbasi-Yadkori et al. 2011). lambda = 1 is the
weight of one visit and was not tuned. A state is the one after x_<t, so the last token of a sequence without an end token is
not seen.

What it does here: on AdditionAttackHard, from failures alone, it ends at 10^-1.18 to 10^-1.06 of success (base 10^-5.09), for a
second of computing. On AdditionAttack-v0 two seeds end at 10^-1.39 and 10^-1.30, and one falls from 10^-0.73 to 10^-3.37;
why was not looked into (`python -m benchmarks.agents --agents elliptical --feedback
failures`, seeds 100 to 102).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray

from banel_agents.base import base_network
from banel_agents.limits import Range
from banel_agents.shared.bonus import BonusConfig, novelty_rounds
from banel_agents.shared.gradient import Floats
from banel_envs import Oracle, Problem
from banel_envs.kernel.portable import total
from banel_envs.policies import COST, Policy
from banel_envs.problem import Tokens

if TYPE_CHECKING:
    from banel_envs.policies.torch_policy import TorchPolicy

MOST_NUMBERS = 64  # of a projected state: the cost of a visit is its square
SAMPLES = 500  # of the base policy, to centre and to scale by; they are not asked


@dataclass(frozen=True)
class EllipticalConfig(BonusConfig):
    """The settings of REINFORCE with the elliptical bonus."""

    ridge: Annotated[float, Range(0, 1_000, above=True)] = 1.0  # lambda, in visits of a state of norm 1


class Ellipse:
    """Sigma^-1 of all states so far."""

    def __init__(self, size: int, ridge: float) -> None:
        self.inverse: Floats = np.eye(size) / ridge

    def div(self, states: Floats) -> Floats:
        """H' Sigma^-1 h of states [n, d]: [n]."""
        # Sums in order: a product of matrices would differ in its last bits from processor to processor.
        moved = total(self.inverse[None] * states[:, None, :])  # [n, d]
        return total(moved * states)

    def add(self, states: Floats) -> None:
        """Visit states [n, d], one after the other."""
        for h in states:
            moved = total(self.inverse * h)  # Sigma^-1 h
            self.inverse -= np.outer(moved, moved) / (1 + float(total(moved * h)))


class HiddenStates:
    """Sequences to centred and scaled mean hidden states of the base network."""

    def __init__(self, problem: Problem, base: TorchPolicy, rng: np.random.Generator, most: int = MOST_NUMBERS) -> None:
        from banel_envs.policies.steps.features import PrefixFeatures  # here, because it loads PyTorch
        from banel_envs.policies.steps.kernel_supports import trains

        self.problem, self.width = problem, base.network.head.in_features
        self._features, self._in_torch = PrefixFeatures(base.network), not trains(base.network)
        size = min(self.width, most)
        self._projection = rng.normal(size=(size, self.width)) if size < self.width else None
        self.size, self._centre, self._scale = size, np.zeros(size), 1.0
        states = self(base.sample(SAMPLES, rng))
        self._centre = total(states.T) / len(states)
        norms = np.sqrt(total((states - self._centre) ** 2))
        self._scale = len(norms) / max(float(total(norms)), 1e-12)

    def __call__(self, tokens: Tokens) -> Floats:
        """States [n, d] of sequences [n, T]."""
        if len(tokens) == 0:
            return np.empty((0, self.size))
        lengths = self.problem.lengths(tokens)
        rows = np.repeat(np.arange(len(tokens)), lengths)  # a row for each prefix x_<t, t < length
        ends = np.concatenate([np.arange(length) for length in lengths])
        everywhere = self._read(tokens[rows], ends)  # [k, width]
        table = np.zeros((len(tokens), self.problem.T, self.width))
        table[rows, ends] = everywhere
        mean = total(np.moveaxis(table, 1, -1)) / lengths[:, None]
        if self._projection is not None:
            mean = total(self._projection[None] * mean[:, None, :])
        return (mean - self._centre) * self._scale

    def _read(self, tokens: Tokens, ends: NDArray[np.int64]) -> Floats:
        import torch

        COST.scored += len(tokens)
        COST.in_torch += len(tokens) if self._in_torch else 0
        with torch.no_grad():
            read = self._features(torch.from_numpy(np.ascontiguousarray(tokens)), torch.from_numpy(ends))
        found: Floats = read.detach().cpu().numpy().astype(np.float64)
        return found


class Elliptical:
    """See the module."""

    name = "elliptical"
    Config = EllipticalConfig
    asks_from = "yielded"

    def __init__(self, config: EllipticalConfig | None = None) -> None:
        self.config = config or EllipticalConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each round."""
        hidden = HiddenStates(problem, base_network(problem), rng)
        ellipse = Ellipse(hidden.size, self.config.ridge)

        def bonus(tokens: Tokens) -> Floats:
            states = hidden(tokens)
            found: Floats = np.sqrt(np.maximum(ellipse.div(states), 0.0))
            ellipse.add(states)
            return found

        return novelty_rounds(problem, oracle, rng, self.config, bonus)
