"""The plan of a sweep: which runs are left, what they will cost, and how to spread them over a SLURM array.

The minutes of a run are estimated by the median over the finished runs of the same task and agent, in the folder itself and
among the committed runs. Where there is none, the minutes of a BaNEL run that was measured on the task are taken. The
time to start a process is not counted.
"""

from __future__ import annotations

import heapq
import math
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from banel_envs.errors import BadValue
from banel_leaderboard.records.find_runs import valid_records
from banel_leaderboard.records.run_folder import RECORD, load_record
from banel_leaderboard.records.served import serves_all
from banel_leaderboard.records.spec import Spec, load_agent, load_task
from banel_leaderboard.running.resolve import run_folder
from banel_leaderboard.sweeping.measured_costs import measured
from banel_leaderboard.sweeping.sweep import Lane

COMMITTED = Path(__file__).parents[2] / "submissions"  # exists in a checkout, but not in an installed package
MINUTES_AN_ELEMENT = 60.0  # the aim for one element of an array; a shorter one would wait longer than it runs
MOST_ELEMENTS = 1000  # SLURM's MaxArraySize is 1001 by default
MARGIN = 2.0  # SLURM is asked for so many times the expected time
Pair = tuple[str, str]  # a task and an agent


@dataclass(frozen=True)
class Plan:
    """The runs that are left and their expected minutes."""

    lanes: tuple[Lane, ...]  # all lanes of the sweep, in its order
    left: tuple[Lane, ...]  # the runs of each lane that are left; fewer are needed if one of them serves the others
    minutes: Mapping[Pair, float]  # the minutes of one run; pairs that were never measured are not in it

    def cost(self, lane: Iterable[Spec]) -> float:
        """Expected minutes of these runs; a run whose pair was never measured adds nothing."""
        return sum(self.minutes.get((spec.task, spec.agent), 0.0) for spec in lane)

    def wall(self, jobs: int) -> float:
        """Expected minutes of the sweep with `jobs` runs at once, if each lane goes to the process that is free first."""
        busy_until = [0.0] * jobs
        for lane in self.left:
            heapq.heapreplace(busy_until, busy_until[0] + self.cost(lane))
        return max(busy_until)

    def slowest(self, elements: int) -> float:
        """Expected minutes of the longest shard, if there are so many of them."""
        return max(sum(map(self.cost, self.left[k::elements])) for k in range(elements))

    def elements(self) -> int:
        """How many shards to make, so that each takes about MINUTES_AN_ELEMENT.

        Up to a quarter more shards than necessary are considered. The number whose longest shard is the shortest is
        taken, because some numbers divide the lanes more evenly than others.
        """
        most = min(len(self.lanes), MOST_ELEMENTS)
        wanted = math.ceil(sum(map(self.cost, self.left)) / MINUTES_AN_ELEMENT)
        if not wanted:  # nothing was measured, so every lane gets a shard of its own
            return most
        return min(range(min(wanted, most), min(wanted + wanted // 4 + 1, most) + 1), key=self.slowest)


def make_plan(lanes: Sequence[Lane], out: Path) -> Plan:
    """Find out which runs of the lanes are left in `out`. Nothing is run, and no ledger is locked."""
    pairs = {(spec.task, spec.agent) for lane in lanes for spec in lane}
    found = _medians([out, COMMITTED])
    minutes: dict[Pair, float] = {}
    for task, agent in pairs:
        loaded = load_task(task)
        known = measured(loaded)
        if known is not None and known["minutes"] is not None:
            minutes[task, agent] = float(known["minutes"])
        key = loaded.problem.id, load_agent(agent).name
        if key in found:
            minutes[task, agent] = found[key]
    return Plan(tuple(lanes), tuple(_left(lane, out) for lane in lanes), minutes)


def describe_plan(plan: Plan, jobs: int, bench: Sequence[str]) -> str:
    """The plan as text: runs and core-hours by task and agent, the time with `jobs` runs at once, and a SLURM command.

    `bench` is the command whose shards the elements of the SLURM array run.
    """
    every, left = (Counter((s.task, s.agent) for lane in lanes for s in lane) for lanes in (plan.lanes, plan.left))
    lines = [f"{'task':<32}{'agent':<22}{'runs':>6}{'left':>6}{'minutes a run':>15}{'core-hours':>12}"]
    for (task, agent), runs in every.items():
        each = plan.minutes.get((task, agent))
        cost = "not measured" if each is None else f"{each:.2f}"
        hours = "" if each is None else f"{left[task, agent] * each / 60:.2f}"
        lines.append(f"{task:<32}{agent:<22}{runs:>6}{left[task, agent]:>6}{cost:>15}{hours:>12}")
    unknown = sum(runs for pair, runs in left.items() if pair not in plan.minutes)
    total = sum(map(plan.cost, plan.left))
    standing = f"{left.total()} of {every.total()} runs are left"
    lines.append(
        f"\n{standing}, {'at least' if unknown else 'at most'}: {total / 60:.2f} core-hours, and some seconds a run to start it"
    )
    if unknown:
        lines.append(f"not counted: {unknown} runs whose task and agent have no measurement")
    if not left:
        return "\n".join(lines)
    lines.append(f"with --jobs {jobs}: {plan.wall(jobs) / 60:.2f} hours")
    n = plan.elements()
    minutes = 24 * 60 if unknown else math.ceil(MARGIN * plan.slowest(n)) + 5
    command = f"{shlex.join(bench)} --jobs 1 --shard $SLURM_ARRAY_TASK_ID/{n}"
    sbatch = f"sbatch --array=0-{n - 1} --cpus-per-task=1 --mem=2G --time={minutes} --wrap={_quoted(command)}"
    lines.append(f"on SLURM, on a folder that all nodes share:\n{sbatch}")
    return "\n".join(lines)


def shard_of(lanes: Sequence[Lane], shard: str) -> list[Lane]:
    """The lanes i, i + n, i + 2n, ... of a shard "i/n"; BadValue if that is not how the shard is written."""
    i, _, n = shard.partition("/")
    if not (i.isdecimal() and n.isdecimal() and int(i) < int(n)):
        raise BadValue(f"--shard is {shard!r}; write i/n with i from 0 to n - 1, such as 0/4 to 3/4")
    return list(lanes[int(i) :: int(n)])


def _left(lane: Lane, out: Path) -> Lane:
    left = []
    for spec in lane:
        path = run_folder(spec, out, load_task(spec.task), load_agent(spec.agent, spec.settings)) / RECORD
        if not path.exists():
            left.append(spec)
        elif serves_all(load_record(path.parent)):
            break
    return tuple(left)


def _medians(folders: Iterable[Path]) -> dict[Pair, float]:
    """The median minutes of a run by task and agent, over the records with the task's own budget and default settings."""
    minutes: dict[Pair, list[float]] = {}
    for record in (record for folder in folders if folder.is_dir() for record in valid_records(folder)):
        if not (record.tuned or record.off_board):
            spent = record.execution.wall_s + record.execution.evaluation_s
            minutes.setdefault((record.task, record.agent), []).append(spent / 60)
    return {pair: median(times) for pair, times in minutes.items()}


def _quoted(command: str) -> str:
    """The command in single quotes, so that the shell of each element, and not this one, puts in SLURM's variable."""
    return "'" + command.replace("'", "'\"'\"'") + "'"
