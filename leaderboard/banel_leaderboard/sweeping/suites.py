"""Suites: named sets of tasks, agents, seeds and feedbacks. A suite runs every combination of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

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

# The suite v1: tasks whose success rate is exact and whose runs take seconds. Needle is the negative control.
V1 = (
    *ADDITION,
    "banel/AdditionCarry-v0",
    "banel/Countdown-v0",
    "banel/ListProgram-v0",
    "banel/EhrlichEasy-v0",
    "banel/Ehrlich-v0",
    "banel/EhrlichHard-v0",
    "banel/Proof-v0",
    "banel/Needle-v0",
)
FIVE, TEN_SEEDS = tuple(range(5)), tuple(range(10))
BOTH: tuple[Feedback, ...] = ("full", "failures")
CONTROLS = ("base", "without_replacement", "uniform_grammar", "ladder")
FROM_FAILURES = (
    "banel_paper",
    "banel_stop",
    "negative_guidance",
    "proxy",
    "rnd",
    "pseudo_count",
    "elliptical",
    "dp_novelty",
    "nsr",
    "npo",
    "unlikelihood",
    "dpg_failures",
    "gafn",
)
FROM_SUCCESSES = ("expert_iteration", "tempered_sft_new", "genetic", "reinforce")
# Dead on failures, nearly the same as another agent, or slow: they run on two tasks.
ON_TWO_TASKS = (
    "spo",
    "dpg",
    "w_reinforce",
    "grpo",
    "rloo",
    "dr_grpo",
    "maxrl",
    "mrt",
    "esrl",
    "esrl_paper",
    "kl_rl",
    "trajectory_balance",
    "ppo",
    "maskable_ppo",
)
# Agents that can run on any language model; a question that ships, and all six of them, each alone and all at once.
REASONING = "banel/Reasoning-v0"
QUESTIONS = (*(f"banel/Reasoning-v{k}" for k in range(6)), "banel/ReasoningMean-v0")
ON_LANGUAGE = ("base", "without_replacement", "ladder", "banel", "negative_guidance", "count", "rnd", "nsr", "npo")


@dataclass(frozen=True)
class Suite:
    """A set of runs for `banel bench --suite`."""

    about: str
    tasks: tuple[str, ...]
    agents: tuple[str, ...]
    seeds: tuple[int, ...]
    feedbacks: tuple[Feedback, ...]
    twins: tuple[str, ...] = ()  # agents whose oracle-free twin runs too
    also: tuple[Suite, ...] = ()  # further runs, with tasks, agents, seeds and feedbacks of their own

    @property
    def parts(self) -> tuple[Suite, ...]:
        """The suite without its further runs, then these."""
        return (replace(self, also=()), *self.also)

    @property
    def size(self) -> str:
        """How much it is, in words."""
        parts = {"task": len(self.tasks), "agent": len(self.agents), "seed": len(self.seeds)}
        counts = " x ".join(f"{n} {word}{'s' * (n != 1)}" for word, n in parts.items())
        own = f"{counts}, {' and '.join(self.feedbacks)}{', twins' if self.twins else ''}"
        return "; ".join([own, *(f"{part.about}: {part.size}" for part in self.also)])


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
        "the board of docs/findings.md: controls, and further agents where each has something to learn",
        V1,
        CONTROLS,
        FIVE,
        BOTH,
        also=(
            Suite("banel", V1, ("banel",), TEN_SEEDS, BOTH, ("banel",)),
            Suite("learn from both", V1, ("count", "soft_banel"), FIVE, BOTH, ("count", "soft_banel")),
            Suite("learn from failures", V1, FROM_FAILURES, FIVE, ("failures",)),
            Suite("learn from successes", V1, FROM_SUCCESSES, FIVE, ("full",)),
            Suite("ask only what is new", V1, ("bandit", "screened_bandit", "proxy"), TEN_SEEDS, ("full",)),
            Suite("dead on failures, alike, or slow", ADDITION[:1] + V1[3:4], ON_TWO_TASKS, FIVE, ("full",)),
            Suite("what withheld successes are worth", ADDITION, ("omission",), FIVE, ("failures",)),
        ),
    ),
    "reasoning": Suite(
        "a small language model and a word problem that it seldom solves: twelve agents, five seeds",
        (REASONING,),
        ON_LANGUAGE,
        FIVE,
        ("failures",),
        ("banel",),
        also=(Suite("learn from successes", (REASONING,), ("grpo", "spo", "tempered_sft"), FIVE, ("full",)),),
    ),
    "questions": Suite(
        "the other five word problems, and all six at once: BaNEL, its twin and two controls",
        QUESTIONS[1:],
        ("base", "without_replacement", "banel"),
        FIVE,
        ("failures",),
        ("banel",),
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
