"""Pseudo-counts: the count that a density model behaves as if it had, from how much it learns when it sees a sequence.

1. rho is a density model of all sequences told so far: an autoregressive network like the policy, trained online.
2. rho(x) is its probability of x, rho'(x) its probability after it was trained on x once more.
3. The pseudo-count is N(x) = rho(x) (1 - rho'(x)) / (rho'(x) - rho(x)): equation 2 of the source. For a model that counts,
   rho = N / n and rho' = (N + 1) / (n + 1), it is N.
4. The bonus is (N(x) + 0.01)^(-1/2), as in the source; where the model learnt nothing (rho' <= rho) it is 0.
5. The model sees each told sequence once, one gradient step each, in the order of the questions.

Source: Bellemare et al. 2016 (arXiv 1606.01868); an autoregressive network as the model, Ostrovski et al. 2017 (arXiv
1703.01310). BaNEL's paper has it as its count-based baseline. The model starts from the base policy's weights, so that a
sequence which the base policy writes often is known from the start.

What it does here: from failures alone it ends at 10^-1.45 and 10^-1.21 of success on AdditionAttackHard (base 10^-5.09), as good
as `count`, for twenty times the computing: a step a sequence (`python -m benchmarks.agents --agents pseudo_count --feedback
failures`, seeds 100 and 101). The model's learning rate is that of all agents here and was not tuned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from banel_agents.base import base_trainable
from banel_agents.limits import LearningRate, OneOf
from banel_agents.shared.bonus import BonusConfig, novelty_rounds
from banel_agents.shared.gradient import Floats
from banel_envs import Oracle, Problem
from banel_envs.kernel import portable
from banel_envs.policies import Policy, Trainable
from banel_envs.problem import Tokens

SMALLEST = 0.01  # is added to a count before its root is taken, in Bellemare et al. 2016


@dataclass(frozen=True)
class PseudoCountConfig(BonusConfig):
    """The settings of REINFORCE with a bonus from pseudo-counts."""

    density_init: Annotated[str, OneOf("base", "fresh")] = "base"  # where the density model starts; fresh: new weights
    density_lr: LearningRate = 1e-3  # Adam's learning rate, which decides how fast a sequence becomes known


class Density:
    """A density model that is trained online, a sequence at a time."""

    def __init__(self, policy: Trainable, lr: float) -> None:
        from banel_envs.policies.training import Trainer  # here, because it loads PyTorch

        self.policy, self.trainer = policy, Trainer(policy, lr)

    def counts(self, tokens: Tokens) -> Floats:
        """Train on the sequences [n, T] one after the other, and give the pseudo-count of each: [n]."""
        before, after = np.empty(len(tokens)), np.empty(len(tokens))
        for k in range(len(tokens)):
            row = tokens[k : k + 1]
            before[k] = self.policy.log_prob(row)[0]
            self.trainer.step(row)
            after[k] = self.policy.log_prob(row)[0]
        return pseudo_counts(before, after)


def pseudo_counts(before: Floats, after: Floats) -> Floats:
    """N from log rho and log rho' [n]; infinite where rho' is not above rho."""
    gain = after - before
    grown = gain > 0
    # rho (1 - rho') / (rho' - rho) = (1 - rho') / (e^gain - 1), which does not underflow for rare sequences.
    over = np.where(grown, portable.exp(np.where(grown, gain, 1.0)) - 1, 1.0)
    return np.where(grown & (over > 0), (1 - portable.exp(after)) / np.where(over > 0, over, 1.0), np.inf)


class PseudoCount:
    """See the module."""

    name = "pseudo_count"
    Config = PseudoCountConfig
    asks_from = "yielded"

    def __init__(self, config: PseudoCountConfig | None = None) -> None:
        self.config = config or PseudoCountConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each round."""
        base = base_trainable(problem)
        model = base.with_new_weights(rng) if self.config.density_init == "fresh" else base
        density = Density(model, self.config.density_lr)

        def bonus(tokens: Tokens) -> Floats:
            found: Floats = 1 / np.sqrt(density.counts(tokens) + SMALLEST)
            return found

        return novelty_rounds(problem, oracle, rng, self.config, bonus)
