"""How fast it is, on one thread: `python -m benchmarks.speed`, or `--only SECTION ...` for some of the table.

Ratios are against what a user would pick instead, measured in the same process in turns, round by round: the median
over the rounds and its range. A rate reached is the floating-point operations of the network's matrix products over
the time, beside the rate of bare products of the same sizes on this machine. Hugging Face needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

import torch

from banel_envs import kernel
from benchmarks.speed import env, policy, runs, training
from benchmarks.speed.measure import HEADINGS, line

SECTIONS: dict[str, Callable[[int], None]] = {
    "env": env.environments,
    "sampling": policy.sampling,
    "scoring": policy.scoring,
    "training": training.steps,
    "exact": runs.exact,
    "runs": lambda _: None,  # takes agents, not repeats: see main
    "meter": env.meter,
    "installation": runs.installation,
}


def main() -> None:
    """Print the sections asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--agents", nargs="*", default=list(runs.RUNS), help="whose whole runs are timed")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each comparison")
    options = parser.parse_args()
    torch.set_num_threads(1)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    versions = f"torch {torch.__version__}, python {platform.python_version()}, kernel {kernel.kind()}"
    print(f"{versions}, {os.cpu_count()} cores, load {load}, one thread")
    line(*HEADINGS)
    for name in options.only:
        if name == "runs":
            runs.runs(options.agents)
        else:
            SECTIONS[name](options.repeats)


if __name__ == "__main__":
    main()
