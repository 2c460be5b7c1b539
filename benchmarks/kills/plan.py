"""Which runs are killed and when, and the report of what came of them."""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from banel_leaderboard.records.spec import Spec
from banel_leaderboard.sweeping import fork_client
from banel_leaderboard.sweeping.fork_client import ForkServer
from banel_leaderboard.sweeping.workers import ONE_THREAD
from benchmarks.kills.run import Run
from benchmarks.kills.task import BUDGET

Item = TypeVar("Item")
SECONDS_A_ROW = 0.012  # that the reward sleeps
REFERENCE_FOR = 10  # runs held against one reference
AMID_A_WRITE = 0.25  # share of the kills
SPECS: Mapping[str, Mapping[str, Any]] = {
    "banel": {"settings": {"batch": 24, "pool": 300, "minibatch": 32, "phi_epochs": 1.0}},
    "ppo": {"feedback": "full"},
}
WRONG = (
    "failed",
    "heads different",
    "ledgers different",
    "records different",
    "resumed wrong",
    "rows evaluated beyond what was in flight",
    "kills that lost more than the rows at once",
    "rows answered without evaluation",
)


def reference_of(key: tuple[str, int], out: Path, **how: Any) -> Run:
    """A run of this agent and seed that is never killed."""
    agent, seed = key
    run = Run(
        Spec(task="benchmarks.kills.task:build", agent=agent, seed=seed, **SPECS[agent]), out / f"{agent}-{seed}", **how
    )
    run.start()
    if run.record is None or len(run.rows) != BUDGET:
        raise RuntimeError(f"the uninterrupted run of {agent} did not finish, or did not evaluate {BUDGET} rows")
    return run


def killed(reference: Run, out: Path, rng: random.Random, most: int) -> Counter[str]:
    """Kill a run 1 to `most` times, finish it, and count what is wrong with it."""
    run = Run(reference.spec, out, reference.row_time, reference.isolate, reference.rows_at_once, reference.server)
    lines = len(reference.content.splitlines())
    for _ in range(rng.randint(1, most)):
        held = run.content.count(b"\n")
        if rng.random() < AMID_A_WRITE and held < lines:
            line = rng.randint(1, lines - max(held, 1))
            run.start(tear=f"{line}:{rng.random()}")
        else:
            slept = len(run.rows) * run.row_time  # what is answered is not waited for again
            run.start(after=rng.uniform(0, max(reference.seconds - slept, 0.1)))
    run.start()
    run.compare(reference)
    return run.tally


def kills(
    runs: int,
    agents: Sequence[str] = tuple(SPECS),
    seed: int = 0,
    *,
    jobs: int = 1,
    most: int = 3,
    row_time: float = SECONDS_A_ROW,
    isolate: bool = False,
    rows_at_once: int | None = None,
    warm: bool = True,
) -> Counter[str]:
    """Kill, resume and compare `runs` runs, the agents in turn.

    Args:
        runs: how many are killed; the uninterrupted ones come on top.
        agents: names among SPECS.
        seed: of the first agents and of the kills.
        jobs: processes at once.
        most: kills a run.
        row_time: seconds that the reward sleeps for each row.
        isolate: run the agents in processes of their own.
        rows_at_once: of the task; None asks the reward for a whole question.
        warm: whether the processes are forked from one parent, where that is possible.

    Returns:
        What was counted; all of WRONG should be 0.
    """
    plan = [(agents[k % len(agents)], seed + k // (len(agents) * REFERENCE_FOR)) for k in range(runs)]
    keys = list(dict.fromkeys(plan))
    tally: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as threads, contextlib.ExitStack() as last:
        how: dict[str, Any] = {"row_time": row_time, "isolate": isolate, "rows_at_once": rows_at_once}
        if warm and fork_client.possible("cpu"):
            how["server"] = last.enter_context(contextlib.closing(ForkServer(os.environ | ONE_THREAD)))
        reference = partial(reference_of, out=Path(folder), **how)
        references = dict(zip(keys, progress(threads.map(reference, keys), len(keys), "uninterrupted"), strict=True))

        def one(k: int) -> Counter[str]:
            return killed(references[plan[k]], Path(folder) / f"run-{k}", random.Random(f"{seed}-{k}"), most)

        for counted in progress(threads.map(one, range(runs)), runs, "killed"):
            tally.update(counted)
    return tally


def progress(items: Iterable[Item], total: int, name: str) -> Iterator[Item]:
    yield from tqdm(items, total=total, desc=name, mininterval=5, disable=None)


def report(tally: Counter[str]) -> str:
    """The figures in a few lines."""

    def line(*names: str) -> str:
        return ", ".join(f"{name} {tally[name]:,}" for name in names)

    return "\n".join(
        (
            line("runs", "kills", "kills amid a write", "ended before their kill", "times resumed"),
            line("kills before the first line", "kills after the record"),
            line("kills that left an open question", "torn lines"),
            line("rows asked", "rows evaluated", "rows in flight", "rows evaluated and lost"),
            line(*WRONG[:5]),
            line(*WRONG[5:]),
        )
    )
