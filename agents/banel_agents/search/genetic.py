"""A genetic algorithm over sequences: children of the successes told; before the first one, children of well-formed samples.

1. Before a success is told the parents are well-formed samples of the base policy, drawn anew in each round.
2. Afterwards the parents are the distinct successes told, the last `population` of them.
3. Each child is a parent with a few tokens replaced, exchanged, put in or left out, or two parents crossed (one in four).
4. Children that leave the grammar are dropped, and nothing is asked twice; where too few new ones come, samples fill up.
5. The policy is the base policy until a success, and then an even mixture of it and of the successes found.

Rewards are 0 or 1, so there is no fitness to select by but success itself. Source: Holland 1975; a (mu + lambda) strategy in
the words of Baeck and Schwefel 1993. Under `failures` it edits samples of the base policy to the end.

What it does here: it meets 1,501 to 1,664 distinct successes on AdditionAttackHard, and 30 to 92 on Countdown, fewer than by
fine-tuning (`python -m benchmarks.agents --agents genetic`, seeds 100 to 102). Its success
rate is that of a list of known successes and says nothing; its fresh rate is the base policy's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from banel_agents.base import ask
from banel_agents.limits import BatchSize, check_settings
from banel_agents.shared.asked import Asked
from banel_agents.shared.edits import children
from banel_agents.shared.grammar import within_grammar
from banel_envs import Oracle, Problem
from banel_envs.policies import Mixture, Policy, Repeating
from banel_envs.problem import Tokens

FILLED = 0.1  # share of a question that samples fill up at least, so that new parents keep coming
SHOWN = 30  # successes in the yielded mixture


@dataclass(frozen=True)
class GeneticConfig:
    """The settings of the genetic algorithm."""

    batch: BatchSize = 100  # sequences in a question; as in `bandit`
    population: BatchSize = 500  # parents at most

    def __post_init__(self) -> None:
        check_settings(self)


class Genetic:
    """See the module."""

    name = "genetic"
    Config = GeneticConfig

    def __init__(self, config: GeneticConfig | None = None) -> None:
        self.config = config or GeneticConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a mixture with the successes found. End when nothing new is left to ask."""
        c = self.config
        base = within_grammar(problem, problem.base_policy())
        yield base
        asked = Asked()
        known = np.empty((0, problem.T), np.int64)
        while oracle.left:
            n = min(c.batch, oracle.left)
            parents = known[-c.population :] if len(known) else self._samples(base, problem, rng)
            new = asked.new(children(problem, parents, n, rng), n - round(FILLED * n))
            filled = asked.sample(base, n - len(new), rng)
            if len(new) + len(filled) == 0:
                return
            told = ask(oracle, np.concatenate((new, filled)) if len(filled) else new).successes
            if len(told):
                known = np.concatenate((known, told))
                yield Mixture([base, *(Repeating(row, problem.V) for row in known[-SHOWN:])])

    def _samples(self, base: Policy, problem: Problem, rng: np.random.Generator) -> Tokens:
        samples = base.sample(self.config.population, rng)
        return samples[problem.well_formed(samples)]
