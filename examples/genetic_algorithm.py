"""A genetic algorithm as an agent, in NumPy alone.

1. The first parents are samples of the base policy.
2. A child copies a random parent and replaces each token, with probability `mutation`, by a random one.
3. Ask about a generation of children; those that succeed become the new parents, the oldest parents die.

What makes it an agent here is that a population with mutation is a distribution: the mean over the parents of a product
over the positions. So its success rate is exact, like that of a network.

    banel run --task banel/EhrlichEasy-v0 --agent genetic_algorithm:Genetic --feedback full --seeds 0-4 --out out
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from banel_agents.base import ask
from banel_agents.limits import BatchSize, Range, check_settings
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy

Tokens = NDArray[np.int64]
Floats = NDArray[np.float64]


class Population:
    """The distribution of a random parent's child: parents [P, T], each token kept or, with `mutation`, drawn anew."""

    def __init__(self, parents: Tokens, mutation: float, problem: Problem) -> None:
        self.parents, self.mutation = parents, mutation
        self.V, self.T, self.end = problem.V, problem.T, problem.end

    def sample(self, n: int, rng: np.random.Generator) -> Tokens:
        """Children [n, T]."""
        children: Tokens = self.parents[rng.integers(len(self.parents), size=n)].copy()
        anew = rng.random(children.shape) < self.mutation
        children[anew] = rng.integers(self.V, size=int(anew.sum()))
        if self.end is not None:  # after the first end token only end tokens follow
            ended = np.cumsum(children == self.end, axis=1) > 0
            children[ended] = self.end
        return children

    def log_prob(self, tokens: Tokens) -> Floats:
        """Natural log-probability [n] of sequences [n, T]."""
        return np.asarray(_log_mean_exp(self._steps(np.asarray(tokens)).sum(axis=2)))

    def next_log_probs(self, prefix: Tokens) -> Floats:
        """Natural log of the next token's distribution [n, V] after prefixes [n, t]."""
        t = prefix.shape[1]
        # How probable each parent is, given the prefix that its child has written so far.
        weight = self._steps(np.asarray(prefix)).sum(axis=2)  # [n, P]
        weight = np.exp(weight - weight.max(axis=1, keepdims=True))
        weight /= weight.sum(axis=1, keepdims=True)
        kept = np.eye(self.V)[self.parents[:, t]]  # [P, V]
        log_probs = np.asarray(np.log(weight @ ((1 - self.mutation) * kept + self.mutation / self.V)))
        if self.end is not None:  # an ended sequence goes on with end tokens for certain
            ended = (prefix == self.end).any(axis=1)
            log_probs[ended] = np.where(np.arange(self.V) == self.end, 0.0, -np.inf)
        return log_probs

    def _steps(self, tokens: Tokens) -> Floats:
        """Log-probability [n, P, t] of each token, given each parent; 0 once the sequence has ended."""
        same = tokens[:, None] == self.parents[None, :, : tokens.shape[1]]
        steps = np.log(np.where(same, 1 - self.mutation, 0) + self.mutation / self.V)
        if self.end is not None:
            ended = np.cumsum(tokens == self.end, axis=1) - (tokens == self.end) > 0  # [n, t]
            steps *= ~ended[:, None]
        return steps


def _log_mean_exp(values: Floats) -> Floats:
    """Log of the mean of exp over the last axis, without overflow."""
    top = values.max(axis=-1, keepdims=True)
    return np.asarray(top[..., 0] + np.log(np.exp(values - top).mean(axis=-1)))


@dataclass(frozen=True)
class GeneticConfig:
    """What the algorithm has to set."""

    parents: BatchSize = 50  # sequences alive
    children: BatchSize = 250  # sequences asked a generation
    mutation: Annotated[float, Range(0, 1, above=True)] = 0.1  # probability that a token is drawn anew

    def __post_init__(self) -> None:
        check_settings(self)


class Genetic:
    """A genetic algorithm by mutation and truncation selection."""

    name = "genetic"
    Config = GeneticConfig
    learns_from = "successes"

    def __init__(self, config: GeneticConfig | None = None) -> None:
        self.config: Any = config or GeneticConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then the population whenever it has changed."""
        base = problem.base_policy()
        yield base
        policy = Population(base.sample(self.config.parents, rng), self.config.mutation, problem)
        yield policy
        alive = np.empty((0, problem.T), np.int64)  # those that are known to succeed, the oldest first
        while oracle.left:
            answers = ask(oracle, policy.sample(self.config.children, rng))
            if len(answers.successes):
                alive = np.concatenate([alive, answers.successes])[-self.config.parents :]
                policy = Population(alive, self.config.mutation, problem)
                yield policy


def main(budget: int = 2_500) -> float:
    """Run it on the easiest task; log10 of the final success rate."""
    from banel_envs import TASKS, success_rate

    task = TASKS["banel/EhrlichEasy-v0"]
    oracle = Oracle(task, budget=budget, feedback="full")
    policies = list(Genetic().learn(task.problem, oracle, np.random.default_rng(0)))
    first, final = (success_rate(task, policies[k]).log10 for k in (0, -1))
    print(f"base policy: log10 success {first:.2f}")
    print(f"after {oracle.count} evaluations: log10 success {final:.2f}")
    return float(final if final is not None else -np.inf)


if __name__ == "__main__":
    main()
