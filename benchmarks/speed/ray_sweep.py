"""A sweep on two Ray nodes of one core against `--jobs 2`: `python -m benchmarks.speed.ray_sweep` prints seconds and ratio.

The nodes are two raylets on this machine beside a head that runs nothing; they stand before the clock starts. The two
engines take turns on the same lanes, each time into an empty folder, and must leave the same ledgers. Bar: 1.1.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

from banel_leaderboard.sweeping.ray_engine import ray_engine
from banel_leaderboard.sweeping.suites import get_suite
from banel_leaderboard.sweeping.sweep import Engine, Lane, lanes_of, sweep

BAR = 1.1
NODES = 2


def timed(lanes: Sequence[Lane], engine: Engine | None) -> tuple[float, str]:
    """Seconds of the sweep, and a hash over its ledgers."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        outcomes = sweep(lanes, Path(folder), jobs=NODES, engine=engine)
        seconds = time.monotonic() - start
        if failed := [o for o in outcomes if o.status == "failed"]:
            raise RuntimeError(f"{len(failed)} of {len(outcomes)} runs failed: {failed[0].message}")
        ledgers = sorted(Path(folder).rglob("ledger.jsonl"))
        return seconds, hashlib.sha256(b"".join(path.read_bytes() for path in ledgers)).hexdigest()


def main() -> int:
    """Parse, run and print; 1 if the bar is missed or a ledger differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="smoke", help="whose lanes are run (default smoke)")
    parser.add_argument("--lanes", type=int, help="only the first of them (default all)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each engine (default 3)")
    options = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    lanes = lanes_of(get_suite(options.suite))[: options.lanes]
    equal = {"worker_niceness": 0}  # Ray's workers yield to all other work by default, and so would their runs
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": equal}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(NODES):
            cluster.add_node(num_cpus=1)
        engines = {f"--jobs {NODES}": None, f"{NODES} Ray nodes": partial(ray_engine, address=cluster.address)}
        seconds: dict[str, list[float]] = {name: [] for name in engines}
        hashes = set()
        for turn in range(options.rounds):
            for name in list(engines)[:: 1 if turn % 2 == 0 else -1]:
                spent, ledgers = timed(lanes, engines[name])
                seconds[name].append(spent)
                hashes.add(ledgers)
                print(f"{name}: {spent:.1f} s (load {os.getloadavg()[0]:.1f})", flush=True)
    finally:
        cluster.shutdown()
    here, there = (median(times) for times in seconds.values())
    print(f"{len(lanes)} lanes, medians: {here:.1f} s and {there:.1f} s, ratio {there / here:.3f} (bar {BAR})")
    print("ledgers " + ("equal" if len(hashes) == 1 else "DIFFERENT"))
    return int(there / here > BAR or len(hashes) != 1)


if __name__ == "__main__":
    sys.exit(main())
