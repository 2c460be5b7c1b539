"""control: what is said of a negative control, a task on which no method can beat `without_replacement` in the mean.

The test is one-sided over the seeds that both have run: signs of the paired differences in final fresh success flipped at
random, p-values corrected for the number of rows by Holm's method, level 1%. Given the answers, fresh success on such a task is
a weighted sum of independent rare successes, so a difference has its long tail above and none below; flipped signs
then err on the safe side, and a lucky hit of a policy that collapsed does not count as skill.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banel_envs import TASKS
from banel_leaderboard.board.ranking import Row, TaskTable

BAR = "without_replacement"
LEVEL = 0.01
FLIPS = 99_999
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """One agent against the bar."""

    difference: float  # mean over seeds of fresh success less the bar's
    error: float  # its standard error
    p: float  # one-sided
    corrected: float  # for the number of agents
    above: bool  # whether it is below LEVEL


def sign_flip(differences: Floats, rng: np.random.Generator, flips: int = FLIPS) -> float:
    """One-sided p-value of the mean of paired differences [n] being above 0, from signs flipped at random."""
    signs = rng.choice((-1.0, 1.0), (flips, len(differences)))
    slack = 1e-9 * np.abs(differences).sum()  # the same sum in another order is the same
    reached = int((signs @ differences >= differences.sum() - slack).sum())
    return (1 + reached) / (1 + flips)


def holm(p: Floats) -> Floats:
    """P-values corrected for their number (Holm 1979): rejecting those below a level errs once, at most that often."""
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return corrected


def least_seeds(agents: int) -> int:
    """Seeds below which not even all signs alike are significant."""
    return int(np.ceil(np.log2(agents / LEVEL)))


def judge(differences: Sequence[Floats]) -> list[Verdict]:
    """Each agent by its fresh success less the bar's on the same seeds [n]."""
    p = np.array([sign_flip(d, np.random.default_rng(0)) for d in differences])
    return [
        Verdict(float(d.mean()), float(d.std(ddof=1) / np.sqrt(len(d))), float(raw), float(c), bool(c < LEVEL))
        for d, raw, c in zip(differences, p, holm(p), strict=True)
    ]


def controls_for(table: TaskTable) -> str | None:
    """What a negative control controls for; None for any other task, and for one that is not registered here."""
    return TASKS[table.task].control if table.task in TASKS else None


def control_note(table: TaskTable) -> str | None:
    """What the board says above the ranks of a negative control; None for any other task."""
    about = controls_for(table)
    ranked = [row for row in table.rows if row.rank is not None]
    if about is None or not ranked:
        return None
    bar = next((_fresh(row) for row in ranked if row.first.agent == BAR), {})
    differences = [_differences(_fresh(row), bar) for row in ranked if row.first.agent != BAR]
    names = [row.first.agent for row in ranked if row.first.agent != BAR]
    fewest = min(map(len, differences), default=0)
    if fewest < least_seeds(max(1, len(names))):
        return f"Negative control, {about}. {fewest} seeds beside {BAR}'s are too few: read nothing into these ranks."
    verdicts = judge(differences)
    above = [name for name, v in zip(names, verdicts, strict=True) if v.above]
    says = f"{', '.join(above)}: a leak, a look at the set, or 1 in 100" if above else "the ranks are chance"
    return (
        f"Negative control, {about}. {len(above)} of {len(names)} rows stand above {BAR} (fresh success over "
        f"{fewest} seeds, one-sided at {LEVEL:.0%}, Holm): {says}."
    )


def _differences(fresh: dict[int, float], bar: dict[int, float]) -> Floats:
    """Of the seeds that both have."""
    return np.array([fresh[seed] - bar[seed] for seed in sorted(fresh.keys() & bar.keys())])


def _fresh(row: Row) -> dict[int, float]:
    """Final fresh success by seed."""
    return {run.record.seed: 10 ** run.record.final("fresh") for run in row.runs}
