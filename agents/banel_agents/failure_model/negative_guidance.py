"""Negative guidance: the base policy, pushed away from a model of all failures at every token. Nothing is distilled.

1. Ask samples of p', which at first is the base policy.
2. Fit p_phi, from the base policy, to all failures so far by maximum likelihood.
3. p'(v) is proportional to p_base(v)^(1 + b) / p_phi(v)^b at each token, within the grammar.

The target is a posterior p_base(x) (p_base(x) / p_phi(x))^b of BaNEL's kind (arXiv 2510.09596, section 4), made token by
token as autoguidance makes it (Karras et al. 2024, arXiv 2406.02507): likelihood and sampling stay exact, and no round can
lose what an earlier one had for good. b was chosen in early experiments.

What it does here: on AdditionAttackHard it rises from 10^-5.09 to 10^-3.7 and ends at 10^-4.8 and 10^-4.7 (`python -m
benchmarks.agents --agents negative_guidance --feedback failures`, seeds 100 and 101). It falls back. A likely cause, not
tested: p_phi is fitted to what p' wrote as well, comes to hold the rare strings, and then guidance leads away from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from banel_agents.base import ask_samples, base_trainable, fit
from banel_agents.limits import BatchSize, Epochs, LearningRate, Range, check_settings
from banel_agents.shared.grammar import within_grammar
from banel_envs import Oracle, Problem
from banel_envs.errors import BadValue
from banel_envs.policies import Autoregressive, Policy
from banel_envs.policies.composed.guided import Guided


@dataclass(frozen=True)
class NegativeGuidanceConfig:
    """The settings of negative guidance."""

    batch: BatchSize = 500  # sequences asked a round; as in `banel`
    strength: Annotated[float, Range(0, 100)] = 4.0  # b; early experiments on AdditionAttackHard
    phi_epochs: Epochs = 5.0  # passes of p_phi over all failures in each round; as in `banel`
    phi_lr: LearningRate = 1e-3  # Adam; as in `banel`
    minibatch: BatchSize = 128  # sequences a gradient step; as in `banel`

    def __post_init__(self) -> None:
        check_settings(self)


class NegativeGuidance:
    """See the module."""

    name = "negative_guidance"
    Config = NegativeGuidanceConfig
    asks_from = "yielded"

    def __init__(self, config: NegativeGuidanceConfig | None = None) -> None:
        self.config = config or NegativeGuidanceConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then the guided policy of each round."""
        c = self.config
        base = base_trainable(problem)
        if not isinstance(base, Autoregressive):
            what = f"a {type(base).__name__} gives no next-token distribution to guide"
            raise BadValue(f"{problem.id}: {what}; give an Autoregressive policy")
        policy: Policy = base
        yield policy
        failures = np.empty((0, problem.T), np.int64)
        while oracle.left:
            failures = np.concatenate((failures, ask_samples(oracle, policy, c.batch, rng).failures))
            phi = base.clone()
            fit(phi, failures, rng, epochs=c.phi_epochs, lr=c.phi_lr, batch=c.minibatch)
            policy = within_grammar(problem, Guided(base, phi, c.strength))
            yield policy
