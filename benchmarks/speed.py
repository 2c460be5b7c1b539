"""How long the addition attack takes on one core: `python -m benchmarks.speed [--agents banel ppo]`.

Prints the exact evaluation of AdditionAttack-v0 (median and range of 7) against brute force in the same process,
and whole runs of 7,500 NRE with their 16 evaluations, each in a fresh folder.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from banel_envs import TASKS, success_rate
from banel_envs.policies.network import TorchPolicy
from banel_leaderboard.harness import run

TASK = "banel/AdditionAttack-v0"
REPEATS = 7


def brute_force(policy: TorchPolicy, tokens: np.ndarray) -> float:
    """The same rate from a plain teacher-forced forward over every success."""
    with torch.inference_mode():
        parts = [
            policy.differentiable_log_prob(tokens[i : i + 4096]).double().exp().sum()
            for i in range(0, len(tokens), 4096)
        ]
    return float(np.log10(sum(map(float, parts))))


def seconds(work: Callable[[], object]) -> list[float]:
    """Wall seconds of each repeat."""
    taken = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin)
    return taken


def describe(taken: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(taken):.3f} s ({min(taken):.3f} to {max(taken):.3f})"


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", nargs="*", default=["banel", "ppo"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    task = TASKS[TASK]
    policy, successes = task.problem.base_policy(), task.successes()
    if not isinstance(policy, TorchPolicy) or successes is None:
        raise SystemExit(f"{TASK} has no network or no success set")
    exact = seconds(lambda: success_rate(task, policy))
    brute = seconds(lambda: brute_force(policy, successes))
    print(f"exact evaluation, {len(successes):,} successes: {describe(exact)}")
    print(f"brute force: {describe(brute)}; ratio {statistics.median(brute) / statistics.median(exact):.2f}")
    for agent in options.agents:
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            record = run(TASK, agent, out=Path(folder))
            taken = time.perf_counter() - begin
        cost = record.execution
        print(
            f"{agent}, {record.ledger.count:,} NRE: {taken:.1f} s in all; the agent {cost.wall_s:.1f} s, "
            f"evaluation and bookkeeping {cost.evaluation_s:.1f} s, peak {cost.peak_memory_mb:.0f} MB"
        )


if __name__ == "__main__":
    main()
