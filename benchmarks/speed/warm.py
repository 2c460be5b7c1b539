"""How fast runs begin, and how fast finished ones are found: `python -m benchmarks.speed.warm`, exit 1 if a bar is missed.

Each run is made in turns by a process that is started for it (cold) and by one that is forked from a parent which has
imported everything (warm). The cold path is that of today. It was slower before there were warm runs, when every process
also imported torch._dynamo; docs/speed.md has both.

With --finished N it also makes N runs of a tiny task, and then times the same command on the finished folder, which must
start nothing, and the board of these runs, each with the peak memory of its process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from banel_envs import Problem, Task
from banel_envs.policies import Uniform
from banel_envs.problem import Tokens
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.sweeping.workers import ONE_THREAD, Workers

TASK = "banel/AdditionAttack-v0"
TINY = "benchmarks.speed.warm:tiny"
SUCCESSES = np.array([[3, 3, 3], [3, 3, 2]])  # of 64 sequences
BARS = {"base": 20.0, "memorise": 20.0}  # times as fast as a cold process
MOST_SECONDS, MOST_MB = 10.0, 500.0  # for finding or showing 5,000 finished runs
IMPORTS = (
    "banel_envs",
    "banel_agents.controls.sampling",
    "banel_leaderboard.command.cli",
    "banel_leaderboard.sweeping.sweep",
    "banel_leaderboard.running.harness",
    "torch",
    "torch._dynamo",
)


def tiny() -> Task:
    """Success: one of two sequences among 64; the base policy is uniform."""

    def reward(tokens: Tokens) -> NDArray[np.bool_]:
        hits: NDArray[np.bool_] = (tokens[:, None] == SUCCESSES).all(axis=2).any(axis=1)
        return hits

    problem = Problem("bench/Warm-v0", tuple("abcd"), 3, 15, base=lambda: Uniform(4, 3, None))
    return Task(problem, reward, lambda: SUCCESSES, lambda: SUCCESSES[0], digest="w" * 64, family="tiny")


def import_seconds(module: str) -> float:
    """Wall seconds to start Python and import a module, the median of three processes."""
    return median(command([sys.executable, "-c", f"import {module}"])[0] for _ in range(3))


def command(arguments: list[str]) -> tuple[float, float, str]:
    """Seconds and peak memory in MB of a process, and what it wrote to stdout; RuntimeError if it failed."""
    with tempfile.TemporaryFile("w+") as said:
        start = time.perf_counter()
        process = subprocess.Popen(arguments, stdout=said, stderr=subprocess.STDOUT, cwd=Path(__file__).parents[1])
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: exit status {process.returncode}: {text[-2_000:]}")
    return seconds, used.ru_maxrss / 1024, text


@contextmanager
def workers(out: Path, *, warm: bool) -> Iterator[Workers]:
    """Workers that have made their first run already, so that a warm one's parent stands."""
    with closing(Workers(out, warm=warm)) as made:
        if warm:
            timed(made, "base", 1_000_000)
        yield made


def timed(made: Workers, agent: str, seed: int) -> float:
    """Seconds of one run."""
    start = time.perf_counter()
    outcome = made.run(Spec(task=TASK, agent=agent, seed=seed))
    seconds = time.perf_counter() - start
    if outcome.status != "done":
        raise RuntimeError(f"{agent}: {outcome.message}")
    return seconds


def starts(agents: list[str], rounds: int) -> bool:
    """Print cold and warm seconds of each agent; whether the bars are met."""
    met = True
    print(f"one run on {TASK}, {rounds} rounds in turns: median (range)")
    with (
        tempfile.TemporaryDirectory() as folder,
        workers(Path(folder, "cold"), warm=False) as cold,
        workers(Path(folder, "warm"), warm=True) as warm,
    ):
        for agent in agents:
            timed(warm, agent, 1_000_001)  # the parent imports the agent
            pairs = [(timed(cold, agent, seed), timed(warm, agent, seed)) for seed in range(rounds)]
            before, after = ([pair[k] for pair in pairs] for k in (0, 1))
            ratios = sorted(a / b for a, b in pairs)
            bar = BARS.get(agent)
            says = "" if bar is None else f"  bar >= {bar:g} times: {'met' if median(ratios) >= bar else 'missed'}"
            met &= bar is None or median(ratios) >= bar
            print(f"  {agent:<22} cold {_spread(before)} s  warm {_spread(after)} s  ratio {_spread(ratios)}{says}")
    return met


def _spread(values: list[float]) -> str:
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def finished(runs: int, jobs: int) -> bool:
    """Make runs of the tiny task, and time what is done with the finished folder; whether the bars are met."""
    banel = [sys.executable, "-m", "banel_leaderboard"]
    met = True
    with tempfile.TemporaryDirectory() as folder:
        make = [*banel, "run", "--task", TINY, "--agent", "base", "--seeds", f"0-{runs - 1}", "--jobs", str(jobs)]
        make += ["--feedback", "full", "--out", folder]
        seconds, peak, said = command(make)
        print(
            f"{runs:,} runs made, {jobs} at once: {seconds:.1f} s, {1_000 * seconds * jobs / runs:.0f} ms of a core each"
        )
        board = [*banel, "board", folder, "--task", TINY, "--out", str(Path(folder).with_suffix(".html"))]
        for name, arguments in (("the same command again", make), ("the board", board)):
            seconds, peak, said = command(arguments)
            if arguments is make and f"{runs} kept" not in said:
                raise RuntimeError(f"the finished runs were not kept: {said[-300:]}")
            good = seconds < MOST_SECONDS and peak < MOST_MB
            met &= good
            bar = f"bar {MOST_SECONDS:g} s and {MOST_MB:g} MB: {'met' if good else 'missed'}"
            print(f"  {name:<22} {seconds:.2f} s, peak {peak:.0f} MB  {bar}")
        Path(folder).with_suffix(".html").unlink()
    return met


def main() -> int:
    """Parse, measure and print; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", nargs="*", default=["base", "memorise", "count"], help="agents that are started")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each agent, cold and warm (default 5)")
    parser.add_argument("--finished", type=int, default=0, help="finished runs to find and to show (default none)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at once while these are made")
    options = parser.parse_args()
    os.environ |= ONE_THREAD
    print("to start Python and import, in a new process:")
    for module in IMPORTS:
        print(f"  {module:<36} {import_seconds(module):.2f} s")
    met = starts(options.agents, options.rounds) if options.agents else True
    if options.finished:
        met &= finished(options.finished, options.jobs)
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
