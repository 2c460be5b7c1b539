"""How long runs take in two checkouts of this project: `python -m benchmarks.speed.commits BEFORE [AFTER]`.

Each checkout makes runs by `banel run --jobs 1` with this Python and its own packages, which are found before those that are
installed; its kernel has to be compiled (`pip install -e . --no-deps` there, or a copy of kernel.bin of the same sources). A
sweep of 1 + N seeds less one of a single seed, over N, is what one more run costs, its process included. What a command
costs before its first run is printed beside it. The checkouts take turns.

    BEFORE AFTER     folders; AFTER is by default the checkout of this file
    --agents A,B     default base,memorise,count,rnd,banel,ppo
    --tasks A,B      default AdditionAttack-v0
    --more N         runs beyond the first one (default 4)
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from banel_leaderboard.sweeping.workers import ONE_THREAD

HERE = Path(__file__).resolve().parents[2]


def seconds(checkout: Path, task: str, agent: str, seeds: int) -> float:
    """The wall time of one command that makes so many runs."""
    packages = os.pathsep.join(str(checkout / part) for part in (".", "agents", "leaderboard"))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "banel_leaderboard", "run", "--task", task, "--agent", agent, "--jobs", "1"]
        begun = time.perf_counter()
        subprocess.run(
            [*command, "--seeds", f"0-{seeds - 1}", "--out", f"{folder}/out"],
            env=os.environ | ONE_THREAD | {"PYTHONPATH": packages},
            cwd=folder,
            check=True,
            capture_output=True,
        )
        return time.perf_counter() - begun


def main() -> None:
    """Print a line for each agent and task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path, nargs="?", default=HERE)
    parser.add_argument("--agents", default="base,memorise,count,rnd,banel,ppo")
    parser.add_argument("--tasks", default="banel/AdditionAttack-v0")
    parser.add_argument("--more", type=int, default=4)
    options = parser.parse_args()
    checkouts = [options.before.resolve(), options.after.resolve()]
    for task in options.tasks.split(","):
        for agent in options.agents.split(","):
            first = [seconds(checkout, task, agent, 1) for checkout in checkouts]
            all_of_them = [seconds(checkout, task, agent, 1 + options.more) for checkout in checkouts]
            before, after = ((b - a) / options.more for a, b in zip(first, all_of_them, strict=True))
            print(
                f"{task:<28} {agent:<20} one more run {before:6.2f} -> {after:5.2f} s ({before / after:4.1f} times), "
                f"a command with one run {first[0]:5.1f} -> {first[1]:4.1f} s ({first[0] / first[1]:3.1f} times)",
                flush=True,
            )


if __name__ == "__main__":
    main()
