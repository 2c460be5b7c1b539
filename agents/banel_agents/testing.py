"""check_agent: the contract of an agent, for those shipped here and for yours."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from banel_agents.base import Agent
from banel_envs import BudgetExhausted, Oracle, Task
from banel_envs.oracle import Feedback
from banel_envs.policies import Policy
from banel_envs.problem import Tokens
from banel_envs.testing import ContractBroken


def check_agent(make: Callable[[], Agent], task: Task, *, budget: int = 200, seed: int = 0) -> None:
    """Run an agent on a small budget under both feedbacks, and hold it to DESIGN's contract.

    Args:
        make: a new agent of default config, such as its class.
        task: what it is run on; its base policy must suit the agent.
        budget: NRE of each run.
        seed: of the agent.

    Raises:
        ContractBroken: names what broke.
    """
    agent = make()
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", agent.name):
        raise ContractBroken(f"name is {agent.name!r}; use letters, digits, '_', '.', '-'")
    config = agent.config
    if not dataclasses.is_dataclass(config) or not config.__dataclass_params__.frozen:  # type: ignore[union-attr]
        raise ContractBroken(f"{agent.name}: its config is not a frozen dataclass")
    probe = task.problem.base_policy().sample(64, np.random.default_rng(seed))
    feedbacks: tuple[Feedback, ...] = ("full", "failures")
    for feedback in feedbacks:
        head = _run(make(), task, feedback, budget, seed, probe)
        random.seed(seed + 1)
        np.random.seed(seed + 1)
        torch.manual_seed(seed + 1)
        if _run(make(), task, feedback, budget, seed, probe) != head:
            raise ContractBroken(
                f"{agent.name}, {feedback}: the same seed asked other questions; draw all randomness from rng"
            )


def _run(agent: Agent, task: Task, feedback: Feedback, budget: int, seed: int, probe: Tokens) -> str:
    """One run; the head of its ledger."""
    oracle = Oracle(task, budget=budget, feedback=feedback)
    yielded: list[tuple[Policy, NDArray[np.float64]]] = []
    try:
        for policy in agent.learn(task.problem, oracle, np.random.default_rng(seed)):
            if not yielded and oracle.count:
                raise ContractBroken(f"{agent.name}: it asked before its first yield; yield the base policy first")
            yielded.append((policy, _log_probs(agent, policy, probe)))
    except BudgetExhausted:
        if oracle.left:
            raise
    if not yielded:
        raise ContractBroken(f"{agent.name}: it yielded no policy")
    for number, (policy, log_probs) in enumerate(yielded):
        if not np.array_equal(policy.log_prob(probe), log_probs):
            raise ContractBroken(f"{agent.name}: policy {number} changed after it was yielded; yield policy.clone()")
    return oracle.ledger.head


def _log_probs(agent: Agent, policy: Policy, probe: Tokens) -> NDArray[np.float64]:
    log_probs = policy.log_prob(probe)
    if np.isnan(log_probs).any() or (log_probs > 1e-9).any():
        raise ContractBroken(f"{agent.name}: a policy gives log-probabilities that are none")
    return log_probs
