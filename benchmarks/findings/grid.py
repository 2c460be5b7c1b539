"""Grids of runs: variants of agents x tasks x seeds, each beside its oracle-free twin, from failures only; and their table.

The commands that import this say which variants. Common to all of them:

    --tasks ID ...   default six exact tasks on which a run takes seconds
    --seeds 0-9
    --only NAME ...  some of the variants
    --out FILE       keeps every run as a line of JSON; run again, it makes what is missing
    --jobs N         runs at once (default 1)
    --plan           make one run of each task, say how long the rest will take, and stop
    --plot FILE.svg  also draw the final success rate of every run

A run that met no success was told what its twin is told and asked the same, so it is its own twin and is not made twice.
For each task and variant the table has the medians over the seeds of the log10 success rate at the end, of its gain over
the twin of the same seed in decades, of the best rate on the way, of the rate of an even mixture of the policies on the way,
of the number of distinct successes asked, of the effective number at the end and of CPU seconds; in brackets the 95%
bootstrap interval of the first two. Rates are floored at 10^-12.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from banel_envs import TASKS, success_rate
from banel_leaderboard.command.settings import parse_seeds
from banel_leaderboard.ranking.across import FLOOR
from banel_leaderboard.statistics.medians import Floats, median, median_interval
from benchmarks import agents
from benchmarks.findings.kept import Kept, Line, begin, each, key_of, one_thread
from benchmarks.findings.plot import Dots, dot_plot

SIX = tuple(
    f"banel/{name}-v0"
    for name in ("AdditionAttack", "AdditionAttackHard", "AdditionCarry", "Countdown", "Ehrlich", "ListProgram")
)
SEED = 0  # of the resamples
HEAD = (
    f"{'task':<22}{'variant':<26}{'seeds':>6}{'met':>5}  {'final':<23}{'gain over twin':<23}{'best':>7}{'mixture':>9}"
    f"{'distinct':>9}{'eff.':>7}{'CPU s':>7}"
)


@dataclass(frozen=True)
class Variant:
    """An agent with some settings."""

    agent: str
    settings: Mapping[str, Any]


def key(variant: Variant, task: str, seed: int, *, twin: bool) -> Line:
    """The run of a variant."""
    return key_of(variant.agent, dict(variant.settings), task, seed, feedback="failures", twin=twin)


def run(
    variants: Sequence[Variant], tasks: Sequence[str], seeds: Sequence[int], kept: Kept, jobs: int, plan: bool
) -> bool:
    """Make the missing runs, and those of their twins that differ; False if they are only planned."""
    own = [key(variant, task, seed, twin=False) for task in tasks for variant in variants for seed in seeds]
    print("without the twins, which take at most as long again: ", end="", flush=True)
    if not begin(own, agents.measure, kept, jobs, plan=plan):
        return False
    for _ in each(own, agents.measure, kept, jobs):
        pass
    twins = [k | {"twin": True} for k in own if kept[k]["first"] is not None]
    print("the twins: ", end="", flush=True)
    begin(twins, agents.measure, kept, jobs, plan=False)
    for _ in each(twins, agents.measure, kept, jobs):
        pass
    return True


def found(kept: Kept, variant: Variant, task: str, seeds: Sequence[int], *, twin: bool) -> list[Line]:
    """What the runs of a variant reached, or its twins: by seed."""
    runs = []
    for seed in seeds:
        own = key(variant, task, seed, twin=False)
        runs.append(kept[own | {"twin": True}] if twin and kept[own]["first"] is not None else kept[own])
    return runs


def logs(runs: Sequence[Line], name: str) -> Floats:
    """Log10 rates [n], floored."""
    return np.array([max(FLOOR, FLOOR if run[name] is None else run[name]) for run in runs], np.float64)


def row(task: str, name: str, runs: Sequence[Line], twins: Sequence[Line]) -> str:
    """A variant on a task."""
    final, gain = logs(runs, "final"), logs(runs, "final") - logs(twins, "final")
    met = sum(run["first"] is not None for run in runs)
    rates = f"{float(median(logs(runs, 'best'))):>7.2f}{float(median(logs(runs, 'mixture'))):>9.2f}"
    distinct, effective, cpu = (
        float(median(np.array([run[what] or 0 for run in runs], np.float64)))
        for what in ("distinct", "effective", "cpu")
    )
    return (
        f"{task.removeprefix('banel/'):<22}{name:<26}{len(runs):>6}{met:>5}  {between(final):<23}{between(gain, '+'):<23}"
        f"{rates}{distinct:>9.0f}{effective:>7.0f}{cpu:>7.1f}"
    )


def between(values: Floats, sign: str = "") -> str:
    """The median and its interval."""
    return (
        f"{float(median(values)):{sign}.2f} [{', '.join(f'{end:{sign}.2f}' for end in median_interval(values, SEED))}]"
    )


def main(prog: str, about: str | None, variants: Mapping[str, Variant], title: str) -> None:
    """The command of a grid."""
    parser = argparse.ArgumentParser(
        prog=prog, description=about, epilog=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", default=list(SIX), choices=list(TASKS), metavar="ID")
    parser.add_argument("--seeds", default="0-9")
    parser.add_argument("--only", nargs="+", choices=list(variants), default=list(variants), metavar="NAME")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    one_thread()
    chosen, seeds, kept = {name: variants[name] for name in options.only}, parse_seeds(options.seeds), Kept(options.out)
    if not run(list(chosen.values()), options.tasks, seeds, kept, options.jobs, options.plan):
        return
    print(HEAD)
    panels: dict[str, dict[str, Dots]] = {}
    for task in options.tasks:
        for name, variant in chosen.items():
            runs, twins = (found(kept, variant, task, seeds, twin=twin) for twin in (False, True))
            print(row(task, name, runs, twins))
            panels.setdefault(task, {})[name] = Dots(logs(runs, "final"), logs(twins, "final"))
    if options.plot:
        bases = {task: base(task) for task in options.tasks}
        options.plot.write_bytes(dot_plot(panels, bases, title))


def base(task: str) -> float:
    """The log10 success rate of the base policy, floored."""
    log10 = success_rate(TASKS[task], TASKS[task].problem.base_policy()).log10
    return FLOOR if log10 is None else max(log10, FLOOR)
