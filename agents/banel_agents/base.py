"""What agents share: the Agent protocol, asking with withheld rows dropped, weighted maximum likelihood."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from banel_envs import Oracle, Problem
from banel_envs.errors import BadValue
from banel_envs.policies import Policy
from banel_envs.policies.gradient_step import descend
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.problem import Tokens


class Agent(Protocol):
    """Improves a policy under the meter.

    `name` is what the board calls it; `Config` a frozen dataclass of hyperparameters whose default is one set for all
    tasks; the constructor takes one, or none for the default. An agent may keep `reported`, a dict of its own scalars by name.
    """

    name: str
    Config: type[Any]
    config: Any

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Ask the oracle when it wishes, and yield the current policy, as a frozen snapshot, whenever that changed.

        The first policy is yielded before the first question. All randomness comes from rng. BudgetExhausted out of it is a
        normal end.
        """
        ...


@dataclass(frozen=True)
class Answers:
    """What an agent may read of the answers: withheld rows are gone."""

    tokens: Tokens  # [m, T]
    rewards: NDArray[np.float32]  # [m], 0 or 1

    @property
    def failures(self) -> Tokens:
        """The sequences that failed."""
        rows: Tokens = self.tokens[self.rewards == 0]
        return rows

    @property
    def successes(self) -> Tokens:
        """The sequences that are known to have succeeded."""
        rows: Tokens = self.tokens[self.rewards == 1]
        return rows


def ask(oracle: Oracle, tokens: Tokens) -> Answers:
    """Ask about as many of the sequences as the budget reaches, and drop every row whose answer is withheld.

    The one place where withholding is obeyed (feedback="failures"): nothing downstream can read a withheld row.
    """
    tokens = tokens[: oracle.left]
    rewards = oracle(tokens)
    told = ~np.isnan(rewards)
    return Answers(tokens[told], rewards[told])


def ask_samples(oracle: Oracle, policy: Policy, n: int, rng: np.random.Generator) -> Answers:
    """Ask about n samples of the policy, as far as the budget reaches: at least one, so that every round comes nearer to its end.

    Raises:
        BadValue: the policy gave no sequence; a loop until the budget is spent would never end.
    """
    tokens = policy.sample(n, rng)
    if len(tokens) == 0:
        what = f"a {type(policy).__name__} gave no sequence where {n} were to be sampled"
        raise BadValue(f"{what}; let its sample(n, rng) return n of them")
    return ask(oracle, tokens)


def base_network(problem: Problem) -> TorchPolicy:
    """The base policy as a network that can be trained; BadValue where it is none."""
    policy = problem.base_policy()
    if not isinstance(policy, TorchPolicy):
        raise BadValue(f"{problem.id}: its base policy is a {type(policy).__name__}, and this agent trains a network")
    return policy


def optimiser(policy: TorchPolicy, lr: float) -> torch.optim.Optimizer:
    """Adam without weight decay over the policy's weights, one fused kernel for all of them."""
    return torch.optim.Adam(policy.network.parameters(), lr=lr, fused=True)


def fit(
    policy: TorchPolicy,
    tokens: Tokens,
    rng: np.random.Generator,
    *,
    epochs: float,
    lr: float,
    batch: int = 256,
    weights: NDArray[np.floating] | None = None,
) -> None:
    """Weighted maximum likelihood, in place: minimise mean(weight x negative log-likelihood) over the sequences.

    Args:
        policy: trained in place.
        tokens: [n, T]; none is nothing to do.
        rng: shuffles.
        epochs: passes over the sequences; a fraction stops within a pass.
        lr: Adam's learning rate, constant, from a fresh optimiser state.
        batch: sequences a step.
        weights: [n], 1 by default.
    """
    if len(tokens) == 0:
        return
    opt = optimiser(policy, lr)
    policy.network.train()
    left = round(epochs * len(tokens))
    while left > 0:
        for rows in np.array_split(rng.permutation(len(tokens)), -(-len(tokens) // batch)):
            rows = rows[:left]
            descend(opt, policy.loss(tokens[rows], None if weights is None else weights[rows]))
            left -= len(rows)
            if left <= 0:
                break
    policy.network.eval()
