"""Which runs end surely above the base policy: `python -m benchmarks.language.above_base FOLDER`, a submission or runs.

Both rates are intervals where successes cannot be listed. A run ends above the base policy if its interval lies above the
base policy's (from 60,000 samples, `benchmarks.tasks`), and below it likewise. A run that met no success is its own twin. For
each task and agent: the interval of the median run, how many runs end above and below, and in how many pairs of a run and its
twin the run's interval lies apart from the twin's, or its lower end is the higher one.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from pathlib import Path

from banel_envs import TASKS
from banel_leaderboard.ranking.rows import Span
from banel_leaderboard.records.find_runs import finished_runs
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.served import serves_all
from banel_leaderboard.sweeping.measured_costs import measured
from benchmarks.tasks.table import middle, number, span


def main() -> None:
    """Read, count, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.language.above_base", description=__doc__)
    parser.add_argument("folder", type=Path, help="a submission, or the folder of a sweep")
    print("\n".join(lines(parser.parse_args().folder)))


def lines(folder: Path) -> list[str]:
    """A line for each task and agent, and the sums."""
    rows = collected(folder)
    said = [
        f"{'task':<26}{'agent':<22}{'median run':<18}{'runs':>5}{'above':>7}{'below':>7}{'pairs':>7}{'apart':>7}{'higher':>8}"
    ]
    sums: dict[str, list[int]] = defaultdict(lambda: [0] * 6)
    for (task, agent), runs in sorted(rows.items()):
        base = base_of(task)
        twins = rows.get((task, f"{agent}'s twin"), {})
        both = [(runs[seed], twins[seed]) for seed in runs if seed in twins and runs[seed] != twins[seed]]
        counts = [
            len(runs),
            sum(low > base[1] for low, _ in runs.values()),
            sum(high < base[0] for _, high in runs.values()),
            len(both),
            sum(mine[0] > other[1] or mine[1] < other[0] for mine, other in both),
            sum(mine[0] > other[0] for mine, other in both),
        ]
        sums[agent] = [a + b for a, b in zip(sums[agent], counts, strict=True)]
        said.append(_line(task, agent, _said(middle(list(runs.values()))), counts))
    return said + [_line("all", agent, "", counts) for agent, counts in sorted(sums.items())]


def collected(folder: Path) -> dict[tuple[str, str], dict[int, Span]]:
    """The interval of each run's final rate, by task and agent, then seed; under `failures` alone."""
    found: dict[tuple[str, str], dict[int, Span]] = defaultdict(dict)
    with finished_runs(folder) as places:
        records = [RunRecord.load(place.folder / "record.json", below=place.below) for place in places.runs]
    has_twin = {record.agent for record in records if record.twin}
    for record in records:
        if record.feedback != "failures":
            continue
        agent = f"{record.agent}'s twin" if record.twin else record.agent
        found[record.task, agent][record.seed] = span(record)
        if record.agent in has_twin and not record.twin and serves_all(record):
            found[record.task, f"{record.agent}'s twin"][record.seed] = span(record)
    return found


def base_of(task: str) -> Span:
    """The interval of the base policy, as `benchmarks.tasks` measured it."""
    known = measured(TASKS[task])
    if known is None:
        raise SystemExit(
            f"the base policy of {task} was not measured: python -m benchmarks.tasks --base-only --task {task} --write"
        )
    low, high = (known["base"][end] for end in ("low", "high"))
    return -math.inf if low is None else float(low), float(high)


def _said(ends: Span) -> str:
    return f"{number(ends[0])} to {number(ends[1])}"


def _line(task: str, agent: str, middle: str, counts: list[int]) -> str:
    n, above, below, pairs, apart, higher = counts
    pairs_said = f"{pairs:>7}{apart:>7}{higher:>8}" if pairs else ""
    return f"{task:<26}{agent:<22}{middle:<18}{n:>5}{above:>7}{below:>7}{pairs_said}".rstrip()


if __name__ == "__main__":
    main()
