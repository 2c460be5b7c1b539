"""What agents share: the Agent protocol, questions without their withheld rows, and weighted maximum likelihood."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from banel_envs import Oracle, Problem
from banel_envs.errors import BadValue
from banel_envs.policies import Policy, Trainable
from banel_envs.problem import Tokens

if TYPE_CHECKING:
    from banel_envs.policies.torch_policy import TorchPolicy


AsksFrom: TypeAlias = Literal["base", "yielded", "unasked"]
"""What an agent may say of its questions: each row is an independent sample of

- `base`: the problem's base policy;
- `yielded`: the policy that it yielded last;
- `unasked`: the policy that it yielded last, given that the row was not asked before in the run, in the same question or earlier.

Where this is so, the probability that a question meets a success follows from the policy's exact success rate.
"""


class Agent(Protocol):
    """An algorithm that improves a policy by asking the oracle.

    `name` is the agent's name on the board. `Config` is a frozen dataclass of its settings; the default ones are the same
    for all tasks. The constructor takes a Config, or nothing for the default settings. An agent may have `reported`, a
    dictionary of numbers about itself, by name, and `asks_from`, one of the words of AsksFrom, where that is true of every
    question whatever was told; `banel_agents.testing.check_agent` checks it.
    """

    name: str
    Config: type[Any]
    config: Any

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Ask the oracle at any time, and yield the current policy whenever it has changed.

        A policy that was yielded must not be changed afterwards. The first policy is yielded before the first question.
        All randomness comes from rng. It is a normal end if BudgetExhausted leaves this method.
        """
        ...


def asks_from(agent: Agent) -> AsksFrom | None:
    """Which policy the agent says it asks samples of; None if it does not say. BadValue for any other word."""
    declared: AsksFrom | None = getattr(agent, "asks_from", None)
    words = get_args(AsksFrom)
    if declared is not None and declared not in words:
        raise BadValue(f"{agent.name}: asks_from is {declared!r}; it is one of {', '.join(words)}, or left out")
    return declared


@dataclass(frozen=True)
class Answers:
    """The sequences and answers that an agent may read, without the withheld ones."""

    tokens: Tokens  # [m, T]
    rewards: NDArray[np.float32]  # [m], 0 or 1
    types: NDArray[np.int8] | None = (
        None  # [m] why each failed, see Oracle.typed; None where the feedback does not tell it
    )

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
    """Ask as many of the sequences as the budget allows, and drop those whose answer is withheld.

    All agents here obey the feedbacks "failures" and "typed" in this one place. Nothing that comes later can read a withheld
    sequence.
    """
    tokens = tokens[: oracle.left]
    rewards, types = oracle.typed(tokens) if oracle.feedback == "typed" else (oracle(tokens), None)
    told = ~np.isnan(rewards)  # NaN is a success that is withheld
    return Answers(tokens[told], rewards[told], None if types is None else types[told])


def ask_samples(oracle: Oracle, policy: Policy, n: int, rng: np.random.Generator) -> Answers:
    """Ask n samples of the policy, or as many as the budget allows. Each call asks at least one.

    Raises:
        BadValue: the policy gave no sequence. A loop that runs until the budget is spent would then never end.
    """
    tokens = policy.sample(n, rng)
    if len(tokens) == 0:
        what = f"a {type(policy).__name__} gave no sequence where {n} were to be sampled"
        raise BadValue(f"{what}; let its sample(n, rng) return n of them")
    return ask(oracle, tokens)


def base_trainable(problem: Problem) -> Trainable:
    """The base policy as one that can be trained; BadValue if it is none. Most agents here need no more than this."""
    policy = problem.base_policy()
    if not isinstance(policy, Trainable):
        raise BadValue(f"{problem.id}: its base policy is a {type(policy).__name__}, and this agent trains a network")
    return policy


def base_network(problem: Problem) -> TorchPolicy:
    """The base policy as a network of this package, for agents that read its hidden states; BadValue if it is none."""
    from banel_envs.policies.torch_policy import TorchPolicy  # here, because it loads PyTorch

    policy = problem.base_policy()
    if not isinstance(policy, TorchPolicy):
        what = f"its base policy is a {type(policy).__name__}, and this agent reads the hidden states of a TorchPolicy"
        raise BadValue(f"{problem.id}: {what}; use one that needs no more than likelihoods, such as banel or count")
    return policy


def fit(
    policy: Trainable,
    tokens: Tokens,
    rng: np.random.Generator,
    *,
    epochs: float,
    lr: float,
    batch: int = 256,
    weights: NDArray[np.floating] | None = None,
) -> None:
    """Weighted maximum likelihood: minimise mean(weight x negative log-likelihood) over the sequences.

    Args:
        policy: the policy, which is trained in place.
        tokens: the sequences [n, T]; without any the policy stays as it is.
        rng: shuffles the sequences.
        epochs: passes over the sequences; with a fraction the last pass stops early.
        lr: Adam's learning rate, which is constant; every call starts a new optimiser.
        batch: the most sequences in one gradient step.
        weights: the weights [n], 1 by default.
    """
    from banel_envs.policies.training import Trainer  # here, because it loads PyTorch

    if len(tokens) == 0:
        return
    trainer = Trainer(policy, lr)  # a new one for each fit: Adam's averages belong to the gradients of other data
    policy.train()
    left = round(epochs * len(tokens))
    while left > 0:
        for rows in np.array_split(rng.permutation(len(tokens)), -(-len(tokens) // batch)):
            rows = rows[:left]  # the last pass may be a part of one
            trainer.step(tokens[rows], None if weights is None else weights[rows])
            left -= len(rows)
            if left <= 0:
                break
    policy.train(False)
