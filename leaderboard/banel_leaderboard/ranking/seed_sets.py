"""Which seeds a row must have, and which of its runs are copies of one another.

A row must have a whole seed set, so that nobody can leave out the unlucky seeds.
"""

from __future__ import annotations

from collections.abc import Sequence

from banel_envs import TASKS
from banel_leaderboard.proving.load import Run
from banel_leaderboard.sweeping.suites import SUITES


def incomplete(task: str, seeds: Sequence[int]) -> str | None:
    """What is wrong with a row's seeds; None if nothing is.

    They must be the seeds of a suite that holds the task. For a task in no suite they must be 0, 1, ..., n - 1.
    """
    # Several suites can hold a task with different numbers of seeds; each of their sets is complete.
    parts = [part for suite in SUITES.values() for part in suite.parts]
    sets = sorted({part.seeds for part in parts if task in part.tasks}, key=len)
    ordered = tuple(sorted(seeds))
    if ordered in (sets or [tuple(range(len(ordered)))]):
        return None
    wanted = (
        f"a complete set is {' or '.join(map(seeds_text, sets))}" if sets else "they must be 0, 1, ... without a gap"
    )
    return f"its seeds are {seeds_text(ordered)}; {wanted}"


def seeds_text(seeds: Sequence[int]) -> str:
    """Seeds as a person writes them: 0-4, or 0, 3, 7."""
    if len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}-{seeds[-1]}"
    return ", ".join(map(str, seeds))


def without_copies(runs: Sequence[Run]) -> tuple[list[Run], dict[int, int]]:
    """The runs that asked different questions; and for each seed that is left out, the seed whose questions it repeats.

    An agent that uses no randomness asks the same questions under every seed, and so does a run that was copied to another
    seed. In both cases these runs count as one. But where the task draws its success set anew for each seed, the same
    questions make another experiment, and no run is left out.
    """
    first: dict[str, Run] = {}
    copies: dict[int, int] = {}
    for run in runs:
        task = TASKS.at_hand(run.record.task)
        if task is not None and task.seeded is not None:
            first[f"{run.asked.digest} {run.record.seed}"] = run
            continue
        earlier = first.setdefault(run.asked.digest, run)
        if earlier is not run:
            copies[run.record.seed] = earlier.record.seed
    return list(first.values()), copies
