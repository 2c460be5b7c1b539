"""What the board says of a negative control: a task on which no agent can beat `without_replacement` in the mean.

Each agent is compared with `without_replacement` on the seeds that both have run. The test is one-sided, at a level of
1%: the signs of the paired differences in final fresh success are flipped at random, and the p-values are corrected for
the number of rows by Holm's method.

The test is conservative on such a task: it calls an agent better less often than its level allows. Given the answers,
fresh success is a weighted sum of independent rare successes. So a difference can be far above zero, but hardly ever far
below it. An agent whose policy collapsed onto a few sequences, one of which is a success by luck, has one very large
difference among its seeds, and the others are at most about zero. About half of the flips keep the large one positive,
so that the p-value is large and this luck is not taken for skill.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banel_envs import TASKS
from banel_leaderboard.ranking.rows import Row, TaskTable

BAR = "without_replacement"
LEVEL = 0.01
FLIPS = 99_999
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """One agent compared with `without_replacement`, the bar."""

    difference: float  # mean over seeds of the agent's fresh success minus the bar's
    error: float  # its standard error
    p: float  # one-sided
    corrected: float  # p, corrected for the number of agents
    above: bool  # whether the agent is above the bar: the corrected p is below LEVEL


def sign_flip(differences: Floats, rng: np.random.Generator, flips: int = FLIPS) -> float:
    """One-sided p-value of the mean of paired differences [n] being above 0, from signs flipped at random.

    The observed signs count as one more flip (Phipson and Smyth 2010), so the p-value is never 0.
    """
    signs = rng.choice((-1.0, 1.0), (flips, len(differences)))
    slack = 1e-9 * np.abs(differences).sum()  # rounding must not tell apart two sums of the same numbers
    reached = int((signs @ differences >= differences.sum() - slack).sum())
    return (1 + reached) / (1 + flips)


def holm(p: Floats) -> Floats:
    """P-values corrected for their number (Holm 1979).

    Whoever rejects those below a level rejects a true hypothesis, one or more, with at most this probability.
    """
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return corrected


def least_seeds(agents: int) -> int:
    """The fewest seeds from which the test can find a difference for one of so many agents.

    If all n differences are positive, a random flip keeps all signs with probability 2^-n. Holm's method multiplies the
    smallest p-value by the number of agents, and the product has to reach LEVEL.
    """
    return int(np.ceil(np.log2(agents / LEVEL)))


def judge(differences: Sequence[Floats]) -> list[Verdict]:
    """A verdict on each agent, from its fresh success minus the bar's on the same seeds [n]."""
    p = np.array([sign_flip(d, np.random.default_rng(0)) for d in differences])
    return [
        Verdict(float(d.mean()), float(d.std(ddof=1) / np.sqrt(len(d))), float(raw), float(c), bool(c < LEVEL))
        for d, raw, c in zip(differences, p, holm(p), strict=True)
    ]


def controlled_for(table: TaskTable) -> str | None:
    """Why no agent can beat chance on a negative control; None for any other task, and for one not at hand here."""
    task = TASKS.at_hand(table.task)
    return None if task is None else task.negative_control


def negative_control_note(table: TaskTable) -> str | None:
    """The sentence above the table of a negative control; None for any other task."""
    about = controlled_for(table)
    ranked = [row for row in table.rows if row.rank is not None]
    if about is None or not ranked:
        return None
    bar = next((_fresh(row) for row in ranked if row.first.agent == BAR), {})
    differences = [_differences(_fresh(row), bar) for row in ranked if row.first.agent != BAR]
    names = [row.first.agent for row in ranked if row.first.agent != BAR]
    fewest = min(map(len, differences), default=0)
    if fewest < least_seeds(max(1, len(names))):
        return f"Negative control, {about}. {fewest} seeds beside {BAR}'s are too few: these ranks mean nothing."
    verdicts = judge(differences)
    above = [name for name, v in zip(names, verdicts, strict=True) if v.above]
    says = f"{', '.join(above)}: a leak, a look at the set, or 1 in 100" if above else "the ranks are chance"
    return (
        f"Negative control, {about}. {len(above)} of {len(names)} rows stand above {BAR} (fresh success over "
        f"{fewest} seeds, one-sided at {LEVEL:.0%}, Holm): {says}."
    )


def _differences(fresh: dict[int, float], bar: dict[int, float]) -> Floats:
    """The differences in fresh success on the seeds that both have run."""
    return np.array([fresh[seed] - bar[seed] for seed in sorted(fresh.keys() & bar.keys())])


def _fresh(row: Row) -> dict[int, float]:
    """Final fresh success by seed."""
    return {run.record.seed: 10 ** run.record.final("fresh") for run in row.runs}
