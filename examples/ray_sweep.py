"""A sweep over a setting on Ray: `python examples/ray_sweep.py` (pip install 'banel-envs[cluster]').

Each run is a Ray task that writes into the same folder, on a disk that all nodes share. A task whose node dies is sent
out again, and goes on from its ledger. For whole suites there is `banel bench --suite v1 --engine ray`.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
import ray

from banel_leaderboard import run


@ray.remote(num_cpus=1, max_retries=3)
def one(out: str, temperature: float, seed: int, budget: int | None) -> float:
    """One run; log10 of its final success rate."""
    settings = {"temperature": temperature}
    # A folder of its own for each setting: one run folder holds one configuration.
    folder = Path(out) / f"temperature-{temperature:g}"
    return run("banel/Gaussian1D-v0", "tempered", seed, settings=settings, budget=budget, out=folder).final()


def main(
    temperatures: Sequence[float] = (1.5, 2.0, 3.0, 5.0), seeds: int = 3, budget: int | None = None
) -> dict[float, float]:
    """Run every setting with every seed; the median of log10 success for each setting."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        with tempfile.TemporaryDirectory() as out:
            waiting = {t: [one.remote(out, t, seed, budget) for seed in range(seeds)] for t in temperatures}
            medians = {t: statistics.median(ray.get(runs)) for t, runs in waiting.items()}
    finally:
        ray.shutdown()
    for temperature, value in medians.items():
        print(f"temperature {temperature:g}: log10 success {value:.2f}")
    return medians


if __name__ == "__main__":
    main()
