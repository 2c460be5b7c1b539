"""ESRL's two stages against one, time and memory of a step: `python -m benchmarks.speed.two_stage [--n 500] [--task ID]`.

One stage keeps the graph of every token it samples: at each position the network reads the prefix again, and the log-probability
of the token drawn has a gradient. Two stages sample without a graph, with a cache, and read all sequences once with a gradient.
Each way runs in a process of its own, on one thread, and prints the median time of a step and by how much its peak memory is
above what the process held before. All ways train on the same number of samples; that their gradients are the same is tested in
tests/agents.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

WAYS = ("one stage, PyTorch", "two stages, PyTorch", "two stages, kernel")


def one_stage(policy: Any, n: int, rng: np.random.Generator) -> None:
    """Sample n sequences with a gradient at every token, and take its gradient."""
    import torch

    policy.network.zero_grad()
    tokens = torch.full((n, policy.horizon), -1 if policy.end is None else policy.end)
    alive, total = torch.ones(n, dtype=torch.bool), torch.zeros(n)
    uniform = torch.from_numpy(rng.random((policy.horizon, n)))
    for t in range(policy.horizon):
        read = tokens[:, : t + 1].clone()
        read[:, t] = 0  # is not read: a position depends only on the tokens before it
        log_probs = torch.log_softmax(policy.network(read)[:, t] / policy.temperature, dim=-1)
        drawn = (log_probs.exp().cumsum(dim=1) < uniform[t][:, None]).sum(dim=1).clamp(max=policy.vocabulary - 1)
        drawn = drawn if policy.end is None else torch.where(alive, drawn, policy.end)
        tokens[:, t] = drawn
        total = total + torch.where(alive, log_probs.gather(1, drawn[:, None])[:, 0], 0.0)
        alive = alive if policy.end is None else alive & (drawn != policy.end)
    (total * torch.from_numpy(rng.normal(size=n)).float()).mean().backward()  # type: ignore[no-untyped-call]


def two_stages(policy: Any, n: int, rng: np.random.Generator) -> None:
    """Sample n sequences, then take the gradient in one pass, in PyTorch."""
    policy.network.zero_grad()
    policy.loss(policy.sample(n, rng), rng.normal(size=n)).backward()


def measured(way: str, id: str, n: int, repeats: int, found: Any) -> None:
    """Put the median seconds of a step and the peak memory above the beginning, in MiB, into the queue `found`."""
    import torch

    from banel_agents.base import base_network
    from banel_envs import TASKS, kernel
    from banel_envs.policies.training import Trainer

    torch.set_num_threads(1)
    policy, rng = base_network(TASKS[id].problem), np.random.default_rng(0)
    with kernel.using(kernel.COMPILED if "kernel" in way else "torch"):
        trainer = Trainer(policy, 1e-9)
        step: Callable[[], Any] = {
            WAYS[0]: lambda: one_stage(policy, n, rng),
            WAYS[1]: lambda: two_stages(policy, n, rng),
            WAYS[2]: lambda: trainer.step(policy.sample(n, rng), rng.normal(size=n)),
        }[way]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
    found.put((statistics.median(times), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))


def main() -> None:
    """Measure each way and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--task", default="banel/AdditionAttack-v0")
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    print(f"{options.task}, {options.n} samples a step\n{'':<22}{'ms a step':>10}{'peak MiB':>10}")
    for way in WAYS:
        found = spawn.Queue()
        process = spawn.Process(target=measured, args=(way, options.task, options.n, options.repeats, found))
        process.start()
        seconds, memory = found.get()
        process.join()
        print(f"{way:<22}{1e3 * seconds:>10.1f}{memory:>10.1f}")


if __name__ == "__main__":
    main()
