"""Suites: named sets of tasks, agents, seeds and feedbacks. A suite runs every combination of them."""

from __future__ import annotations

from dataclasses import dataclass

from banel_envs.meter.oracle import Feedback
from banel_envs.names import unknown
from banel_envs.tasks import SHIPPED

ADDITION = ("banel/AdditionAttack-v0", "banel/AdditionAttackHard-v0")
QUICK = (
    "banel/Gaussian1D-v0",
    "banel/AdditionAttack-v0",
    "banel/Ehrlich-v0",
    "banel/Countdown-v0",
    "banel/Needle-v0",
)
# By name, because a suite must not change when an agent is added to the registry.
TEN = (
    "base",
    "without_replacement",
    "tempered",
    "memorise",
    "tempered_sft",
    "banel",
    "count",
    "rnd",
    "reinforce",
    "ppo",
)
ESTIMATED = ("banel/MoleculeWindow-v0", "banel/MoleculeWindowHard-v0")  # on all other tasks success rates are exact
FAILURES_ENOUGH = ("banel", "count", "rnd")  # agents that learn from failures; only for them is a twin of interest


@dataclass(frozen=True)
class Suite:
    """A set of runs for `banel bench --suite`."""

    about: str
    tasks: tuple[str, ...]
    agents: tuple[str, ...]
    seeds: tuple[int, ...]
    feedbacks: tuple[Feedback, ...]
    twins: tuple[str, ...] = ()  # agents whose oracle-free twin runs too

    @property
    def size(self) -> str:
        """How much it is, in words."""
        parts = {"task": len(self.tasks), "agent": len(self.agents), "seed": len(self.seeds)}
        counts = " x ".join(f"{n} {word}{'s' * (n != 1)}" for word, n in parts.items())
        return f"{counts}, {' and '.join(self.feedbacks)}{', twins' if self.twins else ''}"


SUITES = {
    "smoke": Suite(
        "a first look: two tasks, five agents, minutes",
        ADDITION,
        ("base", "tempered", "count", "rnd", "banel"),
        (0, 1),
        ("failures",),
    ),
    "quick": Suite(
        "ten agents on five short tasks, one of them the negative control",
        QUICK,
        TEN,
        tuple(range(5)),
        ("full", "failures"),
    ),
    "v1": Suite(
        "ten agents on every task whose success rate is exact (MNIST's need BANEL_DATA)",
        tuple(id for id in SHIPPED if id not in ESTIMATED),
        TEN,
        tuple(range(5)),
        ("full", "failures"),
        FAILURES_ENOUGH,
    ),
    "full": Suite(
        "ten agents on every task",
        tuple(SHIPPED),
        TEN,
        tuple(range(5)),
        ("full", "failures"),
        FAILURES_ENOUGH,
    ),
    "addition": Suite(
        "the committed table: the addition attack, ten agents, ten seeds, both feedbacks, twins",
        ADDITION,
        TEN,
        tuple(range(10)),
        ("full", "failures"),
        FAILURES_ENOUGH,
    ),
}


def get_suite(name: str) -> Suite:
    """The suite of this name; UnknownName if there is none, with the name that was likely meant and all that exist."""
    if name not in SUITES:
        raise unknown("suite", name, SUITES)
    return SUITES[name]
