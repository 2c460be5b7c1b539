"""Coverage of the importance-sampled success rate, on tasks whose rate is known exactly.

    python -m benchmarks.importance [--repeats 100] [--all]

Each repeat draws a new pool and new samples of the policy, and asks whether the 95% interval holds the exact rate.
"missed" counts the repeats that gave a number whose interval did not; 5 in 100 is what a 95% interval may. Estimates
that too little carries (importance.py) give limits instead of a number; those are checked apart. `--all` gives a number
wherever the effective sample size is 100, whatever the tail: what the rule about the tail is for.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch

from banel_agents.base import fit
from banel_envs import TASKS, Task, importance, success_rate
from banel_envs.importance import Pool, Proposal
from banel_envs.policies.network import TorchPolicy
from banel_envs.policies.protocol import Policy
from banel_envs.statistics import clopper_pearson

V0, HARD = "banel/AdditionAttack-v0", "banel/AdditionAttackHard-v0"


@dataclass
class Setting:
    """A policy to measure, and the proposals that the pool is drawn from."""

    name: str
    task: Task
    policy: Policy
    proposals: list[tuple[Policy, int]]  # each with N_q
    fresh: int = 1_000  # n


def fitted(task: Task, share: int, rng: np.random.Generator, epochs: float = 1.0) -> TorchPolicy:
    """The base policy fine-tuned on one in `share` of the successes."""
    policy = task.problem.base_policy()
    fit(policy, task.successes()[::share], rng, epochs=epochs, lr=1e-3, batch=128)
    return policy


def settings(rng: np.random.Generator) -> list[Setting]:
    """Proposals that fit, that fit badly, and several at once."""
    v0, hard = TASKS[V0], TASKS[HARD]
    base, rare = v0.problem.base_policy(), hard.problem.base_policy()
    near, few = fitted(hard, 3, rng), fitted(hard, 200, rng, epochs=30)
    return [
        Setting("v0 base (1e-3), pool fitted to a third of the successes", v0, base, [(fitted(v0, 3, rng), 6_000)]),
        Setting("Hard base (8e-6), pool fitted to a third of the successes", hard, rare, [(near, 8_000)]),
        Setting("Hard base, two proposals, one fitted to 119 successes", hard, rare, [(few, 3_000), (near, 6_000)]),
        Setting("Hard base, pool fitted to 119 successes alone", hard, rare, [(few, 8_000)]),
        Setting("Hard base, pool from the base at temperature 3", hard, rare, [(rare.tempered(3.0), 8_000)]),
        Setting("a trained policy, pool from Hard's base at temperature 3", hard, near, [(rare.tempered(3.0), 4_000)]),
    ]


def drawn(setting: Setting, rng: np.random.Generator) -> Task:
    """The task with its successes hidden and a pool newly drawn."""
    proposals = []
    for policy, n in setting.proposals:
        tokens = policy.sample(n, rng)
        hits = tokens[np.asarray(setting.task.reward(tokens)) == 1]
        proposals.append(Proposal(policy, n, hits))
    pool = Pool(tuple(proposals), setting.fresh)
    return dataclasses.replace(setting.task, successes=lambda: None, pool=lambda: pool)


def measure(setting: Setting, repeats: int, rng: np.random.Generator) -> str:
    """One line: the exact rate, the mean estimate, how often a number was given, and how often intervals held it."""
    exact = success_rate(setting.task, setting.policy).log10 or 0.0
    rates = [success_rate(drawn(setting, rng), setting.policy, rng) for _ in range(repeats)]
    numbers = [r for r in rates if r.method == "importance"]
    limits = [r for r in rates if r.method == "upper_limit"]
    held = sum((r.low or 0) <= exact <= (r.high or 0) for r in numbers)
    above = sum(exact <= (r.high or 0) for r in limits)
    text = f"exact {exact:8.4f}   numbers {len(numbers):>3} of {repeats}"
    if numbers:
        mean = np.log10(np.mean([10 ** (r.log10 or 0) for r in numbers]))
        width = np.median([(r.high or 0) - (r.low or 0) for r in numbers])
        low, high = clopper_pearson(held, len(numbers))
        share = f"held {held / len(numbers):.3f} [{low:.3f}, {high:.3f}]   missed {len(numbers) - held}"
        text += f"   mean {mean:8.4f}   width {width:.3f} decades   {share}"
    if limits:
        text += f"   limits held {above} of {len(limits)}"
    return text


def main() -> None:
    """Print a line for each setting."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.importance", description=__doc__)
    parser.add_argument("--repeats", type=int, default=100, help="pools drawn for each setting (default 100)")
    parser.add_argument("--all", action="store_true", help="give a number however heavy the tail")
    options = parser.parse_args()
    repeats = options.repeats
    if options.all:
        importance.HEAVIEST_TAIL = math.inf
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    for setting in settings(rng):
        print(f"{setting.name}\n    {measure(setting, repeats, rng)}", flush=True)


if __name__ == "__main__":
    main()
