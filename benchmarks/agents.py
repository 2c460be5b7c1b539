"""What agents reach, a line each run: `python -m benchmarks.agents --agents bandit count [--tasks ID ...] [--seeds 100-102]`.

One line an (agent, settings, feedback, task, seed): NRE to the first success asked, distinct successes asked, log10 of the
exact success rate at the end and of the best policy on the way, the effective number of successes at the end, CPU seconds,
and what the agent reports. Withheld successes count as asked. The default seeds are for tuning, and the board uses none of
them. With `--out FILE` every line is kept, and what is there already is not run again; `--jobs N` runs N at once.

    python -m benchmarks.agents --agents count --set kl=0.03 gated=false --feedback failures --out runs.jsonl
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from banel_agents import AGENTS, make_agent
from banel_envs import TASKS, Oracle, success_rate
from banel_envs.policies import Policy
from banel_leaderboard.command.settings import parse_seeds, read_settings
from benchmarks.findings.kept import Kept, each, key_of, one_thread

TUNING = ("banel/AdditionAttack-v0", "banel/AdditionAttackHard-v0", "banel/Countdown-v0", "banel/ListProgram-v0")
POINTS = 16  # policies whose rate is measured on the way
Key = dict[str, Any]


def measure(key: Key) -> Key:
    """One run. The rates are of the last policy before each sixteenth of the budget, and of the last of all."""
    task = TASKS[key["task"]]
    oracle = Oracle(task.blind() if key["twin"] else task, feedback=key["feedback"])
    agent = make_agent(key["agent"], key["settings"])
    start = time.process_time()
    kept: dict[int, Policy] = {}
    for policy in agent.learn(task.problem, oracle, np.random.default_rng(key["seed"])):
        kept[oracle.count * POINTS // oracle.budget] = policy
    spent = time.process_time() - start
    logs = [success_rate(task, policy).log10 for policy in kept.values()]
    tokens = np.concatenate([oracle.ledger.tokens(ask) for ask in oracle.ledger.asks])
    hits = np.asarray(task.reward(tokens)) == 1
    found = {
        "first": int(np.flatnonzero(hits)[0]) + 1 if hits.any() else None,
        "distinct": len(np.unique(tokens[hits], axis=0)),
        "final": logs[-1],
        "best": max((log for log in logs if log is not None), default=None),
        "mixture": mixture(logs),
        "effective": success_rate(task, list(kept.values())[-1]).effective,
        "nre": len(tokens),
        "cpu": round(spent, 1),
        "reported": getattr(agent, "reported", {}),
    }
    return found | {"took": round(time.process_time() - start, 1)}  # its rates included


def mixture(logs: list[float | None]) -> float | None:
    """The log10 rate of an even mixture of policies, from the log10 rates of each; None for zero."""
    mean = sum(0.0 if log is None else 10**log for log in logs) / len(logs)
    return math.log10(mean) if mean else None


def line(key: Key, found: Key) -> str:
    """A run as text."""
    settings = " ".join(f"{k}={v}" for k, v in key["settings"].items())
    what = f"{key['agent']}{'*' if key['twin'] else ''} {settings}"
    numbers = [f"{found['first'] or '-':>7}{found['distinct']:>7}"]
    numbers += ["   zero" if found[name] is None else f"{found[name]:>7.2f}" for name in ("final", "best")]
    numbers += [f"{found['effective'] or 0:>8.0f}{found['nre']:>7}{found['cpu']:>7.0f}"]
    told = " ".join(f"{name}:{value:g}" for name, value in found["reported"].items())
    return f"{what:<40}{key['feedback']:<10}{key['task']:<30}{key['seed']:>5}{''.join(numbers)}  {told}"


def main() -> None:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", nargs="+", required=True, choices=list(AGENTS), metavar="NAME")
    parser.add_argument("--tasks", nargs="+", default=list(TUNING), metavar="ID")
    parser.add_argument("--seeds", default="100-102", help="such as 100-109 (default 100-102)")
    parser.add_argument("--feedback", nargs="+", choices=("failures", "full", "typed"), default=["full"])
    parser.add_argument("--twin", action="store_true", help="tell every agent that every sequence failed")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of every agent named")
    parser.add_argument("--out", type=Path, help="a file of JSON lines that keeps the runs")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once; with more than 1, lines come as they end")
    options = parser.parse_args()
    one_thread()
    settings, kept = read_settings(None, options.set), Kept(options.out)
    head = f"{'first':>7}{'dist.':>7}{'final':>7}{'best':>7}{'eff.':>8}{'NRE':>7}{'CPU s':>7}"
    print(f"{'agent (* twin)':<40}{'feedback':<10}{'task':<30}{'seed':>5}{head}")
    keys = [
        key_of(agent, settings, task, seed, feedback=feedback, twin=options.twin)
        for agent in options.agents
        for feedback in options.feedback
        for task in options.tasks
        for seed in parse_seeds(options.seeds)
    ]
    for key in each(keys, measure, kept, options.jobs):
        print(line(key, kept[key]), flush=True)


if __name__ == "__main__":
    main()
