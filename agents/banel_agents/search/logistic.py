"""An ensemble of logistic regressions on parts of a sequence, for agents that predict which sequences succeed.

The features of a sequence are one for each token at its position and one for each pair of neighbours at its position, up to
and with the first end token; with `reach` pairs of tokens further apart, with `anywhere` each pair wherever it stands as well
(twice, where it stands twice); with `hidden` also the mean hidden state of the base network, as `elliptical` has it. Members
differ in the rows that they see: each row counts twice or not at all for a member, by chance (the double-or-nothing bootstrap
of Owen and Eckles 2012), so that their spread says how little is known. Both classes weigh the same, however many rows they
have. AdaGrad (Duchi et al. 2011) descends the log loss plus ridge / 2 x the squared weights. All sums are made in one order,
so the bits are the same on every processor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banel_agents.shared.steps import Floats
from banel_envs import Problem
from banel_envs.kernel import portable
from banel_envs.problem import Tokens, check_one_hot

Ints = NDArray[np.int64]
MOST = 100_000  # features: a step takes time for each of them
SMALLEST = 1e-8  # is added to AdaGrad's sum of squares


@dataclass(frozen=True)
class Rows:
    """The features of n sequences."""

    places: Ints  # [n, F], where the features that are 1 stand; a place behind the last feature is empty
    dense: Floats  # [n, D]

    def __getitem__(self, which: Ints) -> Rows:
        """Some of them, in any shape [...]: places [..., F], dense [..., D]."""
        return Rows(self.places[which], self.dense[which])

    def __len__(self) -> int:
        return len(self.places)


def joined(*rows: Rows) -> Rows:
    """All of them, one after the other."""
    return Rows(np.concatenate([r.places for r in rows]), np.concatenate([r.dense for r in rows]))


class Features:
    """Sequences of a problem to rows."""

    def __init__(
        self,
        problem: Problem,
        hidden: Callable[[Tokens], Floats] | None = None,
        *,
        reach: int = 1,
        anywhere: bool = False,
    ) -> None:
        """What the features are.

        Args:
            problem: whose sequences they describe.
            hidden: gives states [n, d] of sequences [n, T].
            reach: tokens of a pair are at most so many positions apart. It is less where there were more than MOST features.
            anywhere: whether a pair has a feature, too, that does not tell where it stands.

        Raises:
            BadValue: the vocabulary has more than 4,096 tokens.
        """
        check_one_hot(problem, "the classifier", "use an agent without one, such as banel, ladder or tempered_sft")
        self.problem, self._hidden, self.anywhere = problem, hidden, anywhere
        T, V = problem.T, problem.V
        upto = np.cumsum(
            [T * V, *((T - gap + anywhere) * V**2 for gap in range(1, T))]
        )  # features with gaps up to 0, 1, ...
        most = max(1, int((upto <= MOST).sum()) - 1)
        self.gaps = range(1, 1 + min(reach, most, T - 1))
        self.count = int(upto[len(self.gaps)])

    def __call__(self, tokens: Tokens) -> Rows:
        """The rows of sequences [n, T]."""
        T, V = self.problem.T, self.problem.V
        written = np.arange(T) < self.problem.lengths(tokens)[:, None]  # [n, T]
        parts, there = [np.arange(T) * V + tokens], [written]
        start = T * V
        for gap in self.gaps:
            pair = tokens[:, : T - gap] * V + tokens[:, gap:]
            parts.append(start + np.arange(T - gap) * V**2 + pair)
            there.append(written[:, gap:])
            start += (T - gap) * V**2
            if self.anywhere:
                parts.append(start + pair)
                there.append(written[:, gap:])
                start += V**2
        places = np.concatenate(parts, axis=1)
        places[~np.concatenate(there, axis=1)] = self.count
        dense = np.ones((len(tokens), 1))
        if self._hidden is not None:
            dense = np.concatenate((dense, self._hidden(tokens)), axis=1)
        return Rows(places, dense)


class Ensemble:
    """K logistic regressions: weights [K, features] and [K, D]."""

    def __init__(self, members: int, features: int, dense: int, lr: float, ridge: float) -> None:
        self.members, self.features, self.lr, self.ridge = members, features, lr, ridge
        self.weights = np.zeros((members, features + 1))  # the last one belongs to empty places and stays 0
        self.dense = np.zeros((members, dense))
        self._squares = np.zeros_like(self.weights), np.zeros_like(self.dense)

    def logits(self, rows: Rows) -> Floats:
        """The log odds of success by each member [K, n]."""
        found: Floats = np.stack([self._logits(k, rows) for k in range(self.members)])
        return found

    def _logits(self, k: int, rows: Rows) -> Floats:
        made: Floats = portable.total(self.weights[k][rows.places]) + portable.total(self.dense[k] * rows.dense)
        return made

    def fit(
        self,
        positives: Rows,
        negatives: Rows,
        counts: tuple[NDArray[np.bool_], NDArray[np.bool_]],
        rng: np.random.Generator,
        *,
        steps: int,
        minibatch: int,
    ) -> None:
        """Take steps of AdaGrad for each member, each on a minibatch that is half of either class.

        Args:
            positives: rows of the class whose log odds are wanted, at least one.
            negatives: rows of the other class, at least one.
            counts: which of them count for which member, [K, n] each; a member without any of a class counts all of it.
            rng: draws the minibatches.
            steps: how many steps.
            minibatch: rows in a step, half of them of each class.
        """
        rows, half = joined(positives, negatives), max(1, minibatch // 2)
        signs = np.repeat((1.0, -1.0), half)
        for k in range(self.members):
            mine = [_some(own[k]) for own in counts]
            mine[1] = mine[1] + len(positives)
            for _ in range(steps):
                drawn = np.concatenate([which[rng.integers(len(which), size=half)] for which in mine])
                self.step(k, rows[drawn], signs)

    def step(self, k: int, rows: Rows, signs: Floats) -> None:
        """One step of member k down the mean log loss of rows with signs [n], 1 or -1, plus the ridge."""
        for weights, squares, slope in zip(
            (self.weights[k], self.dense[k]), (s[k] for s in self._squares), self.gradient(k, rows, signs), strict=True
        ):
            squares += slope * slope
            weights -= self.lr * slope / np.sqrt(squares + SMALLEST)

    def gradient(self, k: int, rows: Rows, signs: Floats) -> tuple[Floats, Floats]:
        """The derivatives [features + 1], [D] of member k's mean log loss and ridge."""
        pull = (
            -signs / (1 + portable.exp(signs * self._logits(k, rows))) / len(rows)
        )  # [n], of log(1 + exp(-sign x logit))
        each = np.repeat(pull, rows.places.shape[1])
        sparse: Floats = np.bincount(rows.places.ravel(), weights=each, minlength=self.features + 1).astype(np.float64)
        sparse += self.ridge * self.weights[k]
        sparse[-1] = 0.0
        dense: Floats = portable.total(rows.dense.T * pull) + self.ridge * self.dense[k]
        return sparse, dense


def _some(counted: NDArray[np.bool_]) -> Ints:
    """The places that are counted; all of them where none is."""
    return np.flatnonzero(counted if counted.any() else ~counted)
