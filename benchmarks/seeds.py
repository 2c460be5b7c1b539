"""How often the board's bootstrap interval of the median over seeds holds the median, by the number of seeds.

    python -m benchmarks.seeds [--repeats 4000]

Each repeat draws that many final rates (log10) from a distribution whose median is known, and asks whether the 95%
interval of `medians.median_interval`, as the board computes it, holds it. Below five seeds the interval is the range of
the runs, which misses the median whenever all of them fall on one side of it: with probability 2 * 0.5^n. The board shows
none there (ranking.rows.LEAST_SEEDS).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from banel_envs.binomial import clopper_pearson
from banel_leaderboard.ranking.rows import LEAST_SEEDS, SEED
from banel_leaderboard.statistics.medians import Floats, median_interval

SEEDS = (2, 3, 4, 5, 7, 10)


def normal(n: int, rng: np.random.Generator) -> Floats:
    """Agents that end about alike; median -3."""
    return rng.normal(-3.0, 0.5, n)


def bimodal(n: int, rng: np.random.Generator) -> Floats:
    """Agents of which 3 in 5 take off; the median is the value below which 1 in 6 of those that do end."""
    off = rng.random(n) < 0.6
    return np.where(off, rng.normal(-0.5, 0.3, n), rng.normal(-4.0, 0.5, n))


def dying(n: int, rng: np.random.Generator) -> Floats:
    """Agents of which 2 in 5 collapse to a rate of zero."""
    return np.where(rng.random(n) < 0.4, -np.inf, rng.normal(-3.0, 0.5, n))


SHAPES: dict[Callable[[int, np.random.Generator], Floats], float] = {
    normal: -3.0,
    bimodal: -0.5 + 0.3 * -0.967422,  # both put 1/6 of the mode in hand below the median: the normal quantile of 1/6
    dying: -3.0 + 0.5 * -0.967422,
}
"""Each distribution and its median."""


def coverage(shape: Callable[[int, np.random.Generator], Floats], n: int, repeats: int) -> float:
    """The share of intervals of n seeds that hold the median."""
    rng, held = np.random.default_rng(n), 0
    for _ in range(repeats):
        low, high = median_interval(shape(n, rng), SEED)
        held += low <= SHAPES[shape] <= high
    return held / repeats


def main() -> None:
    """Print a table: a line a number of seeds, a column a distribution."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seeds", description=__doc__)
    parser.add_argument("--repeats", type=int, default=4_000, help="draws of every number of seeds (default 4,000)")
    repeats = parser.parse_args().repeats
    print("seeds" + "".join(f"{shape.__name__:>24}" for shape in SHAPES))
    for n in SEEDS:
        shares = [coverage(shape, n, repeats) for shape in SHAPES]
        ends = [clopper_pearson(round(share * repeats), repeats) for share in shares]
        cells = "".join(f"{s:>10.3f} ({a:.3f}-{b:.3f})" for s, (a, b) in zip(shares, ends, strict=True))
        print(f"{n:<5}{cells}" + ("" if n >= LEAST_SEEDS else "   not shown"), flush=True)


if __name__ == "__main__":
    main()
