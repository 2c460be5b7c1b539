"""Coverage of the success rates of tasks with a pool, on tasks whose rate is known exactly.

    python -m benchmarks.tasks.importance [--repeats 100] [--all]

Each repeat draws a new pool and new samples of the policy. For every setting it says how often the certified interval
(certified.py) held the exact rate, whatever else was shown; how many numbers were given, by Monte Carlo and by
importance sampling (importance.py), how often their intervals held, and by how many decades the worst number was off; and the
same with the successes excluded that a run may have asked (fresh). 5 in 100 may be missed. The settings marked * are
made to mislead: a pool of a few successes drawn again and again, a policy that collapsed onto a few. *Plain estimate* is
what importance sampling alone says of them, in the median. `--all` gives an
importance-sampled number wherever 100 distinct sequences carry it, whatever else importance.py has against it.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch

from banel_agents.base import fit
from banel_envs import TASKS, Task, success_rate
from banel_envs.binomial import clopper_pearson
from banel_envs.measure import importance
from banel_envs.measure.success import SuccessRate, score
from banel_envs.policies import Mixture
from banel_envs.policies.protocol import Policy
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.pool import Pool, Proposal
from banel_envs.problem import Tokens

V0, HARD = "banel/AdditionAttack-v0", "banel/AdditionAttackHard-v0"
LN10 = math.log(10)
ASKED = 300  # successes that the run is said to have asked: they are known, and not fresh


@dataclass
class Setting:
    """A policy to measure, and the proposals that the pool is drawn from."""

    name: str
    task: Task
    policy: Policy
    proposals: list[tuple[Policy, int]]  # each with N_q
    samples: int = 1_000  # n


@dataclass
class Tally:
    """What the repeats of one setting and one kind of rate gave."""

    exact: float
    certified: list[tuple[float, float]] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)  # importance sampling, whatever is against it
    numbers: dict[str, list[SuccessRate]] = field(default_factory=lambda: {"monte_carlo": [], "importance": []})

    def line(self) -> str:
        """Coverage of the certified intervals, their median ends, and the same of the numbers."""
        ends = np.median(np.array(self.certified), axis=0)
        text = f"exact {self.exact:7.3f}   certified {_held(self.certified, self.exact)} [{ends[0]:.2f}, {ends[1]:.2f}]"
        text += f"   plain estimate {np.median(self.plain):.2f}"
        for method, rates in self.numbers.items():
            if rates:
                intervals = [(r.low or 0.0, r.high or 0.0) for r in rates]
                off = np.array([(r.log10 or 0.0) - self.exact for r in rates])
                text += f"   {method} {_held(intervals, self.exact)}, off by {np.abs(off).max():.2f} at most"
        return text


def _held(intervals: Iterable[tuple[float, float]], exact: float) -> str:
    """How many intervals held the exact rate, with the 95% interval of that share."""
    inside = [low - 1e-5 <= exact <= high + 1e-5 for low, high in intervals]
    low, high = clopper_pearson(sum(inside), len(inside))
    return f"held {sum(inside)} of {len(inside)} ({low:.3f} to {high:.3f})"


def fitted(task: Task, tokens: Tokens, rng: np.random.Generator, epochs: float = 1.0) -> TorchPolicy:
    """The base policy fine-tuned on these successes."""
    policy = task.problem.base_policy()
    assert isinstance(policy, TorchPolicy)
    fit(policy, tokens, rng, epochs=epochs, lr=1e-3, batch=128)
    return policy


def settings(rng: np.random.Generator) -> list[Setting]:
    """Proposals that fit, that fit badly, and several at once; then those that mislead."""
    v0, hard = TASKS[V0], TASKS[HARD]
    base = v0.problem.base_policy()
    rare = cast("TorchPolicy", hard.problem.base_policy())
    every = hard.successes()
    assert every is not None
    near, few = fitted(hard, every[::3], rng), fitted(hard, every[::200], rng, epochs=30)
    third = fitted(v0, every[::3], rng)
    return [
        Setting("v0 base, pool fitted to a third of the successes", v0, base, [(third, 20_000)], 10_000),
        Setting("Hard base, pool fitted to a third of the successes", hard, rare, [(near, 8_000)]),
        Setting("Hard base, two proposals, one fitted to 119 successes", hard, rare, [(few, 3_000), (near, 6_000)]),
        Setting("Hard base, pool from the base at temperature 3", hard, rare, [(rare.tempered(3.0), 8_000)]),
        Setting("trained policy, pool from Hard's base at temperature 3", hard, near, [(rare.tempered(3.0), 4_000)]),
        Setting("Hard base, its own draws in the pool", hard, rare, [(rare, 100_000), (few, 3_000)]),
        *misleading(hard, rare, few, rng),
    ]


def misleading(hard: Task, rare: Policy, few: Policy, rng: np.random.Generator) -> list[Setting]:
    """Pools that hold a few successes many times, and policies that collapsed."""
    every = hard.successes()
    assert every is not None
    found = [Setting("* Hard base, pool fitted to 119 successes alone", hard, rare, [(few, 8_000)])]
    for count, epochs in ((12, 300), (300, 100), (1_000, 60)):
        sharp = fitted(hard, rng.choice(every, count, replace=False), rng, epochs=epochs)
        found.append(Setting(f"* Hard base, pool collapsed onto {count} successes", hard, rare, [(sharp, 20_000)]))
        mild = fitted(hard, rng.choice(every, 30, replace=False), rng, epochs=6)
        mixed = Mixture([mild, rare])
        found.append(Setting(f"* half-trained policy, pool collapsed onto {count}", hard, mixed, [(sharp, 20_000)]))
        if count == 12:
            leaning = Mixture([rare] * 15 + [sharp])
            found.append(Setting("* policy collapsed onto 12, with 1/16", hard, leaning, [(few, 8_000)]))
            found.append(Setting("* the same, pool collapsed likewise", hard, leaning, [(sharp, 8_000)]))
    return found


def drawn(setting: Setting, rng: np.random.Generator) -> Task:
    """The task with its successes hidden and a pool newly drawn."""
    proposals = []
    for policy, n in setting.proposals:
        tokens = policy.sample(n, rng)
        hits = tokens[np.asarray(setting.task.reward(tokens)) == 1]
        proposals.append(Proposal(policy, n, hits))
    pool = Pool(tuple(proposals), setting.samples)
    return dataclasses.replace(setting.task, successes=lambda: None, pool=lambda: pool)


def measure(setting: Setting, repeats: int, rng: np.random.Generator) -> list[str]:
    """A line for success and one for fresh success."""
    every = setting.task.successes()
    assert every is not None
    asked = rng.choice(every, ASKED, replace=False)
    kinds = {"success": None, "fresh": asked}
    tallies = {k: Tally(success_rate(setting.task, setting.policy, exclude=x).log10 or 0.0) for k, x in kinds.items()}
    for _ in range(repeats):
        scored = score(drawn(setting, rng), setting.policy, rng, known=asked)
        for kind, exclude in kinds.items():
            assert scored.weighed is not None
            rate, tally = scored.rate(exclude), tallies[kind]
            counted = scored.counted(exclude)
            low, high = scored.weighed.counting.log_interval(counted)
            tally.certified.append((low / LN10, high / LN10))
            tally.plain.append(scored.weighed.estimate(counted).log / LN10)
            if rate.method in tally.numbers:
                tally.numbers[rate.method].append(rate)
    return [f"{kind:<8}{tally.line()}" for kind, tally in tallies.items()]


def main() -> None:
    """Print a line for each setting."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks.importance", description=__doc__)
    parser.add_argument("--repeats", type=int, default=100, help="pools drawn for each setting (default 100)")
    parser.add_argument("--all", action="store_true", help="give an importance-sampled number whatever is against it")
    options = parser.parse_args()
    if options.all:
        importance.HEAVIEST_TAIL = importance.MOST_ROOM = math.inf
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    for setting in settings(rng):
        for line in (setting.name, *measure(setting, options.repeats, rng)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
