"""The agent of the guide “Your own agent”: fine-tune the base network on whatever succeeded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from banel_agents.base import ask, base_network, fit
from banel_agents.limits import BatchSize, Epochs, LearningRate, check_settings
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy


@dataclass(frozen=True)
class MyConfig:
    """Every field has a default, which is used on all tasks, and limits, which its type states."""

    batch: BatchSize = 500  # sequences a round
    epochs: Epochs = 10.0  # passes over the successes of a round
    lr: LearningRate = 3e-4  # of Adam

    def __post_init__(self) -> None:
        check_settings(self)  # a value outside its limits is refused by name


class MyAgent:
    """Fine-tunes on whatever succeeded."""

    name = "mine"
    Config = MyConfig
    learns_from = "successes"
    asks_from = "yielded"

    def __init__(self, config: MyConfig | None = None) -> None:
        self.config = config or MyConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Ask whenever you wish, and yield the policy whenever it has changed."""
        policy = base_network(problem)
        yield policy  # the first one, before the first question
        while oracle.left:
            answers = ask(oracle, policy.sample(self.config.batch, rng))  # withheld rows are gone
            if len(answers.successes):
                policy = policy.clone()  # what was yielded stays as it was
                fit(policy, answers.successes, rng, epochs=self.config.epochs, lr=self.config.lr)
                yield policy
