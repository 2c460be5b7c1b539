"""What a run costs in a sweep: forked from a warm parent, and in a process of its own: `python -m benchmarks.warm`.

The runs are whole ones on AdditionAttack-v0, with the task's budget and the sixteen measurements of the board; both kinds are
made in turns and give the same records. Then, with --finished N, so many small runs are made, and it is timed what a second
`banel bench` and a board of them take. The wall clock and the peak memory are those of the whole command.

    --agents A,B     default base, memorise, count, rnd, banel
    --repeats N      runs of each kind (default 3)
    --finished N     small runs for the second part (default 0: leave it out)
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from banel_leaderboard.records.spec import Spec
from banel_leaderboard.sweeping.sweep import sweep
from banel_leaderboard.sweeping.workers import Workers
from benchmarks.speed.measure import ratios, spread

TASK, SMALL = "banel/AdditionAttack-v0", "banel/Gaussian1D-v0"


def main() -> None:
    """Print both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", default="base,memorise,count,rnd,banel")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--finished", type=int, default=0)
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}; seconds of a run: median and range")
    for agent in filter(None, options.agents.split(",")):
        compare(agent, options.repeats)
    if options.finished:
        finished(options.finished)


def compare(agent: str, repeats: int) -> None:
    """One line: the same runs of an agent from a warm parent and each in a process of its own."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        kinds = {warm: Workers(Path(folder) / str(warm), warm=warm) for warm in seconds}
        with closing(kinds[True]), closing(kinds[False]):
            kinds[True].run(Spec(task=TASK, agent=agent, seed=repeats, budget=20))  # the parent starts once in a sweep
            for seed in range(repeats):
                for warm, workers in kinds.items():
                    start = time.perf_counter()
                    outcome = workers.run(Spec(task=TASK, agent=agent, seed=seed))
                    seconds[warm].append(time.perf_counter() - start)
                    if outcome.status != "done":
                        raise SystemExit(f"{agent}: {outcome.message}")
    faster = spread(ratios(seconds[False], seconds[True]))
    print(
        f"{agent:20} warm {spread(seconds[True]):24} cold {spread(seconds[False]):24} cold / warm {faster}", flush=True
    )


def finished(runs: int) -> None:
    """The second part: a sweep that is complete, and its board."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        lanes = [(Spec(task=SMALL, agent="base", seed=seed, budget=8),) for seed in range(runs)]
        start = time.perf_counter()
        made = sweep(lanes, out, jobs=os.cpu_count() or 1)
        if any(outcome.status != "done" for outcome in made):
            raise SystemExit("a run failed")
        print(f"{runs:,} runs made: {time.perf_counter() - start:.1f} s")
        start = time.perf_counter()
        sweep(lanes, out)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"the same sweep again: {time.perf_counter() - start:.1f} s, {memory:.0f} MB")
        command = [
            sys.executable,
            "-m",
            "banel_leaderboard",
            "board",
            str(out),
            "--out",
            str(Path(folder) / "board.md"),
        ]
        for times in ("first", "second"):
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            taken = time.perf_counter() - start
            memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            print(f"a board of them, the {times} time: {taken:.1f} s, at most {memory:.0f} MB in a process", flush=True)


if __name__ == "__main__":
    main()
