"""Blind paths: what an agent that is told nothing asks up to its first true success, and the exact hazard of every evaluation.

A path is a run of the oracle-free twin. It ends with the question that held its first success: what comes after was asked by
an agent that took a success for a failure, as no agent on a path without a success does. Where the agent says which policy
it asks from (`banel_agents.base.AsksFrom`), the probability that one more row succeeds, if none did before, is known:

    base, yielded   the policy's exact success rate r, for every row of the question
    unasked         r / (1 - the mass of what was asked before this row)

A path is *fixed* if the whole blind run asked from one policy, but for leaving out what was asked. Then it goes on to the budget:
its rows that failed are those of a path without any success, as what came between them moved nothing.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import numpy as np

from banel_agents import make_agent
from banel_agents.base import AsksFrom, asks_from
from banel_agents.declared import Asked, questions_of
from banel_envs import TASKS, Oracle, Task, success_rate
from banel_envs.errors import BadValue
from banel_envs.policies import Excluding, Policy
from banel_envs.problem import Tokens
from banel_leaderboard.statistics.medians import Floats
from benchmarks.findings.kept import Line

DIGITS = 7  # of a hazard that is kept
TINY = 1e-300  # of a mass that rounding leaves at 0


@dataclass
class Path:
    """What a blind run asked so far, and the policies that it yielded."""

    task: Task
    oracle: Oracle
    mode: AsksFrom | None
    yielded: list[tuple[int, Policy]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    first: int | None = None  # the NRE of the first true success
    fixed: bool = True  # whether one policy is asked from, but for leaving out what was asked

    def add(self, policy: Policy) -> None:
        """Take a policy in that was just yielded."""
        self.yielded.append((self.oracle.count, policy))
        self.fixed &= self.mode == "base" or core(policy) is core(self.yielded[0][1])

    def read(self) -> None:
        """Take in the questions that were asked since the last time."""
        for ask in self.oracle.ledger.asks[len(self.asked) :]:
            spent, tokens = self.nre, self.oracle.ledger.tokens(ask)
            self.asked.append((spent, tokens))
            hits = np.flatnonzero(np.asarray(self.task.reward(tokens)) == 1)
            if self.first is None and len(hits):
                self.first = spent + int(hits[0]) + 1

    def cut(self) -> None:
        """Drop the questions behind the one that held the first success."""
        self.asked = [(spent, rows) for spent, rows in self.asked if self.first is None or spent < self.first]

    @property
    def nre(self) -> int:
        """Evaluations on the path."""
        return sum(len(rows) for _, rows in self.asked)


def core(policy: Policy) -> Policy:
    """The policy, whatever it leaves out."""
    return policy.policy if isinstance(policy, Excluding) else policy


def walk(agent_name: str, settings: Line, task: Task, seed: int) -> Path:
    """The blind path of an agent."""
    agent = make_agent(agent_name, settings)
    oracle = Oracle(task.blind(), feedback="failures")
    path = Path(task, oracle, asks_from(agent))
    for policy in agent.learn(task.problem, oracle, np.random.default_rng(seed)):
        path.read()
        path.add(policy)
        if path.first and not path.fixed:
            break
    path.read()
    path.fixed &= path.mode is not None
    if not path.fixed:
        path.cut()
    return path


def measure(key: Line) -> Line:
    """The path of a key, as numbers.

    `first`: NRE of the first success, or None. `nre`: evaluations on the path. `base` and `at_first`: log10 success rate of the
    base policy, and of the policy yielded last before the first success. `hazards`: of single evaluations, `rows[k]` in turn
    with the k-th; None where the agent does not say which policy it asks from. `fixed`: whether the hazards go on beyond `first`.

    Raises:
        BadValue: the task's rates are not exact.
    """
    task = TASKS[key["task"]]
    if task.successes() is None:
        what = f"{key['task']}: its rates are estimates, and hazards have to be exact"
        raise BadValue(f"{what}; give a task whose successes are listed")
    start = time.process_time()
    path, rates = walk(key["agent"], key["settings"], task, key["seed"]), Rates(task)
    found: Line = {
        "first": path.first,
        "nre": path.nre,
        "fixed": path.fixed,
        "at_first": None,
        "rows": None,
        "hazards": None,
    }
    found["base"] = rates.log10(task.problem.base_policy())
    if path.first:
        question = next(asked for asked in reversed(path.asked) if asked[0] < path.first)
        found["at_first"] = rates.log10(questions_of("yielded", task.problem, path.yielded, [question])[0][0])
    if path.mode is not None:
        found["rows"], found["hazards"] = hazards_of(path, rates)
    return found | {"took": round(time.process_time() - start, 2)}


class Rates:
    """Exact success rates, each policy measured once."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._known: dict[int, tuple[Policy, float | None]] = {}  # the policy is held, so that no other gets its id

    def log10(self, policy: Policy) -> float | None:
        """The log10 success rate of a policy; None for zero."""
        if id(policy) not in self._known:
            self._known[id(policy)] = (policy, success_rate(self.task, policy).log10)
        return self._known[id(policy)][1]

    def __call__(self, policy: Policy) -> float:
        """The success rate of a policy."""
        log10 = self.log10(policy)
        return 0.0 if log10 is None else min(1.0, float(10**log10))


def hazards_of(path: Path, rates: Rates) -> tuple[list[int], list[float]]:
    """The hazards of a path's evaluations, and how many evaluations in turn have each."""
    questions = questions_of(path.mode or "yielded", path.task.problem, path.yielded, path.asked)
    if path.mode != "unasked":
        if path.fixed:
            return [path.nre], [short(rates(questions[0][0]))]
        return [len(rows) for _, rows in questions], [short(rates(policy)) for policy, _ in questions]
    if path.fixed:
        rows = np.concatenate([rows for _, rows in questions])
        failed = rows[np.asarray(path.task.reward(rows)) == 0]
        hazards = unasked(core(questions[0][0]), failed[:0], failed, rates)
    else:
        asked, parts = questions[0][1][:0], []
        for policy, rows in questions:
            parts.append(unasked(policy, asked, rows, rates))
            asked = np.concatenate((asked, rows))
        hazards = np.concatenate(parts)
    return [1] * len(hazards), [short(hazard) for hazard in hazards]


def unasked(policy: Policy, asked: Tokens, rows: Tokens, rates: Rates) -> Floats:
    """The hazard of each row [n] of a question of which none is asked twice, where no success is among what was asked [m]."""
    before = math.fsum(np.exp(policy.log_prob(asked))) if len(asked) else 0.0
    within = np.cumsum(np.concatenate(([0.0], np.exp(policy.log_prob(rows))[:-1])))
    left = np.maximum(1 - before - within, TINY)
    return np.minimum(1.0, rates(policy) / left)


def short(value: float) -> float:
    """The number in as many digits as are kept."""
    return float(f"{value:.{DIGITS}g}")
