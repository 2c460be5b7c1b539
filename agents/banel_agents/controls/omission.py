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

import numpy as np

from banel_agents.base import base_trainable
from banel_agents.shared.asked import Asked, ask_new
from banel_agents.shared.fine_tuning import FineTuningConfig, fine_tune
from banel_agents.shared.grammar import within_grammar
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy
from banel_envs.problem import Tokens


class Omission:
    """See the module."""

    name = "omission"
    Config = FineTuningConfig

    def __init__(self, config: FineTuningConfig | None = None) -> None:
        self.config = config or FineTuningConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then each fine-tuned policy."""
        c = self.config
        policy = base_trainable(problem)
        yield policy.clone()
        asked = Asked()
        found = np.empty((0, problem.T), np.int64)
        while oracle.left:
            asking = within_grammar(problem, policy.tempered(c.temperature))
            tokens, told = ask_new(asked, asking, c.batch, oracle, rng)
            new = withheld_or_told(tokens, told.failures)
            if len(new) == 0:
                continue
            found = np.concatenate((found, new))
            fine_tune(policy, found, rng, steps=c.steps, lr=c.lr, minibatch=c.minibatch)
            yield policy.clone()


def withheld_or_told(asked: Tokens, failures: Tokens) -> Tokens:
    """The distinct sequences [n, T] that were asked and are not among the failures [m, T]: the successes [n - m, T]."""
    failed = set(map(bytes, np.ascontiguousarray(failures)))
    successes: Tokens = asked[[bytes(row) not in failed for row in np.ascontiguousarray(asked)]]
    return successes
