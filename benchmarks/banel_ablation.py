"""What BaNEL's knobs do, from failures only: `python -m benchmarks.banel_ablation [--seeds 3] [--only NAME ...]`.

One line a (variant, task, seed): log10 of the exact success rate at the end, at its best and of the mixture over rounds, the
effective number of successes at the end, successes met (withheld from the agent), CPU seconds. `twin` is the
default told "failure" for everything: what needs no oracle.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import numpy as np
import torch

from banel_agents.failure_model.banel import BaNEL, BaNELConfig
from banel_envs import TASKS, Oracle, success_rate

ADDITION = ("banel/AdditionAttack-v0", "banel/AdditionAttackHard-v0")
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "twin": {},
    "f=1.5": {"f": 1.5},
    "f=2 (paper)": {"f": 2.0},
    "f=5": {"f": 5.0},
    "malformed kept": {"well_formed": False},
    "p_phi from base, all failures": {"phi_init": "base", "phi_data": "all"},
    "p_phi from scratch, all failures": {"phi_init": "fresh", "phi_data": "all", "phi_epochs": 20.0},
    "p_phi 2 epochs": {"phi_epochs": 2.0},
    "p_phi 10 epochs": {"phi_epochs": 10.0},
    "f=2, p_phi 10 epochs": {"f": 2.0, "phi_epochs": 10.0},
    "distil 3 epochs": {"distil_epochs": 3.0},
    "regions, f=1.5": {"form": "regions", "f": 1.5, "phi_init": "base", "phi_data": "all"},
}


def measure(variant: str, task_id: str, seed: int) -> str:
    """One run, in one line."""
    task = TASKS[task_id]
    oracle = Oracle(task.blind() if variant == "twin" else task, feedback="failures")
    agent = BaNEL(BaNELConfig(**VARIANTS[variant]))
    start = time.process_time()
    rates = [success_rate(task, policy) for policy in agent.learn(task.problem, oracle, np.random.default_rng(seed))]
    logs = np.array([-math.inf if rate.log10 is None else rate.log10 for rate in rates])
    met = sum(int((ask.rewards == 1).sum()) for ask in oracle.ledger.asks)
    mixture = math.log10(np.mean(10**logs))
    return (
        f"{variant:<34}{task_id:<30}{seed:>5}{logs[-1]:>8.2f}{logs.max():>8.2f}{mixture:>8.2f}"
        f"{rates[-1].effective or 0:>8.0f}{met:>7}{time.process_time() - start:>7.0f}"
    )


def main() -> None:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{'variant':<34}{'task':<30}{'seed':>5}{'final':>8}{'best':>8}{'mixture':>8}{'eff.':>8}{'met':>7}{'CPU s':>7}"
    )
    for variant in options.only:
        for task_id in ADDITION:
            for seed in range(options.seeds):
                print(measure(variant, task_id, seed), flush=True)


if __name__ == "__main__":
    main()
