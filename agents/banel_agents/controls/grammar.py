"""Controls that know the public grammar and learn nothing: uniform over it, and a ladder of temperatures beside it.

uniform_grammar  every well-formed sequence with equal probability, none asked twice.
ladder           an even mixture of the base policy at temperatures from 0.5 to 5, all within the grammar, and of the uniform
                 policy over the grammar; none asked twice. A mixture of k members loses at most log10(k) decades to its best
                 member, so at most 0.9 here, on any task.

What they show: an agent that needs more questions than these to meet its first success has found nothing out. Nobody's
paper; the temperatures are those of the early experiments, and were not tuned.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from banel_agents.controls.sampling import BatchConfig, tempered
from banel_agents.shared.asked import without_replacement
from banel_agents.shared.grammar import uniform_over_grammar, within_grammar
from banel_envs import Oracle, Problem
from banel_envs.policies import Mixture, Policy

TEMPERATURES = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0)


class UniformOverGrammar:
    """Samples the grammar evenly and never asks a sequence twice."""

    name = "uniform_grammar"
    Config = BatchConfig
    asks_from = "unasked"

    def __init__(self, config: BatchConfig | None = None) -> None:
        self.config = config or BatchConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the uniform policy over the grammar, then the same without the known failures."""
        return without_replacement(uniform_over_grammar(problem), problem, oracle, self.config.batch, rng)


class Ladder:
    """Samples several temperatures and the grammar evenly, and never asks a sequence twice."""

    name = "ladder"
    Config = BatchConfig
    asks_from = "unasked"

    def __init__(self, config: BatchConfig | None = None) -> None:
        self.config = config or BatchConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the mixture, then the mixture without the known failures."""
        return without_replacement(ladder(problem), problem, oracle, self.config.batch, rng)


def ladder(problem: Problem) -> Mixture:
    """The base policy at each of TEMPERATURES within the grammar, and the uniform policy over the grammar if it is known."""
    base = problem.base_policy()
    members: list[Policy] = [within_grammar(problem, tempered(base, t)) for t in TEMPERATURES]
    if problem.has_automaton:
        members.append(uniform_over_grammar(problem))
    return Mixture(members)
