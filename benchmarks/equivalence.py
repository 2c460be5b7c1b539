"""Whether the compiled kernel changes what an agent reaches: `python -m benchmarks.equivalence --out DIR`.

Every agent runs on every task with the same seeds twice: once with the compiled kernel, which samples, scores and trains,
and once with PyTorch's operations in its place (`BANEL_KERNEL=torch`). The bits differ, so after the first fit the two runs
of a seed ask other questions. What must not differ is what they reach. For each agent and task this prints the medians over
the seeds of log10 final success and of log10 NRE to the first success, and the 90% interval of the difference between the
two medians (bootstrap of the pairs). The verdict is "equal" if the interval lies within 0.3 decades for success and 0.15 for
NRE, "different" if it lies outside, and "undecided" if it does neither or there are fewer than ten pairs. Rates are
floored at 1e-12; a run that met no success counts with its whole budget.

    --out DIR       the runs, in DIR/compiled and DIR/torch; runs that are there are not made again
    --agents A,B    default banel,count (successes withheld) and tempered_sft (every reward told, since it learns from successes)
    --tasks A,B     default both addition attacks and Ehrlich-v0
    --seeds N       default 20
    --jobs N        runs at once (default 1)
    --table         print the table of the runs that are there, and make none
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.running.resolve import finished_record
from banel_leaderboard.sweeping.sweep import sweep

AGENTS = ("banel", "count", "tempered_sft")
TASKS = ("banel/AdditionAttack-v0", "banel/AdditionAttackHard-v0", "banel/Ehrlich-v0")
KERNELS = ("compiled", "torch")
SUCCESS, NRE = 0.3, 0.15  # decades: differences between medians that count as equal
FLOOR = -12.0
LEAST = 10  # pairs; the interval of fewer means little
RESAMPLES = 10_000

Floats = NDArray[np.float64]


def main() -> int:
    """Make what is missing, then print the table; the status is 1 if a run failed or a difference is outside its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--agents", default=",".join(AGENTS))
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--kernel", choices=KERNELS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    lanes = [
        (Spec(task=task, agent=agent, seed=seed, feedback="full" if agent == "tempered_sft" else "failures"),)
        for seed in range(options.seeds)
        for task in options.tasks.split(",")
        for agent in options.agents.split(",")
    ]
    if options.kernel:
        ended = sweep(lanes, options.out / options.kernel, jobs=options.jobs)
        return int(any(outcome.status == "failed" for outcome in ended))
    failed = 0
    for kernel in () if options.table else KERNELS:
        command = [sys.executable, "-m", "benchmarks.equivalence", *sys.argv[1:], "--kernel", kernel]
        failed |= subprocess.run(command, env=os.environ | {"BANEL_KERNEL": kernel}).returncode
    return int(failed or table([lane[0] for lane in lanes], options.out))


def table(specs: list[Spec], out: Path) -> bool:
    """Print a line for each agent and task; whether a difference is outside its limit."""
    different = False
    print(f"{'agent':13} {'task':28} {'pairs':>5}  {'':5} {'compiled':>9} {'torch':>9}  difference of medians")
    for task, agent in dict.fromkeys((spec.task, spec.agent) for spec in specs):
        pairs = [
            pair
            for spec in specs
            if (spec.task, spec.agent) == (task, agent) and len(pair := pair_of(spec, out)) == len(KERNELS)
        ]
        for name, limit, of in (("final", SUCCESS, final), ("NRE", NRE, first)):
            if not pairs:
                continue
            values = np.array([[of(record) for record in pair] for pair in pairs])  # [seeds, 2]
            low, high = interval(values)
            verdict = "equal" if -limit <= low and high <= limit and len(pairs) >= LEAST else "undecided"
            if (low > limit or high < -limit) and len(pairs) >= LEAST:
                verdict, different = "different", True
            here, there = np.median(values, axis=0)
            print(
                f"{agent:13} {task.removeprefix('banel/'):28} {len(pairs):5}  {name:5} {here:9.3f} {there:9.3f}  "
                f"{here - there:+.3f} [{low:+.3f}, {high:+.3f}], limit {limit}: {verdict}",
                flush=True,
            )
    return different


def pair_of(spec: Spec, out: Path) -> list[RunRecord]:
    """The records of one seed that are finished, the kernel's first."""
    found = (finished_record(spec, out / kernel) for kernel in KERNELS)
    return [record for record in found if record is not None]


def final(record: RunRecord) -> float:
    """The log10 success rate of the last policy."""
    return max(record.points[-1].success.at(), FLOOR)


def first(record: RunRecord) -> float:
    """The log10 NRE at the first success."""
    return math.log10(record.first_success or record.budget)


def interval(values: Floats) -> tuple[float, float]:
    """The 90% bootstrap interval of the difference between the medians of pairs [n, 2]."""
    rng = np.random.default_rng(0)
    drawn = values[rng.integers(len(values), size=(RESAMPLES, len(values)))]  # [resamples, n, 2]
    medians = np.median(drawn, axis=1)
    low, high = np.quantile(medians[:, 0] - medians[:, 1], (0.05, 0.95))
    return float(low), float(high)


if __name__ == "__main__":
    sys.exit(main())
