"""The same number of configurations for every agent, on instances and seeds that the board does not use.

    for name in addition_attack countdown ehrlich list_program; do
        python -m banel_envs.build $name --instance 1 --out instances
    done
    python -m benchmarks.findings.tuning --instances instances --out tuning.jsonl [--agents NAME ...] [--seeds 100-101]

The tasks are AdditionAttack, Countdown, Ehrlich and ListProgram of instance 1: another target network, another number to
hit, other motifs, other examples. An agent that learns from failures is tuned under `failures`, any other under `full`.
Printed is, for each configuration, the mean over tasks and seeds of log10((1 + distinct) / (1 + distinct of
`without_replacement`)), where distinct is the number of distinct successes that were asked. The best is marked; the defaults
stay unless another configuration is better by more than MARGIN. Every run is a line of the file, and is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch

from banel_agents import make_agent
from banel_envs import TASKS, Oracle
from banel_envs.assets import VARIABLE
from banel_leaderboard.command.settings import parse_seeds
from banel_leaderboard.sweeping.measured_costs import measured
from benchmarks.findings.configurations import LEARN_FROM_FAILURES, OTHERS

TASK_IDS = ("banel/AdditionAttack-v0", "banel/Countdown-v0", "banel/Ehrlich-v0", "banel/ListProgram-v0")
MARGIN = 0.1  # decades; half of the spread between seeds of one configuration would decide below it
REFERENCE = "without_replacement"
Key = tuple[str, str, str, str, int]
"""Agent, its settings as JSON, feedback, task, seed."""


def keys(agents: list[str], tasks: list[str], seeds: tuple[int, ...]) -> Iterator[Key]:
    """Every run, the seeds outermost, so that a run that is cut short has tried every configuration as often."""
    for seed in seeds:
        for task in tasks:
            yield from ((REFERENCE, "{}", feedback, task, seed) for feedback in ("failures", "full"))
        for agent in agents:
            feedback = "failures" if agent in LEARN_FROM_FAILURES else "full"
            for settings in [{}, *OTHERS[agent]]:
                for task in tasks:
                    yield agent, json.dumps(settings), feedback, task, seed


def run(key: Key) -> tuple[Key, dict[str, Any]]:
    """One run: NRE to the first success asked, and distinct successes asked."""
    agent_name, settings, feedback, task_id, seed = key
    torch.set_num_threads(1)
    task = TASKS[task_id]
    oracle = Oracle(task, feedback=feedback)  # type: ignore[arg-type]
    for _ in make_agent(agent_name, json.loads(settings)).learn(task.problem, oracle, np.random.default_rng(seed)):
        pass
    tokens = np.concatenate([oracle.ledger.tokens(ask) for ask in oracle.ledger.asks])
    hits = np.asarray(task.reward(tokens)) == 1
    first = int(np.flatnonzero(hits)[0]) + 1 if hits.any() else None
    return key, {"first": first, "distinct": len(np.unique(tokens[hits], axis=0)), "digest": task.digest}


def known(path: Path) -> dict[Key, dict[str, Any]]:
    """The runs that the file holds."""
    if not path.exists():
        return {}
    return {tuple(row["key"]): row["found"] for row in map(json.loads, path.read_text().splitlines())}


def scores(found: dict[Key, dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """By agent and settings: log10((1 + distinct) / (1 + distinct of the reference)), a number a run."""
    table: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (agent, settings, feedback, task, seed), row in found.items():
        reference = found.get((REFERENCE, "{}", feedback, task, seed))
        if agent != REFERENCE and reference is not None:
            table[agent][settings].append(math.log10((1 + row["distinct"]) / (1 + reference["distinct"])))
    return table


def report(found: dict[Key, dict[str, Any]], agents: list[str]) -> Iterator[str]:
    """A line a configuration; * is the choice."""
    yield f"{'agent':<20}{'settings':<28}{'runs':>5}{'score':>8}"
    table = scores(found)
    for agent in agents:
        means = {settings: float(np.mean(values)) for settings, values in table[agent].items()}
        if not means:
            continue
        best = max(means, key=lambda settings: means[settings])
        if "{}" in means and means[best] <= means["{}"] + MARGIN:
            best = "{}"
        for settings, value in means.items():
            shown = ", ".join(f"{k}={v}" for k, v in json.loads(settings).items()) or "defaults"
            mark = " *" if settings == best else ""
            yield f"{agent:<20}{shown:<28}{len(table[agent][settings]):>5}{value:>8.2f}{mark}"


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=Path, help="where the instances were built; without it nothing is run")
    parser.add_argument("--out", type=Path, required=True, help="a file of JSON lines that keeps the runs")
    parser.add_argument("--agents", nargs="+", choices=list(OTHERS), default=list(OTHERS), metavar="NAME")
    parser.add_argument("--tasks", nargs="+", choices=TASK_IDS, default=list(TASK_IDS), metavar="ID")
    parser.add_argument("--seeds", default="100-101", help="such as 100-109 (default 100-101)")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    found = known(options.out)
    if options.instances is not None:
        os.environ[VARIABLE] = str(options.instances)
        if shipped := [id for id in options.tasks if measured(TASKS[id]) is not None]:
            sys.exit(f"{', '.join(shipped)} is the board's own instance; build instance 1 into {options.instances}")
        left = [key for key in keys(options.agents, options.tasks, parse_seeds(options.seeds)) if key not in found]
        with ProcessPoolExecutor(options.jobs) as pool, options.out.open("a") as file:
            for done in as_completed([pool.submit(run, key) for key in left]):
                key, row = done.result()
                found[key] = row
                file.write(json.dumps({"key": key, "found": row}) + "\n")
                file.flush()
    print("\n".join(report(found, options.agents)))


if __name__ == "__main__":
    main()
