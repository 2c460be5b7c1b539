"""Arms: the explorers that the bandit chooses from. Each draws sequences; some of them learn from the successes told.

temperature   the base policy at a temperature, within the grammar
grammar       the uniform policy over the grammar
few to many   the base policy fine-tuned on the successes told, by a few steps or by many, at a temperature
edits         successes told, with a few tokens changed, or two of them crossed
ends          successes told, whose last tokens the base policy writes anew
mixed         two successes told, of which either gives each token
plain         another arm, whose candidates no classifier screens
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from banel_agents.shared.edits import children, ends_anew, mixed
from banel_agents.shared.fine_tuning import fine_tune
from banel_agents.shared.grammar import within_grammar
from banel_envs import Problem
from banel_envs.policies import Policy, Trainable
from banel_envs.problem import Tokens


class Arm(Protocol):
    """One explorer."""

    name: str

    @property
    def ready(self) -> bool:
        """Whether it can draw already; what learns from successes waits for the first one."""

    def draw(self, n: int, rng: np.random.Generator) -> Tokens:
        """Up to n sequences [m, T]."""

    def learn(self, successes: Tokens, rng: np.random.Generator) -> None:
        """Take in all distinct successes told so far [k, T], k at least 1."""


@dataclass
class Fixed:
    """A policy that learns nothing."""

    name: str
    policy: Policy
    ready: bool = True

    def draw(self, n: int, rng: np.random.Generator) -> Tokens:
        """Samples of the policy."""
        return self.policy.sample(n, rng)

    def learn(self, successes: Tokens, rng: np.random.Generator) -> None:
        """Nothing."""


@dataclass
class Tuned:
    """The base policy, fine-tuned from its own weights on all successes each time that there are new ones."""

    problem: Problem
    base: Trainable
    steps: int
    lr: float
    minibatch: int
    policy: Trainable | None = None
    learnt: int = 0  # from so many successes

    def learn(self, successes: Tokens, rng: np.random.Generator) -> None:
        """Fit a copy of the base policy to the successes; the arms that share this one do so once."""
        if self.learnt == len(successes):
            return
        self.learnt = len(successes)
        policy = self.base.clone()
        fine_tune(policy, successes, rng, steps=self.steps, lr=self.lr, minibatch=self.minibatch)
        self.policy = policy


@dataclass
class At:
    """A fine-tuned policy at a temperature, within the grammar."""

    name: str
    tuned: Tuned
    temperature: float
    policy: Policy | None = None

    @property
    def ready(self) -> bool:
        """Since the first success."""
        return self.policy is not None

    def draw(self, n: int, rng: np.random.Generator) -> Tokens:
        """Samples of the policy."""
        return np.empty((0, self.tuned.problem.T), np.int64) if self.policy is None else self.policy.sample(n, rng)

    def learn(self, successes: Tokens, rng: np.random.Generator) -> None:
        """Fit the policy, unless another temperature of it has done so."""
        self.tuned.learn(successes, rng)
        if self.tuned.policy is not None:
            self.policy = within_grammar(self.tuned.problem, self.tuned.policy.tempered(self.temperature))


@dataclass
class Edits:
    """Children of the successes."""

    name: str
    problem: Problem
    successes: Tokens | None = None

    @property
    def ready(self) -> bool:
        """Since the first success."""
        return self.successes is not None

    def draw(self, n: int, rng: np.random.Generator) -> Tokens:
        """Well-formed children."""
        if self.successes is None:
            return np.empty((0, self.problem.T), np.int64)
        return children(self.problem, self.successes, n, rng)

    def learn(self, successes: Tokens, rng: np.random.Generator) -> None:
        """Keep them."""
        self.successes = successes


@dataclass
class Ends(Edits):
    """Successes whose last tokens are written anew."""

    policy: Policy | None = None

    def draw(self, n: int, rng: np.random.Generator) -> Tokens:
        """Beginnings of successes, gone on with by the policy."""
        if self.successes is None or self.policy is None:
            return np.empty((0, self.problem.T), np.int64)
        return ends_anew(self.problem, self.policy, self.successes, n, rng)


@dataclass
class Mixed(Edits):
    """Two successes mixed token by token."""

    def draw(self, n: int, rng: np.random.Generator) -> Tokens:
        """Well-formed mixtures."""
        if self.successes is None:
            return np.empty((0, self.problem.T), np.int64)
        return mixed(self.problem, self.successes, n, rng)


@dataclass
class Plain:
    """An arm that a classifier leaves alone, beside the same arm with one."""

    arm: Arm
    name: str = ""

    def __post_init__(self) -> None:
        self.name = f"plain {self.arm.name}"

    @property
    def ready(self) -> bool:
        """When the other one is."""
        return self.arm.ready

    def draw(self, n: int, rng: np.random.Generator) -> Tokens:
        """What the other one draws."""
        return self.arm.draw(n, rng)

    def learn(self, successes: Tokens, rng: np.random.Generator) -> None:
        """Nothing: the other one learns."""
