"""What agents reach, a line each run: `python -m benchmarks.agents --agents bandit count [--tasks ID ...] [--seeds 100-102]`.

One line an (agent, settings, feedback, task, seed): NRE to the first success asked, distinct successes asked, log10 of the
exact success rate at the end and of the best policy on the way, the effective number of successes at the end, CPU seconds,
and what the agent reports. Withheld successes count as asked. The default seeds are for tuning, and the board uses none of
them. With `--out FILE` every line is kept, and what is there already is not run again.

    python -m benchmarks.agents --agents count --set kl=0.03 gated=false --feedback failures --out runs.jsonl
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from banel_agents import AGENTS, make_agent
from banel_envs import TASKS, Oracle, success_rate
from banel_envs.policies import Policy
from banel_leaderboard.command.settings import parse_seeds

TUNING = ("banel/AdditionAttack-v0", "banel/AdditionAttackHard-v0", "banel/Countdown-v0", "banel/ListProgram-v0")
POINTS = 16  # policies whose rate is measured on the way
Key = dict[str, Any]


def measure(agent_name: str, settings: dict[str, Any], feedback: Any, task_id: str, seed: int, twin: bool) -> Key:
    """One run. The rates are of the last policy before each sixteenth of the budget, and of the last of all."""
    task = TASKS[task_id]
    oracle = Oracle(task.blind() if twin else task, feedback=feedback)
    agent = make_agent(agent_name, settings)
    start = time.process_time()
    kept: dict[int, Policy] = {}
    for policy in agent.learn(task.problem, oracle, np.random.default_rng(seed)):
        kept[oracle.count * POINTS // oracle.budget] = policy
    spent = time.process_time() - start
    logs = [success_rate(task, policy).log10 for policy in kept.values()]
    tokens = np.concatenate([oracle.ledger.tokens(ask) for ask in oracle.ledger.asks])
    hits = np.asarray(task.reward(tokens)) == 1
    return {
        "first": int(np.flatnonzero(hits)[0]) + 1 if hits.any() else None,
        "distinct": len(np.unique(tokens[hits], axis=0)),
        "final": logs[-1],
        "best": max((log for log in logs if log is not None), default=None),
        "effective": success_rate(task, list(kept.values())[-1]).effective,
        "nre": len(tokens),
        "cpu": round(spent, 1),
        "reported": getattr(agent, "reported", {}),
    }


def line(key: Key, found: Key) -> str:
    """A run as text."""
    settings = " ".join(f"{k}={v}" for k, v in key["settings"].items())
    what = f"{key['agent']}{'*' if key['twin'] else ''} {settings}"
    numbers = [f"{found['first'] or '-':>7}{found['distinct']:>7}"]
    numbers += ["   zero" if found[name] is None else f"{found[name]:>7.2f}" for name in ("final", "best")]
    numbers += [f"{found['effective'] or 0:>8.0f}{found['nre']:>7}{found['cpu']:>7.0f}"]
    told = " ".join(f"{name}:{value:g}" for name, value in found["reported"].items())
    return f"{what:<40}{key['feedback']:<10}{key['task']:<30}{key['seed']:>5}{''.join(numbers)}  {told}"


def value_of(text: str) -> Any:
    """A setting's value from the command line: JSON where it is, else a word."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def main() -> None:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", nargs="+", required=True, choices=list(AGENTS), metavar="NAME")
    parser.add_argument("--tasks", nargs="+", default=list(TUNING), metavar="ID")
    parser.add_argument("--seeds", default="100-102", help="such as 100-109 (default 100-102)")
    parser.add_argument("--feedback", nargs="+", choices=("failures", "full"), default=["full"])
    parser.add_argument("--twin", action="store_true", help="tell every agent that every sequence failed")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of every agent named")
    parser.add_argument("--out", type=Path, help="a file of JSON lines that keeps the runs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = {name: value_of(value) for name, _, value in (given.partition("=") for given in options.set)}
    done = {}
    if options.out and options.out.exists():
        rows = [json.loads(row) for row in options.out.read_text().splitlines()]
        done = {json.dumps(row["key"], sort_keys=True): row["found"] for row in rows}
    head = f"{'first':>7}{'dist.':>7}{'final':>7}{'best':>7}{'eff.':>8}{'NRE':>7}{'CPU s':>7}"
    print(f"{'agent (* twin)':<40}{'feedback':<10}{'task':<30}{'seed':>5}{head}")
    for agent in options.agents:
        config = json.dumps(asdict(make_agent(agent, settings).config))
        for feedback in options.feedback:
            for task in options.tasks:
                for seed in parse_seeds(options.seeds):
                    key = {"agent": agent, "settings": settings, "feedback": feedback, "task": task, "seed": seed}
                    key |= {"twin": options.twin, "config": config}
                    found = done.get(json.dumps(key, sort_keys=True))
                    if found is None:
                        found = measure(agent, settings, feedback, task, seed, options.twin)
                        if options.out:
                            with options.out.open("a") as file:
                                file.write(json.dumps({"key": key, "found": found}) + "\n")
                    print(line(key, found), flush=True)


if __name__ == "__main__":
    main()
