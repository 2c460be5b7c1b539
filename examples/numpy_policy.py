"""A policy of your own in plain NumPy, and an agent around it: a Markov chain that is fitted to successes.

A subclass of Autoregressive says how the next token depends on what was written; exact sampling and scoring come with
it. `check_policy` and `check_agent` check the contracts.

    banel run --task banel/EhrlichEasy-v0 --agent numpy_policy:ChainAgent --feedback full --seeds 0-4 --out out
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
from banel_envs.policies import Autoregressive, Mixture, Policy

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Chain(Autoregressive):
    """A Markov chain with a table of its own at each position: log-probabilities [T, V + 1, V].

    Entry [t, v] is the distribution of token t after the token v before it; V stands for the beginning.
    """

    def __init__(self, table: Floats, problem: Problem) -> None:
        self.table = table
        self.vocabulary, self.horizon, self.end = problem.V, problem.T, problem.end

    @classmethod
    def fitted(cls, tokens: Ints, problem: Problem, smoothing: float) -> Chain:
        """Relative frequencies in sequences [n, T], each count raised by `smoothing` so that nothing is impossible."""
        n, T, V = len(tokens), problem.T, problem.V
        counts = np.full((T, V + 1, V), smoothing)
        before = np.concatenate([np.full((n, 1), V), tokens[:, :-1]], axis=1)
        for t in range(T):
            np.add.at(counts[t], (before[:, t], tokens[:, t]), 1.0)
        return cls(np.log(counts / counts.sum(axis=2, keepdims=True)), problem)

    # The state of a prefix is what the next token depends on beside the last one: here nothing.

    def start(self) -> Any:
        """The state of the one empty prefix."""
        return None

    def step(self, last: Ints, position: int, state: Any) -> tuple[Floats, Any]:
        """Next-token log-probabilities [m, V] after `last` [m]."""
        return self.table[position, last], state

    def select(self, state: Any, rows: Ints) -> Any:
        """The state of some of the prefixes."""
        return state


@dataclass(frozen=True)
class ChainConfig:
    """What the agent has to set."""

    batch: BatchSize = 250  # sequences asked a round
    smoothing: Annotated[float, Range(0, 1_000, above=True)] = 0.05  # added to every count
    base: Annotated[int, Range(0, 100)] = 1  # parts of the mixture that are the base policy, beside one chain

    def __post_init__(self) -> None:
        check_settings(self)


class ChainAgent:
    """Asks a mixture of the base policy and a chain that is fitted to every success so far."""

    name = "chain"
    Config = ChainConfig
    learns_from = "successes"

    def __init__(self, config: ChainConfig | None = None) -> None:
        self.config: Any = config or ChainConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then the mixture after each round that brought successes."""
        base = problem.base_policy()
        policy: Policy = base
        yield policy
        known = np.empty((0, problem.T), np.int64)
        while oracle.left:
            answers = ask(oracle, policy.sample(self.config.batch, rng))
            if len(answers.successes):
                known = np.unique(np.concatenate([known, answers.successes]), axis=0)
                chain = Chain.fitted(known, problem, self.config.smoothing)
                policy = Mixture([*[base] * self.config.base, chain])
                yield policy


def main(budget: int = 2_500) -> float:
    """Run it on the easiest task; log10 of the final success rate."""
    from banel_envs import TASKS, success_rate

    task = TASKS["banel/EhrlichEasy-v0"]
    oracle = Oracle(task, budget=budget, feedback="full")
    policies = list(ChainAgent().learn(task.problem, oracle, np.random.default_rng(0)))
    first, final = (success_rate(task, policies[k]).log10 for k in (0, -1))
    print(f"base policy: log10 success {first:.2f}")
    print(f"after {oracle.count} evaluations: log10 success {final:.2f}")
    return float(final if final is not None else -np.inf)


if __name__ == "__main__":
    main()
