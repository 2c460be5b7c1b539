"""How often an honest policy would be refused for what it draws, against the bound that banel_envs/measure/draws.py states.

    python -m benchmarks.false_alarms [--tests 20000] [--draws 100]

Each line: a policy, how many of the single tests went beyond a bar that an honest policy may pass once in 10, 100 and 1,000
tests, and the mean of the evidence, at most 1 in expectation. A run is refused after two failures in a row, each at a bar
of 1 in 16,000,000 or more. Beside it, for scale: how far from its temperature a policy has to draw to be refused at
that bar by the draws that the harness takes.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
from numpy.typing import NDArray

from banel_envs import TASKS, Problem
from banel_envs.measure.draws import DRAWS, Scores
from banel_envs.measure.probability import FALSE_ALARM, along
from banel_envs.policies import Autoregressive, Tempered, Uniform

BARS = (10, 100, 1_000)


class Random(Uniform):
    """Next tokens from a fixed random table by position and last token, from nearly certain to nearly uniform ones."""

    def __init__(self, vocabulary: int, horizon: int, seed: int) -> None:
        super().__init__(vocabulary, horizon, None)
        rng = np.random.default_rng(seed)
        logits = rng.normal(0, 1, (horizon, vocabulary + 1, vocabulary)) * rng.exponential(
            3, (horizon, vocabulary + 1, 1)
        )
        self.table = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))

    def step(self, last: NDArray[np.int64], position: int, state: int) -> tuple[NDArray[np.float64], int]:
        """See Autoregressive."""
        return self.table[position, last], state


def evidence(says: Autoregressive, draws: Autoregressive, problem: Problem, n: int, rng: np.random.Generator) -> float:
    """The log evidence of one test of n draws."""
    seen = Scores(says, problem, rng)
    along(says, draws.sample(n, rng), problem, seen)
    return seen.log_evidence()


def honest(tests: int, n: int) -> None:
    """Print the false alarms of several policies."""
    print(f"{tests:,} tests of {n} draws each" + "".join(f"{f'1 in {bar:,}':>14}" for bar in BARS) + "   mean evidence")
    rng = np.random.default_rng(0)
    for V, T in ((2, 1), (2, 8), (4, 4), (20, 10)):
        policy = Random(V, T, V + T)
        problem = Problem("bench/Random-v0", tuple(map(str, range(V))), T, 1, lambda p=policy: p)  # type: ignore[misc]
        found = np.array([evidence(policy, policy, problem, n, rng) for _ in range(tests)])
        over = "".join(f"{int((found >= math.log(bar)).sum()):>7} <={tests // bar:>5}" for bar in BARS)
        print(f"V {V}, T {T}:".ljust(34) + over + f"   {np.exp(found).mean():.3f}")


def power() -> None:
    """Print the nearest temperatures that are refused."""
    bar = math.log(16 / FALSE_ALARM)
    for name in ("banel/AdditionAttack-v0", "banel/MoleculeWindow-v0"):
        problem = TASKS[name].problem
        base = problem.base_policy()
        assert isinstance(base, Autoregressive)
        rng = np.random.default_rng(0)
        tried = (0.5, 0.8, 0.9, 0.95, 0.98, 1.02, 1.05, 1.1, 1.2)
        refused = [t for t in tried if evidence(base, Tempered(base, t), problem, DRAWS, rng) >= bar]
        print(f"{name}: {DRAWS} draws at one of the temperatures {refused} are refused; 0.5 to 1.2 were tried")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, default=20_000, help="single tests of each policy")
    parser.add_argument("--draws", type=int, default=100, help="sequences a test")
    args = parser.parse_args()
    honest(args.tests, args.draws)
    power()


if __name__ == "__main__":
    main()
