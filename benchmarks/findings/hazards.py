"""How soon the first success, observed and by exact hazards: `python -m benchmarks.findings.hazards --agents base count banel`.

Each (agent, task, seed) is a blind path: the agent is told that everything failed, as it would be up to its first success
whatever it were told, and the path ends there (`benchmarks.findings.paths`). For each agent and task it prints

- the median NRE to the first success, observed (Kaplan and Meier) and by hazards: survival is the product over the evaluations
  of 1 - (mean hazard of the paths that have met no success yet) (`banel_leaderboard.statistics.survival`);
- the probability that a path meets no success for the budget, both ways. By hazards it is known up to the last evaluation at
  which a path is still without a success; if that is before the budget, it stands behind "at";
- of the paths that met one: the median log10 success rate of the policy that found it, and its gain over the base policy.

In brackets the 95% bootstrap interval over the paths. Agents that do not say which policy they ask from have no hazards ("-").
Where most paths meet a success early, little is known of later: "> 500" says that all had left after 500 evaluations. Paths
are short there, so more seeds cost little.

    --tasks ID ...   default the four tuning tasks
    --seeds 100-109  one path a seed; the default seeds are for tuning, and the board uses none of them
    --set NAME=VALUE settings of every agent named
    --out FILE       keeps every path as a line of JSON; run again, it makes what is missing
    --jobs N         paths at once (default 1)
    --plan           make one path of each task, say how long the rest will take, and stop
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from banel_agents import AGENTS
from banel_envs import TASKS
from banel_leaderboard.command.settings import parse_seeds, read_settings
from banel_leaderboard.statistics.medians import Floats, median, median_interval
from banel_leaderboard.statistics.survival import (
    at_risk,
    by_hazards,
    hazard_intervals,
    kaplan_meier,
    median_time_interval,
)
from benchmarks.agents import TUNING
from benchmarks.findings.kept import Kept, Line, begin, each, key_of, one_thread
from benchmarks.findings.paths import measure

Interval = tuple[float, float]
SEED = 0  # of the resamples
LEAST_KNOWN = 0.99  # of the budget: without replacement a path without a success lacks the few rows that succeeded
HEAD = (
    f"{'agent':<20}{'task':<24}{'paths':>6}{'met':>5}  {'NRE to first success':<29}{'by hazards':<29}{'no success':>10}  "
    f"{'by hazards':<38}{'rate at first success':<23}{'gain':>6}"
)


def matrices(paths: Sequence[Line]) -> tuple[Floats, Floats]:
    """The hazards of paths that have them and how far each is at risk, by evaluation: two of [paths, most evaluations]."""
    each_row = [np.repeat(np.array(path["hazards"], np.float64), path["rows"]) for path in paths]
    length = max(map(len, each_row))
    hazards, risk = np.zeros((len(paths), length)), np.zeros((len(paths), length))
    for k, (path, found) in enumerate(zip(paths, each_row, strict=True)):
        hazards[k, : len(found)] = found
        sizes = [len(found)] if path["fixed"] else path["rows"]
        risk[k, : len(found)] = at_risk(np.array(sizes), found, None if path["fixed"] else path["first"])
    return hazards, risk


def line(agent: str, task: str, paths: Sequence[Line]) -> str:
    """What the paths of an agent on a task say."""
    met = np.array([path["first"] is not None for path in paths])
    times = np.array([path["first"] or path["nre"] for path in paths], np.float64)
    observed, end = kaplan_meier(times, met), int(times.max())
    soon, share = nre(float(observed.median()), median_time_interval(times, met, SEED), end), observed.alive[-1]
    hazards = by_hazards_cells(task, paths) if all(path["hazards"] is not None for path in paths) else ("-", "-")
    rates = np.array([-math.inf if p["at_first"] is None else p["at_first"] for p in paths if p["first"] is not None])
    rate, gain = "-", "-"
    if len(rates):
        middle, base = float(median(rates)), paths[0]["base"]
        rate = between(middle, median_interval(rates, SEED), ".2f")
        gain = "-" if base is None else f"{middle - base:+.2f}"
    head = f"{agent:<20}{task.removeprefix('banel/'):<24}{len(paths):>6}{met.sum():>5}"
    return f"{head}  {soon:<29}{hazards[0]:<29}{share:>10.3f}  {hazards[1]:<38}{rate:<23}{gain:>6}"


def by_hazards_cells(task: str, paths: Sequence[Line]) -> tuple[str, str]:
    """The median NRE and the share without a success, by hazards."""
    hazards, risk = matrices(paths)
    curve, end = by_hazards(hazards, risk), int(np.flatnonzero(risk.any(axis=0))[-1]) + 1
    times_between, shares_between = hazard_intervals(hazards, risk, SEED)
    known = "" if end >= LEAST_KNOWN * TASKS[task].problem.budget else f" at {end:,}"
    share = between(float(curve.alive[-1]), shares_between, ".2g") + known
    return nre(float(curve.median()), times_between, end), share


def nre(middle: float, ends: Interval, last: int) -> str:
    """A median NRE and its interval; where nothing is known beyond `last`, "> last"."""
    low, mid, high = (f"> {last:,}" if math.isinf(value) else f"{value:,.0f}" for value in (ends[0], middle, ends[1]))
    return f"{mid} [{low}, {high}]"


def between(middle: float, ends: Interval, form: str) -> str:
    """A number and its interval."""
    return f"{middle:{form}} [{ends[0]:{form}}, {ends[1]:{form}}]"


def main() -> None:
    """Make the missing paths, then print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.findings.hazards",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--agents", nargs="+", required=True, choices=list(AGENTS), metavar="NAME")
    parser.add_argument("--tasks", nargs="+", default=list(TUNING), choices=list(TASKS), metavar="ID")
    parser.add_argument("--seeds", default="100-109")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--plan", action="store_true")
    options = parser.parse_args()
    one_thread()
    settings = read_settings(None, options.set)
    cells = {
        (agent, task): [key_of(agent, settings, task, seed, path="blind") for seed in parse_seeds(options.seeds)]
        for agent in options.agents
        for task in options.tasks
    }
    keys, kept = [key for several in cells.values() for key in several], Kept(options.out)
    if not begin(keys, measure, kept, options.jobs, plan=options.plan):
        return
    for _ in each(keys, measure, kept, options.jobs):
        pass
    print(HEAD)
    for (agent, task), several in cells.items():
        print(line(agent, task, [kept[key] for key in several]))


if __name__ == "__main__":
    main()
