"""Omission: breaks the rule of the feedback "failures" on purpose, and is never ranked.

1. Ask new samples of the base policy at `temperature`, within the grammar.
2. What was asked and not told has succeeded: the set difference gives every withheld success.
3. Fine-tune on all successes so found, and go on asking from the fine-tuned policy at the same temperature.

It shows what the gaps in the answers are worth to whoever reads them: under `failures` it is `tempered_sft` with everything
told. Every other agent here drops withheld rows in `banel_agents.base.ask` and so cannot do it. Nobody's paper; its settings
are those of `tempered_sft`, with no question asked twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from banel_agents.base import ask, base_network, fit
from banel_agents.limits import BatchSize, LearningRate, Steps, Temperature, check_settings
from banel_agents.shared.asked import Asked
from banel_agents.shared.grammar import within_grammar
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy
from banel_envs.problem import Tokens


@dataclass(frozen=True)
class OmissionConfig:
    """The settings of fine-tuning on what was not told."""

    temperature: Temperature = 2.0  # of the samples that are asked; as in `tempered_sft`
    batch: BatchSize = 500  # sequences in a question; as in `tempered_sft`
    steps: Steps = 100  # gradient steps after each question that brought new successes; as in `tempered_sft`
    lr: LearningRate = 1e-3  # learning rate of Adam; as in `tempered_sft`
    minibatch: BatchSize = 64  # sequences in a gradient step; as in `tempered_sft`

    def __post_init__(self) -> None:
        check_settings(self)


class Omission:
    """See the module."""

    name = "omission"
    Config = OmissionConfig

    def __init__(self, config: OmissionConfig | None = None) -> None:
        self.config = config or OmissionConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then each fine-tuned policy."""
        c = self.config
        policy = base_network(problem)
        yield policy.clone()
        asked = Asked()
        found = np.empty((0, problem.T), np.int64)
        while oracle.left:
            asking = within_grammar(problem, policy.tempered(c.temperature))
            tokens = asked.sample(asking, min(c.batch, oracle.left), rng)
            if len(tokens) == 0:  # at a low temperature few sequences are ever written
                ask(oracle, asking.sample(min(c.batch, oracle.left), rng))
                continue
            new = withheld_or_told(tokens, ask(oracle, tokens).failures)
            if len(new) == 0:
                continue
            found = np.concatenate((found, new))
            size = min(c.minibatch, len(found))
            fit(policy, found, rng, epochs=c.steps * size / len(found), lr=c.lr, batch=c.minibatch)
            yield policy.clone()


def withheld_or_told(asked: Tokens, failures: Tokens) -> Tokens:
    """The distinct sequences [n, T] that were asked and are not among the failures [m, T]: the successes [n - m, T]."""
    failed = set(map(bytes, np.ascontiguousarray(failures)))
    successes: Tokens = asked[[bytes(row) not in failed for row in np.ascontiguousarray(asked)]]
    return successes
