"""check_agent: does an agent keep its contract? It is for the agents of this package and for your own."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable, Iterator

import numpy as np
import torch

from banel_agents.base import Agent, asks_from
from banel_agents.declared import not_samples, questions_of
from banel_agents.limits import check_reported
from banel_agents.shared.silence import AgentSilent, asking
from banel_envs import BudgetExhausted, Oracle, Problem, Task
from banel_envs.errors import BadPolicy, BadValue, NothingAsked, PolicyChanged
from banel_envs.measure.draws import check_draws
from banel_envs.measure.probability import at_most_one, checked_log_prob
from banel_envs.meter.oracle import Feedback
from banel_envs.policies import Policy
from banel_envs.policies.mark import Mark
from banel_envs.policies.protocol import METHODS
from banel_envs.policies.weights import bad_weight
from banel_envs.problem import Tokens
from banel_envs.testing import ContractBroken, check_has


def check_agent(make: Callable[[], Agent], task: Task, *, budget: int = 200, seed: int = 0) -> None:
    """Run an agent on a small budget under each feedback of the task, and check what `banel_agents.base.Agent` demands of it.

    Args:
        make: makes a new agent with its default settings; the class itself will do.
        task: the task of the runs; its base policy must suit the agent.
        budget: the NRE that each run is granted. Of what an agent says in `asks_from`, a run of one question shows little.
        seed: the seed of the agent.

    Raises:
        ContractBroken: says what the agent did wrong.
    """
    agent = make()
    what = f"the agent {type(agent).__name__}"
    check_has(agent, ("name", "Config", "config", "learn"), what, "banel_agents.base.Agent")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", str(agent.name)):
        raise ContractBroken(f"name is {agent.name!r}; use letters, digits, '_', '.', '-'")
    config = agent.config
    if not dataclasses.is_dataclass(config) or not config.__dataclass_params__.frozen:  # type: ignore[union-attr]
        raise ContractBroken(f"{agent.name}: its config is not a frozen dataclass")
    probe = task.problem.base_policy().sample(64, np.random.default_rng(seed))
    feedbacks: tuple[Feedback, ...] = ("full", "failures", *(("typed",) if task.failure_type else ()))
    for feedback in feedbacks:
        head = _run(make(), task, feedback, budget, seed, probe)
        # Other states of the global generators: an agent that draws from one of them now asks other questions.
        random.seed(seed + 1)
        np.random.seed(seed + 1)
        torch.manual_seed(seed + 1)
        if _run(make(), task, feedback, budget, seed, probe) != head:
            raise ContractBroken(
                f"{agent.name}, {feedback}: the same seed asked other questions; draw all randomness from rng"
            )


def _run(agent: Agent, task: Task, feedback: Feedback, budget: int, seed: int, probe: Tokens) -> str:
    """Make one run, and give the head of its ledger, which is the same if the same questions were asked."""
    oracle = Oracle(task, budget=budget, feedback=feedback)
    yielded: list[tuple[Policy, Mark]] = []
    spent: list[int] = []  # evaluations when each was yielded
    try:
        for policy in _policies(agent, task.problem, oracle, seed):
            if not yielded and oracle.count:
                raise ContractBroken(f"{agent.name}: it asked before its first yield; yield the base policy first")
            _check_reported(agent, oracle.count)
            yielded.append((policy, _checked(agent, policy, task.problem, probe, oracle.count)))
            spent.append(oracle.count)
    except BudgetExhausted:
        # It is the normal end only if the budget is really spent. With something left, a batch was too large.
        if oracle.left:
            raise
    if not yielded:
        raise ContractBroken(f"{agent.name}: it yielded no policy")
    # Compared at the end of the run, because an agent can change a policy at any time after it was yielded.
    for number, (policy, mark) in enumerate(yielded):
        try:
            mark.check(policy)
        except PolicyChanged as error:
            raise ContractBroken(f"{agent.name}: policy {number}: {error}") from error
    _check_measured(agent, yielded[-1][0], task, seed)
    _check_asked(
        agent, [(nre, policy) for nre, (policy, _) in zip(spent, yielded, strict=True)], oracle, feedback, seed
    )
    return oracle.ledger.head


def _check_reported(agent: Agent, nre: int) -> None:
    try:
        check_reported(agent.name, nre, getattr(agent, "reported", {}))
    except (BadValue, TypeError, ValueError) as error:
        raise ContractBroken(f"{agent.name}: what it reports about itself cannot be recorded: {error}") from error


def _policies(agent: Agent, problem: Problem, oracle: Oracle, seed: int) -> Iterator[Policy]:
    policies = agent.learn(problem, oracle, np.random.default_rng(seed))
    check_has(policies, ("__iter__",), f"what {agent.name}.learn answers", "banel_agents.base.Agent")
    try:
        yield from asking(policies, oracle, agent.name)
    except BadPolicy as error:
        raise ContractBroken(f"{agent.name} at NRE {oracle.count}: {error}") from error
    except AgentSilent as error:
        raise ContractBroken(str(error)) from error
    except NothingAsked as error:
        raise ContractBroken(f"{agent.name}: {error}") from error


def _checked(agent: Agent, policy: Policy, problem: Problem, probe: Tokens, nre: int) -> Mark:
    """Check that the policy is a probability on the sequences `probe`, and give its mark."""
    where = f"{agent.name}: its policy of NRE {nre}"
    check_has(policy, METHODS, f"{where}, a {type(policy).__name__},", "banel_envs.policies.Policy")
    try:
        checked_log_prob(policy, probe, problem)
        return Mark.of(policy)
    except BadPolicy as error:
        raise ContractBroken(f"{where} is no probability: {error}") from error


def _check_measured(agent: Agent, policy: Policy, task: Task, seed: int) -> None:
    """Check everything that the harness checks of a policy before it measures it."""
    try:
        if (wrong := bad_weight(policy)) is not None:
            raise BadPolicy(wrong)
        successes = task.successes()
        if successes is not None:
            at_most_one(policy, checked_log_prob(policy, successes, task.problem))
        check_draws(policy, task.problem, np.random.default_rng(seed), normalisers_only=successes is not None)
    except BadPolicy as error:
        raise ContractBroken(f"{agent.name}: its last policy is no probability: {error}") from error


def _check_asked(
    agent: Agent, yielded: list[tuple[int, Policy]], oracle: Oracle, feedback: Feedback, seed: int
) -> None:
    """Check that what was asked are samples of the policy that the agent says it asks from, if it says so."""
    try:
        mode = asks_from(agent)
    except BadValue as error:
        raise ContractBroken(str(error)) from error
    if mode is None:
        return
    asks, spent, asked = oracle.ledger.asks, 0, []
    for ask in asks:
        asked.append((spent, oracle.ledger.tokens(ask)))
        spent += ask.n
    questions = questions_of(mode, oracle.problem, yielded, asked)
    wrong = not_samples(questions, mode, oracle.problem, np.random.default_rng(seed))
    if wrong is not None:
        raise ContractBroken(
            f"{agent.name}, {feedback}: asks_from is {mode!r}, but what it asked are no samples of that policy: {wrong}; "
            f"leave asks_from out, or ask samples of that policy"
        )
