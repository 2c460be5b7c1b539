"""A classifier of all that was told, for agents that choose among candidates by it: what `proxy` and `screened_bandit` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from banel_agents.search.logistic import Ensemble, Features, Rows, joined
from banel_agents.shared.steps import Floats
from banel_envs import Problem
from banel_envs.problem import Tokens


class LearnerConfig(Protocol):
    """The settings of the classifier, which an agent has among its own."""

    @property
    def members(self) -> int:
        """Logistic regressions."""

    @property
    def fit_steps(self) -> int:
        """Steps of each member in a round."""

    @property
    def fit_lr(self) -> float:
        """Learning rate of AdaGrad."""

    @property
    def ridge(self) -> float:
        """Weight of the squared weights."""

    @property
    def fit_minibatch(self) -> int:
        """Rows in a step."""


class Learner:
    """The ensemble, what it was told, and which of its two questions it answers.

    Once a success was told it tells successes from failures. Before, it tells what is unasked from failures, if it is given any.
    """

    def __init__(
        self,
        problem: Problem,
        config: LearnerConfig,
        rng: np.random.Generator,
        *,
        hidden: Callable[[Tokens], Floats] | None = None,
        reach: int = 1,
        anywhere: bool = False,
    ) -> None:
        """The last three are those of Features."""
        self.config, self.rng = config, rng
        self.features = Features(problem, hidden, reach=reach, anywhere=anywhere)
        nothing = np.empty((0, problem.T), np.int64)
        self.found = nothing  # successes told
        self.told = (self.features(nothing), self.features(nothing))  # successes and failures
        self.counts: list[NDArray[np.bool_]] = [np.empty((config.members, 0), bool)] * 2
        self.ensemble = self._new()
        self.trained = False

    @property
    def successes(self) -> int:
        """How many were told; all are distinct."""
        return len(self.found)

    def odds(self, candidates: Tokens) -> Floats:
        """The log odds of candidates [n, T] by each member [K, n]; by chance before anything was told."""
        if not self.trained:
            return self.rng.random((self.config.members, len(candidates)))
        return self.ensemble.logits(self.features(candidates))

    def learn(self, successes: Tokens, failures: Tokens, unasked: Tokens) -> None:
        """Take in what was told in a round, and train on it."""
        c = self.config
        if self.successes == 0 and len(successes):
            self.ensemble = self._new()  # from now on it answers another question
        self.found = np.concatenate((self.found, successes))
        self.told = (self._added(0, successes), self._added(1, failures))
        positives, counts = self.told[0], self.counts[0]
        if self.successes == 0:
            positives = self.features(unasked)
            counts = self._counted(len(unasked))
        if len(positives) and len(self.told[1]):
            rows = (positives, self.told[1], (counts, self.counts[1]), self.rng)
            self.ensemble.fit(*rows, steps=c.fit_steps, minibatch=c.fit_minibatch)
            self.trained = True

    def _new(self) -> Ensemble:
        c, nothing = self.config, self.told[0]
        return Ensemble(c.members, self.features.count, nothing.dense.shape[1], c.fit_lr, c.ridge)

    def _added(self, which: int, tokens: Tokens) -> Rows:
        self.counts[which] = np.concatenate((self.counts[which], self._counted(len(tokens))), axis=1)
        return joined(self.told[which], self.features(tokens))

    def _counted(self, n: int) -> NDArray[np.bool_]:
        """Which rows count for which member, [K, n]: each with chance one half."""
        return self.rng.random((self.config.members, n)) < 0.5
