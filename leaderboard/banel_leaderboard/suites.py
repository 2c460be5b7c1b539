"""Suites: named sets of tasks x agents x seeds x feedbacks."""

from __future__ import annotations

from dataclasses import dataclass

from banel_agents import AGENTS
from banel_envs.errors import UnknownName
from banel_envs.oracle import Feedback

ADDITION = ("banel/AdditionAttack-v0", "banel/AdditionAttackHard-v0")
FAILURES_ENOUGH = ("banel", "count", "rnd")  # agents that learn something from failures: the ones that have a twin


@dataclass(frozen=True)
class Suite:
    """What `banel bench --suite` runs."""

    about: str
    tasks: tuple[str, ...]
    agents: tuple[str, ...]
    seeds: tuple[int, ...]
    feedbacks: tuple[Feedback, ...]
    twins: tuple[str, ...] = ()  # agents whose oracle-free twin runs too


SUITES = {
    "smoke": Suite(
        "a first look: two tasks, five agents, minutes",
        ADDITION,
        ("base", "tempered", "count", "rnd", "banel"),
        (0, 1),
        ("failures",),
    ),
    "quick": Suite(
        "every agent on the tasks that take at most 20 s a run",
        ADDITION,
        tuple(AGENTS),
        tuple(range(5)),
        ("full", "failures"),
    ),
    "addition": Suite(
        "the committed table: the addition attack, every agent, ten seeds, both feedbacks, twins",
        ADDITION,
        tuple(AGENTS),
        tuple(range(10)),
        ("full", "failures"),
        FAILURES_ENOUGH,
    ),
}


def get_suite(name: str) -> Suite:
    """A suite by name; UnknownName lists those that exist."""
    if name not in SUITES:
        raise UnknownName(f"no suite {name!r}; the suites are {', '.join(SUITES)}")
    return SUITES[name]
